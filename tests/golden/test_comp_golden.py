"""CoMP power allocation on the scenario of the specification, where every claim of the letter can be seen.

Scenario S1: one rounded draw of 3 cells, noise 1 dB at the users and 15 dB at the base stations, 1 bit/s/Hz per user,
PFA 1e-6, 100 samples per detection, PoD 0.7 unless said otherwise. The values, to four decimals, stood in the solver's
specification before it was written; `test_another_optimiser_...` computes some of them anew with SciPy's SLSQP.
"""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from testbed.allocation import comp
from testbed.theory.detection import glrt_threshold, required_noncentrality
from testbed.units import db, undb

COMM_GAIN = np.array([[0.904, 0.218, 0.304], [0.084, 4.248, 0.001], [0.010, 0.050, 2.485]])
SENSING_GAIN = np.array([[0.526, 1.750, 1.251], [1.189, 0.442, 0.398], [6.075, 0.032, 3.429]])
RANDOM_SHARES = np.array([0.232, 0.240, 0.528])  # of S1, not those of seed 2


def scenario(total_power_db, pod=0.7):
    min_sensing_snr = required_noncentrality(pod, 1e-6, 3) / (2 * 100)
    return comp.CompProblem(COMM_GAIN, SENSING_GAIN, undb(1.0), undb(15.0), undb(total_power_db), 1.0, min_sensing_snr)


def test_requirement_of_the_letters_setting():
    assert glrt_threshold(1e-6, 3) == pytest.approx(19.1291681886, rel=1e-11)
    for pod, lam, zeta in (
        (0.3, 27.2434026, 0.136217013),
        (0.7, 39.7885250, 0.198942625),
        (0.8, 44.0255860, 0.220127930),
        (0.99, 66.5784685, 0.332892343),
    ):
        assert required_noncentrality(pod, 1e-6, 3) == pytest.approx(lam, rel=2e-9)
        assert required_noncentrality(pod, 1e-6, 3) / 200 == pytest.approx(zeta, rel=3e-9)
    assert scenario(10).rows[1][3:] == pytest.approx(6.2911182, rel=1e-8)


def test_least_power_of_the_scenario():
    value, power = comp.required_power(scenario(20))

    assert db(value) == pytest.approx(6.875, abs=5e-4)
    assert np.sum(power) == pytest.approx(value)
    assert np.min(comp.row_margins_db(scenario(20), power)) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("total_power_db", "sum_rate"),
    [(9, 6.1214), (10, 6.9264), (12, 8.2375), (15, 9.7476), (19, 11.2898), (20, 11.5848)],
)
def test_alternation_reaches_the_printed_sum_rate_at_every_budget(total_power_db, sum_rate):
    allocation = comp.solve(scenario(total_power_db))

    assert allocation.status == "stationary"
    assert allocation.objective == pytest.approx(sum_rate, abs=5e-5)
    assert allocation.kkt_residual < 1e-3
    # within 1e-6 of where the alternation ends
    assert comp.solve(scenario(total_power_db), tolerance=1e-12).objective == pytest.approx(
        allocation.objective, abs=1e-6
    )


@pytest.mark.parametrize("total_power_db", [9, 12, 15, 20])
def test_another_optimiser_from_several_starts_finds_the_same_sum_rate(total_power_db):
    problem, P_th = scenario(total_power_db), undb(total_power_db)
    A, b = problem.rows
    constraints = [
        {"type": "ineq", "fun": lambda q: (A @ q * P_th - b) / b},
        {"type": "ineq", "fun": lambda q: 1 - np.sum(q)},
    ]
    found = [
        minimize(
            lambda q: -comp.sum_rate(problem, P_th * np.maximum(q, 0)),
            start,
            bounds=[(0, 1)] * 3,
            constraints=constraints,
            options={"ftol": 1e-10},
        )
        for start in np.random.default_rng(1).dirichlet(np.ones(3), 8)
    ]

    best = max(-result.fun for result in found if np.min((A @ result.x * P_th - b) / b) > -1e-7)

    assert comp.solve(problem).objective == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(
    ("pod", "sum_rate"),
    [
        (0.3, 7.0931),
        (0.5, 7.0897),
        (0.6, 7.0215),
        (0.7, 6.9264),
        (0.8, 6.8012),
        (0.9, 6.6023),
        (0.95, 6.4144),
        (0.99, 5.9960),
    ],
)
def test_alternation_bends_down_as_more_detection_is_asked_for(pod, sum_rate):
    assert comp.solve(scenario(10, pod)).objective == pytest.approx(sum_rate, abs=5e-5)
    assert comp.solve(scenario(10, pod), "equal").status == ("stationary" if pod <= 0.8 else "infeasible")


def test_at_20_db_detection_costs_no_rate():
    assert [comp.solve(scenario(20, pod)).objective for pod in (0.3, 0.8, 0.99)] == pytest.approx(
        [11.5848] * 3, abs=5e-5
    )


@pytest.mark.parametrize(("total_power_db", "sum_rate"), [(9, None), (10, 6.6805), (15, 8.7462), (20, 9.9155)])
def test_equal_power_is_feasible_from_10_db(total_power_db, sum_rate):
    allocation = comp.solve(scenario(total_power_db), "equal")

    assert allocation.power == pytest.approx(np.full(3, undb(total_power_db) / 3))
    if sum_rate is None:
        assert allocation.status == "infeasible"
        assert np.isnan(allocation.objective)
        assert np.min(allocation.slack) < 0
        assert allocation.certificate == {}  # another power does
    else:
        assert allocation.status == "stationary"
        assert allocation.objective == pytest.approx(sum_rate, abs=5e-5)


@pytest.mark.parametrize(
    ("total_power_db", "sum_rate", "feasible"),
    [(9, None, False), (10, 6.7852, False), (11, None, True), (15, 9.0431, True), (20, 10.3993, True)],
)
def test_the_scenarios_random_shares_are_feasible_from_11_db(total_power_db, sum_rate, feasible):
    problem, power = scenario(total_power_db), undb(total_power_db) * RANDOM_SHARES

    assert (np.min(comp.row_margins_db(problem, power)) >= 0) == feasible
    if sum_rate is not None:
        assert comp.sum_rate(problem, power) == pytest.approx(sum_rate, abs=5e-5)


def test_random_shares_of_10_db_hold_up_to_a_pod_of_one_half():
    for pod, feasible in ((0.3, True), (0.5, True), (0.6, False)):
        assert (np.min(comp.row_margins_db(scenario(10, pod), 10 * RANDOM_SHARES)) >= 0) == feasible


def test_random_shares_are_those_of_the_mersenne_twister():
    allocation = comp.solve(scenario(20), "random", seed=2)

    assert allocation.power / 100 == pytest.approx([0.4310023383, 0.0256293514, 0.5433683103], abs=1e-10)


def test_equal_power_needs_4_db_more_for_the_same_rate():
    wanted = comp.solve(scenario(15)).objective

    equal_db = brentq(lambda x: comp.sum_rate(scenario(x), np.full(3, undb(x) / 3)) - wanted, 15, 22)

    assert equal_db == pytest.approx(18.998, abs=0.005)


def test_conflict_at_6_db_is_proved_by_the_prices_of_the_least_power():
    # Rates of u2, u3 and sensing of t2 are tight at the vertex, whose basis [p1, p2, p3] gives y by A_tight' y = 1.
    problem = scenario(6)
    tight = [1, 2, 4]
    A, b = problem.rows
    y = np.zeros(6)
    y[tight] = np.linalg.solve(A[tight].T, np.ones(3))

    allocation = comp.solve(problem)

    certificate = allocation.certificate
    assert allocation.status == "infeasible"
    assert certificate["y"] == pytest.approx(y, abs=1e-9)
    assert certificate["demand"] == pytest.approx(b @ y)
    assert db(certificate["required_power"]) == pytest.approx(6.875, abs=5e-4)
    assert certificate["extra_power_db"] == pytest.approx(0.875, abs=5e-4)
    assert certificate["reachable"] == pytest.approx(undb(6.0))
    assert [(row["kind"], row["index"]) for row in certificate["rows"]] == [("rate", 1), ("rate", 2), ("sensing", 1)]
    assert comp.verify_certificate(problem, certificate)
    assert comp.explain(problem, certificate, ["u1", "u2", "u3"], ["t1", "t2", "t3"]) == (
        "rate of u2, rate of u3 and sensing of t2 conflict: sensing of t2 reaches 0.8 dB less than required at the "
        "full budget; 0.9 dB more total power would do"
    )


def test_users_that_interfere_too_much_cannot_be_served_at_any_power():
    # F = [[0, 2, 0], [1, 0, 0], [0, 0, 0]], u = 1: spectral radius sqrt(2); left Perron vector (1, sqrt 2, 0).
    comm_gain = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    problem = comp.CompProblem(comm_gain, np.ones((3, 3)), 1.0, 1.0, 100.0, 1.0, 0.1)

    allocation = comp.solve(problem)

    y = np.array(allocation.certificate["y"])
    assert comp.required_power(problem) == (float("inf"), None)
    assert np.all(problem.rows[0].T @ y <= 1e-9 * np.max(y))  # whatever the budget
    assert 1 <= y[1] / y[0] <= 2  # A' y <= 0 with A = [[1, -2], [-1, 1]]
    assert allocation.certificate["required_power"] is None
    assert allocation.certificate["extra_power_db"] is None
    assert not allocation.certificate["caps_block"]
    # at the balance both reach 1 / sqrt(2), less the noise
    assert [row["reached"] for row in allocation.certificate["rows"]] == pytest.approx([np.sqrt(0.5)] * 2, rel=0.02)
    assert comp.explain(problem, allocation.certificate, ["u1", "u2", "u3"], ["t1", "t2", "t3"]) == (
        "rate of u1 and rate of u2 conflict: rate of u2 reaches 1.6 dB less than required at the full budget; "
        "no power would do"
    )


def test_water_filling_leaves_the_weakest_node_silent():
    # Diagonal gains 2, 1, 1/4, noise 1, budget 3, nothing required: water level 2.25, so P = (1.75, 1.25, 0).
    problem = comp.CompProblem(np.diag([2.0, 1.0, 0.25]), np.zeros((3, 3)), 1.0, 1.0, 3.0, 0.0, 0.0)

    allocation = comp.solve(problem)

    assert allocation.power == pytest.approx([1.75, 1.25, 0.0], abs=1e-6)
    assert allocation.objective == pytest.approx(np.log2(4.5) + np.log2(2.25))


def test_alternation_does_not_stop_on_the_plateau_around_equal_power():
    # The rise of the second round is below 1e-6 of the rate; the end is found by scanning the segment p1 + p2 = 1.
    problem = comp.CompProblem(
        np.array([[1100.7, 3713.9], [28.613, 60374.0]]), np.ones((2, 2)), 1.0, 1.0, 1.0, 0.0, 0.0
    )
    best = max(comp.sum_rate(problem, np.array([s, 1 - s])) for s in np.linspace(0, 1, 2001))

    allocation = comp.solve(problem)

    assert allocation.history[2] < allocation.objective - 5
    assert allocation.objective == pytest.approx(best, abs=1e-3)
