"""Detection theory against 50-digit arithmetic and against the numbers printed in the paper's specification.

Recipes: the chi-squared tail of order 2r is exp(-delta) sum_{j<r} delta^j / j!, the noncentral law its Poisson mixture;
the F law is the same mixture of Beta tails. mpmath evaluates both here, live; the inverses by its root finder.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from mpmath import mp, mpf
from scipy import stats

from testbed.theory import detection, marcum


@pytest.fixture(autouse=True)
def fifty_digits() -> Iterator[None]:
    with mp.workdps(50):
        yield


def mp_tail(rank, delta):
    """Gamma(rank, delta) / Gamma(rank)."""
    return mp.exp(-delta) * mp.fsum(delta**j / mp.factorial(j) for j in range(rank))


def mp_detection(lam, rank, delta):
    """Sum over k of Poisson(k; lam/2) Q(rank + k, delta)."""
    mu, delta = mpf(lam) / 2, mpf(delta)
    weight, tail = mp.exp(-mu), mp_tail(rank, delta)
    step = mp.exp(-delta) * delta**rank / mp.factorial(rank)  # Q(rank + k + 1) - Q(rank + k)
    total = mpf(0)
    for k in range(int(mu + delta + 40 * mp.sqrt(mu + delta)) + 80):
        total += weight * tail
        tail += step
        step *= delta / (rank + k + 1)
        weight *= mu / (k + 1)
    return total


def mp_threshold(pfa, rank):
    """Root of ln Q(rank, delta) = ln pfa; pfa is the double itself, not its decimal name."""
    target = mp.log(mpf(pfa))
    return mp.findroot(lambda d: mp.log(mp_tail(rank, d)) - target, detection.glrt_threshold(pfa, rank))


def mp_cfar_detection(lam, rank, residual, threshold):
    """Sum over k of Poisson(k; lam/2) P(Beta(rank + k, residual) > b), b = rank F / (rank F + residual)."""
    mu, b = mpf(lam) / 2, rank * mpf(threshold) / (rank * mpf(threshold) + residual)
    weight, tail = mp.exp(-mu), mp.betainc(rank, residual, b, 1, regularized=True)
    step = b**rank * (1 - b) ** residual / (rank * mp.beta(rank, residual))
    total = mpf(0)
    for k in range(int(mu + 40 * mp.sqrt(mu)) + 80):
        total += weight * tail
        tail += step
        step *= b * (rank + k + residual) / (rank + k + 1)
        weight *= mu / (k + 1)
    return total


def relative_error(value, exact):
    return float(abs(mpf(value) / exact - 1))


@pytest.mark.parametrize("rank", [1, 3, 8, 64])
@pytest.mark.parametrize("pfa", [1e-1, 1e-2, 1e-6, 1e-12, 1e-30, 1e-100])
def test_threshold_matches_fifty_digits(pfa, rank):
    exact = mp_threshold(pfa, rank)

    assert relative_error(detection.glrt_threshold(pfa, rank), exact) < 1e-13
    assert relative_error(marcum.glrt_threshold_series(pfa, rank), exact) < 1e-13
    assert relative_error(mp_tail(rank, mpf(detection.glrt_threshold(pfa, rank))), mpf(pfa)) < 3e-13


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("lam", [0.0, 1e-6, 0.3, 10.0, 40.0, 120.0, 250.0])
@pytest.mark.parametrize("pfa", [1e-2, 1e-6, 1e-12])
def test_detection_and_miss_probability_match_fifty_digits(lam, rank, pfa):
    delta = detection.glrt_threshold(pfa, rank)
    exact = mp_detection(lam, rank, delta)

    assert relative_error(detection.detection_probability(lam, rank, threshold=delta), exact) < 1e-12
    assert relative_error(detection.miss_probability(lam, rank, threshold=delta), 1 - exact) < 1e-12
    assert relative_error(marcum.detection_probability_series(lam, rank, delta), exact) < 1e-12


@pytest.mark.parametrize(
    ("lam", "rank", "delta"), [(2000.0, 3, 900.0), (4000.0, 3, 2100.0), (3000.0, 8, 1300.0), (2500.0, 64, 2500.0)]
)
def test_series_keeps_twelve_digits_at_noncentralities_of_thousands(lam, rank, delta):
    # at (2500, 64, 2500) the result is 8e-91
    assert relative_error(marcum.detection_probability_series(lam, rank, delta), mp_detection(lam, rank, delta)) < 1e-12


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("pod", [0.05, 0.3, 0.7, 0.99, 1 - 1e-9])
@pytest.mark.parametrize("pfa", [1e-2, 1e-6])
def test_required_noncentrality_matches_fifty_digits(pod, rank, pfa):
    delta = mp_threshold(pfa, rank)
    value = detection.required_noncentrality(pod, pfa, rank)

    exact = mp.findroot(
        lambda lam: mp_detection(lam, rank, delta) - mpf(pod), (value * 0.999, value * 1.001), tol=1e-36
    )

    assert relative_error(value, exact) < 1e-10


def test_values_at_the_papers_setting():
    # comp.md section 3: L = 3, PFA 1e-6, N = 100, computed there in 40 digits
    assert detection.glrt_threshold(1e-6, 3) == pytest.approx(19.1291681886, rel=5e-12)
    table = {
        0.3: (27.2434026, 0.136217013),
        0.7: (39.7885250, 0.198942625),
        0.8: (44.0255860, 0.220127930),
        0.99: (66.5784685, 0.332892343),
    }
    for pod, (lam, snr) in table.items():
        assert detection.required_noncentrality(pod, 1e-6, 3) == pytest.approx(lam, abs=5.1e-8)
        assert detection.required_noncentrality(pod, 1e-6, 3) / 200 == pytest.approx(snr, abs=5.1e-10)


def test_taking_the_statistic_itself_as_chi_squared_would_miss_the_false_alarm_level():
    wrong = stats.chi2.isf(1e-6, 6)

    assert wrong == pytest.approx(38.258, abs=5e-4)
    assert detection.false_alarm_probability(wrong, 3) == pytest.approx(1.87e-14, rel=3e-3)


def test_correlated_columns_change_the_probability_of_detection():
    # comp.md erratum 3: lam of the same data with orthogonal and with correlated sequences
    assert detection.detection_probability(57.3686, 3, pfa=1e-4) == pytest.approx(0.99644, abs=6e-6)
    assert detection.detection_probability(47.424, 3, pfa=1e-4) == pytest.approx(0.97853, abs=6e-6)


def test_estimated_noise_needs_its_own_threshold():
    # comp.md erratum 11, thresholds expressed on T
    lam, delta = detection.required_noncentrality(0.7, 1e-6, 3), detection.glrt_threshold(1e-6, 3)
    for observations, on_t, kept_pfa, pod in ((100, 20.9128, 3.8e-6, 0.591), (20, 32.5148, 1.4e-4, 0.171)):
        assert 3 * detection.cfar_threshold(1e-6, 3, observations) == pytest.approx(on_t, abs=5.1e-5)
        assert detection.cfar_h0_law(3, observations).sf(delta / 3) == pytest.approx(kept_pfa, rel=0.03)
        assert detection.cfar_detection_probability(lam, 3, observations, pfa=1e-6) == pytest.approx(pod, abs=5.1e-4)


def test_probability_of_detection_jumps_with_the_rank():
    assert detection.detection_probability(40.0, 2, pfa=1e-6) == pytest.approx(0.7871, abs=5e-5)
    assert detection.detection_probability(40.0, 3, pfa=1e-6) == pytest.approx(0.7056, abs=5e-5)
    assert detection.false_alarm_probability(detection.glrt_threshold(1e-6, 2), 1) == pytest.approx(5.65e-8, rel=1e-3)


@pytest.mark.parametrize(
    ("rank", "observations", "nuisance"), [(3, 100, 0), (3, 20, 0), (3, 104, 12), (1, 4, 0), (8, 400, 9)]
)
@pytest.mark.parametrize("pfa", [1e-2, 1e-6, 1e-12])
def test_f_test_matches_fifty_digits(rank, observations, nuisance, pfa):
    residual = observations - rank - nuisance
    threshold = detection.cfar_threshold(pfa, rank, observations, nuisance)

    assert relative_error(mp_cfar_detection(0, rank, residual, threshold), mpf(pfa)) < 3e-13
    for lam in (0.0, 1e-6, 1.0, 40.0, 150.0):
        exact = mp_cfar_detection(lam, rank, residual, threshold)
        value = detection.cfar_detection_probability(lam, rank, observations, nuisance, threshold=threshold)
        assert relative_error(value, exact) < 1e-11


@pytest.mark.parametrize("pod", [0.3, 0.7, 0.99])
def test_required_noncentrality_of_the_f_test_matches_fifty_digits(pod):
    threshold = detection.cfar_threshold(1e-6, 3, 104, 12)
    value = detection.cfar_required_noncentrality(pod, 1e-6, 3, 104, 12)

    exact = mp.findroot(
        lambda lam: mp_cfar_detection(lam, 3, 89, threshold) - mpf(pod), (value * 0.999, value * 1.001), tol=1e-36
    )

    assert relative_error(value, exact) < 1e-10


@pytest.mark.parametrize("rank", [1, 2, 3, 8])
@pytest.mark.parametrize("mean", [1e-6, 1.0, 40.0, 1e4])
def test_swerling_1_is_the_average_over_an_exponential_noncentrality(mean, rank):
    # Averaging the Poisson mixture over lam ~ Exp(mean) makes k geometric: P(k) = (1-q) q^k, q = mu / (1 + mu).
    delta, mu = mpf(detection.glrt_threshold(1e-6, rank)), mpf(mean) / 2
    q = mu / (1 + mu)
    # sum_k (1-q) q^k Q(rank + k) by parts: Q(rank) + sum_k q^(k+1) (Q(rank+k+1) - Q(rank+k))
    exact = mp_tail(rank, delta) + mp.exp(-delta) * mp.fsum(
        q ** (k + 1) * delta ** (rank + k) / mp.factorial(rank + k) for k in range(250)
    )

    assert relative_error(detection.swerling1_detection_probability(mean, rank, pfa=1e-6), exact) < 1e-12


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("mean", [1e-3, 1.0, 40.0, 1e4])
def test_swerling_1_of_the_f_test_is_the_average_of_the_t_test_over_the_noise_estimate(mean, rank):
    # Given the residual W ~ Gamma(m, 1), F > f is T > c W: the T test's Swerling 1 tail averaged over W.
    m = 40 - rank - 4
    c = mpf(rank) * mpf(detection.cfar_threshold(1e-4, rank, 40, 4)) / m
    mu = mpf(mean) / 2
    q = mu / (1 + mu)

    def tail(delta):
        return mp_tail(rank, delta) + mp.exp(-delta) * mp.fsum(
            q ** (k + 1) * delta ** (rank + k) / mp.factorial(rank + k) for k in range(200)
        )

    def weighted(w):
        return tail(c * w) * w ** (m - 1) * mp.exp(-w) / mp.gamma(m)

    exact = mp.quad(weighted, [0, m / 2, m, 2 * m, 4 * m, 8 * m])

    found = detection.cfar_swerling1_detection_probability(mean, rank, 40, 4, pfa=1e-4)
    assert relative_error(found, exact) < 1e-8


def test_laws_are_those_of_the_thresholds():
    delta = detection.glrt_threshold(1e-6, 3)

    np.testing.assert_allclose(detection.h0_law(3).isf(1e-6), delta, rtol=1e-14)
    np.testing.assert_allclose(detection.h0_law(3).mean(), 3.0)
    np.testing.assert_allclose(detection.h1_law(40.0, 3).mean(), 3 + 20.0)
    np.testing.assert_allclose(detection.h1_law(40.0, 3).var(), (4 * 3 + 4 * 40.0) / 4)
