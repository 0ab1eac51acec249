"""Symbol sequences: Zadoff-Chu preambles, pilot codes that separate nodes, and seeded data symbols."""

from math import gcd
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Modulation = Literal["qpsk", "16qam", "64qam"]
BITS_PER_SYMBOL: dict[Modulation, int] = {"qpsk": 2, "16qam": 4, "64qam": 6}


def zadoff_chu(root: int, length: int) -> NDArray[np.complex128]:
    """Zadoff-Chu sequence exp(-j pi u n (n + c) / length), c = length mod 2, shape (length,), unit modulus.

    Two roots u, v of a prime length have the constant cyclic cross-correlation sqrt(length) when u - v is coprime.

    Raises:
        ValueError: root not in 1 .. length - 1 or not coprime to length.
    """
    if not 1 <= root < length or gcd(root, length) != 1:
        raise ValueError(f"Zadoff-Chu root {root}: must be in 1..{length - 1} and coprime to the length {length}")
    n = np.arange(length, dtype=np.int64)
    # integer phase modulo 2 length: exact for any length
    phase = (root * n * (n + length % 2)) % (2 * length)
    return np.exp(-1j * np.pi * phase / length)


def constellation(modulation: Modulation) -> NDArray[np.complex128]:
    """Gray-mapped square constellation of mean power 1, indexed by the bits' integer (first bit is the highest)."""
    bits = BITS_PER_SYMBOL[modulation] // 2
    levels = 1 << bits
    labels = np.arange(levels)
    amplitude = np.empty(levels)
    amplitude[labels ^ (labels >> 1)] = 2 * labels - (levels - 1)  # Gray label of each level, left to right
    i, q = np.meshgrid(amplitude, amplitude, indexing="ij")
    points = (i + 1j * q).ravel()
    return points / np.sqrt(np.mean(np.abs(points) ** 2))


def data_symbols(
    modulation: Modulation, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[NDArray[np.complex128], NDArray[np.int64]]:
    """Uniformly drawn symbols and their constellation indices, both of `shape`."""
    points = constellation(modulation)
    index = rng.integers(0, points.size, size=shape)
    return points[index], index


def comb(node_idx: int, num_nodes: int, subcarriers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the subcarriers k with k = node_idx (mod num_nodes), SIGNAL_CHAIN section 1."""
    mask: NDArray[np.bool_] = subcarriers % num_nodes == node_idx
    return mask


def dft_cover(node_idx: int, num_symbols: int) -> NDArray[np.complex128]:
    """Cover code across pilot symbols, row `node_idx` of the DFT matrix, shape (num_symbols,).

    Rows are orthogonal, so up to num_symbols nodes can share all subcarriers.
    """
    return np.exp(-2j * np.pi * ((node_idx * np.arange(num_symbols)) % num_symbols) / num_symbols)
