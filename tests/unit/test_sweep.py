"""Grids, seeds, and points that run here or in other processes; order of schemes on planted rates."""

from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from testbed.errors import ClusterLost, ConfigError
from testbed.experiment.comp.sweep_results import SchemePoint, scheme_order
from testbed.processes import Processes
from testbed.sweep import SweepPoint, grid, point_seed, run_points


def square(point: SweepPoint) -> dict[str, Any]:
    if point.values["x"] == 3:
        raise ConfigError("three is\nrefused")
    return {"value": point.values["x"] ** 2}


def broken(point: SweepPoint) -> dict[str, Any]:
    return {"value": 1 // point.values["x"]}


def test_a_grid_holds_every_combination_and_the_last_axis_varies_fastest() -> None:
    points = grid({"a": [1, 2], "b": ["x", "y", "z"]})
    assert [p.index for p in points] == list(range(6))
    assert points[1].values == {"a": 1, "b": "y"}
    assert points[5].values == {"a": 2, "b": "z"}
    for axes in ({}, {"a": []}, {"a": range(400), "b": range(400)}):
        with pytest.raises(ValueError, match="axes"):
            grid(axes)  # type: ignore[arg-type]


def test_every_point_has_a_seed_of_its_own_that_does_not_depend_on_the_order() -> None:
    seeds = [point_seed(7, index) for index in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert point_seed(7, 500) == seeds[500] != point_seed(8, 500)


@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor, ProcessPoolExecutor, Processes])
def test_rows_are_the_same_here_and_in_a_pool_and_a_failed_point_does_not_stop_the_others(pool: Any) -> None:
    points = grid({"x": [1, 2, 3, 4]})
    if pool is None:
        rows = list(run_points(square, points))
    else:
        with pool(2) as executor:
            rows = sorted(run_points(square, points, executor), key=lambda row: row.point.index)
    assert [row.result and row.result["value"] for row in rows] == [1, 4, None, 16]
    assert rows[2].error == "three is refused"


def test_a_fault_of_ours_in_a_worker_is_a_row_too() -> None:
    with ThreadPoolExecutor(1) as executor:
        rows = list(run_points(broken, grid({"x": [0, 1]}), executor))
    assert sorted(row.error for row in rows)[1].startswith("ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):  # here it has a traceback to look at
        list(run_points(broken, grid({"x": [0]})))


class Gone(Executor):
    """Ran the first call; then its cluster was shut down."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self.futures.append(future)
        if len(self.futures) == 1:
            future.set_result(fn(*args, **kwargs))
        elif len(self.futures) == 2:
            future.set_exception(ClusterLost("the scheduler is gone"))
        return future


def test_a_sweep_whose_cluster_is_gone_stops_and_gives_up_what_is_left() -> None:
    executor = Gone()
    with pytest.raises(ClusterLost):
        list(run_points(square, grid({"x": [1, 2, 4, 5]}), executor))
    assert [future.cancelled() for future in executor.futures] == [False, False, True, True]


def scheme(
    method: str, rate: float, truth: float | None, budget_dbm: float = -2.0, stderr: float = 0.01
) -> SchemePoint:
    values = {"allocation.budget_dbm": budget_dbm, "allocation.method": method}
    return SchemePoint(0, values, budget_dbm, method, True, True, rate, stderr, truth, None)  # type: ignore[arg-type]


def test_only_pairs_that_theory_sets_apart_at_one_budget_are_ordered() -> None:
    apart = [scheme("ppa", 9.1, 9.1), scheme("equal", 8.8, 8.8)]
    assert scheme_order(apart).num_agreeing == scheme_order(apart).num_pairs == 1
    # 0.04 apart with an error of 0.014 of the difference: 2.8 standard errors
    assert scheme_order([scheme("ppa", 8.84, 8.84), scheme("equal", 8.8, 8.8)]).num_pairs == 0
    assert scheme_order([scheme("ppa", 9.1, 9.1), scheme("equal", 8.0, 8.0, budget_dbm=-5.0)]).num_pairs == 0
    assert scheme_order([scheme("ppa", 9.1, None), scheme("equal", 8.0, 8.0)]).num_pairs == 0
    wrong = scheme_order([scheme("ppa", 8.0, 9.1), scheme("equal", 8.8, 8.8)])
    assert (wrong.num_pairs, wrong.num_agreeing) == (1, 0)
    assert wrong.disagreeing == ("ppa and equal at -2 dBm",)
