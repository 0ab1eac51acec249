"""Buffers of a board: their words, their lengths, and how many of them there are."""

import math

import numpy as np
from numpy.typing import NDArray

RX_FULL_SCALE = 2048  # 12 bits, right-justified
TX_BITS = 12  # left-justified in 16: one step is 16
ALIGN_SAMPLES = 4  # buffers are whole multiples of 8 bytes
MAX_TX_SAMPLES = 1 << 22

_MIN_TX_SAMPLES = 1024  # a shorter buffer is repeated within: its interrupts would drown the board
_MIN_RX_SAMPLES, _MAX_RX_SAMPLES = 1 << 14, 1 << 18  # of a receive buffer
KERNEL_BUFFERS = 4  # at least; libiio's own number
_MAX_QUEUED_BYTES = 32 << 20  # of all receive buffers


def to_words(samples: NDArray[np.complexfloating]) -> NDArray[np.complex128]:
    """Full scale 1 to words of the converter: rounded to its 12 bits, left-justified, nothing wraps."""
    half = float(1 << (TX_BITS - 1))
    step = float(1 << (16 - TX_BITS))
    real, imag = (
        np.clip(np.rint(np.asarray(rail, np.float64) * half), 1 - half, half - 1)
        for rail in (samples.real, samples.imag)
    )
    return np.asarray((real + 1j * imag) * step, dtype=np.complex128)


def transmit_length(frame_len: int) -> int:
    """Length of the buffer that repeats a frame: a multiple of it, aligned and long enough."""
    aligned = ALIGN_SAMPLES // math.gcd(frame_len, ALIGN_SAMPLES) * frame_len
    return aligned * max(1, math.ceil(_MIN_TX_SAMPLES / aligned))


def receive_length(num_samples: int, frame_len: int, sample_rate_hz: float, timeout_s: float) -> int:
    """Length of a receive buffer: whole frames where they fit, within a quarter of the timeout."""
    most = min(_MAX_RX_SAMPLES, max(int(timeout_s * sample_rate_hz / 4), 1024))
    unit = math.lcm(frame_len, ALIGN_SAMPLES)
    if unit > most:
        unit = ALIGN_SAMPLES
    least = min(_MIN_RX_SAMPLES, most)
    return max(min(math.ceil(max(num_samples, least) / unit), most // unit), 1) * unit


def receive_count(num_samples: int, length: int, num_channels: int) -> int:
    """How many receive buffers: what fits into them follows on even where the link is too slow for the rate."""
    most = _MAX_QUEUED_BYTES // (4 * num_channels * length)
    return max(min(math.ceil(num_samples / length) + 1, most), KERNEL_BUFFERS)
