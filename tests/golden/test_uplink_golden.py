"""Uplink theory and powers on one small instance of round numbers, against 40-digit arithmetic.

Recipe: two users at three antennas, covariances as below, noise 0.5, blocks of 40 symbols with 4 pilots. mpmath inverts
Psi, forms (3), (4), (20) and (21) as they stand, takes the largest root of det(A - x B), and finds the joint optimum as
the root of the gradient over the pilot shares at full energy. All live; `LITERAL` keeps the results for other programs.
"""

import itertools
from functools import lru_cache

import numpy as np
import pytest
from mpmath import mp, mpc, mpf

from testbed.allocation.beamforming import combined_sinr, combiners, sensing_combiner
from testbed.allocation.uplink import UplinkProblem, rates, sensing_sinr, solve
from testbed.theory.uplink import UplinkStatistics, estimates
from testbed.theory.uplink_detection import mean_detection_probability
from testbed.theory.uplink_rates import bound
from testbed.theory.uplink_sensing import sensing

DIGITS = 40
DIRECT = [
    [[2.0, 0.5 + 0.25j, 0.0], [0.5 - 0.25j, 1.5, 0.25j], [0.0, -0.25j, 1.0]],
    [[0.5, -0.125j, 0.0], [0.125j, 0.75, 0.25], [0.0, 0.25, 0.625]],
]
STEERING = [1, 1j, -1]
ECHO_GAIN = [0.25, 0.125]
NOISE, T, TAU = 0.5, 40, 4
PILOT, DATA = [1.5, 0.75], [1.0, 2.0]
ENERGY = [60.0, 40.0]

LITERAL = {
    "sinr": [1.2613636977697561, 0.90266380707759106],  # at PILOT and DATA
    "sensing": 0.62823731061674689,
    "sensing, errors independent": 0.21782355225015037,
    "best pilot shares": [0.37664109693646695, 0.1813536242110593],  # of all energy, nothing asked for
    "best sum rate": 1.8819653634963764,
    "largest sensing SINR": 0.9004557938,
}


def matrix(rows):
    return mp.matrix([[mpc(v) for v in row] for row in rows])


def trace(A):
    return sum((A[i, i] for i in range(A.rows)), mpc(0)).real


def echoes():
    a = matrix([[v] for v in STEERING])
    return [gain * a * a.H for gain in ECHO_GAIN]


def exact(pilot, data, independent=False):
    """SINRs of both users and the sensing SINR."""
    R_h, R_g, sigma2 = [matrix(rows) for rows in DIRECT], echoes(), mpf(NOISE)
    R, one = [h + g for h, g in zip(R_h, R_g, strict=True)], mp.eye(3)
    theta, theta_g, C = [], [], []
    for k in range(2):
        P = TAU * mpf(pilot[k])
        inverse = (P * R[k] + sigma2 * one) ** -1
        theta.append(P * R[k] * inverse * R[k])
        theta_g.append(P * R_g[k] * inverse * R_g[k])
        separate = R[k] - P * R_h[k] * inverse * R_h[k] - theta_g[k]
        C.append(separate if independent else R[k] - theta[k])
    sinr = []
    for k in range(2):
        t = trace(theta[k])
        sinr.append(data[k] * t**2 / (sum(data[i] * trace(R[i] * theta[k]) for i in range(2)) + sigma2 * t))
    A = data[0] * theta_g[0] + data[1] * theta_g[1]
    B = data[0] * C[0] + data[1] * C[1] + sigma2 * one
    eigenvalues = mp.eig(B**-1 * A, left=False, right=False)
    return sinr, max(mp.re(v) for v in eigenvalues)


def powers(r, e=(1, 1)):
    pilot = [mpf(r[k]) * e[k] * mpf(ENERGY[k]) / TAU for k in range(2)]
    return pilot, [(1 - mpf(r[k])) * e[k] * mpf(ENERGY[k]) / (T - TAU) for k in range(2)]


def exact_rate(r, e=(1, 1)):
    sinr, _ = exact(*powers(r, e))
    return sum(mp.log(1 + x, 2) for x in sinr) * (T - TAU) / T


def statistics():
    return UplinkStatistics(np.array(DIRECT), numpy_echoes(), NOISE, TAU)


def numpy_echoes():
    a = np.array(STEERING)
    return np.array(ECHO_GAIN)[:, None, None] * np.outer(a, a.conj())


def problem(min_rate=0.0, min_sensing=0.0):
    return UplinkProblem(np.array(DIRECT), numpy_echoes(), NOISE, T, TAU, np.array(ENERGY), min_rate, min_sensing)


@lru_cache(maxsize=1)
def exact_optimum():
    with mp.workdps(DIGITS):

        def slope(*r):
            h = mpf(10) ** -12
            return [
                (exact_rate([v + h * (j == k) for j, v in enumerate(r)])
                 - exact_rate([v - h * (j == k) for j, v in enumerate(r)])) / (2 * h)
                for k in range(2)
            ]  # fmt: skip

        r = mp.findroot(slope, (mpf("0.25"), mpf("0.25")), tol=mpf(10) ** -18)
        return list(r), exact_rate(r)


def test_bound_and_sensing_sinr():
    with mp.workdps(DIGITS):
        sinr, best = exact(PILOT, DATA)
        _, separate = exact(PILOT, DATA, independent=True)
    pp, pd = np.array(PILOT), np.array(DATA)

    assert bound(statistics(), pp, pd).sinr == pytest.approx([float(v) for v in sinr], rel=1e-13)
    assert sensing(statistics(), pp, pd).sinr == pytest.approx(float(best), rel=1e-13)
    assert sensing(statistics(), pp, pd, "independent").sinr == pytest.approx(float(separate), rel=1e-13)
    assert [float(v) for v in sinr] == pytest.approx(LITERAL["sinr"], rel=1e-8)
    assert float(best) == pytest.approx(LITERAL["sensing"], rel=1e-8)
    assert float(separate) == pytest.approx(LITERAL["sensing, errors independent"], rel=1e-8)


def test_sinr_of_the_first_user_by_hand():
    # K = 1, M = 1, R = 1, pilots of energy 1: Theta = 1/2, gamma = p / 4 / (p / 2 + 1/2)
    s = UplinkStatistics(np.ones((1, 1, 1)), np.zeros((1, 1, 1)), 1.0, 1)

    assert bound(s, np.array([1.0]), np.array([3.0])).sinr == pytest.approx([0.375], rel=1e-15)
    assert estimates(s, np.array([1.0])).effective_error[0] == pytest.approx(0.5, rel=1e-15)


@pytest.mark.parametrize("method", ["joint", "split"])
def test_optimum_without_requirements(method):
    r, value = exact_optimum()
    with mp.workdps(DIGITS):  # at full energy: less of it for either user lowers the sum rate
        less = [exact_rate(r, e) for e in ((1 - 1e-6, 1), (1, 1 - 1e-6))]
    found = solve(problem(), method)

    assert all(v < value for v in less)
    assert [float(v) for v in r] == pytest.approx(LITERAL["best pilot shares"], rel=1e-8)
    assert float(value) == pytest.approx(LITERAL["best sum rate"], rel=1e-8)
    assert found.objective == pytest.approx(float(value), rel=1e-10)
    assert found.pilot_power * TAU / ENERGY == pytest.approx([float(v) for v in r], abs=1e-4)


def test_equal_powers_and_ao():
    with mp.workdps(DIGITS):
        equal = exact_rate([mpf(TAU) / T] * 2)
    found, frozen = solve(problem(), "equal"), solve(problem(), "ao")

    assert found.objective == pytest.approx(float(equal), rel=1e-13)
    assert float(equal) < frozen.objective + 1e-12
    assert frozen.objective < float(exact_optimum()[1]) - 1e-3


def test_requirement_that_binds():
    """The sensing SINR 10 % above that of the optimum: on the constraint, with one multiplier for both shares."""
    r, value = exact_optimum()
    with mp.workdps(DIGITS):
        now = exact(*powers(r))[1]
    found = solve(problem(min_sensing=1.1 * float(now)))
    z = problem().coordinates(found.pilot_power, found.data_power)
    with mp.workdps(DIGITS):
        pp, pd = ([mpf(float(v)) for v in p] for p in (found.pilot_power, found.data_power))
        reached = exact(pp, pd)[1]
        h, ratios = mpf(10) ** -10, []
        for k in range(2):
            moved = [[mpf(float(v)) + s * h * (j == k) for j, v in enumerate(z[2:])] for s in (1, -1)]
            by_rate = exact_rate(moved[0]) - exact_rate(moved[1])
            by_sensing = exact(*powers(moved[0]))[1] - exact(*powers(moved[1]))[1]
            ratios.append(by_rate / by_sensing)

    assert z[:2] == pytest.approx([1, 1], abs=1e-9)
    assert float(reached / now) == pytest.approx(1.1, rel=1e-8)
    assert float(ratios[0]) < 0 and float(ratios[0]) == pytest.approx(float(ratios[1]), rel=1e-3)
    assert found.objective < float(value)


def test_infeasible_requirement():
    """The most the target can have, on a grid of 1/64 around the solver's point and nowhere above it."""
    found = solve(problem(min_sensing=9.0))
    most = found.certificate["largest_sensing_sinr"]
    with mp.workdps(15):
        shares = [mpf(n) / 64 for n in range(2, 63, 4)]
        best = max(exact(*powers(r))[1] for r in itertools.product(shares, shares))

    assert found.status == "infeasible"
    assert float(best) <= most <= float(best) * 1.01
    assert most == pytest.approx(LITERAL["largest sensing SINR"], rel=1e-8)
    assert solve(problem(min_sensing=0.999 * most)).status == "stationary"


def test_public_functions_agree():
    pp, pd = np.array(PILOT), np.array(DATA)
    here = problem()

    assert sensing_sinr(here, pp, pd) == sensing(here.statistics, pp, pd).sinr
    assert rates(here, pp, pd) == pytest.approx(0.9 * np.log2(1 + bound(here.statistics, pp, pd).sinr), rel=1e-14)


def test_mean_probability_of_detection():
    # density of two exponentials of means 2 and 5 by partial fractions, threshold for 1e-3, by quadrature
    with mp.workdps(30):
        a, b = mpf(2), mpf(5)
        quantile = mp.sqrt(2) * mp.erfinv(1 - 2 * mpf("1e-3"))

        def integrand(u):
            x = u**2
            density = (mp.exp(-x / b) - mp.exp(-x / a)) / (b - a)
            return 2 * u * density * mp.erfc((quantile - mp.sqrt(2 * x)) / mp.sqrt(2)) / 2

        value = mp.quad(integrand, [0, 0.5, 1, 2, 3, 5, 8, 14, 20])

    assert mean_detection_probability([2.0, 5.0], 1e-3) == pytest.approx(float(value), abs=1e-13)
    assert float(value) == pytest.approx(0.5756875330530, abs=1e-12)


def test_combiners():
    U = np.array([[1 + 1j, 0.5], [0.25j, 2.0], [-1.0, 1 - 0.5j]])
    Z = np.array(DIRECT[1]) + 0.5 * np.eye(3)
    with mp.workdps(DIGITS):
        columns = [matrix(U[:, [k]].tolist()) for k in range(2)]
        found = []
        for k in range(2):
            Q = matrix(Z.tolist()) + DATA[1 - k] * columns[1 - k] * columns[1 - k].H
            found.append((DATA[k] * columns[k].H * Q**-1 * columns[k])[0].real)
        A = DATA[0] * columns[0] * columns[0].H + DATA[1] * columns[1] * columns[1].H
        target = max(mp.re(v) for v in mp.eig(matrix(Z.tolist()) ** -1 * A, left=False, right=False))
    p = np.array(DATA)

    assert combined_sinr(U, Z, p, combiners(U, Z, p)) == pytest.approx([float(v) for v in found], rel=1e-13)
    assert combined_sinr(U, Z, p, combiners(U, Z, p, "sca")) == pytest.approx([float(v) for v in found], rel=1e-7)
    assert sensing_combiner(U, Z, p)[1] == pytest.approx(float(target), rel=1e-13)
