"""The tables of a device configuration: what is true of a board, and must be before it is used.

Nothing of it is written to a board. Ranges are those of the device class: a number outside is a slip of the pen,
whatever the board.
"""

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from testbed.config import StrictModel

RANGES: dict[str, dict[str, tuple[float, float]]] = {
    # AD936x behind a Pluto's firmware
    "pluto": {
        "carrier_hz": (70e6, 6e9),
        "sample_rate_hz": (25e6 / 48, 61.44e6),
        "bandwidth_hz": (200e3, 56e6),
        "tx_gain_db": (-89.75, 0.0),
        "rx_gain_db": (-10.0, 73.0),
        "bits": (12, 12),
        "channels": (1, 2),
    },
    # what UHD knows, from a B200 to an X410
    "usrp": {
        "carrier_hz": (1e6, 8e9),
        "sample_rate_hz": (60e3, 500e6),
        "bandwidth_hz": (200e3, 500e6),
        "tx_gain_db": (0.0, 100.0),
        "rx_gain_db": (-10.0, 100.0),
        "bits": (12, 16),
        "channels": (1, 4),
    },
}
STOCK_CARRIER_HZ = (325e6, 3.8e9)  # of an AD9363, which a stock Pluto is told to be
MASTER_CLOCKS_HZ: dict[str, tuple[tuple[float, float], ...]] = {  # closed ranges, by UHD's device type
    "b200": ((5e6, 61.44e6),),
    "x300": ((184.32e6, 184.32e6), (200e6, 200e6)),
}
B2XX_TWO_CHANNELS_HZ = 30.72e6  # highest master clock of a B210 that uses both channels
Version = Annotated[str, Field(pattern=r"^v?\d{1,4}(\.\d{1,4}){1,3}$")]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"found {text[:60]!a}; must be printable characters on one line")
    return text


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(f"found {text[:40]!r}; must be an IPv4 address, four numbers up to 255") from None


def _host(text: str) -> str:
    """A name, unless it looks like an address: then it must be one."""
    if re.fullmatch(r"[0-9.]+", text):
        return _ip_address(text)
    if ":" in text:
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            raise ValueError(f"found '{text}'; must be a host's name or IP address") from None
    return text


IpAddress = Annotated[str, AfterValidator(_ip_address)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,64}$"), AfterValidator(_host)]
Title = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_printable)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/ -]+$")]


class LimitsTable(StrictModel):
    """What a board can do; an experiment may ask for less."""

    num_tx: int
    num_rx: int
    carrier_min_hz: float
    carrier_max_hz: float
    sample_rate_min_hz: float
    sample_rate_max_hz: float
    bandwidth_max_hz: float  # of the analogue filters
    tx_gain_min_db: float
    tx_gain_max_db: float
    tx_gain_step_db: float = Field(gt=0, le=10)
    rx_gain_min_db: float
    rx_gain_max_db: float
    rx_gain_step_db: float = Field(gt=0, le=10)
    tx_bits: int
    rx_bits: int
    max_input_dbm: float = Field(ge=-40, le=40)  # at the receive port; more may damage it

    def check(self, kind: str) -> None:
        """ValueError with the key where a number is outside the range of its device class, or a range is empty."""
        ranges = RANGES[kind]
        for key, value in self:
            what = _quantity(key)
            if what in ranges and not ranges[what][0] <= value <= ranges[what][1]:
                low, high = ranges[what]
                raise ValueError(
                    f"limits.{key}: found {value:.10g}; must be {low:.10g}..{high:.10g} for kind = '{kind}'"
                )
        for what in ("carrier", "sample_rate", "tx_gain", "rx_gain"):
            unit = "db" if "gain" in what else "hz"
            low, high = getattr(self, f"{what}_min_{unit}"), getattr(self, f"{what}_max_{unit}")
            if low >= high:
                raise ValueError(
                    f"limits.{what}_min_{unit}: found {low:.10g}, not below {what}_max_{unit} = {high:.10g}"
                )


class PowerTable(StrictModel):
    """Reference powers: what a full-scale number is at the antenna port. A calibration may know better."""

    tx_full_scale_dbm: float = Field(ge=-120, le=60)  # of a full-scale complex tone at tx_gain_db = 0
    rx_full_scale_dbm: float = Field(ge=-120, le=60)  # reaches full scale at rx_gain_db = 0
    noise_figure_db: float = Field(ge=0, le=60)  # for the link budget
    basis: str = Field(min_length=3, max_length=200)  # where these numbers come from


class CalibrationTable(StrictModel):
    """When a measured calibration of this board still holds; results stand in a file of their own beside this one."""

    max_age_days: float = Field(default=30.0, gt=0, le=3650)
    max_carrier_offset_hz: float = Field(default=20e6, ge=0, le=1e9)  # from the carrier it was made at
    max_temperature_offset_c: float = Field(default=10.0, gt=0, le=100)  # where both temperatures are known


class FirmwareTable(StrictModel):
    """Versions of what runs on the board, or, of a USRP, of UHD on the host."""

    minimum: Version  # older ones are refused
    recommended: Version | None = None
    image: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")  # of an FPGA: HG, XG, ...

    @model_validator(mode="after")
    def _ordered(self) -> "FirmwareTable":
        if self.recommended is not None and version(self.recommended) < version(self.minimum):
            raise ValueError(f"recommended: found {self.recommended}, older than minimum = {self.minimum}")
        return self


class UbootTable(StrictModel):
    """Variables of a Pluto's boot loader. What is not given is left as it is."""

    compatible: Literal["ad9363a", "ad9364", "ad9361"] | None = None  # what the chip is taken for
    mode: Literal["1r1t", "2r2t"] | None = None  # channels; the second needs an ad9361
    maxcpus: Literal["1", "2", "unset"] | None = None  # unset, or 2: both processor cores
    refclk_source: Literal["internal", "external"] | None = None  # of rev. C and D, 40 MHz
    xo_correction: int | None = Field(default=None, ge=39_992_000, le=40_008_000)  # of the crystal, Hz, as measured
    hostname: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]{0,30}$")
    ipaddr: IpAddress | None = None  # of the board, on its USB network
    ipaddr_host: IpAddress | None = None  # of the host, on that network

    @model_validator(mode="after")
    def _fits(self) -> "UbootTable":
        if self.mode == "2r2t" and self.compatible != "ad9361":
            raise ValueError(f"mode: '2r2t' needs compatible = 'ad9361'; found {self.compatible!r}")
        return self


class UsrpTable(StrictModel):
    """How UHD is to open a device, and what to set on it."""

    type: Literal["b200", "x300"]  # UHD's name of the family
    addr: Host | None = None  # of a device on the network
    args: dict[str, str | int | float] = {}  # further device arguments, as UHD has them
    master_clock_rate_hz: float = Field(gt=0)
    clock_source: Literal["internal", "external", "gpsdo"] = "internal"
    time_source: Literal["none", "internal", "external", "gpsdo"] = "internal"
    tx_subdev: Name
    rx_subdev: Name
    tx_antenna: Name = "TX/RX"
    rx_antenna: Name = "RX2"
    otw_format: Literal["sc16", "sc12", "sc8"] = "sc16"
    num_recv_frames: int = Field(default=32, ge=1, le=65_536)
    num_send_frames: int = Field(default=32, ge=1, le=65_536)
    recv_frame_size: int | None = Field(default=None, ge=512, le=65_536)  # bytes; UHD's own where not given
    send_frame_size: int | None = Field(default=None, ge=512, le=65_536)

    @model_validator(mode="after")
    def _possible(self) -> "UsrpTable":
        ranges = MASTER_CLOCKS_HZ[self.type]
        if not any(low <= self.master_clock_rate_hz <= high for low, high in ranges):
            allowed = " or ".join(f"{low:g}" if low == high else f"{low:g}..{high:g}" for low, high in ranges)
            raise ValueError(
                f"master_clock_rate_hz: found {self.master_clock_rate_hz:.10g}; a {self.type} has {allowed}"
            )
        for key in ("tx_subdev", "rx_subdev"):
            if not re.fullmatch(r"[A-D]:[A-D0-9](?: [A-D]:[A-D0-9])*", spec := getattr(self, key)):
                raise ValueError(f"{key}: found '{spec}'; must read like 'A:A' or 'A:A A:B', a part per channel")
        own = {"type", "addr", "serial", "master_clock_rate", "num_recv_frames", "num_send_frames"}
        own |= {"recv_frame_size", "send_frame_size", "clock_source", "time_source"}
        for key, value in self.args.items():
            if key in own:
                raise ValueError(f"args.{key}: has a key of its own in this file; move it there")
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", key) or not re.fullmatch(
                r"[A-Za-z0-9_.:/+-]{1,80}", str(value)
            ):
                raise ValueError(
                    f"args.{key}: found '{str(value)[:40]}'; a device argument is of letters, digits and _ . : / + -"
                )
        return self


class HostTable(StrictModel):
    """What the host must allow; printed, never set."""

    rmem_max_bytes: int | None = Field(default=None, ge=65_536, le=1 << 30)  # net.core.rmem_max
    wmem_max_bytes: int | None = Field(default=None, ge=65_536, le=1 << 30)  # net.core.wmem_max
    mtu: int | None = Field(default=None, ge=1500, le=9216)  # of the network interface
    real_time: bool = False  # whether the user's processes may have real-time priority


def version(text: str) -> tuple[int, ...]:
    """A version that can be compared: v0.38 is older than v0.39."""
    return tuple(int(part) for part in text.removeprefix("v").split("."))


def _quantity(key: str) -> str:
    """Row of RANGES that a key of the limits belongs to."""
    if key in ("num_tx", "num_rx"):
        return "channels"
    if key in ("tx_bits", "rx_bits"):
        return "bits"
    return key.replace("_min_", "_").replace("_max_", "_") if re.search(r"_(min|max)_", key) else ""
