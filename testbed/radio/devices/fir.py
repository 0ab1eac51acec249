"""The programmable filter of an AD936x: designed, checked, written to a `.ftr` file, and read from one.

A filter runs at `change` times the sample rate f_s: behind the receiver it decimates by as much, before the transmitter
it interpolates. Ours is a low pass by a Kaiser window, the same taps both ways, with pass and stop edge at equal
distances from f_s / 2: what aliases into the pass band was in the stop band. Taps add up to 2^16, with RX GAIN -6 and
TX GAIN 0, as those that pyadi-iio loads by default: reference powers hold with either.

What the chip and its Linux driver (`ad9361.c`) demand: taps of 16 bits, a multiple of 16, at most 128, and at most 16
per two cycles of the ADC clock within a sample; a change of 1, 2 or 4, with at most 64 taps where it is 1.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.config import read_regular
from testbed.errors import ConfigError

TAP_SUM = 1 << 16
RX_GAIN_DB, TX_GAIN_DB = -6, 0
MAX_TAPS, TAP_MULTIPLE, MAX_TAPS_UNCHANGED = 128, 16, 64
CHANGES = (1, 2, 4)
RX_GAINS_DB, TX_GAINS_DB = (-12, -6, 0, 6), (-6, 0)
MIN_ADC_HZ, MAX_ADC_HZ = 25e6, 640e6
MAX_FILTER_HZ, MAX_RATE_HZ = 122.88e6, 61.44e6
_DIVIDERS = (1, 2, 3, 4, 6, 8, 12)  # ADC clock over the filter's; the driver uses the largest but 12 that it may
_MAX_BYTES = 100_000
_GRID = 1 << 14  # frequencies that a response is looked at
_NEAR_HALF = 1e-6  # of a tap's last digit: as close, another library might round it the other way

_INT = r"(-?\d{1,9})"  # Python makes no integer of thousands of digits
_TX = re.compile(rf"TX {_INT} GAIN {_INT} INT {_INT}")
_RX = re.compile(rf"RX {_INT} GAIN {_INT} DEC {_INT}")
_PAIR = re.compile(rf"\s*{_INT}\s*(?:,\s*{_INT}\s*)?")
_IGNORED = re.compile(r"(RTX|RRX|BWTX|BWRX)\b")  # clock rates and analogue filters: the testbed sets its own


@dataclass(frozen=True)
class Design:
    """What a filter is to be; edges in units of the sample rate."""

    name: str  # of the file
    change: int  # decimation and interpolation
    num_taps: int
    pass_edge: float
    ripple_db: float  # largest minus smallest gain below pass_edge, at most
    attenuation_db: float  # above 1 - pass_edge, at least
    beta: float  # of the Kaiser window

    @property
    def stop_edge(self) -> float:
        """Where the stop band begins, in units of the sample rate."""
        return 1.0 - self.pass_edge


@dataclass(frozen=True)
class Ftr:
    """A filter as a `.ftr` file holds it."""

    tx_taps: tuple[int, ...]
    rx_taps: tuple[int, ...]
    interpolation: int
    decimation: int
    tx_gain_db: int
    rx_gain_db: int

    @property
    def num_taps(self) -> int:
        """Of either direction."""
        return len(self.rx_taps)

    @property
    def delay_samples(self) -> float:
        """Group delay of both directions together, where taps are symmetric."""
        return (self.num_taps - 1) / 2 * (1 / self.interpolation + 1 / self.decimation)

    @property
    def sample_rate_hz(self) -> tuple[float, float]:
        """Lowest and highest sample rate at which the driver takes it."""
        change = max(self.decimation, self.interpolation)
        # 16 taps per two cycles of the ADC clock, of which there are divider * decimation in a sample
        least = min((d for d in _DIVIDERS if d * self.decimation // 2 * TAP_MULTIPLE >= self.num_taps), default=0)
        if least == 0:
            return 0.0, 0.0
        highest_hz = min(MAX_RATE_HZ, MAX_FILTER_HZ / change, MAX_ADC_HZ / (least * self.decimation))
        return MIN_ADC_HZ / (_DIVIDERS[-1] * self.decimation), highest_hz


def design_taps(design: Design) -> tuple[int, ...]:
    """Taps of a design, checked against what it promises.

    Raises:
        ValueError: the response misses the promise, or the chip cannot take the taps.
    """
    from scipy.signal import firwin

    # the cut-off at half the sample rate, in units of the filter's Nyquist frequency
    ideal = firwin(design.num_taps, 1 / design.change, window=("kaiser", design.beta)) * TAP_SUM
    # symmetric to the last digit; the sum is made exact in the middle, where a step is the smallest share of a tap
    first = np.rint(ideal[: design.num_taps // 2])
    if np.abs(np.abs(ideal[: design.num_taps // 2] - first) - 0.5).min() < _NEAR_HALF:
        raise ValueError(f"{design.name}: a tap lies between two integers; change beta a little")
    first[-1] += TAP_SUM / 2 - first.sum()
    taps = tuple(int(tap) for tap in (*first, *first[::-1]))
    check_taps(taps, design.change)
    ripple_db, attenuation_db = response(taps, design.change, design.pass_edge)
    if ripple_db > design.ripple_db or attenuation_db < design.attenuation_db:
        raise ValueError(
            f"{design.name}: ripple {ripple_db:.4f} dB (at most {design.ripple_db:g}), stop band {attenuation_db:.2f} "
            f"dB (at least {design.attenuation_db:g}); use more taps or a wider transition"
        )
    return taps


def check_taps(taps: tuple[int, ...], change: int) -> None:
    """ValueError where the chip cannot take them."""
    if not 0 < len(taps) <= MAX_TAPS or len(taps) % TAP_MULTIPLE:
        raise ValueError(f"{len(taps)} taps; must be a multiple of {TAP_MULTIPLE} up to {MAX_TAPS}")
    if change not in CHANGES:
        raise ValueError(f"changes the rate by {change}; must be 1, 2 or 4")
    if change == 1 and len(taps) > MAX_TAPS_UNCHANGED:
        raise ValueError(f"{len(taps)} taps without a change of rate; at most {MAX_TAPS_UNCHANGED}")
    if beyond := [tap for tap in taps if not -(1 << 15) <= tap < 1 << 15]:
        raise ValueError(f"tap {beyond[0]}; must fit 16 bits: -32768..32767")


def gain_db(taps: tuple[int, ...], change: int, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain relative to that at zero; `frequency` in units of the sample rate."""
    h = np.asarray(taps, dtype=np.float64)
    turned = np.exp(-2j * np.pi / change * np.outer(frequency, np.arange(h.size)))
    return np.asarray(20 * np.log10(np.maximum(np.abs(turned @ h) / abs(h.sum()), 1e-12)))


def response(taps: tuple[int, ...], change: int, pass_edge: float) -> tuple[float, float]:
    """Ripple within 0..pass_edge and attenuation within 1 - pass_edge..change / 2, in dB."""
    passed = gain_db(taps, change, np.linspace(0, pass_edge, _GRID // 8))
    stopped = gain_db(taps, change, np.linspace(1 - pass_edge, change / 2, _GRID // 8))
    return float(np.ptp(passed)), float(-stopped.max())


def ftr_text(design: Design) -> str:
    """The file of a design, the same bytes wherever it is made."""
    taps = design_taps(design)
    ripple_db, attenuation_db = response(taps, design.change, design.pass_edge)
    made = Ftr(taps, taps, design.change, design.change, TX_GAIN_DB, RX_GAIN_DB)
    low_hz, high_hz = made.sample_rate_hz
    head = [
        f"# {design.name}: low pass by a Kaiser window, beta {design.beta:g}; made by make_filters.py",
        f"# pass band 0..{design.pass_edge:g} of the sample rate within {ripple_db:.3f} dB, "
        f"from {design.stop_edge:g} on {attenuation_db:.1f} dB down",
        f"# sample rates {low_hz / 1e6:.4f}..{high_hz / 1e6:.4f} Msps; "
        f"transmitter and receiver together delay by {made.delay_samples:g} samples",
        f"TX 3 GAIN {made.tx_gain_db} INT {made.interpolation}",
        f"RX 3 GAIN {made.rx_gain_db} DEC {made.decimation}",
    ]
    return "\n".join([*head, *(f"{tap},{tap}" for tap in taps)]) + "\n"


def read_ftr(path: Path) -> Ftr:
    """Read a filter; what the driver would refuse, or drop without a word, is refused here.

    Raises:
        ConfigError: one line.
    """
    tx: tuple[int, ...] = ()
    rx: tuple[int, ...] = ()
    pairs: list[tuple[int, int]] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#") or _IGNORED.match(line):
            continue
        if found := _TX.fullmatch(line):
            tx = tuple(map(int, found.groups()))
        elif found := _RX.fullmatch(line):
            rx = tuple(map(int, found.groups()))
        elif found := _PAIR.fullmatch(line):
            pairs.append((int(found[1]), int(found[2] or found[1])))
        else:
            raise ConfigError(f"{path}: line {number}: found '{line[:40]}'; must be a header, or taps TX,RX")
    try:
        return _checked(tx, rx, pairs)
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from None


def _text(path: Path) -> str:
    try:
        data = read_regular(path, _MAX_BYTES)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes; not a .ftr file")
        return data.decode("ascii")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a .ftr file") from None
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not plain text; give the path of a .ftr file") from None


def _checked(tx: tuple[int, ...], rx: tuple[int, ...], pairs: list[tuple[int, int]]) -> Ftr:
    if not tx or not rx:
        missing = "'TX 3 GAIN 0 INT 4'" if not tx else "'RX 3 GAIN -6 DEC 4'"
        raise ValueError(f"no line like {missing} before the taps; the driver would not load it")
    if tx[0] not in (1, 2, 3) or rx[0] not in (1, 2, 3):
        raise ValueError(f"channels TX {tx[0]}, RX {rx[0]}; must be 1, 2, or 3 for both")
    if tx[1] not in TX_GAINS_DB or rx[1] not in RX_GAINS_DB:
        raise ValueError(f"gains TX {tx[1]}, RX {rx[1]} dB; TX has -6 and 0, RX -12, -6, 0 and 6 dB")
    made = Ftr(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), tx[2], rx[2], tx[1], rx[1])
    check_taps(made.tx_taps, made.interpolation)
    check_taps(made.rx_taps, made.decimation)
    if made.sample_rate_hz[1] == 0:
        raise ValueError(f"{made.num_taps} taps with DEC {made.decimation}; no clock has so many cycles")
    return made
