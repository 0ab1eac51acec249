"""Settings of a board through pyadi-iio: written, read back, compared.

Rates: the standard filter, which pyadi-iio loads as libad9361 does (128 taps), replaces what is in the board, unless a
filter of one's own is named (`fir` = path of a .ftr file) or the one in the board is to stay (`fir` = "keep").
"""

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from testbed.errors import ConfigError, RadioError, SafetyRefused, SettingOutOfRange
from testbed.radio.pluto.info import TX_GAIN_MIN_DB

STANDARD_FIR, KEEP_FIR = "standard", "keep"
RATE_TOLERANCE = 1e-6  # relative: the dividers of the clock
CARRIER_TOLERANCE_HZ = 16.0  # the step of the synthesisers is up to 9.5 Hz
_GAIN_TOLERANCE_DB = 0.01

log = logging.getLogger(__name__)


def check_fir(fir: str) -> str:
    """'standard', 'keep' or the path of a file; ConfigError where that is missing."""
    if fir not in (STANDARD_FIR, KEEP_FIR) and not Path(fir).is_file():
        raise ConfigError(f"fir '{fir}': no such file; give 'standard', 'keep' or the path of a .ftr file")
    return fir


def set_carrier(sdr: Any, carrier_hz: float, name: str) -> float:
    """Tune both synthesisers; returns the carrier they share."""
    where = f"{name}.carrier_hz"
    tx = _set(sdr, "tx_lo", round(carrier_hz), CARRIER_TOLERANCE_HZ, where, "Hz")
    rx = _set(sdr, "rx_lo", round(carrier_hz), CARRIER_TOLERANCE_HZ, where, "Hz")
    if tx != rx:
        raise SettingOutOfRange(
            f"{where}: transmitter at {tx:.10g} Hz, receiver at {rx:.10g} Hz; choose a carrier that both can make"
        )
    return rx


def set_rate(sdr: Any, rate_hz: float, fir: str, name: str) -> float:
    """Set the sample rate with the filter that is wanted, and analogue filters as wide; returns the rate realised."""
    where, tolerance = f"{name}.sample_rate_hz", RATE_TOLERANCE * rate_hz
    if fir == STANDARD_FIR:
        # the setter loads the standard filter even where the rate stays
        got = _set(sdr, "sample_rate", round(rate_hz), tolerance, where, "Hz")
    else:
        if fir != KEEP_FIR:
            _load_filter(sdr, fir, name)
        unit = "Hz; its filter allows no such rate"
        # not by `sample_rate`, which would replace the filter
        with _accepting(where, rate_hz, unit):
            sdr._set_iio_attr("voltage0", "sampling_frequency", False, round(rate_hz))
        got = float(sdr.sample_rate)
        _compare(where, rate_hz, got, tolerance, unit)
    for direction, highest_hz in (("rx", 56e6), ("tx", 40e6)):
        setattr(sdr, f"{direction}_rf_bandwidth", round(min(max(rate_hz, 200e3), highest_hz)))
    return got


def set_rx_gain(sdr: Any, channel: int, gain_db: float, name: str) -> float:
    """Switch the gain control off first: in any mode but manual a gain is dropped without a word."""
    mode = f"gain_control_mode_chan{channel}"
    if getattr(sdr, mode) != "manual":
        setattr(sdr, mode, "manual")
        if (got := getattr(sdr, mode)) != "manual":
            raise RadioError(f"{name}: gain control stays '{got}'; the receive gain would not be ours")
    return _set(sdr, f"rx_hardwaregain_chan{channel}", gain_db, _GAIN_TOLERANCE_DB, f"{name}.rx_gain_db", "dB")


def set_tx_gain(sdr: Any, channel: int, gain_db: float, name: str) -> float:
    """Set the attenuation of a transmitter."""
    return _set(sdr, f"tx_hardwaregain_chan{channel}", gain_db, _GAIN_TOLERANCE_DB, f"{name}.tx_gain_db", "dB")


def attenuate(sdr: Any, channels: Iterable[int]) -> None:
    """The highest attenuation that there is; nothing is read back in a hurry."""
    for channel in channels:
        setattr(sdr, f"tx_hardwaregain_chan{channel}", TX_GAIN_MIN_DB)


def power_down(sdr: Any, off: bool, uri: str) -> None:
    """Switch the transmit synthesiser off or on."""
    sdr._set_iio_attr("altvoltage1", "powerdown", True, int(off))
    if sdr._get_iio_attr("altvoltage1", "powerdown", True) != int(off):
        raise RadioError(f"{uri}: the transmit carrier cannot be switched {'off' if off else 'on'}")


def enable_transmitters(sdr: Any, channels: list[int]) -> None:
    """Say which channels the next buffer holds; pyadi never takes one out, and would spread the others over it."""
    for name in sdr._tx_channel_names:
        sdr._txdac.find_channel(name, True).enabled = False
    sdr.tx_enabled_channels = channels


def silence_tones(sdr: Any) -> None:
    """Switch the test tones off, to which the converter returns where it has no buffer."""
    if scales := sdr.dds_scales:
        sdr.dds_scales = [0] * len(scales)
    sdr.disable_dds()


def forbid_loopback(sdr: Any, uri: str) -> None:
    """Switch a loopback off: the digital one hides the air, the other one transmits what it hears."""
    with contextlib.suppress(KeyError):
        if sdr.loopback != 0:
            log.warning("%s: loopback %s found; switched off", uri, sdr.loopback)
            sdr.loopback = 0
            if sdr.loopback != 0:
                raise SafetyRefused(f"{uri}: loopback cannot be switched off; restart the board")


def _load_filter(sdr: Any, fir: str, name: str) -> None:
    try:
        sdr.filter = fir
    except (OSError, UnicodeDecodeError) as exc:
        if isinstance(exc, OSError) and exc.errno != errno.EINVAL:
            raise
        raise SettingOutOfRange(
            f"{name}.fir: the board refuses the filter {Path(fir).name}; it takes up to 128 taps in multiples of 16, "
            f"with lines 'TX 3 GAIN 0 INT 4' and 'RX 3 GAIN -6 DEC 4' before them"
        ) from exc


def _set(sdr: Any, attribute: str, value: float, tolerance: float, where: str, unit: str) -> float:
    """Write, read back, compare."""
    with _accepting(where, value, unit):
        setattr(sdr, attribute, value)
    got = float(getattr(sdr, attribute))
    _compare(where, value, got, tolerance, unit)
    return got


@contextlib.contextmanager
def _accepting(where: str, value: float, unit: str) -> Iterator[None]:
    """Within, a value is written that the board may refuse."""
    try:
        yield
    except (OSError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno not in (errno.EINVAL, errno.ERANGE):
            raise
        raise SettingOutOfRange(f"{where}: the board refuses {value:.10g} {unit}; choose another value") from exc


def _compare(where: str, value: float, got: float, tolerance: float, unit: str) -> None:
    if not abs(got - value) <= tolerance:
        raise SettingOutOfRange(
            f"{where}: {value:.10g} {unit} came back from the board as {got:.10g}; choose another value, or look for "
            f"another program that uses it"
        )
