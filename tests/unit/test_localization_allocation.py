"""Powers for device-free localisation: the optimum by three independent ways, its proofs, and every edge case."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from testbed.allocation import localization, localization_policy
from testbed.allocation.base import Allocation, load_allocation, save_allocation
from testbed.allocation.localization import RangeProblem, range_stds, serves, sinrs, solve, verify_certificate
from testbed.allocation.localization_policy import least_fixed_point, policy_level
from tests.emulator import environment

seeds = st.integers(0, 2**32 - 1)


def drawn(seed, num_nodes=3, **changes):
    """Gains over some three decades each, bandwidths of one or two values, thresholds that most draws can meet."""
    rng = np.random.default_rng(seed)
    K, own = num_nodes, np.eye(num_nodes, dtype=bool)
    arguments = {
        "comm_gain": 10 ** np.where(own, rng.uniform(-9, -6, (K, K)), rng.uniform(-12, -8, (K, K))),
        "comm_echo_gain": 10 ** rng.uniform(-15, -10, (K, K)),
        "echo_gain": 10 ** rng.uniform(-15, -11, (K, K)),
        "direct_gain": np.where(own, 0.0, 10 ** rng.uniform(-13, -9, (K, K))),
        "self_gain": 10 ** rng.uniform(-14, -8, K),
        "sensing_noise_var": 1e-12 * rng.uniform(0.5, 2, K),
        "comm_noise_var": 3e-12 * rng.uniform(0.5, 2, K),
        "max_power": 10 ** rng.uniform(0, 1.6, K),
        "min_comm_sinr": rng.choice([0.0, 0.1, 0.5, 1.0, 3.0], K) / (1 if K < 6 else 3),
        "bandwidth_hz": rng.choice([50e6, 100e6], K),
        "own_echo": rng.choice(["interference", "signal", "ignore"]).item(),
    }
    return RangeProblem(**(arguments | changes))


def plain(**changes):
    return drawn(2, **({"min_comm_sinr": 0.3, "bandwidth_hz": 100e6, "own_echo": "interference"} | changes))


@lru_cache(maxsize=1)
def thousand():
    """1000 instances with the solution of both global methods."""
    sizes = np.repeat([1, 2, 3, 5, 19], [30, 120, 600, 200, 50])
    problems = [drawn(1000 + k, int(size)) for k, size in enumerate(sizes)]
    return [(problem, solve(problem), solve(problem, "lp")) for problem in problems]


# What is solved


def test_sinrs_are_the_powers_that_arrive():
    problem, power = drawn(7), np.array([1.0, 0.3, 2.0])
    for own_echo in ("interference", "signal", "ignore"):
        problem = replace(problem, own_echo=own_echo)
        comm, sensing = sinrs(problem, power)
        for k in range(3):
            others = [j for j in range(3) if j != k]
            direct = power[k] * problem.comm_gain[k, k]
            echo = power[k] * problem.comm_echo_gain[k, k]
            disturbing = sum(power[j] * (problem.comm_gain[j, k] + problem.comm_echo_gain[j, k]) for j in others)
            disturbing += problem.comm_noise_var[k] + (echo if own_echo == "interference" else 0)
            assert comm[k] == pytest.approx((direct + (echo if own_echo == "signal" else 0)) / disturbing, rel=1e-13)
            heard = sum(power[j] * (problem.echo_gain[j, k] + problem.direct_gain[j, k]) for j in others)
            heard += problem.self_gain[k] * power[k] + problem.sensing_noise_var[k]
            assert sensing[k] == pytest.approx(power[k] * problem.echo_gain[k, k] / heard, rel=1e-13)


def test_objective_is_the_worst_range():
    problem = drawn(8, bandwidth_hz=np.array([20e6, 100e6, 50e6]))
    allocation = solve(problem)

    worst = np.max(range_stds(problem, allocation.power))
    assert worst == pytest.approx(299792458 / (2 * 100e6) / np.sqrt(2 * allocation.objective), rel=1e-12)


def test_a_direct_gain_of_a_node_to_itself_does_not_count():
    problem = plain()
    marked = replace(problem, direct_gain=problem.direct_gain + np.diag([1.0, 2.0, 3.0]))

    assert solve(marked).objective == solve(problem).objective


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comm_gain": np.ones((2, 3))}, r"comm_gain: found shape \(2, 3\); must be \(2, 2\)"),
        ({"echo_gain": -np.ones((3, 3))}, r"echo_gain\[0, 0\]: found -1; must be finite and at least 0"),
        ({"sensing_noise_var": 0.0}, r"sensing_noise_var\[0\]: found 0; must be finite and above 0"),
        ({"max_power": np.inf}, r"max_power\[0\]: found inf"),
        ({"bandwidth_hz": 0.0}, r"bandwidth_hz\[0\]: found 0; must be finite and above 0"),
        ({"own_echo": "noise"}, "own_echo: found 'noise'; must be one of interference, signal, ignore"),
        ({"direct_gain": np.ones((3, 3), dtype=complex)}, r"a gain is abs\(channel\)\*\*2"),
        ({"echo_gain": np.full((3, 3), 1e-320)}, "overflow or vanish; check the units"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plain(**changes)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="method: found 'best'; must be one of policy, sca, lp, mean_std, equal"):
        solve(plain(), "best")
    with pytest.raises(ValueError, match="tolerance 0"):
        solve(plain(), "sca", tolerance=0)
    with pytest.raises(ValueError, match=r"power\[1\]: found -1"):
        sinrs(plain(), np.array([1.0, -1, 1]))


# The optimum


def test_policy_equals_linear_programs_on_a_thousand_instances():
    found = thousand()

    assert [a.status for _, a, _ in found] == [b.status for _, _, b in found]
    assert {a.status for _, a, _ in found} == {"optimal", "infeasible"}
    optimal = [(problem, a, b) for problem, a, b in found if a.status == "optimal"]
    assert sum(problem.num_nodes == 19 for problem, _, _ in optimal) > 30
    assert sum(problem.num_nodes == 5 for problem, _, _ in optimal) > 150
    assert max(abs(a.objective / b.objective - 1) for _, a, b in optimal) < 1e-8


def test_every_optimum_serves_and_is_proved_a_millionth_above():
    for problem, *found in thousand():
        for allocation in found:
            assert verify_certificate(problem, allocation.certificate)
            if allocation.status == "optimal":
                assert allocation.certificate["level"] == pytest.approx(allocation.objective * (1 + 1e-6), rel=1e-13)
                assert allocation.upper_bound == allocation.certificate["level"]
                assert serves(problem, allocation.power)
                reached = np.min(problem.weight * sinrs(problem, allocation.power)[1])
                assert allocation.objective == pytest.approx(reached, rel=1e-13)


def test_a_largest_power_is_exactly_at_its_cap():
    for problem, *found in thousand():
        for allocation in found:
            if allocation.status == "optimal":
                assert np.max(allocation.power / problem.max_power) == 1


def test_policies_fall_and_are_few():
    rounds = [len(a.history) for _, a, _ in thousand() if a.status == "optimal"]

    assert max(rounds) <= 6
    assert all(np.all(np.diff(a.history) <= 0) for _, a, _ in thousand())


@pytest.mark.parametrize("seed", range(20))
def test_optimum_is_the_least_over_all_policies(seed):
    problem = drawn(seed, 4)
    allocation = solve(problem)
    if allocation.status != "optimal":
        return
    subsets = [np.array(bits) for bits in itertools.product([False, True], repeat=4) if any(bits)]

    levels = [policy_level(problem.scaled, S)[0] for S in subsets]

    assert allocation.objective == pytest.approx(min(level for level in levels if level > 0), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_bisection_over_least_fixed_points_agrees(seed):
    for K in (3, 7):
        problem = drawn(seed, K)
        allocation = solve(problem)
        if allocation.status == "optimal":
            fallback = localization_policy._bisected(problem.scaled, ())
            assert fallback.bisected
            assert problem.scaled.level(fallback.x) == pytest.approx(allocation.objective, rel=1e-10)
            assert problem.scaled.serves(fallback.x, 1e-10)


def test_a_level_beyond_the_optimum_has_no_fixed_point_within_the_caps():
    problem = plain()
    t = solve(problem).objective

    assert least_fixed_point(problem.scaled, t * (1 + 1e-9)) is None
    assert least_fixed_point(problem.scaled, t * (1 - 1e-9)) is not None


def test_a_planted_error_turns_the_proof():
    problem = plain()
    allocation = solve(problem)
    lower = allocation.certificate | {"level": allocation.objective * (1 - 1e-6)}
    negative = allocation.certificate | {"y": (-np.array(allocation.certificate["y"])).tolist()}

    assert verify_certificate(problem, allocation.certificate)
    assert not verify_certificate(problem, lower)
    assert not verify_certificate(problem, negative)
    assert not verify_certificate(replace(problem, max_power=100 * problem.max_power), allocation.certificate)
    for broken in ({}, {"y": [1, 2]}, {"y": None}, {"y": allocation.certificate["y"]}, {"y": [1.0] * 6, "level": -1}):
        assert not verify_certificate(problem, broken)


def test_a_proof_takes_two_matrix_products():
    problem = plain()
    certificate = solve(problem).certificate
    t, y = certificate["level"], np.array(certificate["y"])
    A = (problem.echo_gain + problem.direct_gain).T
    np.fill_diagonal(A, problem.self_gain)
    C = (problem.comm_gain + problem.comm_echo_gain).T
    np.fill_diagonal(C, np.diag(problem.comm_echo_gain))
    M = np.vstack([np.diag(np.diag(problem.echo_gain)) - t * A, np.diag(np.diag(problem.comm_gain)) - 0.3 * C])
    v = np.append(t * problem.sensing_noise_var, 0.3 * problem.comm_noise_var)

    assert np.all(y >= 0)
    assert y @ v > np.maximum(M.T @ y, 0) @ problem.max_power


# The paper's approximation


def test_sca_reaches_the_optimum_and_never_falls():
    cases = [(seed, 3) for seed in range(40)] + [(seed, 5) for seed in range(15)] + [(seed, 19) for seed in range(5)]
    rounds = []
    for seed, K in cases:
        problem = drawn(seed, K)
        best = solve(problem)
        allocation = solve(problem, "sca")
        if best.status == "infeasible":
            assert allocation.status == "infeasible"
            continue
        assert allocation.status == "stationary" and allocation.note == ""
        assert best.objective * (1 - 2e-4) <= allocation.objective <= best.objective * (1 + 1e-9)
        assert np.all(np.diff(allocation.history) >= 0)
        assert allocation.objective == pytest.approx(allocation.history[-1], rel=1e-12)
        assert serves(problem, allocation.power)
        rounds.append(len(allocation.history) - 1)
    assert len(rounds) > 40 and max(rounds) <= 8


def test_sca_says_when_its_rounds_run_out():
    allocation = solve(drawn(3), "sca", tolerance=1e-12, max_rounds=1)

    assert allocation.note == "not settled after 1 rounds" and len(allocation.history) == 2


# The mean instead of the worst


@pytest.mark.parametrize("seed", range(25))
def test_another_optimiser_finds_no_smaller_mean(seed):
    problem = drawn(seed)
    allocation = solve(problem, "mean_std")
    if allocation.status == "infeasible":
        return
    assert allocation.status == "optimal" and allocation.kkt_residual <= 1e-8
    assert serves(problem, allocation.power)
    (A, b), caps = problem.rows, problem.max_power
    scale = np.where(b > 0, b, 1.0)

    def mean(power):
        return np.log(np.mean(range_stds(problem, power)))

    best = solve(problem)
    for start in (best.power, allocation.power):
        found = minimize(
            lambda z: mean(caps * np.exp(z)),
            np.log(start / caps),
            bounds=[(-40, 0)] * 3,
            constraints={"type": "ineq", "fun": lambda z: (A @ (caps * np.exp(z)) - b) / scale},
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 300},
        )
        if np.min((A @ (caps * np.exp(found.x)) - b) / scale) > -1e-9:
            assert mean(allocation.power) <= found.fun + 1e-7
    assert mean(allocation.power) <= mean(best.power) + 1e-9
    assert allocation.objective <= best.objective * (1 + 1e-9)


def test_least_mean_is_never_above_equal_powers_that_serve():
    compared = 0
    for seed in range(40):
        problem = drawn(seed, min_comm_sinr=0.01)
        if solve(problem, "equal").status == "stationary":
            means = [np.mean(range_stds(problem, solve(problem, method).power)) for method in ("mean_std", "equal")]
            assert means[0] <= means[1] * (1 + 1e-9)
            compared += 1
    assert compared > 10


# Properties


@settings(max_examples=60)
@given(seeds, st.floats(0.1, 0.9))
def test_more_demanding_users_never_improve_the_worst_range(seed, factor):
    problem = drawn(seed)
    looser = solve(replace(problem, min_comm_sinr=factor * problem.min_comm_sinr))
    strict = solve(problem)

    if strict.status == "optimal":
        assert looser.status == "optimal" and looser.objective >= strict.objective * (1 - 1e-10)


@settings(max_examples=60)
@given(seeds)
def test_optimum_is_no_worse_than_equal_powers_that_serve(seed):
    problem = drawn(seed, min_comm_sinr=0.02)
    equal, best = solve(problem, "equal"), solve(problem)

    if equal.status == "stationary":
        assert best.objective >= equal.objective * (1 - 1e-12)


@settings(max_examples=40)
@given(seeds, st.integers(-60, 60))
def test_units_do_not_matter(seed, decibels):
    problem, unit = drawn(seed), 10 ** (decibels / 10)
    gains = {
        name: unit * getattr(problem, name)
        for name in ("comm_gain", "comm_echo_gain", "echo_gain", "direct_gain", "self_gain")
    }
    noise = {name: unit * getattr(problem, name) for name in ("sensing_noise_var", "comm_noise_var")}
    best = solve(problem)
    for other in (
        solve(replace(problem, **gains, **noise)),
        solve(replace(problem, **noise, max_power=unit * problem.max_power)),
        solve(replace(problem, bandwidth_hz=unit * problem.bandwidth_hz)),
    ):
        assert other.status == best.status
        assert other.objective == pytest.approx(best.objective, rel=1e-9)


@settings(max_examples=40)
@given(seeds, st.permutations(range(5)))
def test_order_of_nodes_does_not_matter(seed, order):
    problem = drawn(seed, 5)
    order = np.array(order)
    matrices = {
        name: getattr(problem, name)[np.ix_(order, order)]
        for name in ("comm_gain", "comm_echo_gain", "echo_gain", "direct_gain")
    }
    vectors = {
        name: getattr(problem, name)[order]
        for name in ("self_gain", "sensing_noise_var", "comm_noise_var", "max_power", "min_comm_sinr", "bandwidth_hz")
    }
    best, other = solve(problem), solve(replace(problem, **matrices, **vectors))

    assert other.status == best.status
    assert other.objective == pytest.approx(best.objective, rel=1e-9)


def test_a_weight_is_a_gain():
    """Half the bandwidth asks for four times the SINR, as a quarter of the echo does."""
    problem = plain()
    narrow = replace(problem, bandwidth_hz=np.array([100e6, 50e6, 100e6]))
    weak = problem.echo_gain.copy()
    weak[1, 1] /= 4

    assert solve(narrow).objective == pytest.approx(solve(replace(problem, echo_gain=weak)).objective, rel=1e-10)


# Edge cases: a status, numbers that are finite, no exception


def check(problem, status):
    """Every method's allocation; those that optimise the worst range must agree."""
    found = {name: solve(problem, name) for name in localization.METHODS}
    for name, allocation in found.items():
        assert np.isfinite(allocation.objective) and np.all(np.isfinite(allocation.power)), name
        assert not np.any(np.isnan(range_stds(problem, allocation.power))), name
        assert Allocation.from_dict(json.loads(json.dumps(allocation.to_dict()))).status == allocation.status
    wanted = {"optimal": {"policy": "optimal", "lp": "optimal", "sca": "stationary"}}.get(
        status, dict.fromkeys(("policy", "lp", "sca", "mean_std"), status)
    )
    assert {name: found[name].status for name in wanted} == wanted
    if status == "optimal":
        assert found["lp"].objective == pytest.approx(found["policy"].objective, rel=1e-8)
        assert found["sca"].objective == pytest.approx(found["policy"].objective, rel=2e-4)
        assert verify_certificate(problem, found["policy"].certificate)
    if status == "infeasible":
        assert verify_certificate(problem, found["policy"].certificate)
        assert verify_certificate(problem, found["equal"].certificate)
        assert len(found["policy"].certificate["y"]) == problem.num_nodes
    return found["policy"]


def test_thresholds_that_nothing_reaches():
    problem = plain(max_power=10.0)
    certificate = check(replace(problem, min_comm_sinr=1e5), "infeasible").certificate

    A, b = replace(problem, min_comm_sinr=1e5).rows
    y = np.array(certificate["y"])
    assert y @ b > np.maximum(A.T @ y, 0) @ problem.max_power
    assert 0 < certificate["factor"] < 1
    for row in certificate["rows"]:
        assert row["reached"] / row["required"] == pytest.approx(certificate["factor"], rel=1e-9)


def test_the_balanced_factor_is_where_feasibility_ends():
    problem = replace(plain(), min_comm_sinr=1e5)
    factor = solve(problem).certificate["factor"]

    assert solve(replace(problem, min_comm_sinr=1e5 * factor * (1 - 1e-6))).status == "optimal"
    assert solve(replace(problem, min_comm_sinr=1e5 * factor * (1 + 1e-6))).status == "infeasible"


def test_an_own_echo_louder_than_the_direct_path_blocks_a_user():
    problem = plain()
    loud = 2 * problem.comm_gain * np.eye(3)

    check(replace(problem, comm_echo_gain=loud, min_comm_sinr=1.0), "infeasible")
    check(replace(problem, comm_echo_gain=loud, min_comm_sinr=1.0, own_echo="signal"), "optimal")


@pytest.mark.parametrize("min_comm_sinr", [0.0, 0.3])
def test_a_target_that_nobody_sees(min_comm_sinr):
    echo_gain = plain().echo_gain.copy()
    echo_gain[1, 1] = 0.0
    problem = replace(plain(), echo_gain=echo_gain, min_comm_sinr=min_comm_sinr)
    allocation = check(problem, "zero_gain")

    assert allocation.objective == allocation.upper_bound == 0.0
    assert serves(problem, allocation.power)
    assert np.max(np.abs(allocation.slack)) <= 1e-9 * np.max(problem.rows[1])  # the least powers
    assert range_stds(problem, allocation.power)[1] == np.inf
    assert solve(problem, "equal").status == "zero_gain"


def test_a_user_without_a_signal():
    comm_gain = plain().comm_gain.copy()
    comm_gain[2, 2] = 0.0

    check(replace(plain(), comm_gain=comm_gain), "infeasible")
    check(replace(plain(), comm_gain=comm_gain, min_comm_sinr=np.array([0.3, 0.3, 0.0])), "optimal")


def test_a_silent_node():
    caps = np.array([1.0, 0.0, 1.0])

    check(plain(max_power=caps), "infeasible")
    check(replace(plain(max_power=caps), min_comm_sinr=np.array([0.3, 0.0, 0.3])), "zero_gain")


@pytest.mark.parametrize("self_gain", [0.0, 1e-12, 1e-3, 1.0])
def test_nodes_that_do_not_disturb_each_other(self_gain):
    eye, none = np.eye(3), np.zeros((3, 3))
    problem = plain(self_gain=self_gain)
    apart = {"echo_gain": problem.echo_gain * eye, "comm_gain": problem.comm_gain * eye}
    problem = replace(problem, direct_gain=none, comm_echo_gain=none, **apart)
    allocation = check(problem, "optimal")

    own = np.diag(problem.echo_gain) * problem.max_power
    alone = np.min(own / (problem.self_gain * problem.max_power + problem.sensing_noise_var))
    assert allocation.objective == pytest.approx(alone, rel=1e-9)


def test_self_interference_bounds_the_optimum():
    for self_gain in (1e-6, 1e-3, np.array([0.1, 0.2, 1.0])):
        problem = plain(self_gain=self_gain)
        bound = np.min(np.diag(problem.echo_gain) / problem.self_gain)
        allocation = check(problem, "optimal")
        assert allocation.objective <= bound
        assert np.all(allocation.power > 0)
    assert allocation.objective == pytest.approx(bound, rel=1e-6)


def test_noise_that_is_next_to_nothing():
    check(replace(plain(self_gain=0.0), sensing_noise_var=1e-60, min_comm_sinr=0.0), "optimal")


def test_one_node_in_closed_form():
    one = RangeProblem(*(np.array([[gain]]) for gain in (1e-7, 1e-13, 1e-12, 0.0)), 1e-11, 1e-12, 1e-12, 40.0, 0.3)

    assert check(one, "optimal").objective == pytest.approx(40e-12 / (40e-11 + 1e-12), rel=1e-12)
    check(replace(one, min_comm_sinr=1e9), "infeasible")


@pytest.mark.parametrize("excess", [-1e-7, -1e-12, 0.0, 1e-12, 4e-10])
def test_requirements_that_only_equal_powers_meet(excess):
    problem = plain()
    exact = sinrs(problem, problem.max_power)[0] * (1 + excess)
    allocation = check(replace(problem, min_comm_sinr=exact), "optimal")

    assert serves(replace(problem, min_comm_sinr=exact), allocation.power)
    assert allocation.power == pytest.approx(problem.max_power, rel=1e-5)


def test_slightly_more_than_equal_powers_reach_is_infeasible():
    problem = plain()
    check(replace(problem, min_comm_sinr=sinrs(problem, problem.max_power)[0] * (1 + 1e-8)), "infeasible")


def test_a_user_who_needs_nothing_beside_users_who_need_much():
    problem = drawn(11, 5, min_comm_sinr=np.array([1.0, 0.0, 2.0, 0.0, 1.0]))
    if solve(problem).status == "optimal":
        check(problem, "optimal")


# What goes on


def test_an_allocation_is_kept_in_a_file(tmp_path):
    allocation = solve(plain())
    save_allocation(tmp_path / "allocation.json", allocation, ["bs1", "bs2", "bs3"])
    loaded, names = load_allocation(tmp_path / "allocation.json")

    assert names == ("bs1", "bs2", "bs3")
    assert np.array_equal(loaded.power, allocation.power)
    assert verify_certificate(plain(), loaded.certificate)


def test_the_modelling_language_is_loaded_by_sca_alone():
    code = (
        "import sys, numpy as np\nfrom testbed.allocation.localization import RangeProblem, solve\n"
        "one = np.eye(2)\nproblem = RangeProblem(one, one, one, 0 * one, 0.1, 1.0, 1.0, 1.0, 0.1)\n"
        "for method in ('policy', 'lp', 'mean_std', 'equal'):\n    solve(problem, method)\n"
        "assert 'cvxpy' not in sys.modules\nsolve(problem, 'sca')\nassert 'cvxpy' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr
