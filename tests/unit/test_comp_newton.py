"""The Newton allocator: against the alternation and the linear programs, one problem and many at once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.allocation import comp, comp_batch, comp_newton
from testbed.allocation.comp_vertices import least_power
from tests.unit.test_comp_allocation import drawn, seeds, three_cells

sizes = st.integers(1, 5)


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.booleans())
def test_newton_is_never_below_the_alternation_and_agrees_on_feasibility(seed, L, caps):
    problem = drawn(seed, num_nodes=L, caps=caps)

    newton, ppa = comp.solve(problem, "newton"), comp.solve(problem)

    assert newton.status == ppa.status
    if newton.status == "infeasible":
        assert newton.certificate == ppa.certificate
        assert np.array_equal(newton.power, ppa.power)
        return
    A, b = problem.rows
    assert newton.objective >= ppa.objective - 1e-6
    assert np.all(A @ newton.power - b >= -1e-9 * b)
    assert np.all((newton.power >= 0) & (newton.power <= problem.max_power))
    assert newton.objective == comp.sum_rate(problem, newton.power)
    assert L == 1 or newton.kkt_residual < 1e-8
    if not caps:
        assert np.sum(newton.power) == pytest.approx(problem.total_power, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 4))
def test_optimum_rises_with_the_budget_and_falls_with_what_is_required(seed, L):
    problem = drawn(seed, num_nodes=L)
    reached = comp.solve(problem, "newton")
    if reached.status == "infeasible":
        return

    richer = comp.solve(replace(problem, total_power=1.3 * problem.total_power), "newton")
    sharper = comp.solve(replace(problem, min_sensing_snr=1.2 * problem.min_sensing_snr + 0.01), "newton")
    faster = comp.solve(replace(problem, min_comm_sinr=1.2 * problem.min_comm_sinr + 0.01), "newton")

    assert richer.objective >= reached.objective - 1e-9
    for stricter in (sharper, faster):
        assert stricter.status == "infeasible" or stricter.objective <= reached.objective + 1e-9


@settings(max_examples=25, deadline=None)
@given(seeds, st.permutations(range(3)), st.floats(-13, 6))
def test_units_and_order_of_the_nodes_do_not_matter(seed, order, exponent):
    problem, order = drawn(seed, num_nodes=3), list(order)
    unit = 10.0**exponent
    other = replace(
        problem,
        comm_gain=unit * problem.comm_gain[np.ix_(order, order)],
        sensing_gain=unit * problem.sensing_gain[np.ix_(order, order)],
        comm_noise_var=unit * 1e3 * problem.comm_noise_var[order],
        sensing_noise_var=unit * 1e3 * problem.sensing_noise_var[order],
        min_comm_sinr=problem.min_comm_sinr[order],
        min_sensing_snr=problem.min_sensing_snr[order],
        total_power=1e3 * problem.total_power,
    )

    allocation, there = comp.solve(problem, "newton"), comp.solve(other, "newton")

    assert there.status == allocation.status
    assert there.objective == pytest.approx(allocation.objective, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("caps", [False, True])
@pytest.mark.parametrize("L", [1, 2, 3, 4])
def test_a_batch_gives_what_its_problems_give_alone(L, caps):
    problems = [drawn(seed, num_nodes=L, caps=caps) for seed in range(60)]

    batch = comp.solve_many(problems)

    alone = [comp.solve(problem, "newton") for problem in problems]
    assert batch.status.tolist() == [allocation.status for allocation in alone]
    assert {"infeasible"} < set(batch.status.tolist())
    feasible = batch.status != "infeasible"
    assert np.all(np.isnan(batch.objective[~feasible]))
    assert np.all(np.isnan(batch.power[~feasible]))
    assert batch.objective[feasible] == pytest.approx(
        [a.objective for a in alone if a.status != "infeasible"], abs=1e-9
    )
    for k in np.flatnonzero(feasible):
        assert np.min(comp.row_margins_db(problems[k], batch.power[k])) >= -1e-8
        assert comp.sum_rate(problems[k], batch.power[k]) == pytest.approx(batch.objective[k], abs=1e-12)


@pytest.mark.parametrize("caps", [False, True])
@pytest.mark.parametrize("L", [1, 2, 3])
def test_least_powers_by_scan_are_those_of_the_linear_program(L, caps):
    problems = [drawn(seed, num_nodes=L, caps=caps) for seed in range(250)]
    batch = comp_batch._scaled(comp.CompProblems.of(problems))[0]

    total, shares = least_power(batch, 1e-9)

    expected = np.array([comp.required_power(problem)[0] / problem.total_power for problem in problems])
    assert np.array_equal(total <= 1 + 1e-9, expected <= 1 + 1e-9)
    assert np.array_equal(np.isinf(total), np.isinf(expected))
    finite = np.isfinite(expected)
    assert total[finite] == pytest.approx(expected[finite], rel=1e-8, abs=1e-12)
    assert np.sum(shares[finite], axis=1) == pytest.approx(total[finite])


def test_a_sweep_over_budgets_is_one_value():
    problem, budgets = three_cells(), np.geomspace(0.3, 100, 12)
    sweep = comp.CompProblems(
        problem.comm_gain,
        problem.sensing_gain,
        problem.comm_noise_var,
        problem.sensing_noise_var,
        budgets,
        problem.min_comm_sinr,
        problem.min_sensing_snr,
    )

    batch = comp.solve_many(sweep)

    assert len(sweep) == len(batch) == 12
    assert sweep[3].total_power == budgets[3]
    feasible = batch.status == "stationary"
    assert 0 < np.sum(feasible) < 12
    assert np.array_equal(feasible, np.sort(feasible))
    assert np.all(np.diff(batch.objective[feasible]) > 0)
    assert np.sum(batch.power[feasible], axis=1) == pytest.approx(budgets[feasible])


def test_other_methods_take_many_problems_one_after_another():
    problems = [three_cells(), three_cells(min_sensing_snr=100.0), three_cells(total_power=20.0)]

    batch = comp.solve_many(problems, "ppa", tolerance=1e-9)

    assert batch.status.tolist() == ["stationary", "infeasible", "stationary"]
    assert batch.objective[2] == pytest.approx(comp.solve_many(problems).objective[2], abs=1e-6)
    assert np.all(np.isnan(batch.power[1]))


@pytest.mark.parametrize("excess", [-5e-10, 0.0, 1e-12, 1e-9, 1e-8, 1e-7, 1e-5, 1e-3])
def test_budgets_at_and_just_above_the_least_power_are_solved(excess):
    value, vertex = comp.required_power(three_cells())
    problem = three_cells(total_power=value * (1 + excess))

    allocation = comp.solve(problem, "newton")

    assert allocation.status == "stationary"
    assert np.min(comp.row_margins_db(problem, allocation.power)) >= -1e-8
    if excess <= 1e-9:
        assert allocation.power == pytest.approx(vertex, rel=1e-8)
    assert comp.solve_many([problem]).objective[0] == pytest.approx(allocation.objective, abs=1e-9)


def test_nodes_without_gain_or_without_power_are_kept_apart():
    mixed = [
        three_cells(comm_gain=1 - np.eye(3), min_comm_sinr=0.0),
        three_cells(comm_gain=np.diag([0.0, 1.0, 1.0]), min_comm_sinr=0.0, min_sensing_snr=0.0),
        three_cells(min_comm_sinr=[0.5, 0, 0.5], max_power=[np.inf, 0, np.inf]),
    ]

    batch = comp.solve_many(mixed)

    assert batch.status.tolist() == ["zero_gain", "stationary", "stationary"]
    assert batch.objective[0] == 0
    assert batch.power[1] == pytest.approx([0.0, 5.0, 5.0], abs=1e-6)
    assert batch.power[2, 1] == 0
    assert np.sum(batch.power[2]) == pytest.approx(10)


@pytest.mark.parametrize("min_sensing_snr", [1.0, 0.0])
def test_where_newton_breaks_down_the_alternation_takes_over(monkeypatch, min_sensing_snr):
    problem = three_cells(min_sensing_snr=min_sensing_snr)
    good = comp.solve(problem, "newton")
    monkeypatch.setattr(comp_newton, "_MAX_STEPS", 2)
    monkeypatch.setattr(comp_newton, "_MAX_CONVEX_STEPS", 2)

    allocation = comp.solve(problem, "newton")

    assert good.note == ""
    assert allocation.note.endswith("powers are those of the alternation")
    assert allocation.objective == pytest.approx(good.objective, abs=1e-6)
    assert comp.solve_many([problem] * 2).objective == pytest.approx([good.objective] * 2, abs=1e-6)


def test_the_convex_part_alone_reaches_the_same_maximum(monkeypatch):
    problem = three_cells()
    good = comp.solve(problem, "newton")
    monkeypatch.setattr(comp_newton, "_MAX_STEPS", 1)

    allocation = comp.solve(problem, "newton")

    assert allocation.note == ""
    assert allocation.objective == pytest.approx(good.objective, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comm_gain": np.ones(3)}, r"comm_gain: found shape \(3,\); must be \(B, L, L\)"),
        ({"sensing_gain": np.ones((2, 2))}, r"sensing_gain: found shape \(2, 2\); must spread to \(4, 3, 3\)"),
        ({"comm_noise_var": [1.0, 0.0, 1.0]}, r"comm_noise_var\[0, 1\]: found 0; must be finite and above 0"),
        ({"total_power": [1.0, -1.0, 1.0, 1.0]}, r"total_power\[1\]: found -1; must be finite and above 0"),
        ({"min_comm_sinr": np.nan}, r"min_comm_sinr\[0, 0\]: found nan; must be finite and at least 0"),
        ({"max_power": -1.0}, r"max_power\[0, 0\]: found -1; must be at least 0"),
        ({"comm_gain": 1j * np.ones((4, 3, 3))}, "comm_gain: found elements of type complex128"),
        ({"comm_gain": np.full((4, 3, 3), 1e300), "comm_noise_var": 1e-100}, "overflows; check the units"),
    ],
)
def test_impossible_batches_are_refused_with_the_number_and_the_limit(changes, message):
    gains = np.ones((4, 3, 3))
    arguments = {
        "comm_gain": gains,
        "sensing_gain": gains,
        "comm_noise_var": 1.0,
        "sensing_noise_var": 1.0,
        "total_power": 1.0,
        "min_comm_sinr": 0.1,
        "min_sensing_snr": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        comp.CompProblems(**(arguments | changes))


def test_problems_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"problems: found \[2, 3\] nodes"):
        comp.solve_many([drawn(1, num_nodes=2), drawn(1, num_nodes=3)])
    with pytest.raises(ValueError, match="problems: found no nodes"):
        comp.solve_many([])
