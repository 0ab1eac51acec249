"""A rate-1/2 convolutional code of constraint length 7, its Viterbi decoder, and a CRC that tells right words.

    c_0[n] = sum_i G0_i b[n - i],  c_1[n] = sum_i G1_i b[n - i]   (mod 2)        G0 = 171, G1 = 133 octal

Six zeros end every word, so it starts and ends in state 0. The decoder takes log-likelihood ratios ln P(0) / P(1) and
maximises sum (1 - 2 c) llr over all paths of the trellis: maximum likelihood of the word. Many words at once: one pass
over the trellis, every step a butterfly on arrays (32 pairs of states, words).

Source: polynomials, free distance 10 and distance spectrum: Odenwalder 1970; the code of CCSDS 131.0-B and 802.11.
"""

import numpy as np
from numpy.typing import NDArray

GENERATORS = (0o171, 0o133)
MEMORY = 6  # tail bits
CRC_BITS = 16
_CRC_POLYNOMIAL = 0x1021  # CCITT, register preset to ones: a word of zeros does not pass
_BATCH = 512  # words at a time: metrics of 64 states then stay in the cache
_STATES = 1 << MEMORY
_TAPS = np.array([[g >> (MEMORY - i) & 1 for i in range(MEMORY + 1)] for g in GENERATORS], dtype=bool)


def encode(bits: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Code words of bits (..., n) as (..., 2 (n + 6)): c_0[0], c_1[0], c_0[1], ...; tail added here."""
    b = np.asarray(bits, dtype=np.uint8)
    n = b.shape[-1] + MEMORY
    padded = np.zeros((*b.shape[:-1], n + MEMORY), dtype=np.uint8)
    padded[..., MEMORY:n] = b
    words = np.zeros((*b.shape[:-1], n, 2), dtype=np.uint8)
    for i in range(MEMORY + 1):
        late = padded[..., MEMORY - i : MEMORY - i + n]
        for output in range(2):
            if _TAPS[output, i]:
                words[..., output] ^= late
    return words.reshape(*b.shape[:-1], 2 * n)


def decode(llr: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Bits (..., n) of the likeliest words, by Viterbi's algorithm.

    Args:
        llr: ln P(bit 0) / P(bit 1) of every code bit in the order of `encode`, shape (..., 2 (n + 6)), finite.

    Raises:
        ValueError: an odd number of code bits, too few, or one that is not finite.
    """
    soft = np.asarray(llr, dtype=np.float32)
    if soft.shape[-1] % 2 or soft.shape[-1] <= 2 * MEMORY:
        raise ValueError(f"llr: {soft.shape[-1]} code bits; must be an even number above {2 * MEMORY}")
    if not np.all(np.isfinite(soft)):
        raise ValueError("llr: not all are finite; an erased bit is 0")
    lead, num_steps = soft.shape[:-1], soft.shape[-1] // 2
    words = soft.reshape(-1, num_steps, 2)
    bits = np.empty((len(words), num_steps - MEMORY), dtype=np.uint8)
    for at in range(0, len(words), _BATCH):
        bits[at : at + _BATCH] = _viterbi(words[at : at + _BATCH])
    return bits.reshape(*lead, num_steps - MEMORY)


def with_crc(payload: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Bits (..., n) followed by their 16 check bits."""
    bits = np.asarray(payload, dtype=np.uint8)
    return np.concatenate([bits, _checks(bits)], axis=-1)


def passes_crc(bits: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether words (..., n + 16) end in the check bits of what is before; a wrong word does once in 2^16."""
    word = np.asarray(bits, dtype=np.uint8)
    right: NDArray[np.bool_] = np.all(_checks(word[..., :-CRC_BITS]) == word[..., -CRC_BITS:], axis=-1)
    return right


def _viterbi(words: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bits of words (B, num_steps, 2)."""
    num_words, num_steps, _ = words.shape
    rows = np.ascontiguousarray(words.transpose(1, 2, 0))
    half = _STATES // 2
    # state: the six last bits, the newest highest. States i and i + 32 both come from 2 i and 2 i + 1. Both generators
    # hold the newest and the oldest bit, so of the four branches two have the metric m_i and two -m_i
    registers = 2 * np.arange(half)
    signs = np.array([[1 - 2 * (int(r & g).bit_count() & 1) for g in GENERATORS] for r in registers])
    which = (signs[:, 0] != signs[:, 1]) + 2 * (signs[:, 0] < 0)  # row of +(a+b), +(a-b), -(a+b), -(a-b)
    metric = np.full((_STATES, num_words), -np.inf, dtype=np.float32)
    metric[0] = 0
    after = np.empty_like(metric)
    odd = np.empty((num_steps, _STATES, num_words), dtype=bool)  # whether the better way came from 2 i + 1
    for n, (a, b) in enumerate(rows):
        m = np.stack([a + b, a - b, -(a + b), b - a])[which]
        even_from, odd_from = metric[0::2], metric[1::2]
        for states, first, second in (
            (slice(None, half), even_from + m, odd_from - m),
            (slice(half, None), even_from - m, odd_from + m),
        ):
            np.greater(second, first, out=odd[n, states])
            np.maximum(first, second, out=after[states])
        metric, after = after, metric
    bits = np.empty((num_words, num_steps), dtype=np.uint8)
    state, word = np.zeros(num_words, dtype=np.intp), np.arange(num_words)
    for n in range(num_steps - 1, -1, -1):
        bits[:, n] = state >> (MEMORY - 1)
        state = 2 * (state % half) + odd[n, state, word]
    return bits[:, : num_steps - MEMORY]


def _checks(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check bits (..., 16): what zeros give, plus what every one of the bits changes."""
    n = bits.shape[-1]
    register, changes = 0xFFFF, np.zeros((n, CRC_BITS), dtype=np.uint8)
    for _ in range(n):
        register = _shifted(register)
    change = _CRC_POLYNOMIAL
    for i in range(n - 1, -1, -1):
        changes[i] = _as_bits(change)
        change = _shifted(change)
    checks = (bits.astype(np.float32) @ changes.astype(np.float32)).astype(np.int64) & 1
    return checks.astype(np.uint8) ^ _as_bits(register)


def _shifted(register: int) -> int:
    return (register << 1 & 0xFFFF) ^ (_CRC_POLYNOMIAL if register & 0x8000 else 0)


def _as_bits(register: int) -> NDArray[np.uint8]:
    return np.array([register >> (CRC_BITS - 1 - i) & 1 for i in range(CRC_BITS)], dtype=np.uint8)
