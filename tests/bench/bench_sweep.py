"""What a sweep costs beside its points: a grid of calls that sleep 0.2 s, one after the other and on two workers.

Compared is the time of all workers, wall time times their number; they have started before.
"""

import atexit
import functools
import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from testbed.dask_cluster import Cluster
from testbed.processes import Processes
from testbed.sweep import SweepPoint, grid, run_points
from tests.bench.harness import Race, Spent

CALL_S = 0.2
NUM_POINTS, NUM_WORKERS = 10, 2

POINTS = grid({"x": list(range(NUM_POINTS))})


def _call(point: SweepPoint) -> dict[str, Any]:
    time.sleep(CALL_S)
    return {"value": point.values["x"]}


def _bare() -> Spent:
    began = time.perf_counter()
    for point in POINTS:
        _call(point)
    return _spent(began, 1)


def _here() -> Spent:
    began = time.perf_counter()
    assert len(list(run_points(_call, POINTS))) == NUM_POINTS
    return _spent(began, 1)


def _pooled(executor: Callable[[], Executor]) -> Spent:
    pool = executor()
    began = time.perf_counter()
    assert len(list(run_points(_call, POINTS, pool))) == NUM_POINTS
    return _spent(began, NUM_WORKERS)


def _spent(began: float, num_workers: int) -> Spent:
    wall_s = time.perf_counter() - began
    return Spent(cpu_s=wall_s * num_workers, wall_s=wall_s)


@functools.cache
def _processes() -> Processes:
    executor = Processes(NUM_WORKERS)
    atexit.register(executor.shutdown)
    return executor


@functools.cache
def _dask() -> Cluster:
    distributed = importlib.import_module("distributed")
    local = distributed.LocalCluster(
        n_workers=NUM_WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    atexit.register(local.close)
    executor = Cluster(local.scheduler_address)
    atexit.register(executor.shutdown)
    return executor


RACES = [
    Race(
        name=f"{NUM_POINTS} points of {CALL_S} s",
        limit="bare calls",
        contestants={
            "bare calls": _bare,
            "run_points here": _here,
            f"Processes({NUM_WORKERS})": functools.partial(_pooled, _processes),
            f"dask, {NUM_WORKERS} workers": (
                functools.partial(_pooled, _dask) if importlib.util.find_spec("distributed") else None
            ),
        },
        unit_count=NUM_POINTS,
        unit="point",
        goals={"run_points here": (0, 1.05), f"Processes({NUM_WORKERS})": (0, 1.05)},
    ),
]
