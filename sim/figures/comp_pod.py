"""Figure 2a: probability of detection (PoD) of equal power, by eq. (12) and by trials on samples.

    y_i = X h_i + w        T = glrt(y_i, X)        detected where T >= delta        PoD = share of detections

A trial is one block of N samples at every cell and budget, with its own symbols, noise and, in an ensemble, channel.
All randomness of trial t comes from its own seed sequence. One trial is held at a time: 42 rows of 100 samples.

orthogonal  rows of a Fourier matrix, the same in every trial: eq. (12) is exact, only chance is left
qpsk        random, unit modulus: sequences correlate by 1/sqrt(N), which spreads the noncentrality
gaussian    random, the power of a block varies as well

Source: CoMP-ISAC letter, eqs. (4)-(12), Fig. 2a. Differs: the letter names neither symbols nor the scheme.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sim.figures.comp_scenario import (
    NUM_CELLS,
    NUM_OBSERVATIONS,
    PFA,
    SENSING_NOISE_VAR,
    Channels,
)
from sim.figures.draws import Advance, random_generator
from testbed.sensing.glrt import glrt
from testbed.theory.detection import detection_probability, glrt_threshold
from testbed.units import undb

SYMBOLS = ("orthogonal", "qpsk", "gaussian")
_TABLE_END, _TABLE_STEP = 300.0, 0.01  # noncentrality; beyond, PoD is 1 to 1e-15


@dataclass(frozen=True, eq=False)
class Detection:
    """PoD of equal power over the budget, theory and trials. C cells, or one column that is the mean of all."""

    total_power_db: NDArray[np.float64]  # (K,)
    theory: NDArray[np.float64]  # (K, C)
    simulated: dict[str, NDArray[np.float64]]  # by symbols, (K, C)
    stderr: NDArray[np.float64]  # (K, C), of the simulated ones
    trials: int  # at every point
    axis_db: NDArray[np.float64]  # (A,), finer than total_power_db, for drawing
    curve: NDArray[np.float64]  # (A, C), theory on it

    def deviation(self, symbols: str) -> NDArray[np.float64]:
        """Simulated minus theory, (K, C)."""
        return self.simulated[symbols] - self.theory

    def chance(self, num_sigma: float = 4.0) -> NDArray[np.float64]:
        """What chance explains, (K, C); as Bernstein's bound, it also holds where a few misses are expected."""
        return num_sigma * self.stderr + num_sigma / self.trials


def pod_of(snr: NDArray[np.float64]) -> NDArray[np.float64]:
    """PoD at sensing SNRs, noncentrality / (2N): eq. (12) from a table, within 1e-7."""
    lams, pods = _table()
    return np.interp(2 * NUM_OBSERVATIONS * snr, lams, pods)


def detections(
    channels: Channels, total_power_db: NDArray[np.float64], symbols: str, seed: int, first: int, count: int
) -> NDArray[np.int64]:
    """Number of detections in trials `first` to `first + count`, shape (K, L).

    Args:
        channels: one draw, for all trials; or draw t for trial `first + t`.
        total_power_db: K budgets, over all nodes, which share equally.
        symbols: one of SYMBOLS.
        seed: of symbols and noise.
        first: index of the first trial.
        count: number of trials.
    """
    delta = glrt_threshold(PFA, NUM_CELLS)
    amplitude = np.sqrt(undb(total_power_db) / NUM_CELLS)[:, None, None]
    shape = (len(total_power_db), NUM_CELLS, NUM_OBSERVATIONS)
    kind = 1 + SYMBOLS.index(symbols) + (0 if len(channels) == 1 else len(SYMBOLS))
    found = np.zeros(shape[:2], dtype=np.int64)
    for t in range(count):
        rng = random_generator(seed, kind, first + t)
        X = sequences(symbols, rng)
        h = channels.sensing_channel[0 if len(channels) == 1 else t]
        w = rng.standard_normal((*shape, 2)).view(np.complex128)[..., 0] * np.sqrt(SENSING_NOISE_VAR / 2)
        # a common factor of all columns does not change the projection, so X needs no powers
        found += glrt(amplitude * (X @ h).T + w, X, SENSING_NOISE_VAR).statistic >= delta
    return found


def simulate(
    channels: Channels,
    total_power_db: NDArray[np.float64],
    trials: int,
    seed: int,
    advance: Advance,
    *,
    chunk: int = 250,
) -> Detection:
    """Theory and `trials` trials for each kind of symbols: per cell for one draw, else the mean over draws and cells.

    Args:
        channels: one draw, or one per trial.
        total_power_db: K budgets.
        trials: number of trials.
        seed: of symbols and noise.
        advance: called with the number of trials that have been done, of all kinds.
        chunk: trials between two calls of it; changes no number.
    """
    one = len(channels) == 1
    gain = np.sum(channels.sensing_gain, axis=1) / (NUM_CELLS * SENSING_NOISE_VAR)  # over transmitters, (D, L)
    theory, variance = _over_budgets(gain, total_power_db)
    axis_db = np.linspace(total_power_db[0], total_power_db[-1], 131)
    curve, _ = _over_budgets(gain, axis_db)
    simulated = {}
    for symbols in SYMBOLS:
        found = np.zeros((len(total_power_db), NUM_CELLS), dtype=np.int64)
        for first in range(0, trials, chunk):
            count = min(chunk, trials - first)
            part = channels if one else channels.part(first, count)
            found += detections(part, total_power_db, symbols, seed, first, count)
            advance(count)
        simulated[symbols] = found / trials
    # draws are those of the theory, so that only the noise is left to chance
    stderr = np.sqrt(variance / trials)
    if one:
        return Detection(total_power_db, theory, simulated, stderr, trials, axis_db, curve)
    means = {symbols: _over_cells(pod) for symbols, pod in simulated.items()}
    stderr = np.sqrt(_over_cells(stderr**2) / NUM_CELLS)
    return Detection(total_power_db, _over_cells(theory), means, stderr, trials, axis_db, _over_cells(curve))


def sequences(symbols: str, rng: np.random.Generator) -> NDArray[np.complex128]:
    """Unit-power symbols of all stations, shape (N, L)."""
    N, L = NUM_OBSERVATIONS, NUM_CELLS
    if symbols == "orthogonal":
        return np.exp(2j * np.pi * np.outer(np.arange(N), np.arange(L)) / N)
    if symbols == "qpsk":
        return np.exp(0.5j * np.pi * (rng.integers(0, 4, (N, L)) + 0.5))
    if symbols == "gaussian":
        return rng.standard_normal((N, L, 2)).view(np.complex128)[..., 0] / np.sqrt(2)
    raise ValueError(f"symbols: found {symbols!r}; must be one of {', '.join(SYMBOLS)}")


def _over_budgets(
    gain: NDArray[np.float64], total_power_db: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PoD and variance of a trial's outcome given its draw, both as mean over draws, (K, L), for gains (D, L)."""
    pods = (pod_of(undb(float(budget)) * gain) for budget in total_power_db)
    both = np.array([(np.mean(p, axis=0), np.mean(p * (1 - p), axis=0)) for p in pods])
    return both[:, 0], both[:, 1]


def _over_cells(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.mean(values, axis=1, keepdims=True)


@cache
def _table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lams = np.arange(0.0, _TABLE_END + _TABLE_STEP, _TABLE_STEP)
    return lams, np.asarray(detection_probability(lams, NUM_CELLS, pfa=PFA))
