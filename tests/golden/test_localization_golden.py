"""Powers for device-free localisation on one rounded drop of the specification's scene, against 50-digit arithmetic.

Recipe: three base stations 200 m apart, 46 dBm, gains in units of 1e-10 as below, noise 10^-8.9 and 10^-8.5 mW. Every
choice of an active row per station (its own sensing row, or its user's) and of the station at its cap makes one
eigenvalue problem; the optimum is the least level of all. mpmath solves them here, live, without a tolerance.
"""

import itertools

import numpy as np
import pytest
from mpmath import mp, mpf

from testbed.allocation import localization
from testbed.allocation.localization import RangeProblem, range_stds, serves, solve, verify_certificate

UNIT = 1e-10
COMM = np.array([[62.1, 4.05, 2.71], [3.32, 18.4, 6.17], [1.93, 5.46, 91.7]])  # [transmitter, receiver]
COMM_ECHO = np.array([[2.2e-3, 9.1e-4, 5.2e-4], [7.9e-4, 1.4e-3, 1.1e-3], [3.0e-4, 6.6e-4, 4.7e-3]])
ECHO = np.array([[3.9e-4, 1.6e-4, 8.7e-5], [1.6e-4, 6.6e-5, 3.6e-5], [8.7e-5, 3.6e-5, 2.0e-5]])
DIRECT = np.array([[0, 0.91, 0.55], [0.91, 0, 1.02], [0.55, 1.02, 0]])
CAP = 39.810717  # W


def drop(min_comm_sinr_db=-5.0, self_gain_db=-110.0, **more):
    return RangeProblem(
        UNIT * COMM, UNIT * COMM_ECHO, UNIT * ECHO, UNIT * DIRECT, 10 ** (self_gain_db / 10), 10**-11.9, 10**-11.5,
        CAP, 10 ** (min_comm_sinr_db / 10), **more,
    )  # fmt: skip


def exact_level(problem):
    """Least over S and caps i of 1 / rho(A' + n' a_i / (P_i - d_i)), after eliminating the users' rows outside S."""
    K = problem.num_nodes
    P, gth = (
        [mpf(float(value)) for value in np.broadcast_to(field, K)]
        for field in (problem.max_power, problem.min_comm_sinr)
    )
    (s, A), (c, C) = problem.sensing_rows, problem.comm_rows
    A, C = mp.matrix(A.tolist()), mp.matrix(C.tolist())
    n_s, n_c = (
        [mpf(float(v)) for v in np.broadcast_to(field, K)]
        for field in (problem.sensing_noise_var, problem.comm_noise_var)
    )
    s, c = [mpf(float(v)) for v in s], [mpf(float(v)) for v in c]
    levels = []
    for size in range(1, K + 1):
        for S in itertools.combinations(range(K), size):
            N = [k for k in range(K) if k not in S]
            # p_N = Q p_S + r
            Q, r = mp.zeros(K, size), mp.zeros(K, 1)
            for a, k in enumerate(S):
                Q[k, a] = 1
            if N:
                left = mp.matrix(len(N), len(N))
                right = mp.matrix(len(N), size + 1)
                for i, k in enumerate(N):
                    for j, m in enumerate(N):
                        left[i, j] = (c[k] if i == j else 0) - gth[k] * C[k, m]
                    for a, m in enumerate(S):
                        right[i, a] = gth[k] * C[k, m]
                    right[i, size] = gth[k] * n_c[k]
                solved = left**-1 * right
                for i, k in enumerate(N):
                    for a in range(size):
                        Q[k, a] = solved[i, a]
                    r[k] = solved[i, size]
            if any(r[k] >= P[k] for k in range(K)):
                continue
            rows = mp.matrix([[A[k, j] / s[k] for j in range(K)] for k in S])
            reduced, noise = rows * Q, rows * r + mp.matrix([n_s[k] / s[k] for k in S])
            for i in range(K):
                if any(Q[i, a] > 0 for a in range(size)):
                    B = reduced + noise * Q[i, :] / (P[i] - r[i])
                    values = [B[0, 0]] if size == 1 else mp.eig(B, left=False, right=False)
                    levels.append(1 / max(mp.re(value) for value in values))
    return min(levels)


@pytest.mark.parametrize("min_comm_sinr_db", [-20, -5, 0, 3])
@pytest.mark.parametrize("self_gain_db", [-140, -110, -80])
def test_optimum_in_fifty_digits(min_comm_sinr_db, self_gain_db):
    problem = drop(min_comm_sinr_db, self_gain_db)
    with mp.workdps(50):
        exact = exact_level(problem)

    for method in ("policy", "lp"):
        assert solve(problem, method).objective == pytest.approx(float(exact), rel=1e-10)
    assert solve(problem, "sca").objective == pytest.approx(float(exact), rel=2e-4)


@pytest.mark.parametrize("own_echo", ["signal", "ignore"])
def test_unequal_bandwidths_in_fifty_digits(own_echo):
    problem = drop(0.0, bandwidth_hz=np.array([100e6, 40e6, 60e6]), own_echo=own_echo)
    with mp.workdps(50):
        exact = exact_level(problem)

    assert solve(problem).objective == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize(
    ("min_comm_sinr_db", "optimum", "power_w"),
    [
        (-5.0, 2.98213555555235e-05, [3.1311044816, 20.571261764, 39.810717]),  # no user's row is active
        (3.0, 2.39324652407407e-05, [5.2316689206, 25.879166359, 39.810717]),  # the first user's is
    ],
)
def test_optimum_and_powers_of_the_drop(min_comm_sinr_db, optimum, power_w):
    """Printed by the recipe above."""
    problem = drop(min_comm_sinr_db)
    for method in ("policy", "lp"):
        allocation = solve(problem, method)
        assert allocation.objective == pytest.approx(optimum, rel=1e-11)
        assert allocation.power == pytest.approx(power_w, rel=1e-8)
    worst = 299792458 / 2e8 / np.sqrt(2 * optimum)
    assert np.max(range_stds(problem, allocation.power)) == pytest.approx(worst, rel=1e-9)


def test_without_users_two_nodes_are_a_quadratic():
    """t = s p / (D q + beta p + n) at both, one at its cap: 1 / t is the larger root of two quadratics."""
    s, D, beta, n, P = np.array([2.0, 0.5]), np.array([0.7, 1.1]), np.array([0.1, 0.3]), 0.4, np.array([1.0, 3.0])
    eye = np.eye(2)
    problem = RangeProblem(
        eye, 0 * eye, np.diag(s), np.array([[0, D[1]], [D[0], 0]]), beta, n, 1.0, P, 0.0
    )  # node 0 hears D[0]
    roots = []
    for i in range(2):
        B = np.array([[beta[0], D[0]], [D[1], beta[1]]]) / s[:, None]
        B[:, i] += n / s / P[i]
        mean, det = (B[0, 0] + B[1, 1]) / 2, B[0, 0] * B[1, 1] - B[0, 1] * B[1, 0]
        roots.append(mean + np.sqrt(mean**2 - det))

    assert solve(problem).objective == pytest.approx(1 / max(roots), rel=1e-13)


def test_infeasible_instance():
    """No power gives all users of the drop 9 dB: the largest common multiple is an eigenvalue of their own rows."""
    problem = drop(9.0)
    allocation = solve(problem)
    c, C = problem.comm_rows
    with mp.workdps(50):
        radii = []
        for i in range(3):
            B = mp.matrix((C / c[:, None]).tolist())
            for k in range(3):
                B[k, i] += mpf(float(problem.comm_noise_var[k])) / mpf(float(c[k])) / mpf(float(problem.max_power[i]))
            radii.append(max(mp.re(value) for value in mp.eig(B, left=False, right=False)))
        factor = 1 / max(radii) / mpf(float(problem.min_comm_sinr[0]))

    assert allocation.status == "infeasible" and not serves(problem, allocation.power)
    assert allocation.certificate["factor"] == pytest.approx(float(factor), rel=1e-10)
    assert allocation.certificate["factor"] < 1
    assert verify_certificate(problem, allocation.certificate)
    assert localization.sinrs(problem, allocation.power)[0] == pytest.approx(
        allocation.certificate["factor"] * problem.min_comm_sinr, rel=1e-9
    )
