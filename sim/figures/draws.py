"""What computing over random draws shares: a generator for each of them, who is told, means over those that count."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Advance = Callable[[int], None]  # told how many more draws, or other steps, are done


def random_generator(seed: int, *index: int) -> np.random.Generator:
    """The generator of one draw or one trial: the same numbers whatever the chunks and however many there are."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=index))


def mean_of(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of what counts along the first axis, and its standard error; NaN where nothing, or one, counts."""
    num = np.sum(counted, axis=0)
    arguments: dict[str, Any] = {"axis": 0, "where": counted}
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(values, **arguments) / num
        square = np.sum((values - mean) ** 2, **arguments)
        return mean, np.where(num > 1, np.sqrt(square / (num - 1) / num), np.nan)
