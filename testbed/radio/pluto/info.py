"""What a board says of itself: what it is, and the ranges of what can be set."""

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from testbed.errors import RadioUnavailable
from testbed.radio.pluto import libiio

MIN_FIRMWARE = (0, 32)
STANDARD_LOWEST_HZ = 521e3  # sample rate that pyadi-iio reaches with the standard filter
TX_GAIN_MIN_DB = -89.75

_RANGE = re.compile(r"\[\s*(\S+)\s+(\S+)\s+(\S+)\s*\]")


@dataclass(frozen=True)
class BoardInfo:
    """What a board is and can do; ranges are lowest, highest and, of gains, the step."""

    model: str
    firmware: str
    is_virtual: bool
    attributes: dict[str, str]  # of the context
    num_channels: int
    carrier_hz: tuple[float, float]
    sample_rate_hz: tuple[float, float]
    rx_gain_db: tuple[float, float, float]
    tx_gain_db: tuple[float, float, float]


def check_board(context: Any, uri: str) -> int:
    """Number of channels of the AD936x behind a context.

    Raises:
        RadioUnavailable: there is none, or its firmware is too old.
    """
    firmware = context.attrs.get("fw_version", "")
    version = re.match(r"v?(\d+)\.(\d+)", firmware)
    if version and (int(version[1]), int(version[2])) < MIN_FIRMWARE:
        least = ".".join(map(str, MIN_FIRMWARE))
        raise RadioUnavailable(
            f"{uri}: firmware {firmware} is too old, v{least} or newer is needed; write a newer pluto.frm to the "
            f"board's drive and eject it"
        )
    receiver = context.find_device("cf-ad9361-lpc")
    if receiver is None or context.find_device("ad9361-phy") is None:
        raise RadioUnavailable(
            f"{uri}: no AD936x transceiver on it ({context.description[:80]}); give the address of a Pluto"
        )
    return 2 if receiver.find_channel("voltage2") is not None else 1


def describe(sdr: Any, uri: str, num_channels: int, *, keeps_filter: bool) -> BoardInfo:
    """Model and ranges, as the board's driver tells them; those of a stock Pluto where it does not."""
    attributes = dict(sdr.ctx.attrs)
    carriers = [
        _range(sdr, name, "frequency_available", True) or (325e6, 1.0, 3.8e9) for name in ("altvoltage0", "altvoltage1")
    ]
    rates = _range(sdr, "voltage0", "sampling_frequency_available", False) or (25e6 / 12, 1.0, 61.44e6 / num_channels)
    rx = _range(sdr, "voltage0", "hardwaregain_available", False) or (-3.0, 1.0, 71.0)
    tx = _range(sdr, "voltage0", "hardwaregain_available", True) or (TX_GAIN_MIN_DB, 0.25, 0.0)
    return BoardInfo(
        model=attributes.get("hw_model", sdr.ctx.description)[:120],
        firmware=attributes.get("fw_version", ""),
        is_virtual=libiio.is_simulated(uri, attributes),
        attributes=attributes,
        num_channels=num_channels,
        carrier_hz=(max(c[0] for c in carriers), min(c[2] for c in carriers)),
        sample_rate_hz=(rates[0] if keeps_filter else min(rates[0], STANDARD_LOWEST_HZ), rates[2]),
        rx_gain_db=(rx[0], rx[2], rx[1]),
        tx_gain_db=(tx[0], tx[2], tx[1]),
    )


def _range(sdr: Any, channel: str, attribute: str, output: bool) -> tuple[float, float, float] | None:
    """Lowest value, step and highest value of an attribute."""
    with contextlib.suppress(KeyError, AttributeError):
        if found := _RANGE.search(sdr._get_iio_attr_str(channel, attribute, output)):
            return float(found[1]), float(found[2]), float(found[3])
    return None
