"""Checks shared by the problems of this package: what was found, what is allowed."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Good = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
NOT_NEGATIVE: tuple[str, Good] = ("finite and at least 0", lambda x: (x >= 0) & (x < np.inf))
POSITIVE: tuple[str, Good] = ("finite and above 0", lambda x: (x > 0) & (x < np.inf))


def check(value: NDArray[np.float64], name: str, rule: str, good: Good) -> None:
    """ValueError that names the first element for which `good` does not hold."""
    if not np.all(good(value)):
        at = tuple(int(k) for k in np.argwhere(~good(value))[0])
        raise ValueError(f"{name}{list(at) if at else ''}: found {value[at]:g}; must be {rule}")


def numbers(value: Any, name: str, shape: tuple[int, ...] | None = None, *, spread: bool = False) -> Any:
    """A read-only copy of `value`, in that shape where one is given; a scalar is repeated where `spread` allows it."""
    try:
        found = np.asarray(value)
    except ValueError as exc:  # rows of different lengths
        raise ValueError(f"{name}: found {str(value)[:40]!r}; must be an array of numbers") from exc
    if found.dtype.kind not in "fiu":
        hint = " (a gain is abs(channel)**2)" if found.dtype.kind == "c" else ""
        raise ValueError(f"{name}: found elements of type {found.dtype}; must be real numbers{hint}")
    array = found.astype(np.float64)
    if shape is not None:
        if array.shape != shape and not (spread and array.ndim == 0):
            allowed = f"{shape} or a scalar" if spread else shape or "a scalar"
            raise ValueError(f"{name}: found shape {array.shape}; must be {allowed}")
        array = np.broadcast_to(array, shape).copy()
    array.setflags(write=False)
    return array
