"""Trials of the detector on drawn samples: the laws of T and F, and trials that depend on their index alone."""

import numpy as np
import pytest

from sim.montecarlo import blocks, statistics
from testbed.sensing.glrt import glrt
from testbed.theory import detection

N, L = 100, 3
rng = np.random.default_rng(4)
X = rng.normal(size=(N, L)) + 1j * rng.normal(size=(N, L))
D = rng.normal(size=(N, 5)) + 1j * rng.normal(size=(N, 5))
SIGMA2 = 0.3


@pytest.mark.parametrize("known", [True, False], ids=["T", "F"])
def test_a_million_trials_without_a_target_exceed_the_threshold_at_the_nominal_rate(known):
    pfa = np.array([1e-1, 1e-2, 1e-3, 1e-4])
    threshold = np.array(
        [detection.glrt_threshold(p, L) if known else detection.cfar_threshold(p, L, N, 5) for p in pfa]
    )
    count = np.zeros(4)
    for block in blocks(X, 1_000_000, 2, SIGMA2, SIGMA2 if known else None, None, D):
        count += np.sum(block[:, None] > threshold, axis=0)

    # 4.5 standard errors of a binomial, 4 levels: false failure 3e-5
    assert np.all(np.abs(count - 1e6 * pfa) < 4.5 * np.sqrt(1e6 * pfa * (1 - pfa)))


def test_detections_of_an_echo_follow_the_noncentral_law():
    mean = 0.1 * X @ np.array([1.0, 1j, -0.5])
    lam = 2 * np.sum(np.abs(mean) ** 2) / SIGMA2
    pod = detection.detection_probability(lam, L, pfa=1e-4)

    found = np.mean(
        statistics(X, 200_000, seed=5, sigma2=SIGMA2, noise_var=SIGMA2, mean=mean) > detection.glrt_threshold(1e-4, L)
    )

    assert 0.2 < pod < 0.8
    assert found == pytest.approx(pod, abs=4.5 * np.sqrt(pod * (1 - pod) / 200_000))


def test_a_trial_depends_on_its_index_alone():
    whole = statistics(X, 1000, seed=9, D=D)

    np.testing.assert_allclose(statistics(X, 40, seed=9, D=D, first=700), whole[700:740], rtol=1e-12)
    assert statistics(X, 0, seed=9).size == 0


def test_any_layout_of_the_same_observations_gives_the_same_statistics_and_leaves_them_alone():
    y = rng.normal(size=(N, 7)) + 1j * rng.normal(size=(N, 7))
    kept = y.copy()

    np.testing.assert_allclose(glrt(y.T, X, 1.0, D).statistic, glrt(y.T.copy(), X, 1.0, D).statistic, rtol=1e-12)
    np.testing.assert_array_equal(y, kept)
