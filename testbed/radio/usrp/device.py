"""Opening a USRP as its configuration says: clocks, device time, channels, antennas; and what it says of itself."""

import time
from dataclasses import dataclass
from typing import Any

from testbed.errors import ConfigError, RadioUnavailable
from testbed.radio.devices.config import UsrpConfig
from testbed.radio.devices.tables import UsrpTable
from testbed.radio.usrp.clock import is_running
from testbed.radio.usrp.settings import RATE_TOLERANCE, silence
from testbed.radio.usrp.uhd_library import load, version, version_number

_REF_LOCK_S = 2.0
# arguments on which limits and timing of a configuration rest
_CONFIGURED = ("master_clock_rate", "clock_source", "time_source", "num_recv_frames", "num_send_frames")
_SHOWN = ("type", "addr", "serial")  # device arguments that tell one board from another

Range = tuple[float, float, float]  # lowest, highest, step (0: none)


@dataclass(frozen=True)
class DeviceInfo:
    """What a board is and can do, as UHD tells it; ranges of its first channel."""

    model: str
    attributes: dict[str, str]
    num_rx: int
    num_tx: int
    has_clock: bool
    carrier_hz: Range
    sample_rate_hz: Range
    tx_gain_db: Range
    rx_gain_db: Range

    @property
    def num_channels(self) -> int:
        """Of the board."""
        return max(self.num_rx, self.num_tx)


def merged_args(config: UsrpConfig, given: dict[str, str]) -> dict[str, str]:
    """Device arguments: the configuration's, and what is given besides or instead.

    Raises:
        ConfigError: what is given contradicts it.
    """
    own = dict(part.split("=", 1) for part in config.device_args().split(","))
    for key in _CONFIGURED:
        if key in given and given[key] != own.get(key):
            raise ConfigError(
                f"uhd:{key}={given[key]}: is a matter of the device's configuration, which says {own.get(key)}; change "
                f"it there"
            )
    return own | given


def label(args: dict[str, str]) -> str:
    """A board in messages."""
    return "uhd:" + ",".join(f"{key}={args[key]}" for key in _SHOWN if key in args)


def open_device(args: dict[str, str], config: UsrpConfig) -> tuple[Any, Any, DeviceInfo]:
    """Open a board, silence it, and set what does not change while it is open.

    Returns:
        The module `uhd`, the device, and what it is.

    Raises:
        RadioUnavailable: UHD is too old, or the board's clocks are not as the configuration says, or do not lock.
        ConfigError: an antenna or a channel that the board does not have.
        RuntimeError: of UHD.
    """
    where, table = label(args), config.usrp
    uhd = load()
    told = version(uhd)
    found, least = version_number(told), version_number(config.firmware.minimum)
    if found and found < least:
        raise RadioUnavailable(
            f"{where}: UHD {told} is too old, {config.firmware.minimum} or newer is needed; install a newer one"
        )
    usrp = uhd.usrp.MultiUSRP(",".join(f"{key}={value}" for key, value in args.items()))
    if (boards := usrp.get_num_mboards()) != 1:
        raise ConfigError(f"{where}: {boards} boards answer to these device arguments; give those of one")
    _set_sources(usrp, table, where)
    usrp.set_tx_subdev_spec(uhd.usrp.SubdevSpec(table.tx_subdev))
    usrp.set_rx_subdev_spec(uhd.usrp.SubdevSpec(table.rx_subdev))
    num_rx, num_tx = usrp.get_rx_num_channels(), usrp.get_tx_num_channels()
    silence(usrp, range(num_tx), where)
    _set_antennas(usrp, table, num_rx, num_tx, where)
    _check_master_clock(usrp, float(args["master_clock_rate"]), where)
    if table.time_source in ("external", "gpsdo"):
        usrp.set_time_unknown_pps(uhd.types.TimeSpec(0.0))
    else:
        usrp.set_time_now(uhd.types.TimeSpec(0.0))
    return uhd, usrp, _described(usrp, told, num_rx, num_tx)


def _set_sources(usrp: Any, table: UsrpTable, where: str) -> None:
    if usrp.get_clock_source(0) != table.clock_source:
        usrp.set_clock_source(table.clock_source)
    if usrp.get_time_source(0) != table.time_source:
        usrp.set_time_source(table.time_source)
    for what, wanted, got in (
        ("clock_source", table.clock_source, usrp.get_clock_source(0)),
        ("time_source", table.time_source, usrp.get_time_source(0)),
    ):
        if got != wanted:
            raise RadioUnavailable(f"{where}: usrp.{what} '{wanted}' came back as '{got}'; set what the board has")
    if table.clock_source == "internal" or "ref_locked" not in usrp.get_mboard_sensor_names(0):
        return
    deadline = time.monotonic() + _REF_LOCK_S
    while not usrp.get_mboard_sensor("ref_locked", 0).to_bool():
        if time.monotonic() > deadline:
            raise RadioUnavailable(
                f"{where}: does not lock to its {table.clock_source} reference within {_REF_LOCK_S:g} s; check the "
                f"10 MHz cable, or set usrp.clock_source = 'internal'"
            )
        time.sleep(_REF_LOCK_S / 100)


def _set_antennas(usrp: Any, table: UsrpTable, num_rx: int, num_tx: int, where: str) -> None:
    for direction, count in (("rx", num_rx), ("tx", num_tx)):
        wanted = getattr(table, f"{direction}_antenna")
        for channel in range(count):
            there = getattr(usrp, f"get_{direction}_antennas")(channel)
            if wanted not in there:
                raise ConfigError(
                    f"{where}: usrp.{direction}_antenna '{wanted}' is none of channel {channel}, which has "
                    f"{', '.join(there)}; set one of these"
                )
            getattr(usrp, f"set_{direction}_antenna")(wanted, channel)


def _check_master_clock(usrp: Any, wanted_hz: float, where: str) -> None:
    got = usrp.get_master_clock_rate()
    if not abs(got - wanted_hz) <= RATE_TOLERANCE * wanted_hz:
        raise RadioUnavailable(
            f"{where}: its master clock runs at {got:.10g} Hz, not at the {wanted_hz:.10g} of the configuration; set "
            f"usrp.master_clock_rate_hz to what it can"
        )


def _described(usrp: Any, told: str, num_rx: int, num_tx: int) -> DeviceInfo:
    name = usrp.get_mboard_name(0)
    attributes = {"model": name, "hw_serial": "", "fw_version": told}
    for found in [usrp.get_usrp_rx_info(0), *([usrp.get_usrp_tx_info(0)] if num_tx else [])]:
        attributes |= {key: str(value) for key, value in found.items() if value}
    attributes["hw_serial"] = attributes.get("mboard_serial", "")
    carriers = [_range(usrp.get_rx_freq_range(0)), *([_range(usrp.get_tx_freq_range(0))] if num_tx else [])]
    rates = [_range(usrp.get_rx_rates(0)), *([_range(usrp.get_tx_rates(0))] if num_tx else [])]
    return DeviceInfo(
        model=name if name.upper().startswith("USRP") else f"USRP {name}",
        attributes=attributes,
        num_rx=num_rx,
        num_tx=num_tx,
        has_clock=is_running(usrp),
        carrier_hz=_within(carriers),
        sample_rate_hz=_within(rates),
        tx_gain_db=_range(usrp.get_tx_gain_range(0)) if num_tx else (0.0, 0.0, 0.0),
        rx_gain_db=_range(usrp.get_rx_gain_range(0)),
    )


def _range(found: Any) -> Range:
    return float(found.start()), float(found.stop()), float(found.step())


def _within(ranges: list[Range]) -> Range:
    return max(r[0] for r in ranges), min(r[1] for r in ranges), max(r[2] for r in ranges)
