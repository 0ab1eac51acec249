"""Settings of a USRP through UHD: written, read back, compared. UHD takes what is nearest to a value, and says nothing.

Carrier and sample rate must come back as they were wanted, but for the rounding of their synthesisers; gains come back
on the device's steps. The lowest gain must come back exactly: it is what silence rests on.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from testbed.errors import RadioError, SettingOutOfRange

RATE_TOLERANCE = 1e-6  # relative
CARRIER_TOLERANCE_HZ = 1.0  # the tuning in the digital part has steps of some hundredths of a hertz
_GAIN_TOLERANCE_DB = 0.01
_LOCK_S = 1.0


def set_rate(usrp: Any, rate_hz: float, bandwidth_hz: float, num_rx: int, num_tx: int, name: str) -> float:
    """Set the sample rate of all channels, and analogue filters as wide where there are any; returns the rate realised.

    Args:
        usrp: the device.
        rate_hz: wanted.
        bandwidth_hz: the widest filter.
        num_rx: channels that receive.
        num_tx: channels that transmit.
        name: of the radio, for errors.

    Raises:
        SettingOutOfRange: another rate came back; it is the nearest there is.
    """
    where = f"{name}.sample_rate_hz"
    usrp.set_rx_rate(rate_hz)
    usrp.set_tx_rate(rate_hz)
    found = [usrp.get_rx_rate(k) for k in range(num_rx)] + [usrp.get_tx_rate(k) for k in range(num_tx)]
    for got in found:
        if not abs(got - rate_hz) <= RATE_TOLERANCE * rate_hz:
            raise SettingOutOfRange(
                f"{where}: {rate_hz:.10g} Hz came back from the board as {got:.10g}, the nearest that it can make of "
                f"its master clock of {usrp.get_master_clock_rate():.10g} Hz; take that, or change "
                f"usrp.master_clock_rate_hz"
            )
    if max(found) != min(found):
        raise SettingOutOfRange(
            f"{where}: channels came back with {min(found):.12g} to {max(found):.12g} Hz; choose a rate that all can"
        )
    width = min(rate_hz, bandwidth_hz)
    for direction, count in (("rx", num_rx), ("tx", num_tx)):
        for channel in range(count):
            with contextlib.suppress(RuntimeError):  # a board without such filters has no range to choose from
                allowed = getattr(usrp, f"get_{direction}_bandwidth_range")(channel)
                getattr(usrp, f"set_{direction}_bandwidth")(allowed.clip(width), channel)
    return float(found[0])


def set_carrier(uhd: Any, usrp: Any, carrier_hz: float, num_rx: int, num_tx: int, name: str) -> float:
    """Tune all channels; returns the carrier that the first receiver says it has.

    Raises:
        SettingOutOfRange: another one came back, or a synthesiser does not lock.
    """
    where = f"{name}.carrier_hz"
    for channel in range(num_rx):
        usrp.set_rx_freq(uhd.types.TuneRequest(carrier_hz), channel)
    for channel in range(num_tx):
        usrp.set_tx_freq(uhd.types.TuneRequest(carrier_hz), channel)
    found = [usrp.get_rx_freq(k) for k in range(num_rx)] + [usrp.get_tx_freq(k) for k in range(num_tx)]
    for got in found:
        if not abs(got - carrier_hz) <= CARRIER_TOLERANCE_HZ:
            raise SettingOutOfRange(
                f"{where}: {carrier_hz:.12g} Hz came back from the board as {got:.12g}, the nearest that it can tune "
                f"to; choose another value"
            )
    for direction, count in (("rx", num_rx), ("tx", num_tx)):
        for channel in range(count):
            _await_lock(usrp, direction, channel, where)
    return float(found[0])


def _await_lock(usrp: Any, direction: str, channel: int, where: str) -> None:
    if "lo_locked" not in getattr(usrp, f"get_{direction}_sensor_names")(channel):
        return
    deadline = time.monotonic() + _LOCK_S
    while not getattr(usrp, f"get_{direction}_sensor")("lo_locked", channel).to_bool():
        if time.monotonic() > deadline:
            raise SettingOutOfRange(
                f"{where}: the {direction} synthesiser of channel {channel} does not lock; choose another value, or "
                f"check the reference clock"
            )
        time.sleep(_LOCK_S / 100)


def set_rx_gain(usrp: Any, channel: int, gain_db: float, step_db: float, name: str) -> float:
    """Set the gain of a receiver, gain control off where there is one; returns the gain realised."""
    with contextlib.suppress(RuntimeError):  # most have no gain control, and say NotImplementedError
        usrp.set_rx_agc(False, channel)
    usrp.set_rx_gain(gain_db, channel)
    return _near(f"{name}.rx_gain_db", gain_db, usrp.get_rx_gain(channel), step_db)


def set_tx_gain(usrp: Any, channel: int, gain_db: float, step_db: float, name: str) -> float:
    """Set the gain of a transmitter; returns the gain realised."""
    usrp.set_tx_gain(gain_db, channel)
    return _near(f"{name}.tx_gain_db", gain_db, usrp.get_tx_gain(channel), step_db)


def realisable_tx_gain(usrp: Any, channel: int, gain_db: float) -> float:
    """What a gain would come back as, without setting it: it is set when the channel transmits."""
    return float(usrp.get_tx_gain_range(channel).clip(gain_db, True))


def silence(usrp: Any, channels: Sequence[int], where: str) -> None:
    """The lowest gain, which alone is nearly enough.

    Raises:
        RadioError: the device keeps another.
    """
    for channel in channels:
        lowest = usrp.get_tx_gain_range(channel).start()
        usrp.set_tx_gain(lowest, channel)
        got = usrp.get_tx_gain(channel)
        if not abs(got - lowest) <= _GAIN_TOLERANCE_DB:
            raise RadioError(
                f"{where}: the transmit gain of channel {channel} stays at {got:g} dB, {lowest:g} was set; it may "
                f"still transmit, switch it off by hand"
            )


def _near(where: str, value: float, got: float, step_db: float) -> float:
    if not abs(got - value) <= step_db + _GAIN_TOLERANCE_DB:
        raise SettingOutOfRange(
            f"{where}: {value:g} dB came back from the board as {got:g}; choose another value, or look for another "
            f"program that uses it"
        )
    return round(float(got), 6)
