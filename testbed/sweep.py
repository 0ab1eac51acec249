"""Sweeps: one function over a grid of points, in this process or by any Executor, every point on its own.

The function is given a point and returns plain data, so the same one runs here, in processes of this machine
(`testbed.processes`) or on a cluster (`testbed.dask_cluster`). A point's numbers follow from its index alone. A point
that fails is a row that says so; the others go on.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from testbed.errors import ClusterLost, IsacError

MAX_POINTS = 100_000

Key = TypeVar("Key")
Result = TypeVar("Result")


@dataclass(frozen=True)
class SweepPoint:
    """One point of the grid."""

    index: int
    values: dict[str, Any]  # per axis, in the order of the axes


@dataclass(frozen=True)
class SweepRow:
    """What became of a point."""

    point: SweepPoint
    result: dict[str, Any] | None  # plain data; None where it failed
    error: str = ""  # one line


def grid(axes: Mapping[str, Sequence[Any]]) -> list[SweepPoint]:
    """Every combination of the axes' values; the last axis varies fastest.

    Raises:
        ValueError: no axis, an axis without values, or more than MAX_POINTS points.
    """
    sizes = {name: len(values) for name, values in axes.items()}
    if not sizes or min(sizes.values()) == 0:
        raise ValueError(f"axes: found {sizes}; every axis needs at least one value")
    if (count := int(np.prod(list(sizes.values()), dtype=object))) > MAX_POINTS:
        raise ValueError(f"axes: {count} points; at most {MAX_POINTS}")
    combinations = itertools.product(*axes.values())
    return [SweepPoint(i, dict(zip(axes, values, strict=True))) for i, values in enumerate(combinations)]


def point_seed(seed: int, index: int) -> int:
    """A 63-bit seed for a point: independent of all others, and the same in any order of work."""
    state = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def run_points(
    function: Callable[[SweepPoint], dict[str, Any]],
    points: Sequence[SweepPoint],
    executor: Executor | None = None,
) -> Iterator[SweepRow]:
    """Run the function on every point; rows come as they are done.

    Args:
        function: of a module, for another process has to find it; raises IsacError where a point cannot be run.
        points: in any order.
        executor: None runs them here, one after the other.

    Raises:
        ClusterLost: nobody is left to run points.
    """
    if executor is None:
        for point in points:
            yield _row(point, function)
        return
    for point, future in completed({executor.submit(_row, point, function): point for point in points}):
        yield _result(future, point)


def completed(futures: "Mapping[Future[Result], Key]") -> "Iterator[tuple[Key, Future[Result]]]":
    """What each future stands for, and it, as they are done; those that are left when one stops are cancelled."""
    try:
        for future in as_completed(futures):
            yield futures[future], future
    finally:
        for future in futures:
            future.cancel()


def _row(point: SweepPoint, function: Callable[[SweepPoint], dict[str, Any]]) -> SweepRow:
    try:
        return SweepRow(point, function(point))
    except IsacError as exc:
        return SweepRow(point, None, _line(exc))


def _result(future: "Future[SweepRow]", point: SweepPoint) -> SweepRow:
    try:
        return future.result()
    except ClusterLost:
        raise
    except IsacError as exc:  # a worker that died again and again
        return SweepRow(point, None, _line(exc))
    except Exception as exc:  # a fault of ours: the other points go on
        return SweepRow(point, None, f"{type(exc).__name__}: {_line(exc)}")


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())
