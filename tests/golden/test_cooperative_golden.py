"""Cooperative theory on instances of round numbers, against arithmetic that shares nothing with it.

Recipe: Fisher information is (5) term by term in 40 digits. Loads are summed over Poisson probabilities in 40 digits.
H1 and H2 are quadratures of their definitions in 20 digits. At alpha = 4 and K = 1, 3 both are elementary, with
x = t^2 cot^2: int 1 - 1 / (1 + x / t^2) dt = sqrt(x) atan(t / sqrt(x)), and for K = 3 sqrt(x) (15 phi / 8 -
sin 2 phi / 2 + sin 4 phi / 32), phi = atan(t / sqrt(x)); with these the rates are nested adaptive quadratures in z and
v. All live, and the rates' `LITERAL` from `nested(..., tolerance=1e-11)`, which leaves out 2e-11 at s > 50.
"""

import math

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy import integrate

from testbed.theory.cooperative import (
    acceptance,
    comm_acceptance,
    crlb,
    crlb_by_link_pairs,
    fim,
    mean_count,
    mean_crlb,
    mean_rate,
    ring_exponent,
)
from testbed.theory.cooperative import field_exponent as outer_exponent

NODES = [(3, 1), (-1, 2), (0, -4), (2, 2), (-5, 1)]
TARGET = ("0.5", "-0.25")

# cluster size, power share, acceptance -> theorem2, joint, exact, at M_t = 4, alpha = 4
LITERAL = {
    (2, 0.3, 1.0): (2.3323065572453, 2.2166915260541, 2.2165366419036),
    (5, 0.5, 0.7): (2.8551613424788, 2.9041126961379, 2.9425052473030),
    (12, 1.0, 0.967): (4.9806655160647, 4.9926573034036, 5.0017350692155),
}


def information(beta, own_echo=True):
    with mp.workdps(40):
        offsets = [(mpf(x) - mpf(TARGET[0]), mpf(y) - mpf(TARGET[1])) for x, y in NODES]
        d = [mp.sqrt(x * x + y * y) for x, y in offsets]
        u = [(x / r, y / r) for (x, y), r in zip(offsets, d, strict=True)]
        F = mp.zeros(2)
        for i in range(len(d)):
            for j in range(len(d)):
                if i != j or own_echo:
                    g = [u[i][k] + u[j][k] for k in range(2)]
                    for a in range(2):
                        for b in range(2):
                            F[a, b] += (d[i] * d[j]) ** -mpf(beta) * g[a] * g[b]
        return F


@pytest.mark.parametrize("own_echo", [True, False])
@pytest.mark.parametrize("beta", [2, 3])
def test_information_and_bound(beta, own_echo):
    with mp.workdps(40):
        F = information(beta, own_echo)
        bound = (F**-1)[0, 0] + (F**-1)[1, 1]
        expected = np.array([[float(F[a, b]) for b in range(2)] for a in range(2)])
    target = [float(x) for x in TARGET]

    assert fim(NODES, target, beta, 2.0, own_echo=own_echo) == pytest.approx(2 * expected, rel=1e-13)
    assert crlb(NODES, target, beta, 2.0, own_echo=own_echo) == pytest.approx(float(bound) / 2, rel=1e-12)
    if own_echo:
        assert crlb_by_link_pairs(NODES, target, beta, 2.0) == pytest.approx(float(bound) / 2, rel=1e-12)


def test_approximations():
    with mp.workdps(30):
        mean = [mp.gamma(k + mpf(1) / 2) / (mp.sqrt(mp.pi) * mp.gamma(k)) for k in range(1, 13)]
        by_distance = 2 / sum(d**-2 for d in mean) ** 2
        by_square = 2 / (mp.pi**2 * mp.harmonic(12) ** 2)
        count = (mp.gamma(mpf(31) / 2) / mp.gamma(15)) ** 2

    assert mean_crlb(12) == pytest.approx(float(by_distance), rel=1e-12)
    assert mean_crlb(12, form="mean_square") == pytest.approx(float(by_square), rel=1e-12)
    assert mean_count(15) == pytest.approx(float(count), rel=1e-12)


@pytest.mark.parametrize(("num", "load", "psi"), [(15, 1, 15), (6, "0.5", 3), (20, 2, 10)])
def test_acceptance(num, load, psi):
    with mp.workdps(40):
        mu = mpf(load)

        def chances(x):
            return [mp.exp(-x) * x**n / mp.factorial(n) for n in range(int(x) + 150)]

        x = mu * (mp.gamma(num + mpf(1) / 2) / mp.gamma(num)) ** 2
        P = chances(x)
        request = sum(min(n, psi) * p for n, p in enumerate(P)) / x
        station = sum(p if n <= psi else psi * p / n for n, p in enumerate(P))
        printed = station - P[psi]
        users = sum(p if n <= psi - 1 else (psi - 1) * p / (n - 1) for n, p in enumerate(P))
        m = mu * (num - 1)
        user_request = sum(min(n, psi - 1) * p for n, p in enumerate(chances(m))) / m

    for view, value in (("request", request), ("station", station), ("printed", printed)):
        assert acceptance(num, float(mu), psi, view=view) == pytest.approx(float(value), rel=1e-12)
    assert comm_acceptance(num, float(mu), psi, view="printed") == pytest.approx(float(users), rel=1e-12)
    assert comm_acceptance(num, float(mu), psi) == pytest.approx(float(user_request), rel=1e-12)


@pytest.mark.parametrize("alpha", ["2.5", "4", "5.5"])
@pytest.mark.parametrize(("x", "eta", "K"), [("0.63", "0.5", 3), ("40", "0.2", 1), ("0.01", "0.9", 5)])
def test_ring_and_field(x, eta, K, alpha):
    with mp.workdps(20):
        x, eta, alpha = mpf(x), mpf(eta), mpf(alpha)
        edge = eta**-2
        inside = mp.quad(lambda t: 1 - (1 + x * t ** (-alpha / 2)) ** -K, mp.linspace(1, edge, 5))
        # tail: t = edge / u^(2 / (alpha - 2)) makes the integrand bounded
        power = 2 / (alpha - 2)

        def tail(u):
            t = edge * u**-power
            y = x * t ** (-alpha / 2)
            return y / (1 + y) * edge * power * u ** (-power - 1)

        outside = mp.quad(tail, [mpf(10) ** -30, mpf("0.01"), mpf("0.1"), mpf("0.3"), 1])

    assert ring_exponent(float(x), float(eta), K, float(alpha)) == pytest.approx(float(inside), rel=1e-10)
    assert outer_exponent(float(x), float(eta), float(alpha)) == pytest.approx(float(outside), rel=1e-8)


# Rates at M_t = 4 and alpha = 4


def primitive(K, t, x):
    phi = math.atan2(t, math.sqrt(x))
    shape = phi if K == 1 else 15 * phi / 8 - math.sin(2 * phi) / 2 + math.sin(4 * phi) / 32
    return math.sqrt(x) * shape


def integrand(z, v, one_minus_v, L, share, kappa, form):
    """Of dz / z and dv."""
    inside = primitive(1, 1 / v, z) - primitive(1, 1, z)
    outside = math.sqrt(z) * math.pi / 2 - primitive(1, 1 / v, z)
    served = primitive(3, 1 / v, z * share) - primitive(3, 1, z * share)
    nearest = (1 + share * z) ** -3
    weight = (L - 1) * one_minus_v ** (L - 2)
    A, D = (1 - kappa) * inside + outside, kappa * served
    if form == "theorem2":
        return weight * (1 / (1 + A) - nearest / (1 + A + D))
    if form == "joint":
        return weight * ((1 + v * A) ** -L - nearest * (1 + v * (A + D)) ** -L)
    size = one_minus_v / v
    m_i, m_u = inside / size, served / size
    e_i, e_u = 1 - 1 / (1 + z * v**2), 1 - (1 + share * z * v**2) ** -3
    alone = (1 - (1 - kappa) * m_i) ** (L - 2) * (1 - (1 - kappa) * e_i)
    both = (1 - kappa * m_u - (1 - kappa) * m_i) ** (L - 2) * (1 - kappa * e_u - (1 - kappa) * e_i)
    return weight * (1 + v * outside) ** -L * (alone - nearest * both)


def nested(L, share, kappa, form, tolerance=1e-9):
    """Adaptive quadrature in s = ln z of adaptive quadrature in w, v = 1 / (1 + e^-w)."""

    def over_v(s):
        def at(w):
            v, rest = 1 / (1 + math.exp(-w)), 1 / (1 + math.exp(w))
            return integrand(math.exp(s), v, rest, L, share, kappa, form) * v * rest

        # where 1 - v is below 1e-11 the ring's mean is lost in rounding, and has no weight
        return integrate.quad(at, -45.0, 25.0, epsabs=tolerance / 100, epsrel=tolerance, limit=200)[0]

    return integrate.quad(over_v, -25.0, 50.0, epsabs=tolerance, epsrel=tolerance, limit=200)[0]


@pytest.mark.parametrize("form", ["theorem2", "joint", "exact"])
def test_rate_by_nested_quadrature(form):
    assert mean_rate(5, 0.5, acceptance=0.7, form=form) == pytest.approx(nested(5, 0.5, 0.7, form), rel=1e-7)


@pytest.mark.parametrize("case", list(LITERAL))
def test_rates_of_eleven_digits(case):
    L, share, kappa = case
    for form, value in zip(("theorem2", "joint", "exact"), LITERAL[case], strict=True):
        assert mean_rate(L, share, acceptance=kappa, form=form) == pytest.approx(value, rel=1e-10)


def test_rate_of_the_nearest_alone():
    with mp.workdps(20):
        share = mpf("0.5")

        def at(s):
            z = mp.exp(s)
            return (1 - (1 + share * z) ** -3) / (1 + mp.sqrt(z) * mp.atan(mp.sqrt(z)))

        value = mp.quad(at, mp.linspace(-50, 100, 16))

    assert mean_rate(1, 0.5) == pytest.approx(float(value), rel=1e-11)
    assert float(value) == pytest.approx(1.8943307928046, rel=1e-12)
