"""The channel kernel: repeated transmit buffers through paths to converter codes. Right before fast.

A buffer that repeats through static paths is again a repeated buffer: its delays are exact phase ramps over the whole
buffer, computed once per change. A moving path keeps its own table and is rotated by an integer phase accumulator,
exact at any sample index.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.propagation import ScenePath
from testbed.waveform.shift import cyclic_shift

_TURN = 1 << 64  # one turn of the phase accumulator


@dataclass(frozen=True)
class PathTable:
    """What arrives over all paths of equal period and Doppler: one period, and the phase step per sample."""

    period: NDArray[np.complex64]  # in sqrt(milliwatt)
    phase_step: int  # turns / 2^64 per sample


def path_tables(
    paths: Sequence[ScenePath],
    buffers: Sequence[NDArray[np.complex128] | None],
    start_offsets: Sequence[float],
    sample_rate_hz: float,
) -> tuple[PathTable, ...]:
    """One period of everything that reaches a receiver.

    Args:
        paths: paths to the receiver.
        buffers: per node what it repeats at its antenna, in sqrt(milliwatt), shape (n,); None when muted.
        start_offsets: per node, samples from the epoch's start to its buffer's first sample.
        sample_rate_hz: of the receiver.
    """
    sums: dict[tuple[int, int], NDArray[np.complex128]] = defaultdict(lambda: np.zeros(0, dtype=np.complex128))
    for path in paths:
        buffer = buffers[path.tx]
        if buffer is None:
            continue
        arrived = path.gain * cyclic_shift(buffer, start_offsets[path.tx] + path.delay_samples)
        key = (buffer.size, round(path.doppler_hz / sample_rate_hz * _TURN) % _TURN)
        sums[key] = sums[key] + arrived if key in sums else arrived
    return tuple(PathTable(period.astype(np.complex64), step) for (_, step), period in sums.items())


def render(tables: Sequence[PathTable], first: int, out: NDArray[np.complex64]) -> None:
    """Add samples first .. first + len(out) - 1 of every table to `out`."""
    for table in tables:
        size = table.period.size
        segment = np.resize(np.roll(table.period, -(first % size)), out.size)
        if table.phase_step:
            index = np.arange(first, first + out.size, dtype=np.uint64)
            phase = index * np.uint64(table.phase_step)  # wraps modulo one turn by design
            segment = segment * np.exp(2j * np.pi / _TURN * phase.astype(np.float64)).astype(np.complex64)
        out += segment


def convert(analogue: NDArray[np.complex64], amplitude: float, full_scale: int) -> tuple[NDArray[np.int16], int]:
    """Analogue-to-digital conversion with rounding and saturation.

    Args:
        analogue: samples in sqrt(milliwatt), shape (n,); overwritten.
        amplitude: sqrt(milliwatt) at full scale.
        full_scale: code at full scale; codes reach from -(full_scale - 1) to full_scale - 1.

    Returns:
        Codes (n, 2) int16, and the number of samples with a saturated rail.
    """
    rails = analogue.view(np.float32).reshape(-1, 2)
    rails *= np.float32(full_scale / amplitude)
    np.rint(rails, out=rails)
    largest = np.float32(full_scale - 1)
    saturated = np.abs(rails) >= largest
    clip_count = int(np.count_nonzero(saturated.any(axis=1))) if saturated.any() else 0
    if clip_count:
        np.clip(rails, -largest, largest, out=rails)
    return rails.astype(np.int16), clip_count
