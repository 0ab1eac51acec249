"""The certified global maximum: the bound holds, the gap closes, and what the alternation misses is found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.allocation import comp
from testbed.allocation.comp_newton import ScaledBatch
from testbed.allocation.comp_problem import scaled
from testbed.allocation.comp_vertices import outer_simplices
from testbed.theory.detection import required_noncentrality
from testbed.units import undb
from tests.unit.test_comp_allocation import drawn, seeds, three_cells


def feasible_shares(problem, rng, num):
    """Random feasible shares: of `num` drawn ones those that are feasible when they fill the budget or a cap."""
    limits = scaled(problem)
    for q in rng.dirichlet(np.ones(problem.num_nodes), num):
        q = limits.filled(q)
        if limits.meets(q, 0.0):
            yield q


@settings(max_examples=50, deadline=None)
@given(seeds, st.integers(2, 4), st.booleans())
def test_no_feasible_power_and_no_other_method_exceeds_the_bound(seed, L, caps):
    problem = drawn(seed, num_nodes=L, caps=caps)

    best = comp.solve(problem, "global")

    others = [comp.solve(problem), comp.solve(problem, "newton")]
    assert {other.status == "infeasible" for other in others} == {best.status == "infeasible"}
    if best.status == "infeasible":
        assert best.upper_bound is None
        assert best.certificate == others[0].certificate
        return
    A, b = problem.rows
    assert best.status == "optimal"
    assert 0 <= best.upper_bound - best.objective <= 1e-6
    assert np.all(A @ best.power - b >= -1e-9 * b)
    assert np.all((best.power >= 0) & (best.power <= problem.max_power))
    assert best.note == ""
    for other in others:
        assert other.objective <= best.upper_bound + 1e-9
    for q in feasible_shares(problem, np.random.default_rng(seed), 50):
        assert comp.sum_rate(problem, q * problem.total_power) <= best.upper_bound + 1e-9
        assert comp.sum_rate(problem, 0.7 * q * problem.total_power) <= best.upper_bound + 1e-9  # budget and caps bind
    if not caps:
        assert np.sum(best.power) == pytest.approx(problem.total_power, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 4))
def test_optimum_rises_with_the_budget_and_falls_with_what_is_required(seed, L):
    problem = drawn(seed, num_nodes=L)
    reached = comp.solve(problem, "global")
    if reached.status == "infeasible":
        return

    richer = comp.solve(replace(problem, total_power=1.3 * problem.total_power), "global")
    sharper = comp.solve(replace(problem, min_sensing_snr=1.2 * problem.min_sensing_snr + 0.01), "global")
    faster = comp.solve(replace(problem, min_comm_sinr=1.2 * problem.min_comm_sinr + 0.01), "global")

    assert richer.objective >= reached.objective - 1e-6
    for stricter in (sharper, faster):
        assert stricter.status == "infeasible" or stricter.objective <= reached.objective + 1e-6


@settings(max_examples=20, deadline=None)
@given(seeds, st.permutations(range(3)), st.floats(-13, 6))
def test_units_and_order_of_the_nodes_do_not_matter(seed, order, exponent):
    problem, order = drawn(seed, num_nodes=3, caps=seed % 2 == 0), list(order)
    unit = 10.0**exponent
    other = replace(
        problem,
        comm_gain=problem.comm_gain[np.ix_(order, order)] / unit,
        sensing_gain=problem.sensing_gain[np.ix_(order, order)] / unit,
        min_comm_sinr=problem.min_comm_sinr[order],
        min_sensing_snr=problem.min_sensing_snr[order],
        max_power=unit * problem.max_power[order],
        total_power=unit * problem.total_power,
    )

    allocation, there = comp.solve(problem, "global"), comp.solve(other, "global")

    assert there.status == allocation.status
    assert there.objective == pytest.approx(allocation.objective, abs=1e-6, nan_ok=True)


def test_the_gap_closes_on_every_draw_of_the_letters_setting():
    # cross links 0.1, 15 dB, three cells: 99 % is asked for
    rng = np.random.default_rng(15)
    min_sensing_snr = required_noncentrality(0.7, 1e-6, 3) / 200
    gaps = []
    for _ in range(150):
        comm_gain = rng.exponential(size=(3, 3)) * np.where(np.eye(3), 1.0, 0.1)
        sensing_gain = rng.exponential(size=(3, 3))
        problem = comp.CompProblem(comm_gain, sensing_gain, undb(1.0), undb(15.0), undb(15.0), 1.0, min_sensing_snr)
        allocation = comp.solve(problem, "global")
        if allocation.status != "infeasible":
            gaps.append(allocation.upper_bound - allocation.objective)
    assert len(gaps) > 80
    assert np.mean(np.array(gaps) <= 1e-5) >= 0.99


@pytest.mark.parametrize("L", [2, 3, 4, 5])
@pytest.mark.parametrize("caps", [False, True])
def test_simplices_cover_the_outer_faces(L, caps):
    # every feasible point that fills budget or a cap is a convex combination of the vertices of some simplex
    covered = 0
    for seed in range(25):
        problem = drawn(seed, num_nodes=L, caps=caps)
        simplices = outer_simplices(ScaledBatch.of(scaled(problem)), 1e-12)
        points = list(feasible_shares(problem, np.random.default_rng(seed), 60))
        if not points:
            continue
        weights = np.einsum("nkl,pk->npl", np.linalg.inv(simplices), np.array(points))
        inside = np.all(weights >= -1e-8, axis=2) & (np.abs(np.sum(weights, axis=2) - 1) < 1e-8)
        assert np.all(np.any(inside, axis=0))
        covered += len(points)
    assert covered > 50


def test_a_search_that_stops_early_still_says_how_far_it_may_be_off():
    problem = three_cells(min_comm_sinr=0.0, min_sensing_snr=0.0)
    proved = comp.solve(problem, "global")

    early = comp.solve(problem, "global", max_simplices=1)

    assert early.status == "stationary"
    assert early.note.startswith("stopped after ")
    assert early.upper_bound >= proved.objective
    assert early.upper_bound > early.objective + 1e-6
    assert proved.status == "optimal"


@pytest.mark.parametrize("excess", [-5e-10, 0.0, 1e-12, 1e-9, 1e-7, 1e-3])
def test_budgets_at_and_just_above_the_least_power_are_proved(excess):
    value, _ = comp.required_power(three_cells())
    problem = three_cells(total_power=value * (1 + excess))

    allocation = comp.solve(problem, "global")

    assert allocation.status == "optimal"
    assert np.min(comp.row_margins_db(problem, allocation.power)) >= -1e-8


def test_problems_without_a_search_are_answered_as_by_the_alternation():
    no_gain = comp.solve(three_cells(comm_gain=1 - np.eye(3), min_comm_sinr=0.0), "global")
    one_node = comp.solve(comp.CompProblem([[0.5]], [[1.0]], 1.0, 1.0, 4.0, 1.0, 2.0), "global")
    silent = comp.solve(three_cells(min_comm_sinr=[0.5, 0, 0.5], max_power=[np.inf, 0, np.inf]), "global")

    assert (no_gain.status, no_gain.upper_bound) == ("zero_gain", 0.0)
    assert one_node.status == "optimal"
    assert one_node.objective == one_node.upper_bound == pytest.approx(np.log2(3))
    assert (silent.status, silent.power[1]) == ("optimal", 0.0)


def test_more_than_five_nodes_are_refused():
    with pytest.raises(ValueError, match="global: found 6 nodes; must be at most 5, use 'newton' for more"):
        comp.solve(drawn(1, num_nodes=6), "global")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"starts": "many"}, "starts 'many', .* must be 'one' or 'corners'"), ({"max_simplices": 0}, "max_simplices 0")],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        comp.solve(three_cells(), "global", **arguments)


def test_corner_starts_are_never_below_the_one_start():
    for seed in range(12):
        problem = drawn(seed, num_nodes=3)
        one, corners = comp.solve(problem), comp.solve(problem, starts="corners")
        assert corners.status == one.status
        assert one.status == "infeasible" or corners.objective >= one.objective
