"""Stands for `uhd.usrp`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.uhd_stand_in.air import VirtualUsrp, current

from . import types

ALL = (1 << 64) - 1


class StreamArgs:
    """How samples come and go."""

    def __init__(self, cpu_format: str, otw_format: str) -> None:
        self.cpu_format, self.otw_format, self.args = cpu_format, otw_format, types.DeviceAddr()
        self.channels: list[int] = []


class SubdevSpec:
    """Which frontends the channels are."""

    def __init__(self, markup: str) -> None:
        self._markup = markup

    def to_string(self) -> str:
        return self._markup


def _rows(array: np.ndarray, num_channels: int, what: str) -> np.ndarray:
    """As the real one looks at an array: no dtype is checked, and one that is not contiguous is copied."""
    array = np.ascontiguousarray(array)
    if (num_channels > 1 and array.ndim != 2) or array.shape[0] < num_channels:
        raise RuntimeError(
            f"RuntimeError: Number of {what} channels ({num_channels}) does not match the dimensions of the data array "
            f"({1 if array.ndim != 2 else array.shape[0]})"
        )
    words = array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(1, -1)
    num_samples = array.shape[1] if array.ndim > 1 else array.size
    assert words.shape[1] * words.itemsize == 4 * num_samples, "memory beyond the array would be read or written"
    return words.view(np.uint32)


class RXStreamer:
    """A receive streamer."""

    def __init__(self, board: VirtualUsrp, args: StreamArgs) -> None:
        self._engine = board.open_rx(args.channels or [0], args.cpu_format, args.otw_format)

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()

    def get_num_channels(self) -> int:
        return len(self._engine.channels)

    def get_max_num_samps(self) -> int:
        return self._engine.packet_samples

    def issue_stream_cmd(self, command: types.StreamCMD) -> None:
        if command.stream_now and len(self._engine.channels) > 1 and command._mode is not types.StreamMode.stop_cont:
            raise RuntimeError(
                "RuntimeError: Invalid recv stream command - stream now on multiple channels in a single streamer will "
                "fail to time align."
            )
        rate = self._engine.rate_hz
        self._engine.command(command._mode.name, None if command.stream_now else command.time_spec.to_ticks(rate))

    def recv(self, np_array: np.ndarray, metadata: types.RXMetadata, timeout: float = 0.1) -> int:
        rows = _rows(np_array, len(self._engine.channels), "RX")
        got = self._engine.recv(rows, timeout)
        came = None if got.tick is None else types.TimeSpec.from_ticks(got.tick, self._engine.rate_hz)
        code = types.RXMetadataErrorCode[got.error]
        metadata._set(code, came, got.out_of_sequence, got.first, got.last)
        return got.count


class TXStreamer:
    """A transmit streamer."""

    def __init__(self, board: VirtualUsrp, args: StreamArgs) -> None:
        self._engine = board.open_tx(args.channels or [0], args.cpu_format, args.otw_format)

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._engine.close()

    def get_num_channels(self) -> int:
        return len(self._engine.channels)

    def get_max_num_samps(self) -> int:
        return self._engine.packet_samples

    def send(self, np_array: np.ndarray, metadata: types.TXMetadata, timeout: float = 0.1) -> int:
        rows = _rows(np_array, len(self._engine.channels), "TX")
        start = metadata.time_spec.to_ticks(self._engine.rate_hz) if metadata.has_time_spec else None
        return self._engine.send(rows, start, metadata.end_of_burst, timeout)

    def recv_async_msg(self, async_metadata: types.TXAsyncMetadata, timeout: float = 0.1) -> bool:
        found = self._engine.message(timeout)
        if found is None:
            return False
        channel, event, tick = found
        came = None if tick is None else types.TimeSpec.from_ticks(tick, self._engine.rate_hz)
        async_metadata._set(channel, types.TXMetadataEventCode[event], came)
        return True


class MultiUSRP:
    """A device."""

    def __init__(self, args: Any = "") -> None:
        wanted = types.DeviceAddr(args)
        self._board = current().open(wanted.to_dict(), wanted.to_pp_string())

    def get_rx_stream(self, args: StreamArgs) -> RXStreamer:
        return RXStreamer(self._board, args)

    def get_tx_stream(self, args: StreamArgs) -> TXStreamer:
        return TXStreamer(self._board, args)

    # what it is

    def get_num_mboards(self) -> int:
        return self._board.ask(lambda: 1)

    def get_mboard_name(self, mboard: int = 0) -> str:
        return self._board.ask(lambda: self._board.address["product"])

    def get_usrp_rx_info(self, chan: int = 0) -> dict[str, str]:
        return self._board.ask(lambda: self._board.info("rx", chan))

    def get_usrp_tx_info(self, chan: int = 0) -> dict[str, str]:
        return self._board.ask(lambda: self._board.info("tx", chan))

    def get_mboard_sensor_names(self, mboard: int = 0) -> list[str]:
        return self._board.ask(lambda: ["ref_locked"])

    def get_mboard_sensor(self, name: str, mboard: int = 0) -> types.SensorValue:
        assert name == "ref_locked"
        return self._board.ask(lambda: types.SensorValue("Ref", self._board.ref_locked, "locked", "unlocked"))

    # clocks and time

    def get_master_clock_rate(self, mboard: int = 0) -> float:
        return self._board.ask(lambda: self._board.master_clock_hz)

    def get_clock_source(self, mboard: int) -> str:
        return self._board.ask(lambda: self._board.sources["clock"])

    def set_clock_source(self, source: str, mboard: int = ALL) -> None:
        self._board.set_source("clock", source)

    def get_time_source(self, mboard: int) -> str:
        return self._board.ask(lambda: self._board.sources["time"])

    def set_time_source(self, source: str, mboard: int = ALL) -> None:
        self._board.set_source("time", source)

    def get_time_now(self, mboard: int = 0) -> types.TimeSpec:
        return types.TimeSpec(self._board.time_now())

    def set_time_now(self, time_spec: types.TimeSpec, mboard: int = ALL) -> None:
        self._board.set_time(time_spec.get_real_secs(), at_pulse=False)

    def set_time_unknown_pps(self, time_spec: types.TimeSpec) -> None:
        self._board.set_time(time_spec.get_real_secs(), at_pulse=True)

    # channels

    def set_rx_subdev_spec(self, spec: SubdevSpec, mboard: int = ALL) -> None:
        self._board.set_subdev("rx", spec.to_string())

    def set_tx_subdev_spec(self, spec: SubdevSpec, mboard: int = ALL) -> None:
        self._board.set_subdev("tx", spec.to_string())

    def get_rx_num_channels(self) -> int:
        return self._board.ask(lambda: len(self._board.channels["rx"]))

    def get_tx_num_channels(self) -> int:
        return self._board.ask(lambda: len(self._board.channels["tx"]))


def _range(direction: str, what: str) -> Callable[..., types.MetaRange]:
    def get(self: MultiUSRP, chan: int = 0) -> types.MetaRange:
        return self._board.ask(lambda: types.MetaRange(*self._board.range(direction, what, chan)))

    return get


def _getter(direction: str, what: str) -> Callable[..., Any]:
    def get(self: MultiUSRP, chan: int = 0) -> Any:
        return self._board.ask(lambda: self._board.channel(direction, chan)[what])

    return get


def _setter(direction: str, what: str) -> Callable[..., Any]:
    def put(self: MultiUSRP, value: Any, chan: int = ALL if what == "rate" else 0) -> Any:
        if what == "freq":
            self._board.set_channel(direction, what, value.target_freq, chan)
            return types.TuneResult()
        return self._board.set_channel(direction, what, value, None if chan == ALL else chan)

    return put


def _antennas(direction: str) -> Callable[..., list[str]]:
    def get(self: MultiUSRP, chan: int = 0) -> list[str]:
        return self._board.ask(lambda: ["TX/RX", "RX2"] if direction == "rx" else ["TX/RX"])

    return get


def _sensor_names(direction: str) -> Callable[..., list[str]]:
    def get(self: MultiUSRP, chan: int = 0) -> list[str]:
        return self._board.ask(lambda: ["temp", "lo_locked"])

    return get


def _sensor(direction: str) -> Callable[..., types.SensorValue]:
    def get(self: MultiUSRP, name: str, chan: int = 0) -> types.SensorValue:
        assert name == "lo_locked"
        return self._board.ask(lambda: types.SensorValue("LO", self._board.lo_locked, "locked", "unlocked"))

    return get


for _direction in ("rx", "tx"):
    for _what, _name in (("gain", "gain"), ("freq", "freq"), ("bandwidth", "bandwidth")):
        setattr(MultiUSRP, f"get_{_direction}_{_name}_range", _range(_direction, _what))
    setattr(MultiUSRP, f"get_{_direction}_rates", _range(_direction, "rate"))
    for _what in ("gain", "freq", "rate", "bandwidth", "antenna"):
        setattr(MultiUSRP, f"get_{_direction}_{_what}", _getter(_direction, _what))
        setattr(MultiUSRP, f"set_{_direction}_{_what}", _setter(_direction, _what))
    setattr(MultiUSRP, f"get_{_direction}_antennas", _antennas(_direction))
    setattr(MultiUSRP, f"get_{_direction}_sensor_names", _sensor_names(_direction))
    setattr(MultiUSRP, f"get_{_direction}_sensor", _sensor(_direction))


def _set_rx_agc(self: MultiUSRP, enable: bool, chan: int = 0) -> None:
    raise RuntimeError("NotImplementedError: set_rx_agc")


MultiUSRP.set_rx_agc = _set_rx_agc  # type: ignore[attr-defined]
