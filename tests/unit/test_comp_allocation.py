"""CoMP power allocation: constraints, certificates, edge cases and the file of an allocation."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from testbed.allocation import comp, comp_ppa
from testbed.allocation.base import Allocation, load_allocation, save_allocation
from testbed.errors import CaptureError

NAMES = [f"u{i}" for i in range(1, 9)], [f"t{i}" for i in range(1, 9)], [f"bs{i}" for i in range(1, 9)]
seeds = st.integers(0, 2**32 - 1)


def drawn(seed, *, num_nodes=None, caps=False, unit=1.0):
    """Exponential gains, cross links 0.1 or 0.3, sensing noise 15 dB as in the letter, budgets of 5 to 25 dB."""
    rng = np.random.default_rng(seed)
    L = num_nodes or int(rng.integers(1, 6))
    cross = np.where(np.eye(L), 1.0, rng.choice([0.1, 0.3]))
    total_power = 10 ** rng.uniform(0.5, 2.5)
    min_comm_sinr = rng.choice([0.0, 0.3, 1.0], L)
    min_sensing_snr = rng.choice([0.0, 0.1, 0.2], L)
    comm_gain, sensing_gain = cross * rng.exponential(size=(L, L)), rng.exponential(size=(L, L))
    max_power = total_power * rng.uniform(0.1, 1.2, L) if caps else np.inf
    noise_var = unit * np.array([10**0.1, 10**1.5])
    return comp.CompProblem(
        unit * comm_gain, unit * sensing_gain, *noise_var, total_power, min_comm_sinr, min_sensing_snr, max_power
    )


def three_cells(**changes):
    comm_gain = np.array([[1.0, 0.1, 0.2], [0.2, 2.0, 0.1], [0.1, 0.3, 1.5]])
    sensing_gain = np.array([[1.0, 0.5, 0.4], [0.3, 1.2, 0.6], [0.8, 0.2, 0.9]])
    arguments = {
        "comm_gain": comm_gain,
        "sensing_gain": sensing_gain,
        "comm_noise_var": np.ones(3),
        "sensing_noise_var": np.ones(3),
        "total_power": 10.0,
        "min_comm_sinr": 0.5,
        "min_sensing_snr": 1.0,
    }
    return comp.CompProblem(**(arguments | changes))


def linear_verdict(problem):
    """Whether a power vector meets rows, caps and budget, by another linear program in other units."""
    A, b = problem.rows
    size = np.maximum(np.max(np.abs(A), axis=1) * problem.total_power, b)
    caps = np.broadcast_to(problem.max_power, problem.num_nodes) / problem.total_power
    result = linprog(
        np.zeros(problem.num_nodes),
        A_ub=np.vstack([-A * problem.total_power / size[:, None], np.ones(problem.num_nodes)]),
        b_ub=np.append(-b / size, 1.0),
        bounds=[(0, cap) for cap in caps],
        method="highs-ipm",
    )
    return result.status == 0


# What is solved


def test_rows_are_the_requirements_rearranged():
    rng = np.random.default_rng(1)
    problem = three_cells(min_comm_sinr=np.array([0.5, 1.0, 0.0]), min_sensing_snr=np.array([3.0, 0.0, 5.0]))
    A, b = problem.rows
    assert A[0] == pytest.approx([1.0, -0.5 * 0.2, -0.5 * 0.1])  # receiver 0: column 0 of the gains
    assert A[3] == pytest.approx([1.0, 0.3, 0.8])
    assert b == pytest.approx([0.5, 1.0, 0.0, 3.0, 0.0, 5.0])
    for power in rng.exponential(2, (200, 3)):
        reached = np.append(comp.comm_sinr(problem, power), comp.sensing_snr(problem, power))
        assert np.array_equal(A @ power >= b, reached >= problem.required)


def test_margins_are_decibels_over_what_is_required():
    problem = three_cells(min_comm_sinr=np.array([0.5, 0.5, 0.0]))
    power = np.array([0.0, 4.0, 2.0])

    margins = comp.row_margins_db(problem, power)

    assert margins[0] == -np.inf
    assert margins[1] == pytest.approx(10 * np.log10(8.0 / (2.0 * 0.3 + 1.0) / 0.5))
    assert margins[2] == np.inf
    assert margins[3] == pytest.approx(10 * np.log10(4.0 * 0.3 + 2.0 * 0.8))
    sinr = comp.comm_sinr(problem, power)
    assert comp.sum_rate(problem, power) == pytest.approx(np.sum(np.log2(1 + sinr)))


def test_scalars_are_spread_and_arrays_copied():
    gain = np.eye(2)
    problem = comp.CompProblem(gain, gain, 1.0, 1.0, 1.0, 0.1, 0.1)
    gain[0, 0] = -1.0

    assert problem.comm_gain[0, 0] == 1.0
    assert problem.min_comm_sinr.shape == problem.comm_noise_var.shape == problem.max_power.shape == (2,)
    with pytest.raises(ValueError, match="read-only"):
        problem.comm_gain[0, 0] = 2.0


# The alternation


@settings(max_examples=120)
@given(seeds, st.booleans())
def test_alternation_keeps_rows_caps_and_budget_and_never_falls(seed, caps):
    problem = drawn(seed, caps=caps)
    allocation = comp.solve(problem)
    if allocation.status == "infeasible":
        return

    A, b = problem.rows
    power = allocation.power
    assert np.all(A @ power - b >= -1e-7 * np.abs(b))
    assert np.array_equal(allocation.slack, A @ power - b)
    assert np.all((power >= 0) & (power <= problem.max_power))
    assert np.sum(power) <= problem.total_power * (1 + 1e-12)
    if not caps:
        assert np.sum(power) == pytest.approx(problem.total_power, rel=1e-7)
    assert np.all(np.diff(allocation.history) >= 0)
    assert allocation.objective == comp.sum_rate(problem, power)
    assert allocation.status == ("optimal" if problem.num_nodes == 1 else "stationary")
    if problem.num_nodes > 1:
        assert allocation.kkt_residual < 2e-3
        assert allocation.objective == pytest.approx(allocation.history[-1], rel=1e-12)
    equal = comp.solve(problem, "equal")
    if equal.status == "stationary":
        assert allocation.objective >= equal.objective - 1e-9


@settings(max_examples=120)
@given(seeds, st.booleans())
def test_infeasible_is_said_exactly_when_the_linear_program_says_so_and_proved(seed, caps):
    problem = drawn(seed, caps=caps)
    value, power = comp.required_power(problem)
    if abs(value / problem.total_power - 1) < 1e-6:
        return

    allocation = comp.solve(problem)

    certificate = allocation.certificate
    assert (allocation.status != "infeasible") == linear_verdict(problem) == (value <= problem.total_power)
    if allocation.status != "infeasible":
        assert certificate == {}
        return
    A, b = problem.rows
    y = np.array(certificate["y"])
    assert comp.verify_certificate(problem, certificate)
    assert np.all(y >= 0)
    if not caps:
        assert b @ y > problem.total_power * max(0, np.max(A.T @ y))
        assert certificate["reachable"] == pytest.approx(problem.total_power * max(0, np.max(A.T @ y)))
    assert b @ y > certificate["reachable"]
    assert np.isnan(allocation.objective)
    assert np.array_equal(allocation.power, certificate["balanced_power"])
    assert min(row["reached"] / row["required"] for row in certificate["rows"]) < 1
    assert (certificate["required_power"] is None) == (power is None)
    if power is not None:
        assert certificate["required_power"] == pytest.approx(value)
        assert certificate["extra_power_db"] == pytest.approx(10 * np.log10(value / problem.total_power))
        assert comp.solve(replace(problem, total_power=value * (1 + 1e-6)), "ppa").status != "infeasible"
    json.dumps(certificate, allow_nan=False)
    assert "\n" not in comp.explain(problem, certificate, *(names[: problem.num_nodes] for names in NAMES))


@settings(max_examples=30)
@given(seeds)
def test_units_of_power_and_gain_do_not_matter(seed):
    problem, tiny = drawn(seed), drawn(seed, unit=1e-12)
    milli = replace(
        tiny,
        total_power=1e-3 * tiny.total_power,
        comm_noise_var=1e-3 * tiny.comm_noise_var,
        sensing_noise_var=1e-3 * tiny.sensing_noise_var,
    )

    allocations = [comp.solve(p) for p in (problem, tiny, milli)]

    assert len({allocation.status for allocation in allocations}) == 1
    for allocation, factor in zip(allocations[1:], (1.0, 1e3), strict=True):
        assert factor * allocation.power == pytest.approx(allocations[0].power, abs=1e-4 * problem.total_power)
        assert allocation.objective == pytest.approx(allocations[0].objective, abs=1e-5, nan_ok=True)


@settings(max_examples=30)
@given(seeds, st.permutations(range(4)))
def test_the_order_of_the_nodes_does_not_matter(seed, order):
    problem = drawn(seed, num_nodes=4)
    order = list(order)
    shuffled = replace(
        problem,
        comm_gain=problem.comm_gain[np.ix_(order, order)],
        sensing_gain=problem.sensing_gain[np.ix_(order, order)],
        min_comm_sinr=problem.min_comm_sinr[order],
        min_sensing_snr=problem.min_sensing_snr[order],
    )

    allocation, other = comp.solve(problem, tolerance=1e-9), comp.solve(shuffled, tolerance=1e-9)

    assert other.status == allocation.status
    assert other.objective == pytest.approx(allocation.objective, abs=1e-5, nan_ok=True)
    if allocation.status == "stationary":
        assert other.power == pytest.approx(allocation.power[order], abs=1e-3 * problem.total_power)
    else:
        rows, there = ({(row["kind"], row["index"]) for row in a.certificate["rows"]} for a in (allocation, other))
        assert {(kind, order[index]) for kind, index in there} == rows


def test_what_was_solved_before_does_not_matter():
    problem, elsewhere = drawn(3, num_nodes=3), drawn(11, num_nodes=3, unit=1e6)
    alone = comp.solve(problem)
    comp.solve(replace(elsewhere, total_power=1e6))

    assert np.array_equal(comp.solve(problem).power, alone.power)


@pytest.mark.parametrize("excess", [-5e-10, 0.0, 1e-12, 1e-9, 1e-8, 1e-7, 1e-5, 1e-3])
def test_budgets_at_and_just_above_the_least_power_are_solved(excess):
    value, vertex = comp.required_power(three_cells())
    problem = three_cells(total_power=value * (1 + excess))

    allocation = comp.solve(problem)

    assert allocation.status == "stationary"
    assert np.min(comp.row_margins_db(problem, allocation.power)) >= -1e-8
    assert np.sum(allocation.power) == pytest.approx(problem.total_power, rel=1e-9)
    if excess <= 1e-9:
        assert allocation.power == pytest.approx(vertex, rel=1e-8)


def test_a_budget_just_below_the_least_power_is_infeasible():
    value, _ = comp.required_power(three_cells())
    problem = three_cells(total_power=value * (1 - 1e-8))

    allocation = comp.solve(problem)

    assert allocation.status == "infeasible"
    assert comp.verify_certificate(problem, allocation.certificate)


def test_least_power_ignores_the_budget_and_obeys_the_caps():
    problem = three_cells(min_comm_sinr=0.0)
    value, power = comp.required_power(problem)
    most = np.argmax(power)
    cap = np.where(np.arange(3) == most, 0.8 * power[most], np.inf)

    capped_value, capped_power = comp.required_power(replace(problem, max_power=cap))

    assert comp.required_power(replace(problem, total_power=1e-9))[0] == pytest.approx(value)
    assert capped_value > value
    assert capped_power[most] == pytest.approx(cap[most])
    assert np.min(comp.row_margins_db(problem, capped_power)) == pytest.approx(0, abs=1e-8)
    assert comp.required_power(three_cells(min_comm_sinr=0, min_sensing_snr=0))[0] == 0


def test_a_failing_convex_solver_leaves_the_last_feasible_powers(monkeypatch, caplog):
    problem = three_cells()
    good = comp.solve(problem)
    maximiser, calls = comp_ppa._Surrogate.maximiser, []

    def fails_in_round_two(self, *arguments):
        calls.append(arguments)
        return maximiser(self, *arguments) if len(calls) < 2 else None

    monkeypatch.setattr(comp_ppa._Surrogate, "maximiser", fails_in_round_two)

    allocation = comp.solve(problem)

    assert allocation.status == "stationary"
    assert allocation.note == caplog.messages[0] == "round 2: the convex solver failed; powers of round 1 kept"
    assert len(allocation.history) == 2
    assert allocation.objective == pytest.approx(good.history[1], abs=1e-6)
    assert np.min(comp.row_margins_db(problem, allocation.power)) >= -1e-8


def test_an_exception_in_the_convex_solver_is_not_passed_on(monkeypatch):
    import cvxpy

    def breaks(*_, **__):
        raise cvxpy.error.SolverError("Solver 'CLARABEL' failed.")

    monkeypatch.setattr(cvxpy.Problem, "solve", breaks)

    allocation = comp.solve(three_cells())

    assert allocation.status == "stationary"
    assert allocation.note.startswith("round 1: the convex solver failed")
    assert allocation.power == pytest.approx(np.full(3, 10 / 3))


def test_running_out_of_rounds_is_noted():
    allocation = comp.solve(three_cells(min_comm_sinr=0.1), max_rounds=1)

    assert len(allocation.history) == 2
    assert allocation.note == "not settled after 1 rounds; kkt_residual says how far"


# Few nodes, no gain, fixed schemes


@pytest.mark.parametrize(("cap", "power"), [(np.inf, 4.0), (3.0, 3.0)])
def test_one_node_spends_all_it_may(cap, power):
    allocation = comp.solve(comp.CompProblem([[0.5]], [[1.0]], 1.0, 1.0, 4.0, 1.0, 2.0, cap))

    assert allocation.status == "optimal"
    assert allocation.power == pytest.approx([power])
    assert allocation.objective == allocation.upper_bound == pytest.approx(np.log2(1 + power / 2))


def test_one_node_that_cannot_is_told_how_much_is_missing():
    problem = comp.CompProblem([[0.5]], [[1.0]], 1.0, 1.0, 4.0, 1.0, 8.0)

    certificate = comp.solve(problem).certificate

    assert certificate["y"] == pytest.approx([0.0, 1.0])
    assert comp.explain(problem, certificate, ["u1"], ["t1"]) == (
        "sensing of t1 cannot be met: it reaches 3.0 dB less than required at the full budget; "
        "3.0 dB more total power would do"
    )


@pytest.mark.parametrize("method", ["ppa", "equal", "random"])
def test_without_own_gains_any_feasible_power_gives_zero(method):
    allocation = comp.solve(three_cells(comm_gain=1 - np.eye(3), min_comm_sinr=0.0), method, seed=1)

    assert allocation.status == "zero_gain"
    assert allocation.objective == 0
    assert np.min(allocation.slack) >= 0


def test_a_user_without_own_gain_takes_nothing_from_the_others():
    comm_gain = np.diag([0.0, 1.0, 1.0])
    allocation = comp.solve(three_cells(comm_gain=comm_gain, min_comm_sinr=0.0, min_sensing_snr=0.0))

    assert allocation.power == pytest.approx([0.0, 5.0, 5.0], abs=1e-5)


def test_a_user_without_own_gain_that_needs_a_rate_is_named():
    problem = three_cells(comm_gain=np.diag([1.0, 0.0, 1.0]))

    allocation = comp.solve(problem)

    assert allocation.certificate["y"][1] > 0
    assert allocation.certificate["rows"] == [{"kind": "rate", "index": 1, "reached": 0.0, "required": 0.5}]
    assert comp.explain(problem, allocation.certificate, *(names[:3] for names in NAMES)) == (
        "rate of u2 cannot be met: it stays at zero; no power would do"
    )


def test_a_cell_that_no_node_illuminates_is_named():
    sensing_gain = np.ones((3, 3))
    sensing_gain[:, 2] = 0

    rows = comp.solve(three_cells(sensing_gain=sensing_gain)).certificate["rows"]

    assert [(row["kind"], row["index"]) for row in rows] == [("sensing", 2)]


def test_a_node_that_must_stay_silent_is_kept_silent():
    allocation = comp.solve(three_cells(min_comm_sinr=[0.5, 0, 0.5], max_power=[np.inf, 0, np.inf]))

    assert allocation.status == "stationary"
    assert allocation.power[1] == 0
    assert np.sum(allocation.power) == pytest.approx(10, rel=1e-7)


def test_fixed_schemes_do_not_look_at_caps_but_are_judged_by_them():
    caps = [10.0, 10.0, 3.0]

    assert comp.solve(three_cells(), "equal").status == "stationary"
    capped = comp.solve(three_cells(max_power=caps), "equal")
    assert capped.status == "infeasible"
    assert capped.power == pytest.approx(np.full(3, 10 / 3))
    assert capped.certificate == {}
    assert np.all(comp.solve(three_cells(max_power=caps)).power <= caps)


def test_fixed_schemes_of_an_infeasible_problem_carry_its_certificate():
    problem = three_cells(min_sensing_snr=100.0)

    allocation = comp.solve(problem, "random", seed=2)

    assert allocation.status == "infeasible"
    assert allocation.power / 10 == pytest.approx([0.4310023383, 0.0256293514, 0.5433683103], abs=1e-10)
    assert comp.verify_certificate(problem, allocation.certificate)


# Certificates and words


def test_certificates_that_prove_nothing_are_refused():
    problem = three_cells(min_sensing_snr=100.0)
    certificate = comp.solve(problem).certificate
    y = certificate["y"]

    assert comp.verify_certificate(problem, {"y": y})
    assert not comp.verify_certificate(three_cells(), certificate)
    assert not comp.verify_certificate(problem, {"y": [0.0] * 6})
    assert not comp.verify_certificate(problem, {"y": [-1.0, *y[1:]]})
    assert not comp.verify_certificate(problem, {"y": [float("nan"), *y[1:]]})
    assert not comp.verify_certificate(problem, {"y": y[:3]})
    assert not comp.verify_certificate(problem, {"y": "y"})
    assert not comp.verify_certificate(problem, {})


def test_caps_that_stand_in_the_way_are_named():
    problem = three_cells(min_comm_sinr=3.0, min_sensing_snr=0.0, max_power=[1.0, np.inf, np.inf])
    own = np.diag(problem.comm_gain)
    F = 3.0 * (problem.comm_gain.T / own[:, None]) * (1 - np.eye(3))
    without_caps = np.sum(np.linalg.solve(np.eye(3) - F, 3.0 / own))  # least power for the rates alone

    certificate = comp.solve(problem).certificate

    # user 1 needs 3 of node 1 alone, which may give 1
    assert certificate["y"] == pytest.approx([certificate["y"][0], 0, 0, 0, 0, 0])
    assert certificate["demand"] == pytest.approx(3 * certificate["reachable"])
    assert certificate["caps_block"]
    assert certificate["required_power"] is certificate["extra_power_db"] is None
    assert certificate["required_power_without_caps"] == pytest.approx(without_caps)
    assert comp.verify_certificate(problem, certificate)
    assert comp.explain(problem, certificate, *(names[:3] for names in NAMES)) == (
        "rate of u1 cannot be met: it reaches 5.5 dB less than required at the full budget; "
        "with the cap of bs1 (10 % of the total power) no total power would do; without caps 3.1 dB more"
    )
    assert comp.explain(replace(problem, total_power=100.0), certificate, *(names[:3] for names in NAMES)).endswith(
        "with the cap of bs1 (1 % of the total power) no total power would do; without caps the budget would do"
    )


def test_the_most_that_is_reachable_under_caps_is_a_fractional_knapsack():
    problem = three_cells(max_power=[2.0, 5.0, np.inf])

    assert comp.reachable(problem, np.array([3.0, 2.0, 1.0])) == pytest.approx(3 * 2 + 2 * 5 + 1 * 3)
    assert comp.reachable(problem, np.array([3.0, -2.0, -1.0])) == pytest.approx(3 * 2)
    assert comp.reachable(problem, np.array([-3.0, -2.0, -1.0])) == 0


def test_words_of_the_caller_describe_the_worst_row():
    problem = comp.CompProblem([[0.5]], [[1.0]], 1.0, 1.0, 4.0, 1.0, 8.0)
    certificate = comp.solve(problem).certificate

    text = comp.explain(
        problem,
        certificate,
        ["u1"],
        ["t1"],
        describe=lambda row: f"SNR of t1 is {row['reached']:g} of {row['required']:g}",
    )

    assert text == (
        "sensing of t1 cannot be met: SNR of t1 is 4 of 8 at the full budget; 3.0 dB more total power would do"
    )


def test_a_feasible_allocation_has_nothing_to_explain():
    with pytest.raises(ValueError, match="no conflicting rows"):
        comp.explain(three_cells(), {}, *(names[:3] for names in NAMES))
    with pytest.raises(ValueError, match="user_names: found 8 names; must be 3"):
        comp.explain(three_cells(), {}, *NAMES)


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comm_gain": np.ones(3)}, r"comm_gain: found shape \(3,\); must be \(L, L\)"),
        ({"comm_gain": np.ones((0, 0))}, "comm_gain: found shape"),
        ({"comm_gain": np.ones((3, 2))}, r"comm_gain: found shape \(3, 2\); must be \(3, 3\)"),
        ({"comm_gain": [[1.0, 2.0], [3.0]]}, "comm_gain: found .* must be an array of numbers"),
        ({"comm_gain": 1j * np.ones((3, 3))}, r"comm_gain: found elements of type complex128; .*abs\(channel\)"),
        ({"sensing_gain": np.ones((2, 2))}, r"sensing_gain: found shape \(2, 2\); must be \(3, 3\)"),
        ({"sensing_gain": [["a"] * 3] * 3}, "sensing_gain: found elements of type <U1; must be real"),
        ({"sensing_gain": np.diag([1, -1, 1.0])}, r"sensing_gain\[1, 1\]: found -1; must be finite and at least 0"),
        ({"comm_noise_var": np.ones(2)}, r"comm_noise_var: found shape \(2,\); must be \(3,\) or a scalar"),
        ({"comm_noise_var": [1, 0, 1]}, r"comm_noise_var\[1\]: found 0; must be finite and above 0"),
        ({"sensing_noise_var": [1, 1, np.nan]}, r"sensing_noise_var\[2\]: found nan"),
        ({"total_power": 0.0}, "total_power: found 0; must be finite and above 0"),
        ({"total_power": np.inf}, "total_power: found inf"),
        ({"total_power": [1.0, 2.0]}, r"total_power: found shape \(2,\); must be a scalar"),
        ({"min_comm_sinr": -0.5}, r"min_comm_sinr\[0\]: found -0.5; must be finite and at least 0"),
        ({"min_sensing_snr": np.inf}, r"min_sensing_snr\[0\]: found inf"),
        ({"max_power": [1.0, np.nan, 1.0]}, r"max_power\[1\]: found nan; must be at least 0, or inf for no cap"),
        ({"max_power": None}, "max_power: found elements of type object"),
        ({"comm_gain": np.full((3, 3), 1e300), "comm_noise_var": 1e-100}, "overflows; check the units"),
    ],
)
def test_impossible_problems_are_refused_with_the_number_and_the_limit(changes, message):
    with pytest.raises(ValueError, match=message):
        three_cells(**changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: comp.solve(p, "newtonian"), "method: found 'newtonian'; must be one of ppa, equal, random"),
        (lambda p: comp.solve(p, "random", seed=-1), "seed: found -1; must be a whole number"),
        (lambda p: comp.solve(p, "random", seed=2.5), "seed: found 2.5"),
        (lambda p: comp.solve(p, tolerance=0.0), "tolerance 0"),
        (lambda p: comp.solve(p, max_rounds=0), "max_rounds 0"),
        (lambda p: comp.sum_rate(p, np.ones(2)), r"power: found shape \(2,\); must be \(3,\)"),
        (lambda p: comp.comm_sinr(p, np.array([1, -1, 1.0])), r"power\[1\]: found -1"),
        (lambda p: comp.sensing_snr(p, np.array([1, np.inf, 1.0])), r"power\[1\]: found inf"),
    ],
)
def test_impossible_arguments_are_refused_with_the_number_and_the_limit(call, message):
    with pytest.raises(ValueError, match=message):
        call(three_cells())


def test_importing_the_solver_loads_neither_cvxpy_nor_scipy():
    program = "import sys, testbed.allocation.comp\nassert not {'cvxpy', 'scipy'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", program], check=True)


# The file of an allocation


def same(a, b):
    return json.dumps(a.to_dict(), allow_nan=False) == json.dumps(b.to_dict(), allow_nan=False)


@pytest.mark.parametrize("min_sensing_snr", [1.0, 100.0])
def test_allocations_survive_their_file_with_every_bit(tmp_path, min_sensing_snr):
    allocation = comp.solve(three_cells(min_sensing_snr=min_sensing_snr))

    save_allocation(tmp_path / "powers.json", allocation, NAMES[2][:3])
    read, names = load_allocation(tmp_path / "powers.json")

    assert names == ("bs1", "bs2", "bs3")
    assert same(read, allocation)
    assert np.array_equal(read.power, allocation.power)
    assert np.array_equal(read.slack, allocation.slack)
    assert read.objective == allocation.objective or min_sensing_snr == 100.0
    assert read.certificate == allocation.certificate


def test_infinite_and_missing_numbers_become_null():
    allocation = Allocation(np.ones(2), np.ones(2), float("nan"), "stationary", history=(float("-inf"), 1.0))

    read = Allocation.from_dict(json.loads(json.dumps(allocation.to_dict(), allow_nan=False)))

    assert allocation.to_dict()["history"] == [None, 1.0]
    assert np.isnan(read.objective)
    assert np.isnan(read.history[0])
    assert read.slack is read.upper_bound is read.kkt_residual is None


def test_certificates_may_hold_arrays():
    allocation = Allocation(
        np.ones(2), np.ones(2), 1.0, "infeasible", certificate={"y": np.arange(2.0), "n": np.int64(3)}
    )

    assert allocation.to_dict()["certificate"] == {"y": [0.0, 1.0], "n": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pilot_power": None}, "pilot_power: found None"),
        ({"pilot_power": []}, "pilot_power"),
        ({"pilot_power": [1.0, -1.0]}, r"pilot_power\[1\]: found -1.0; .*greater than or equal to 0"),
        ({"data_power": [1.0, float("inf")]}, r"data_power\[1\]: .*finite"),
        ({"data_power": [1.0, None]}, r"data_power\[1\]: found None"),
        ({"data_power": [1.0, "2"]}, r"data_power\[1\]: found '2'"),
        ({"data_power": [1.0]}, "data_power: found 1 nodes; must be 2"),
        ({"objective": "high"}, "objective: found 'high'"),
        ({"objective": True}, "objective: found True"),
        ({"status": "fine"}, "status: found 'fine'"),
        ({"history": 1.0}, "history: found 1.0"),
        ({"certificate": []}, r"certificate: found \[\]"),
        ({"slack": [[1.0]]}, r"slack\[0\]: found \[1.0\]"),
        ({"note": 1}, "note: found 1"),
        ({"colour": "red"}, "colour: unknown key"),
    ],
)
def test_foreign_fields_are_refused_by_name(changes, message):
    data = Allocation(np.ones(2), np.ones(2), 1.0, "stationary").to_dict() | changes
    with pytest.raises(ValueError, match=message) as caught:
        Allocation.from_dict(data)
    assert "\n" not in str(caught.value)


def test_missing_fields_and_other_types_are_refused():
    data = Allocation(np.ones(2), np.ones(2), 1.0, "stationary").to_dict()
    del data["slack"]

    with pytest.raises(ValueError, match="slack: missing"):
        Allocation.from_dict(data)
    with pytest.raises(ValueError, match="found list; must be a table"):
        Allocation.from_dict([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1, 2]", "found list; must be a table"),
        (b'{"node_names": ["a"]}', "allocation: missing"),
        (b'{"a": ' * 900 + b"1" + b"}" * 900, "not an allocation file"),
        (b" " * 10_000_001, "larger than 10000000 bytes"),
    ],
)
def test_foreign_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "powers.json"
    path.write_bytes(content)

    with pytest.raises(CaptureError, match=message) as caught:
        load_allocation(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_written_are_said_so_in_one_line(tmp_path):
    allocation = Allocation(np.ones(2), np.ones(2), 1.0, "stationary")

    with pytest.raises(CaptureError, match="cannot be read"):
        load_allocation(tmp_path / "none.json")
    with pytest.raises(CaptureError, match="cannot be read"):
        load_allocation(tmp_path)
    with pytest.raises(CaptureError, match=r"cannot be written .*; choose another directory"):
        save_allocation(tmp_path / "none" / "powers.json", allocation, ["a", "b"])
    with pytest.raises(ValueError, match="node_names: found a; must be 2 different names"):
        save_allocation(tmp_path / "powers.json", allocation, ["a"])


def test_names_in_a_file_must_fit_the_powers(tmp_path):
    path = tmp_path / "powers.json"
    save_allocation(path, Allocation(np.ones(2), np.ones(2), 1.0, "stationary"), ["a", "b"])
    path.write_text(path.read_text().replace('"b"', '"a"'))

    with pytest.raises(CaptureError, match="node_names: found a, a; must be 2 different names"):
        load_allocation(path)
