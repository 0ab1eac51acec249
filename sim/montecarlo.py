"""Trials of the detector itself on drawn samples: the law of a statistic without taking theory's word for it.

    y_t = mean + sqrt(sigma2) w_t        statistic_t = glrt(y_t, X, noise_var, D)        t = 0, 1, ...

Trial t owns samples t N .. (t + 1) N - 1 of a stream of the emulator's noise, so its outcome depends on the seed and on
t alone: any number of trials, in any blocks, in any number of processes, gives the same statistics.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sim.noise import unit_noise
from testbed.sensing.glrt import glrt_within, subspaces

BLOCK_SAMPLES = 1 << 15  # at a time: noise and projections stay in the second-level cache


def statistics(
    X: NDArray[np.complexfloating],
    num_trials: int,
    *,
    seed: int,
    sigma2: float = 1.0,
    noise_var: float | None = None,
    mean: NDArray[np.complexfloating] | None = None,
    D: NDArray[np.complexfloating] | None = None,
    first: int = 0,
) -> NDArray[np.float64]:
    """Statistics of trials first .. first + num_trials - 1, shape (num_trials,).

    Args:
        X: columns of the cell under test, shape (N, L).
        num_trials: a million of 100 observations takes about a second.
        seed: of the noise.
        sigma2: the noise variance that is drawn.
        noise_var: the one the detector is told, for T; None for F.
        mean: what stands in every trial beside the noise, shape (N,); None for H0.
        D: nuisance columns, shape (N, Q).
        first: index of the first trial.

    Raises:
        ValueError: as `testbed.sensing.glrt.glrt`.
    """
    return np.concatenate(list(blocks(X, num_trials, seed, sigma2, noise_var, mean, D, first)) or [np.empty(0)])


def blocks(
    X: NDArray[np.complexfloating],
    num_trials: int,
    seed: int,
    sigma2: float = 1.0,
    noise_var: float | None = None,
    mean: NDArray[np.complexfloating] | None = None,
    D: NDArray[np.complexfloating] | None = None,
    first: int = 0,
) -> Iterator[NDArray[np.float64]]:
    """As `statistics`, block after block, for more trials than one wants to keep."""
    spaces = subspaces(X, D)
    num_observations = spaces.echo.shape[0]
    amplitude = np.float32(np.sqrt(sigma2))
    size = max(1, BLOCK_SAMPLES // num_observations)
    for at in range(first, first + num_trials, size):
        count = min(size, first + num_trials - at)
        y = unit_noise(seed, 0, at * num_observations, count * num_observations).reshape(count, num_observations)
        y *= amplitude
        yield glrt_within(y if mean is None else y + mean, spaces, noise_var).statistic
