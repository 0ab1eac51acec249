"""Receiver noise as a pure function of (seed, node, absolute sample index).

Philox is counter based: its n-th output needs no state but n. One 64-bit output makes one complex sample by the
Box-Muller transform, so sample n is the same however a stream is cut into blocks, and no two indices share an output.
"""

import numpy as np
from numpy.typing import NDArray

_OUTPUTS_PER_COUNT = 4  # 64-bit words per counter value of Philox 4x64
EPOCH_STRIDE = 1 << 40  # absolute sample indices set aside per epoch: 15 hours at 20 MS/s
MAX_EPOCH = 1 << 24


def absolute_index(epoch: int, start: int) -> int:
    """Absolute sample index of sample `start` of an epoch; epochs never share an index."""
    if not 0 <= epoch < MAX_EPOCH or not 0 <= start < EPOCH_STRIDE:
        raise ValueError(f"epoch {epoch}, sample {start}: must lie below {MAX_EPOCH} and {EPOCH_STRIDE}")
    return epoch * EPOCH_STRIDE + start


def unit_noise(seed: int, node_idx: int, first: int, count: int) -> NDArray[np.complex64]:
    """Circular complex Gaussian samples of E|w|^2 = 1 at absolute indices first .. first + count - 1.

    The magnitude is cut at 4.8, 6.8 standard deviations of a rail (exceeded with probability 1.2e-10), by the 32-bit
    uniform it comes from.
    """
    skip = first % _OUTPUTS_PER_COUNT
    # as uint64: NumPy makes a list with a number above 2^63 float64, where 2^63 and 2^63 + 1 are one seed
    key = np.array([seed, node_idx], dtype=np.uint64)
    bits = np.random.Philox(key=key, counter=[first // _OUTPUTS_PER_COUNT, 0, 0, 0])
    words = np.asarray(bits.random_raw(skip + count)[skip:])
    halves = words.view(np.uint32).reshape(-1, 2)
    # (k + 1/2) / 2^32 lies in (0, 1]: the logarithm is finite
    uniform = (halves[:, 0].astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
    radius = np.sqrt(-np.log(uniform))
    angle = halves[:, 1].astype(np.float32) * np.float32(2.0 * np.pi * 2.0**-32)
    samples = np.empty(count, dtype=np.complex64)
    np.multiply(radius, np.cos(angle), out=samples.real)
    np.multiply(radius, np.sin(angle), out=samples.imag)
    return samples
