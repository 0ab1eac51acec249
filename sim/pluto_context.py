"""A Pluto as its sysfs files: devices, channels and attributes of the stock firmware, and what writing them does.

Names of files are the kernel's, which some clients use in place of the attributes' own (gr-iio). One file may stand in
several channels: there is one sample rate, however many channels show it. The xadc of the board is left out.

Nothing in here is heard on the air: who owns a `PlutoState` looks at its settings after every write.
"""

import errno
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from xml.sax.saxutils import quoteattr

from sim.ad9361 import (
    MAX_RATE_HZ,
    MODELS,
    REFERENCE_HZ,
    Clocks,
    Fir,
    clock_chain,
    lowest_rate,
    parse_fir,
    realised_lo,
    realised_tx_gain_mdb,
    rx_gain_range,
)
from sim.iiod_protocol import refused

GAIN_MODES = ("manual", "fast_attack", "slow_attack", "hybrid")
ENSM_MODES = ("sleep", "wait", "alert", "fdd", "pinctrl", "pinctrl_fdd_indep")
CALIB_MODES = ("auto", "manual", "manual_tx_quad", "tx_quad", "rf_dc_offs", "rssi_gain_step")
RX_PORTS = ("A_BALANCED", "B_BALANCED", "C_BALANCED", "A_N", "A_P", "B_N", "B_P", "C_N", "C_P", "TX_MONITOR1",
            "TX_MONITOR2", "TX_MONITOR1_2")  # fmt: skip
TRACKING = ("bb_dc_offset_tracking_en", "quadrature_tracking_en", "rf_dc_offset_tracking_en")
STATUS_REGISTER = 0x80000088  # of the converter cores; a one clears its bit
UNDERFLOW, OVERFLOW = 0x1, 0x4
FIRMWARE = "v0.38"
_WORD32 = re.compile(r"0[xX][0-9A-Fa-f]{1,8}|\d{1,10}")
_INTEGER = re.compile(r"\s*[-+]?\d{1,18}\s*")
_DECIMAL = re.compile(r"\s*([-+]?)(\d{1,9})(?:\.(\d{1,18}))?\s*(?:dB\s*)?")

# without it libxml2 complains on the standard error of every client
_GRAMMAR = "<!DOCTYPE context [{}]>".format(
    "".join(
        f"<!ELEMENT {name} {content}>"
        for name, content in (
            ("context", "(context-attribute*, device*)"),
            ("context-attribute", "EMPTY"),
            ("device", "(channel*, attribute*, debug-attribute*, buffer-attribute*)"),
            ("channel", "(scan-element?, attribute*)"),
            ("scan-element", "EMPTY"),
            ("attribute", "EMPTY"),
            ("debug-attribute", "EMPTY"),
            ("buffer-attribute", "EMPTY"),
        )
    )
    + "".join(
        f"<!ATTLIST {name} {' '.join(f'{key} CDATA {use}' for key, use in keys.items())}>"
        for name, keys in (
            ("context", {"name": "#REQUIRED", "description": "#IMPLIED"}),
            ("context-attribute", {"name": "#REQUIRED", "value": "#REQUIRED"}),
            ("device", {"id": "#REQUIRED", "name": "#IMPLIED"}),
            ("channel", {"id": "#REQUIRED", "type": "#REQUIRED", "name": "#IMPLIED"}),
            ("scan-element", {"index": "#REQUIRED", "format": "#REQUIRED"}),
            ("attribute", {"name": "#REQUIRED", "filename": "#IMPLIED"}),
            ("debug-attribute", {"name": "#REQUIRED"}),
            ("buffer-attribute", {"name": "#REQUIRED"}),
        )
    )
)
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class File:
    """A sysfs file; one without `write` can only be read."""

    read: Callable[[], str]
    write: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Channel:
    """A channel: its attributes by name, each with the name of its file."""

    id: str
    output: bool
    attributes: Mapping[str, tuple[str, File]]
    name: str | None = None
    index: int | None = None  # in the buffer
    format: str = ""


@dataclass(frozen=True)
class Device:
    """A device of the context."""

    id: str
    name: str
    channels: tuple[Channel, ...]
    attributes: Mapping[str, File] = field(default_factory=dict)
    debug: Mapping[str, File] = field(default_factory=dict)
    buffer: Mapping[str, File] = field(default_factory=dict)

    @property
    def num_scan(self) -> int:
        """Channels that a buffer may hold."""
        return sum(channel.index is not None for channel in self.channels)

    def files(self, kind: str, channel: str) -> Mapping[str, File]:
        """Attributes of the device, of its debug or buffer folder, or of a channel.

        Raises:
            OSError: ENODEV where there is no such channel.
        """
        if kind == "device":
            return self.attributes
        if kind == "debug":
            return self.debug
        if kind == "buffer":
            return self.buffer
        for own in self.channels:
            if own.output == (kind == "output") and channel in (own.id, own.name):
                return {name: file for name, (_, file) in own.attributes.items()}
        raise refused(errno.ENODEV)


class PlutoState:
    """Everything that a client can set, as realised."""

    def __init__(self, num_channels: int = 1, model: str = "ad9363a") -> None:
        self.num_channels = num_channels
        self.model = MODELS[model]
        self.rx_lo_hz, self.tx_lo_hz = 2_400_000_000, 2_450_000_000
        self.rx_lo_off = self.tx_lo_off = False
        self.fir, self.fir_on = Fir(), False
        self.clocks: Clocks = clock_chain(30_720_000, self.fir, False)
        self.rx_bandwidth_hz = self.tx_bandwidth_hz = 18_000_000
        self.gain_mode = ["slow_attack"] * num_channels
        self.rx_gain_db = [71] * num_channels
        self.tx_gain_mdb = [-10_000] * num_channels
        self.rssi_db = [115.0] * num_channels
        self.ensm_mode = "fdd"
        self.loopback = 0
        self.status = {"rx": 0, "tx": 0}  # bits of the converter cores' status registers
        # tones of the transmitter's generators: I and Q of a channel, two each
        self.dds_on = [True] * (4 * num_channels)
        self.dds_hz = [9_279_985] * (4 * num_channels)
        self.dds_mdeg = [90_000, 90_000, 0, 0] * num_channels
        self.dds_scale = [0.0] * (4 * num_channels)

    @property
    def sample_rate_hz(self) -> int:
        """Of both directions."""
        return self.clocks.sample_rate_hz

    @property
    def transmits(self) -> bool:
        """Whether the transmitter is powered at all."""
        return self.ensm_mode in ("fdd", "pinctrl_fdd_indep") and not self.tx_lo_off

    @property
    def rx_gains(self) -> tuple[int, int]:
        """Smallest and largest receive gain at this carrier."""
        return rx_gain_range(self.rx_lo_hz)

    def set_lo(self, direction: str, text: str) -> None:
        """Tune a synthesizer; the receiver's gain stays within the table of the new carrier."""
        low, high = self.model.rx_lo_hz if direction == "rx" else self.model.tx_lo_hz
        wanted = _integer(text)
        if not low <= wanted <= high:
            raise refused(errno.EINVAL)
        if direction == "tx":
            self.tx_lo_hz = realised_lo(wanted)
            return
        self.rx_lo_hz = realised_lo(wanted)
        least, most = rx_gain_range(self.rx_lo_hz)
        self.rx_gain_db = [min(max(gain, least), most) for gain in self.rx_gain_db]

    def set_rate(self, text: str) -> None:
        """Set the sample rate of both directions."""
        self.clocks = self._chain(_integer(text), self.fir_on)

    def set_fir_on(self, text: str) -> None:
        """Switch the filters of both directions, keeping the sample rate."""
        wanted = _flag(text)
        self.clocks, self.fir_on = self._chain(self.sample_rate_hz, wanted), wanted

    def set_fir(self, text: str) -> None:
        """Load filters."""
        try:
            self.fir = parse_fir(text)
        except ValueError:
            raise refused(errno.EINVAL) from None

    def set_rx_gain(self, channel: int, text: str) -> None:
        """Whole decibels, a fraction is cut off; dropped without a word where a gain control is at work."""
        wanted = int(_thousandths(text) / 1000)
        least, most = rx_gain_range(self.rx_lo_hz)
        if self.gain_mode[channel] != "manual":
            return
        if not least <= wanted <= most:
            raise refused(errno.EINVAL)
        self.rx_gain_db[channel] = wanted

    def set_tx_gain(self, channel: int, text: str) -> None:
        """Steps of 0.25 dB."""
        try:
            self.tx_gain_mdb[channel] = realised_tx_gain_mdb(_thousandths(text))
        except ValueError:
            raise refused(errno.EINVAL) from None

    def set_bandwidth(self, direction: str, text: str) -> None:
        """Analogue filters; what is beyond the model's is cut to it."""
        wanted = min(max(_integer(text), 0), self.model.max_bandwidth_hz)
        if direction == "rx":
            self.rx_bandwidth_hz = wanted
        else:
            self.tx_bandwidth_hz = wanted

    def _chain(self, rate_hz: int, fir_on: bool) -> Clocks:
        try:
            return clock_chain(rate_hz, self.fir, fir_on)
        except ValueError:
            raise refused(errno.EINVAL) from None


def devices(state: PlutoState) -> tuple[Device, ...]:
    """The transceiver and its two converter cores."""
    return _phy(state), _tx_core(state), _rx_core(state)


def xml(context: tuple[Device, ...], attributes: Mapping[str, str], description: str) -> str:
    """The context as a client reads it upon PRINT."""
    text = ['<?xml version="1.0" encoding="utf-8"?>', _GRAMMAR]
    text.append(f'<context name="local" description={quoteattr(description)} >')
    text += [f"<context-attribute name={quoteattr(k)} value={quoteattr(v)} />" for k, v in attributes.items()]
    for device in context:
        text.append(f"<device id={quoteattr(device.id)} name={quoteattr(device.name)} >")
        for channel in device.channels:
            name = "" if channel.name is None else f" name={quoteattr(channel.name)}"
            direction = "output" if channel.output else "input"
            text.append(f'<channel id={quoteattr(channel.id)}{name} type="{direction}" >')
            if channel.index is not None:
                text.append(f'<scan-element index="{channel.index}" format={quoteattr(channel.format)} />')
            text += [
                f"<attribute name={quoteattr(name)} filename={quoteattr(file)} />"
                for name, (file, _) in channel.attributes.items()
            ]
            text.append("</channel>")
        for tag, files in (
            ("attribute", device.attributes),
            ("debug-attribute", device.debug),
            ("buffer-attribute", device.buffer),
        ):
            text += [f"<{tag} name={quoteattr(name)} />" for name in files]
        text.append("</device>")
    return "".join([*text, "</context>"])


def _phy(state: PlutoState) -> Device:
    channels = [_lo(state, "rx", 0), _lo(state, "tx", 1)]
    channels += [_rx(state, k) for k in range(state.num_channels)]
    channels += [_tx(state, k) for k in range(state.num_channels)]
    fir_on = File(lambda: str(int(state.fir_on)), state.set_fir_on)
    channels.append(Channel("out", False, {"voltage_filter_fir_en": ("in_out_voltage_filter_fir_en", fir_on)}))
    channels.append(Channel("temp0", False, {"input": ("in_temp0_input", _constant("36842"))}))
    attributes = {
        "calib_mode": _choice("auto", CALIB_MODES),
        "calib_mode_available": _constant(" ".join(CALIB_MODES)),
        "ensm_mode": File(lambda: state.ensm_mode, lambda text: setattr(state, "ensm_mode", _one_of(text, ENSM_MODES))),
        "ensm_mode_available": _constant(" ".join(ENSM_MODES)),
        "filter_fir_config": File(lambda: str(state.fir), state.set_fir),
        "rx_path_rates": File(lambda: state.clocks.lines()[0]),
        "trx_rate_governor": _choice("nominal", ("nominal", "highest_osr")),
        "trx_rate_governor_available": _constant("nominal highest_osr"),
        "tx_path_rates": File(lambda: state.clocks.lines()[1]),
        "xo_correction": _number(REFERENCE_HZ, REFERENCE_HZ - 8000, REFERENCE_HZ + 8000),
        "xo_correction_available": _constant(f"[{REFERENCE_HZ - 8000} 1 {REFERENCE_HZ + 8000}]"),
    }
    loopback = File(
        lambda: str(state.loopback), lambda text: setattr(state, "loopback", int(_one_of(text, ("0", "1", "2"))))
    )
    debug = {"loopback": loopback, "bist_prbs": _number(0, 0, 2), "bist_tone": _constant("0")}
    return Device("iio:device0", "ad9361-phy", tuple(channels), attributes, debug)


def _lo(state: PlutoState, direction: str, index: int) -> Channel:
    low, high = state.model.rx_lo_hz if direction == "rx" else state.model.tx_lo_hz
    off = f"{direction}_lo_off"
    files = {
        "external": _number(0, 0, 0),
        "frequency": File(
            lambda: str(getattr(state, f"{direction}_lo_hz")), lambda text: state.set_lo(direction, text)
        ),
        "frequency_available": _constant(f"[{low} 1 {high}]"),
        "powerdown": File(lambda: str(int(getattr(state, off))), lambda text: setattr(state, off, _flag(text))),
    }
    name = f"{direction.upper()}_LO"
    id_ = f"altvoltage{index}"
    return Channel(id_, True, {key: (f"out_{id_}_{name}_{key}", file) for key, file in files.items()}, name)


def _common(state: PlutoState, direction: str) -> dict[str, tuple[str, File]]:
    """Files that all channels of a direction share."""
    most = 56_000_000 if direction == "rx" else 40_000_000
    prefix = "in" if direction == "rx" else "out"
    files = {
        "filter_fir_en": File(lambda: str(int(state.fir_on)), state.set_fir_on),
        "rf_bandwidth": File(
            lambda: str(getattr(state, f"{direction}_bandwidth_hz")), lambda text: state.set_bandwidth(direction, text)
        ),
        "rf_bandwidth_available": _constant(f"[200000 1 {most}]"),
        "sampling_frequency": _rate(state),
        "sampling_frequency_available": File(lambda: f"[{lowest_rate(state.fir, state.fir_on)} 1 {MAX_RATE_HZ}]"),
    }
    return {key: (f"{prefix}_voltage_{key}", file) for key, file in files.items()}


def _rx(state: PlutoState, k: int) -> Channel:
    def set_mode(text: str) -> None:
        state.gain_mode[k] = _one_of(text, GAIN_MODES)

    def gains() -> str:
        low, high = rx_gain_range(state.rx_lo_hz)
        return f"[{low} 1 {high}]"

    own = {
        "gain_control_mode": File(lambda: state.gain_mode[k], set_mode),
        "hardwaregain": File(lambda: f"{state.rx_gain_db[k]:.6f} dB", lambda text: state.set_rx_gain(k, text)),
        "hardwaregain_available": File(gains),
        "rf_port_select": _choice("A_BALANCED", RX_PORTS),
        "rssi": File(lambda: f"{state.rssi_db[k]:.2f} dB"),
    }
    shared = {
        **{key: _switch() for key in TRACKING},
        "gain_control_mode_available": _constant(" ".join(GAIN_MODES)),
        "rf_port_select_available": _constant(" ".join(RX_PORTS)),
    }
    files = {key: (f"in_voltage{k}_{key}", file) for key, file in own.items()}
    files |= {key: (f"in_voltage_{key}", file) for key, file in shared.items()}
    return Channel(f"voltage{k}", False, files | _common(state, "rx"))


def _tx(state: PlutoState, k: int) -> Channel:
    own = {
        "hardwaregain": File(lambda: f"{state.tx_gain_mdb[k] / 1000:.6f} dB", lambda text: state.set_tx_gain(k, text)),
        "hardwaregain_available": _constant("[-89.750000 0.250000 0.000000]"),
        "rf_port_select": _choice("A", ("A", "B")),
        "rssi": _constant("0.00 dB"),
    }
    files = {key: (f"out_voltage{k}_{key}", file) for key, file in own.items()}
    files["rf_port_select_available"] = ("out_voltage_rf_port_select_available", _constant("A B"))
    return Channel(f"voltage{k}", True, files | _common(state, "tx"))


def _tx_core(state: PlutoState) -> Device:
    channels = []
    for rail in range(2 * state.num_channels):
        files = _core_files("out", rail, state)
        channels.append(Channel(f"voltage{rail}", True, files, index=rail, format="le:S16/16>>0"))
    for n in range(4 * state.num_channels):
        name = f"TX{n // 4 + 1}_{'IQ'[n // 2 % 2]}_F{n % 2 + 1}"
        tone = {
            "frequency": _element(state.dds_hz, n, _integer, 0, MAX_RATE_HZ),
            "phase": _element(state.dds_mdeg, n, _integer, 0, 360_000),
            "raw": _raw(state, n // 4),
            "scale": _element(state.dds_scale, n, lambda text: _thousandths(text, 1_000_000) / 1e6, 0, 1, "{:.6f}"),
        }
        files = {key: (f"out_altvoltage{n}_{name}_{key}", file) for key, file in tone.items()}
        files["sampling_frequency"] = ("out_altvoltage_sampling_frequency", _core_rate(state))
        channels.append(Channel(f"altvoltage{n}", True, files, name))
    return Device("iio:device2", "cf-ad9361-dds-core-lpc", tuple(channels), {}, _register(state, "tx"), _buffer())


def _rx_core(state: PlutoState) -> Device:
    channels = []
    for rail in range(2 * state.num_channels):
        files = _core_files("in", rail, state)
        channels.append(Channel(f"voltage{rail}", False, files, index=rail, format="le:S12/16>>0"))
    return Device("iio:device3", "cf-ad9361-lpc", tuple(channels), {}, _register(state, "rx"), _buffer())


def _core_files(prefix: str, rail: int, state: PlutoState) -> dict[str, tuple[str, File]]:
    files = {
        f"{key}": (f"{prefix}_voltage{rail}_{key}", _decimal(text))
        for key, text in (("calibphase", "0.000000"), ("calibscale", "1.000000"))
    }
    if prefix == "in":
        files["calibbias"] = (f"in_voltage{rail}_calibbias", _number(0, -32768, 32767))
    files["sampling_frequency"] = (f"{prefix}_voltage_sampling_frequency", _core_rate(state))
    files["sampling_frequency_available"] = (
        f"{prefix}_voltage_sampling_frequency_available",
        File(lambda: f"{state.sample_rate_hz} {state.sample_rate_hz // 8} "),
    )
    return files


def _core_rate(state: PlutoState) -> File:
    """The rate of a converter core: the transceiver's. The logic's filters by eight are not there."""

    def set_rate(text: str) -> None:
        if _integer(text) != state.sample_rate_hz:
            raise refused(errno.EINVAL)

    return File(lambda: str(state.sample_rate_hz), set_rate)


def _raw(state: PlutoState, channel: int) -> File:
    """Generators are switched per channel, all four at once."""

    def switch(text: str) -> None:
        state.dds_on[4 * channel : 4 * channel + 4] = [_flag(text)] * 4

    return File(lambda: str(int(state.dds_on[4 * channel])), switch)


def _register(state: PlutoState, core: str) -> dict[str, File]:
    """`direct_reg_access`: an address to read from, or an address and a value to write."""
    address = [0]

    def read() -> str:
        return f"0x{state.status[core] if address[0] == STATUS_REGISTER else 0:X}"

    def write(text: str) -> None:
        words = text.split()
        if len(words) not in (1, 2) or any(_WORD32.fullmatch(word) is None for word in words):
            raise refused(errno.EINVAL)
        address[0], *value = (int(word, 16 if word[:2] in ("0x", "0X") else 10) for word in words)
        if value and address[0] == STATUS_REGISTER:
            state.status[core] &= ~value[0]

    return {"direct_reg_access": File(read, write)}


def _buffer() -> dict[str, File]:
    return {
        "data_available": _constant("0"),
        "length_align_bytes": _constant("8"),
        "watermark": _number(2048, 1, 1 << 30),
    }


def _rate(state: PlutoState) -> File:
    return File(lambda: str(state.sample_rate_hz), state.set_rate)


def _constant(text: str) -> File:
    return File(lambda: text)


def _cell(initial: str, check: Callable[[str], str]) -> File:
    """A value without an effect on the air."""
    held = [initial]

    def write(text: str) -> None:
        held[0] = check(text)

    return File(lambda: held[0], write)


def _choice(initial: str, allowed: tuple[str, ...]) -> File:
    return _cell(initial, lambda text: _one_of(text, allowed))


def _switch() -> File:
    return _cell("1", lambda text: str(int(_flag(text))))


def _decimal(initial: str) -> File:
    return _cell(initial, lambda text: f"{_thousandths(text, 1_000_000) / 1e6:.6f}")


def _number(initial: int, low: int, high: int) -> File:
    return _cell(str(initial), lambda text: str(_within(_integer(text), low, high)))


def _element(
    values: list[int] | list[float], n: int, parse: Callable[[str], float], low: float, high: float, form: str = "{}"
) -> File:
    def write(text: str) -> None:
        values[n] = _within(parse(text), low, high)  # type: ignore[call-overload]

    return File(lambda: form.format(values[n]), write)


def _within(value: _Number, low: float, high: float) -> _Number:
    if not low <= value <= high:
        raise refused(errno.EINVAL)
    return value


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise refused(errno.EINVAL)
    return int(text)


def _thousandths(text: str, per_unit: int = 1000) -> int:
    """A decimal number in thousandths (or another power of ten), the rest cut off as the kernel does."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise refused(errno.EINVAL)
    sign, whole, fraction = match.groups()
    digits = len(str(per_unit)) - 1
    value = int(whole) * per_unit + int((fraction or "").ljust(digits, "0")[:digits])
    return -value if sign == "-" else value


def _flag(text: str) -> bool:
    """As the kernel reads one: by its first letter."""
    first = text.strip()[:1].lower()
    if first not in ("0", "1", "y", "n", "t", "f"):  # pyadi writes True and False
        raise refused(errno.EINVAL)
    return first in ("1", "y", "t")


def _one_of(text: str, allowed: tuple[str, ...]) -> str:
    if text.strip() not in allowed:
        raise refused(errno.EINVAL)
    return text.strip()
