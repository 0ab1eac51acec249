"""Philox4x32-10, the counter-based generator of Random123: a word of any index without the words before it.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; constants and known answers
as published with Random123. This is the plain NumPy form; `sim.kernels` has the same arithmetic compiled.
"""

import numpy as np
from numpy.typing import NDArray

NUM_ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1: what the key grows by per round
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def round_keys(key: int) -> NDArray[np.uint64]:
    """Keys of all rounds, shape (10, 2), each below 2^32.

    Args:
        key: 64 bits, low word first.
    """
    low, high = key & 0xFFFFFFFF, key >> 32
    keys = [((low + r * WEYL[0]) & 0xFFFFFFFF, (high + r * WEYL[1]) & 0xFFFFFFFF) for r in range(NUM_ROUNDS)]
    return np.array(keys, dtype=np.uint64)


def philox4x32(counter: NDArray[np.uint32], key: int) -> NDArray[np.uint32]:
    """Four random words per counter value.

    Args:
        counter: shape (n, 4), low word first.
        key: 64 bits.

    Returns:
        Words, shape (n, 4).
    """
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    for k0, k1 in round_keys(key):
        product0, product1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1 = (product1 >> _HALF) ^ c1 ^ k0, product1 & _LOW
        c2, c3 = (product0 >> _HALF) ^ c3 ^ k1, product0 & _LOW
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def indexed_words(key: int, stream: int, purpose: int, first: int, count: int) -> NDArray[np.uint32]:
    """Words of counters (index, stream, purpose) for indices first .. first + count - 1, shape (count, 4)."""
    counter = np.empty((count, 4), dtype=np.uint32)
    index = np.uint64(first) + np.arange(count, dtype=np.uint64)
    counter[:, 0], counter[:, 1] = index & _LOW, index >> _HALF
    counter[:, 2], counter[:, 3] = stream, purpose
    return philox4x32(counter, key)
