"""Fractional delay by short filters: for streams of no period, and for paths that move.

    y[i] = sum_k h_k(mu) x[i - d - k]        delay D = d + mu, 0 <= mu < 1, k = -(T/2 - 1) .. T/2

The taps minimise the largest complex error |sum_k h_k exp(-2j pi f k) - exp(-2j pi f mu)| over a band |f| <= B of the
sample rate, nearly: least squares whose weights are Lawson's for mu = 1/2, the hardest delay. They are tabled for 1024
delays per sample and interpolated between, which costs 1e-6 of the amplitude.

STREAM  24 taps over 80 % of the rate, for samples that pass by once.
LOOP    12 taps on a buffer that is first oversampled twofold, exactly, by its DFT: over the whole rate.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

_PHASES = 1024
_GRID = 161
_LAWSON_STEPS = 30


@dataclass(frozen=True)
class Design:
    """A filter: its length, its band, and how many samples per sample of the stream it runs on."""

    num_taps: int  # a multiple of 4
    band: float  # of the oversampled rate, one-sided
    oversampling: int


STREAM = Design(num_taps=24, band=0.4, oversampling=1)
LOOP = Design(num_taps=12, band=0.25, oversampling=2)


def tap_index(design: Design) -> NDArray[np.int64]:
    """Lag k of every tap, shape (T,)."""
    return np.arange(design.num_taps) - (design.num_taps // 2 - 1)


def split_delay(delay: NDArray[np.float64], design: Design) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Delays in samples of the stream to whole oversampled samples (...,) and taps (..., T)."""
    oversampled = delay * design.oversampling
    whole = np.floor(oversampled)
    place = (oversampled - whole) * _PHASES
    row = np.minimum(place.astype(np.int64), _PHASES - 1)
    rest = (place - row)[..., None]
    table = tap_table(design)
    return whole.astype(np.int64), ((1 - rest) * table[row] + rest * table[row + 1]).astype(np.float32)


@cache
def tap_table(design: Design) -> NDArray[np.float64]:
    """Taps for delays 0, 1/1024, ..., 1, shape (1025, T)."""
    f = design.band * np.cos(np.pi * (np.arange(_GRID) + 0.5) / _GRID)  # denser at the edges, where the error is
    basis = np.exp(-2j * np.pi * np.outer(f, tap_index(design)))
    weight = np.ones(_GRID)
    for _ in range(_LAWSON_STEPS):
        h = _fit(basis, np.exp(-1j * np.pi * f)[:, None], weight)
        weight *= np.abs(basis @ h[:, 0] - np.exp(-1j * np.pi * f)) + 1e-12
        weight /= weight.mean()
    mu = np.arange(_PHASES + 1) / _PHASES
    return _fit(basis, np.exp(-2j * np.pi * np.outer(f, mu)), weight).T


def _fit(
    basis: NDArray[np.complex128], wanted: NDArray[np.complex128], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    root = np.sqrt(weight)[:, None]
    rows, right = np.concatenate([(m * root).real for m in (basis, -1j * basis)]), wanted * root
    return np.linalg.lstsq(rows, np.concatenate([right.real, (-1j * right).real]), rcond=None)[0]
