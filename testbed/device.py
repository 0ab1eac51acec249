"""Values that describe a radio: what it can do, what it was set to, what it received.

They stand below captures and radios alike: a capture stores them, a radio makes them.
"""

import itertools
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from testbed.errors import RadioError, SettingOutOfRange
from testbed.units import undb

Continuity = Literal["reported", "unknown", "verified"]
Steps = tuple[tuple[float, float], ...]
MAX_STEPS = 1024  # of a calibrated transmitter
TX_BACKOFF_DB = 0.5  # the largest rail of what is sent stays this far below full scale


@dataclass(frozen=True)
class Settings:
    """Settings of a radio: as wanted when they go into `configure`, as realised when they come back."""

    carrier_hz: float
    sample_rate_hz: float
    tx_gain_db: float
    rx_gain_db: float

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for the wire and for captures."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Inverse of `to_dict`; raises RadioError on missing or foreign entries and on anything but finite numbers."""
        return _from_dict(cls, data)


@dataclass(frozen=True)
class Limits:
    """What a radio can do, and its power calibration. Ranges are closed; dBm values hold for a full-scale tone."""

    model: str
    simulated: bool
    num_tx: int
    num_rx: int
    carrier_min_hz: float
    carrier_max_hz: float
    sample_rate_min_hz: float
    sample_rate_max_hz: float
    tx_gain_min_db: float
    tx_gain_max_db: float
    tx_gain_step_db: float
    rx_gain_min_db: float
    rx_gain_max_db: float
    rx_gain_step_db: float
    tx_bits: int  # of the digital-to-analogue converter
    rx_full_scale: int  # raw integer at full scale: 2048 for a 12-bit converter
    tx_full_scale_dbm: float  # power of a full-scale complex tone at tx_gain_db = 0
    rx_full_scale_dbm: float  # power at the antenna that reaches full scale at rx_gain_db = 0
    max_transmit_samples: int
    # as calibrated: values of tx_gain_db, rising, and by how many decibels the power there departs from what
    # tx_full_scale_dbm says; in between it is linear, beyond as at the end
    tx_steps: Steps = ()
    rx_lsb: int = 1  # raw integers per step of the converter: 16 where 12 bits stand left in words of 16

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary for the wire and for captures."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Inverse of `to_dict`; raises RadioError on missing, foreign or mistyped entries."""
        steps: Any = ()
        if isinstance(data, dict):
            data = {"rx_lsb": 1} | data  # older captures have neither of these
            steps = _steps(data.pop("tx_steps", ()))
        limits: Self = _from_dict(cls, data, without="tx_steps")
        return replace(limits, tx_steps=steps)

    def rx_amplitude(self, rx_gain_db: float) -> float:
        """Factor from full-scale amplitude to sqrt(milliwatt) at the antenna for a realised receive gain."""
        return float(np.sqrt(undb(self.rx_full_scale_dbm - rx_gain_db)))

    def tx_amplitude(self, tx_gain_db: float) -> float:
        """Factor from full-scale amplitude to sqrt(milliwatt) at the antenna for a realised transmit gain."""
        power_dbm = self.tx_full_scale_dbm + tx_gain_db
        if self.tx_steps:
            gains_db, departures_db = zip(*self.tx_steps, strict=True)
            power_dbm += float(np.interp(tx_gain_db, gains_db, departures_db))
        return float(np.sqrt(undb(power_dbm)))

    def largest_power(self, peak_to_average: float) -> float:
        """Largest mean power in milliwatt of samples whose largest squared rail is `peak_to_average` times it."""
        return self.tx_amplitude(self.tx_gain_max_db) ** 2 * undb(-TX_BACKOFF_DB) / peak_to_average

    def realise(self, wanted: Settings, name: str) -> Settings:
        """Round gains to their steps; raise SettingOutOfRange with number, limits and next step."""
        self._check(f"{name}.carrier_hz", wanted.carrier_hz, self.carrier_min_hz, self.carrier_max_hz, "Hz")
        self._check(
            f"{name}.sample_rate_hz", wanted.sample_rate_hz, self.sample_rate_min_hz, self.sample_rate_max_hz, "Hz"
        )
        tx_gain_db = _rounded(wanted.tx_gain_db, self.tx_gain_step_db)
        rx_gain_db = _rounded(wanted.rx_gain_db, self.rx_gain_step_db)
        self._check(f"{name}.tx_gain_db", tx_gain_db, self.tx_gain_min_db, self.tx_gain_max_db, "dB")
        self._check(f"{name}.rx_gain_db", rx_gain_db, self.rx_gain_min_db, self.rx_gain_max_db, "dB")
        return Settings(wanted.carrier_hz, wanted.sample_rate_hz, tx_gain_db, rx_gain_db)

    def _check(self, where: str, value: float, low: float, high: float, unit: str) -> None:
        if not low <= value <= high:  # a NaN is refused here as well
            raise SettingOutOfRange(
                f"{where}: {value:g} {unit} is outside {low:g}..{high:g} {unit} of {self.model}; choose a value within"
            )


@dataclass(frozen=True)
class Reception:
    """Exactly the samples asked for, contiguous, as the converter gave them."""

    raw: NDArray[np.int16]  # shape (num_rx, n, 2): in-phase, quadrature
    full_scale: int  # raw integer that stands for amplitude 1
    epoch: int  # counts changes of transmission, settings or condition; samples of two epochs never mix
    start: int  # index of the first sample within the epoch
    clip_count: int  # samples with a rail at full scale
    continuity: Continuity
    num_underflows: int = 0  # of the node's transmitter, reported since the reception before

    @property
    def num_samples(self) -> int:
        """Samples per channel."""
        return int(self.raw.shape[1])

    @property
    def samples(self) -> NDArray[np.complex64]:
        """complex64 (num_rx, n), full scale 1."""
        return raw_to_complex(self.raw, self.full_scale)


def raw_to_complex(raw: NDArray[np.int16], full_scale: int) -> NDArray[np.complex64]:
    """Raw integers (..., n, 2) to complex64 (..., n) with full scale 1."""
    scaled = np.ascontiguousarray(raw).astype(np.float32)
    scaled /= np.float32(full_scale)
    return scaled.view(np.complex64)[..., 0]


def _rounded(value: float, step: float) -> float:
    steps = value / step if step > 0 else math.nan
    return round(steps) * step if math.isfinite(steps) else value  # what is not finite fails the range check


def _steps(told: Any) -> Steps:
    """Pairs of numbers, the first of each rising."""
    pairs = told if isinstance(told, list | tuple) and len(told) <= MAX_STEPS else None
    if pairs is not None:
        kinds = [isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_is_number, pair)) for pair in pairs]
        if all(kinds) and all(a[0] < b[0] for a, b in itertools.pairwise(pairs)):
            return tuple((float(gain), float(departure)) for gain, departure in pairs)
    raise RadioError(
        f"Limits.tx_steps: the radio sent {repr(told)[:60]}; must be at most {MAX_STEPS} pairs of finite numbers, the "
        f"first of each rising"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)


def _from_dict(cls: Any, data: Any, without: str = "") -> Any:
    fields = {key: field for key, field in cls.__dataclass_fields__.items() if key != without}
    if not isinstance(data, dict) or set(data) != set(fields):
        raise RadioError(f"{cls.__name__}: the radio sent other fields than {sorted(fields)}; versions differ?")
    kinds: dict[Any, Any] = {bool: bool, int: int, float: (int, float), str: str}
    for key, value in data.items():
        kind = fields[key].type
        if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind is not bool):
            raise RadioError(
                f"{cls.__name__}.{key}: the radio sent {repr(value)[:60]}, not {kind.__name__}; versions differ?"
            )
        if kind is float and not _is_finite(value):
            raise RadioError(
                f"{cls.__name__}.{key}: the radio sent {repr(value)[:60]}; must be a finite number of double precision"
            )
    return cls(**{key: fields[key].type(value) for key, value in data.items()})


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more than 308 digits
        return False
