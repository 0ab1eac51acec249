"""A capture on another clock: derotated and resampled.

The receiver took y[k] = v((1 + eps) k) exp(2j pi nu k): v is what it would have taken on the other clock. Derotation is
a product. For v(m) samples are wanted at k = m / (1 + eps), band-limited. A block of them is a constant delay plus a
small drift, so with the block's spectrum Y, its delay d and the drift delta_m,

    v(m) = sum_q delta_m^q / q! IDFT[ (2j pi f)^q exp(2j pi f d) Y ]

The series is cut where its next term stays below 1e-6 at the edge of the band. Blocks overlap, tapered outside what is
kept of them: a windowed sinc, wide enough that only the outermost hundredth of the band is touched. Within it noise
stays white and signals are exact to -95 dB for offsets up to 100 ppm.
"""

import numpy as np
from numpy.typing import NDArray

EDGE_SAMPLES = 64  # at the end of a capture, where the interpolation has nothing to rest on: not delivered
_KEPT = 1024  # samples of a block that are delivered
_GUARD = 512  # on both sides
_TAPER = 448  # of the guard
_BATCH = 32  # blocks at a time
_SMALLEST_DRIFT = 1e-6  # samples over the whole capture: below it there is nothing to resample
_SERIES = 1e-6
_MAX_TERMS = 8


def derotate(samples: NDArray[np.complexfloating], nu: float) -> NDArray[np.complex64]:
    """Take a carrier offset of `nu` cycles per sample away; phase zero is at the first sample."""
    turned = np.empty(samples.shape, dtype=np.complex64)
    step = np.exp(-2j * np.pi * nu * np.arange(_KEPT))
    for at in range(0, samples.size, _KEPT):
        block = samples[at : at + _KEPT]
        # the block's own phase whole: an accumulated product would walk away
        turned[at : at + _KEPT] = block * (step[: block.size] * np.exp(-2j * np.pi * ((nu * at) % 1.0)))
    return turned


def resample(samples: NDArray[np.complexfloating], eps: float) -> NDArray[np.complex64]:
    """Samples at k = m / (1 + eps), m = 0, 1, ...: as a clock faster by `eps` would have taken them.

    Args:
        samples: shape (n,), band-limited to 0.49 cycles per sample.
        eps: relative offset, at most 1e-3 in magnitude.

    Returns:
        Shape (about n (1 + eps) - EDGE_SAMPLES,); all of `samples` where the drift is nil.

    Raises:
        ValueError: an offset no crystal has.
    """
    if not abs(eps) <= 1e-3:
        raise ValueError(f"eps {eps}; must be at most 1e-3 in magnitude")
    if abs(eps) * samples.size < _SMALLEST_DRIFT:
        return samples.astype(np.complex64)
    count = max(int((samples.size - 1 - EDGE_SAMPLES) * (1 + eps)), 0)
    if count == 0:
        return np.zeros(0, dtype=np.complex64)
    num_blocks = -(-count // _KEPT)
    middle = np.arange(num_blocks) * _KEPT + (_KEPT - 1) / 2
    shift = middle / (1 + eps) - middle
    whole = np.round(shift).astype(np.int64)
    delta = (np.arange(_KEPT) - (_KEPT - 1) / 2) * (1 / (1 + eps) - 1)
    f = np.fft.fftfreq(_KEPT + 2 * _GUARD)
    weights = _series(float(np.abs(delta).max()))
    taper = _window()
    index = np.arange(_KEPT + 2 * _GUARD) - _GUARD
    padded, first = _padded(samples, int(np.abs(whole).max()))
    out = np.empty((num_blocks, _KEPT), dtype=np.complex64)
    for at in range(0, num_blocks, _BATCH):
        blocks = slice(at, at + _BATCH)
        start = (np.arange(num_blocks)[blocks] * _KEPT + whole[blocks])[:, None]
        Y = np.fft.fft(padded[first + start + index] * taper)
        Y *= np.exp(2j * np.pi * f * (shift - whole)[blocks, None]).astype(np.complex64)
        total = np.zeros((len(start), _KEPT), dtype=np.complex64)
        for q in range(weights):
            term = np.fft.ifft(Y)[:, _GUARD : _GUARD + _KEPT]
            total += term if q == 0 else term * (delta**q).astype(np.float32)
            Y *= (2j * np.pi * f / (q + 1)).astype(np.complex64)
        out[blocks] = total
    return out.reshape(-1)[:count]


def _series(drift: float) -> int:
    """Terms of the series for a drift of so many samples within a block."""
    term, terms = 1.0, 1
    while terms < _MAX_TERMS:
        term *= np.pi * drift / terms
        if term < _SERIES:
            break
        terms += 1
    return terms


def _window() -> NDArray[np.float32]:
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(_TAPER) + 0.5) / _TAPER)
    flat = np.ones(_KEPT + 2 * _GUARD - 2 * _TAPER)
    return np.concatenate([rise, flat, rise[::-1]]).astype(np.float32)


def _padded(samples: NDArray[np.complexfloating], most: int) -> tuple[NDArray[np.complex64], int]:
    """Samples between zeros, enough for every block, and where the first of them stands."""
    first = _GUARD + most
    padded = np.zeros(first + samples.size + first + 2 * _KEPT, dtype=np.complex64)
    padded[first : first + samples.size] = samples
    return padded, first
