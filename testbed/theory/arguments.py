"""Checks shared by the formulas of this package: what was found, what is allowed."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", float, NDArray[np.float64])  # a number gives a number, an array an array


def whole(value: int, name: str, least: int) -> int:
    """`value` as an int, or ValueError when it is not a whole number of at least `least`."""
    if value != value or value in (float("inf"), float("-inf")) or value != int(value) or value < least:
        raise ValueError(f"{name} {value} - it must be a whole number of at least {least}")
    return int(value)


def probability(value: Any, name: str) -> NDArray[np.float64]:
    """`value` as an array, or ValueError when an element is not inside (0, 1)."""
    array = np.asarray(value, dtype=np.float64)
    return _checked(array, (array > 0) & (array < 1), f"{name} %g - it must lie in (0, 1)")


def not_negative(value: Any, name: str) -> NDArray[np.float64]:
    """`value` as an array, or ValueError when an element is negative, infinite or NaN."""
    array = np.asarray(value, dtype=np.float64)
    return _checked(array, (array >= 0) & (array < np.inf), f"{name} %g - it must be finite and at least 0")


def below_one(value: Any, name: str) -> NDArray[np.float64]:
    """`value` as an array, or ValueError when an element is not inside [0, 1)."""
    array = np.asarray(value, dtype=np.float64)
    return _checked(array, (array >= 0) & (array < 1), f"{name} %g - it must lie in [0, 1)")


def shaped(value: Any, like: Values) -> Values:
    """`value` as a float where it has no axes; `like` only carries the type."""
    result: Any = value if np.ndim(value) else float(value)
    return result


def _checked(array: NDArray[np.float64], good: Any, message: str) -> NDArray[np.float64]:
    if not np.all(good):
        raise ValueError(message % array[~good].flat[0])
    return array
