"""Ranging theory against mpmath and against the table that stood in the specification before this was written.

Recipes: the outlier probability is an alternating sum of L terms, exact with 0.31 L digits more than are wanted, or,
for many bins, mpmath's quadrature; the Ziv-Zakai bound's error probability is a series of positive Bessel terms.
"""

import numpy as np
import pytest
from mpmath import mp, mpf

from testbed.theory import ranging
from testbed.units import SPEED_OF_LIGHT_MPS, undb

NUM, SYMBOLS, SPACING_HZ, MAX_RANGE_M, RANGE_M = 256, 14, 60e3, 500.0, 123.0


def mp_outliers(energy, num_bins):
    """1 - sum_n (-1)^n C(L-1, n) exp(-E n / (n+1)) / (n+1)."""
    with mp.workdps(50 + int(0.31 * num_bins)):
        E = mpf(energy)
        terms = ((-1) ** n * mp.binomial(num_bins - 1, n) * mp.exp(-E * n / (n + 1)) / (n + 1) for n in range(num_bins))
        return float(1 - mp.fsum(terms))


def mp_outliers_by_quadrature(energy, num_bins):
    """The integral over the amplitude, for numbers of bins that the sum cannot do."""
    with mp.workdps(30):
        a = mp.sqrt(mpf(energy))

        def integrand(r):
            rice = 2 * r * mp.exp(-((r - a) ** 2)) * mp.besseli(0, 2 * r * a) * mp.exp(-2 * r * a)
            return rice * -mp.expm1((num_bins - 1) * mp.log1p(-mp.exp(-(r**2))))

        top = a + mp.sqrt(mp.log(num_bins)) + 9
        return float(mp.quad(integrand, mp.linspace(mpf("1e-12"), top, 40)))


def mp_ziv_zakai(energy, num, spacing_hz, max_delay_s):
    """int_0^T h (1 - h/T) Pe dh, Pe = exp(-(a^2 + b^2)/2) (I0(ab)/2 + sum_k (a/b)^k Ik(ab))."""
    with mp.workdps(20):
        E, T = mpf(energy), mpf(max_delay_s)

        def integrand(h):
            rho = mp.sin(mp.pi * num * spacing_hz * h) / (num * mp.sin(mp.pi * spacing_hz * h)) if h else mpf(1)
            s = mp.sqrt(1 - rho**2)
            a2, b2 = E / 2 * (1 - s), E / 2 * (1 + s)
            ab = mp.sqrt(a2 * b2)
            series = mp.nsum(lambda k: (a2 / b2) ** (k / 2) * mp.besseli(k, ab), [1, mp.inf])
            return h * (1 - h / T) * mp.exp(-(a2 + b2) / 2) * (mp.besseli(0, ab) / 2 + series)

        lobe = 1 / (mpf(num) * spacing_hz)
        inner = [0, lobe / 40, lobe / 10, lobe / 3, lobe]
        outer = [lobe * k / 2 for k in range(3, int(2 * T / lobe))]
        return float(mp.sqrt(mp.quad(integrand, [*inner, *outer, T])))


# The paper's rule and the bound


def test_range_std_of_the_paper():
    assert ranging.range_std(0.5, 10e6) == pytest.approx(14.9896229, rel=1e-12)  # c / 2B is 15 m at 10 MHz
    assert ranging.range_std(np.array([0.0, 2.0]), np.array([1e8, 5e7])) == pytest.approx([np.inf, 1.49896229])
    with pytest.raises(ValueError, match="sinr -1"):
        ranging.range_std(-1.0, 1e8)
    with pytest.raises(ValueError, match="bandwidth_hz 0"):
        ranging.range_std(1.0, 0.0)


def test_rms_bandwidth_is_a_standard_deviation():
    f = SPACING_HZ * np.arange(NUM)
    with mp.workdps(30):
        mean = mpf(NUM - 1) / 2
        exact = 2 * mp.pi * SPACING_HZ * mp.sqrt(mp.fsum((n - mean) ** 2 for n in range(NUM)) / NUM)

    assert ranging.flat_rms_bandwidth(NUM, SPACING_HZ) == pytest.approx(float(exact), rel=1e-14)
    assert ranging.rms_bandwidth(f + 3.5e9) == pytest.approx(float(exact), rel=1e-9)
    assert ranging.rms_bandwidth([0, 1, 5], [1, 1, 0]) == pytest.approx(np.pi)
    for wrong in (([], None), ([1, 2], [1]), ([1, 2], [0, 0])):
        with pytest.raises(ValueError, match=r"must be|at least 0"):
            ranging.rms_bandwidth(*wrong)


def test_delay_bound_is_the_inverse_of_the_fisher_information():
    """Real parameters (Re a, Im a, tau) of a exp(-j 2 pi f tau): J = 2 / sigma2 Re(D^H D), by differentiation."""
    N, M, df, sinr = 24, 3, 15e3, 0.7
    n = df * np.arange(N)
    columns = np.sqrt(sinr) * np.stack([np.ones(N), 1j * np.ones(N), -2j * np.pi * n], axis=1)
    information = 2 * M * np.real(columns.conj().T @ columns)

    exact = np.sqrt(np.linalg.inv(information)[2, 2])
    assert ranging.delay_crlb(sinr, N, M, df) == pytest.approx(exact, rel=1e-9)
    assert ranging.delay_crlb(np.array([0.0, sinr]), N, M, df) == pytest.approx([np.inf, exact], rel=1e-9)
    assert ranging.delay_crlb(sinr, 1, M, df) == np.inf


def test_currys_rule_lies_above_the_bound():
    N, M, df, sinr = 256, 14, 60e3, 0.01
    bound = SPEED_OF_LIGHT_MPS / 2 * ranging.delay_crlb(sinr, N, M, df)

    assert ranging.curry_ratio(10**6) == pytest.approx(np.pi / np.sqrt(3), rel=1e-11)
    assert ranging.curry_ratio(N, N * M) == pytest.approx(108.585, abs=5e-4)
    assert ranging.range_std(sinr, N * df) / bound == pytest.approx(ranging.curry_ratio(N, N * M), rel=1e-12)
    assert ranging.range_std(N * M * sinr, N * df) / bound == pytest.approx(ranging.curry_ratio(N), rel=1e-12)


# Outliers


@pytest.mark.parametrize("num_bins", [2, 5, 51, 400])
@pytest.mark.parametrize("energy", [0.0, 0.1, 1.0, 4.0, 10.0, 30.0, 100.0, 400.0])
def test_outlier_probability_in_fifty_digits(energy, num_bins):
    assert ranging.outlier_probability(energy, num_bins) == pytest.approx(mp_outliers(energy, num_bins), rel=1e-12)


@pytest.mark.parametrize("energy", [1.0, 15.0, 60.0])
@pytest.mark.parametrize("num_bins", [10**6, 10**12])
def test_outlier_probability_of_very_many_bins(energy, num_bins):
    exact = mp_outliers_by_quadrature(energy, num_bins)

    assert ranging.outlier_probability(energy, num_bins) == pytest.approx(exact, rel=1e-11)


def test_outlier_probability_between_its_limits():
    assert ranging.outlier_probability(3.0, 1) == 0.0
    assert ranging.outlier_probability(0.0, 1000) == pytest.approx(0.999, rel=1e-14)
    E = np.array([20.0, 60.0, 200.0])
    found = ranging.outlier_probability(E, 51)
    assert found.shape == (3,) and np.all(found <= 25 * np.exp(-E / 2))
    assert found[2] == pytest.approx(25 * np.exp(-100), rel=0.05)  # the union bound is tight
    assert ranging.outlier_probability(1e6, 51) == 0.0
    assert ranging.num_range_bins(NUM * SPACING_HZ, MAX_RANGE_M) == 51
    with pytest.raises(ValueError, match="num_bins 0"):
        ranging.outlier_probability(1.0, 0)


# Threshold region


@pytest.mark.parametrize(
    ("energy_db", "outliers", "bound_m", "interval_m", "ziv_zakai_m"),
    [
        (6, 0.49, 1.91, 134, 53),
        (10, 0.066, 1.20, 49, 11.9),
        (12, 0.006, 0.956, 14.6, 2.9),
        (15, 0, 0.676, 0.759, 0.694),
        (20, 0, 0.380, 0.380, 0.383),
        (30, 0, 0.120, 0.120, 0.120),
        (50, 0, 0.0120, 0.0120, 0.0120),
    ],
)
def test_table_of_the_specification(energy_db, outliers, bound_m, interval_m, ziv_zakai_m):
    E = undb(float(energy_db))
    bound = SPEED_OF_LIGHT_MPS / 2 * ranging.delay_crlb(E / (NUM * SYMBOLS), NUM, SYMBOLS, SPACING_HZ)
    Po = ranging.outlier_probability(E, 51)
    T = 2 * MAX_RANGE_M / SPEED_OF_LIGHT_MPS

    assert Po == pytest.approx(outliers, abs=0.005)
    assert bound == pytest.approx(bound_m, rel=5e-3)
    mse = ranging.interval_error_mse(bound, Po, RANGE_M, MAX_RANGE_M)
    assert np.sqrt(mse) == pytest.approx(interval_m, rel=1e-2)
    found = SPEED_OF_LIGHT_MPS / 2 * ranging.ziv_zakai_delay_std(E, NUM, SPACING_HZ, T)
    assert found == pytest.approx(ziv_zakai_m, rel=1.2e-2)


@pytest.mark.parametrize("energy", [2.0, 12.0])
def test_ziv_zakai_bound_against_mpmath(energy):
    T = 4 / (8 * 15e3)

    found = ranging.ziv_zakai_delay_std(energy, 8, 15e3, T)

    assert found == pytest.approx(mp_ziv_zakai(energy, 8, 15e3, T), rel=1e-9)


def test_ziv_zakai_bound_between_its_limits():
    T = 2 * MAX_RANGE_M / SPEED_OF_LIGHT_MPS
    E = np.array([0.0, 1e8])
    bound = ranging.delay_std(E[1], ranging.flat_rms_bandwidth(NUM, SPACING_HZ))

    found = ranging.ziv_zakai_delay_std(E, NUM, SPACING_HZ, T)

    assert found == pytest.approx([T / np.sqrt(12), bound], rel=2e-6)
    with pytest.raises(ValueError, match="max_delay_s 1 "):
        ranging.ziv_zakai_delay_std(1.0, NUM, SPACING_HZ, 1.0)


def test_interval_errors_between_bound_and_prior():
    assert ranging.interval_error_mse(2.0, 0.0, 10.0, 100.0) == 4.0
    assert ranging.interval_error_mse(np.inf, 1.0, 50.0, 100.0) == pytest.approx(100**2 / 12)
    with pytest.raises(ValueError, match=r"range_m in 0\.\.100"):
        ranging.interval_error_mse(1.0, 0.5, 101.0, 100.0)
