"""Noise as a pure function of (seed, stream, absolute sample index).

Philox4x32-10 is counter based: its n-th output needs no state but n. One output is four words and makes two complex
samples by the Box-Muller transform, so sample n is the same however a stream is cut into blocks, and no two indices
share a word. A stream is a node, one of its channels, and what the randomness is for.

The compiled form (`sim.kernels`) and the one here do the same float32 operations in the same order, without fused
multiply-add: they agree bit for bit, so a run repeats on a machine that cannot compile.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sim.compiled import kernels
from sim.philox import indexed_words, round_keys

EPOCH_STRIDE = 1 << 40  # absolute sample indices set aside per epoch: 15 hours at 20 MS/s
MAX_EPOCH = 1 << 24
MAX_NODES = 1 << 16
MAX_CHANNELS = 1 << 16

LN_2 = np.float32(np.log(2.0))
# Minimax polynomials, lowest power first: log2(1.5 + t) for |t| <= 1/2 to 4e-8, sin and cos of 2 pi t for |t| <= 1/8.
LOG2 = np.array(
    [
        0.58496249,
        0.96179599,
        -0.32059684,
        0.14252637,
        -0.07129975,
        0.037462903,
        -0.020578755,
        0.014778806,
        -0.0090889037,
    ],
    dtype=np.float32,
)
SIN = np.array([6.28318501, -41.341629, 81.588127, -75.240067], dtype=np.float32)  # of t, t^3, ...
COS = np.array([1.0, -19.739153, 64.921249, -83.592613], dtype=np.float32)  # of 1, t^2, ...


class Purpose(IntEnum):
    """What a stream is for; part of the counter, so that purposes never share a word."""

    RECEIVER = 0
    TRANSMITTER = 1
    FADING_DIRECT = 2
    FADING_ECHO = 3
    PHASE = 4
    OSCILLATOR = 5
    PLACEMENT = 6


def absolute_index(epoch: int, start: int) -> int:
    """Absolute sample index of sample `start` of an epoch; epochs never share an index."""
    if not 0 <= epoch < MAX_EPOCH or not 0 <= start < EPOCH_STRIDE:
        raise ValueError(f"epoch {epoch}, sample {start}: must lie below {MAX_EPOCH} and {EPOCH_STRIDE}")
    return epoch * EPOCH_STRIDE + start


def stream_word(node_idx: int, channel: int = 0) -> int:
    """The counter's third word: node and channel."""
    if not 0 <= node_idx < MAX_NODES or not 0 <= channel < MAX_CHANNELS:
        raise ValueError(f"node {node_idx}, channel {channel}: must lie below {MAX_NODES} and {MAX_CHANNELS}")
    return node_idx | channel << 16


def unit_noise(
    seed: int, node_idx: int, first: int, count: int, channel: int = 0, purpose: Purpose = Purpose.RECEIVER
) -> NDArray[np.complex64]:
    """Circular complex Gaussian samples of E|w|^2 = 1 at absolute indices first .. first + count - 1.

    The magnitude is cut at 4.8, 6.8 standard deviations of a rail (exceeded with probability 1.2e-10), by the 32-bit
    uniform it comes from.
    """
    stream = stream_word(node_idx, channel)
    skip = first % 2
    pairs = (skip + count + 1) // 2
    compiled = kernels()
    if compiled is None:
        samples = gaussian(indexed_words(seed, stream, purpose, first // 2, pairs))
    else:
        samples = np.empty(2 * pairs, dtype=np.complex64)
        compiled.fill_noise(round_keys(seed), stream, int(purpose), np.uint64(first // 2), samples.view(np.float32))
    return samples[skip : skip + count]


def gaussian(words: NDArray[np.uint32]) -> NDArray[np.complex64]:
    """Box-Muller transform of words (n, 4) to 2 n complex samples: words 0, 2 make magnitudes, 1, 3 phases."""
    radius = magnitude(words[:, 0::2].reshape(-1))
    cos, sin = turn(words[:, 1::2].reshape(-1))
    samples = np.empty(radius.size, dtype=np.complex64)
    np.multiply(radius, cos, out=samples.real)
    np.multiply(radius, sin, out=samples.imag)
    return samples


def magnitude(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """sqrt(-ln((k + 1/2) / 2^32)) for words k."""
    floats = words.astype(np.float32) + np.float32(0.5)
    bits = floats.view(np.int32)
    exponent = ((bits >> np.int32(23)) - np.int32(127)).astype(np.float32)
    t = ((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32) - np.float32(1.5)
    log2 = _polynomial(LOG2, t)
    # the largest words round to 2^32, whose logarithm may come out 1e-8 above that of 1
    return np.sqrt(np.maximum((np.float32(32.0) - exponent) - log2, np.float32(0.0)) * LN_2)


def turn(words: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine and sine of k / 2^32 turns for words k."""
    shifted = words + np.uint32(0x20000000)
    quadrant = shifted >> np.uint32(30)
    t = ((shifted & np.uint32(0x3FFFFFFF)).astype(np.int32) - np.int32(0x20000000)).astype(np.float32)
    t *= np.float32(2.0**-32)
    square = t * t
    sin, cos = _polynomial(SIN, square) * t, _polynomial(COS, square)
    odd = (quadrant & np.uint32(1)) == 1
    sin, cos = np.where(odd, cos, sin), np.where(odd, sin, cos)
    return np.where((quadrant == 1) | (quadrant == 2), -cos, cos), np.where(quadrant >= 2, -sin, sin)


def _polynomial(coefficients: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    value = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value *= x
        value += c
    return value
