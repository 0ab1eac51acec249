"""Detection theory: what must hold for any argument, what is refused, and that simulated detectors obey it."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.theory import detection, marcum

ranks = st.integers(1, 12)
pfas = st.floats(-12.0, -0.5).map(lambda exponent: 10.0**exponent)
noncentralities = st.floats(0.0, 200.0)


@given(noncentralities, st.floats(0.01, 50.0), ranks, pfas)
def test_detection_probability_rises_with_noncentrality(lam, more, rank, pfa):
    low, high = detection.detection_probability(np.array([lam, lam + more]), rank, pfa=pfa)

    assert pfa * (1 - 1e-12) <= low <= high <= 1


@given(noncentralities, ranks, pfas)
def test_detection_and_miss_probability_add_up_to_one(lam, rank, pfa):
    pod = detection.detection_probability(lam, rank, pfa=pfa)

    assert pod + detection.miss_probability(lam, rank, pfa=pfa) == pytest.approx(1.0, abs=1e-14)


@given(st.floats(0.001, 0.999), ranks, pfas)
def test_required_noncentrality_inverts_detection_probability(pod, rank, pfa):
    lam = detection.required_noncentrality(pod, pfa, rank)

    if pod <= pfa:
        assert lam == 0.0
    else:
        assert detection.detection_probability(lam, rank, pfa=pfa) == pytest.approx(pod, rel=1e-11)


@given(pfas, ranks)
def test_false_alarm_probability_inverts_the_threshold(pfa, rank):
    assert detection.false_alarm_probability(detection.glrt_threshold(pfa, rank), rank) == pytest.approx(pfa, rel=1e-12)


@given(noncentralities, ranks, pfas)
def test_series_and_scipy_agree(lam, rank, pfa):
    delta = marcum.glrt_threshold_series(pfa, rank)

    assert delta == pytest.approx(detection.glrt_threshold(pfa, rank), rel=1e-12)
    assert marcum.detection_probability_series(lam, rank, delta) == pytest.approx(
        detection.detection_probability(lam, rank, threshold=delta), rel=1e-12
    )


@settings(max_examples=50)
@given(st.floats(0.001, 0.999), st.integers(1, 6), st.integers(20, 400), st.integers(0, 8))
def test_estimating_the_noise_never_helps(pod, rank, observations, nuisance):
    known = detection.required_noncentrality(pod, 1e-4, rank)
    estimated = detection.cfar_required_noncentrality(pod, 1e-4, rank, observations, nuisance)

    assert estimated >= known
    assert detection.cfar_detection_probability(estimated, rank, observations, nuisance, pfa=1e-4) == pytest.approx(
        pod, rel=1e-10
    )


def test_f_test_tends_to_the_known_noise_test_with_many_observations():
    assert 3 * detection.cfar_threshold(1e-6, 3, 10**8) == pytest.approx(detection.glrt_threshold(1e-6, 3), rel=1e-6)
    assert detection.cfar_detection_probability(40.0, 3, 10**7, pfa=1e-6) == pytest.approx(
        detection.detection_probability(40.0, 3, pfa=1e-6), rel=1e-5
    )


@given(st.floats(1e-9, 0.5), st.integers(1, 10**6))
def test_independent_cells_at_the_search_level_raise_a_false_alarm_with_the_total_one(pfa, num_cells):
    per_cell = detection.cell_search_pfa(pfa, num_cells)

    assert -np.expm1(num_cells * np.log1p(-per_cell)) == pytest.approx(pfa, rel=1e-12)


def test_without_an_echo_detections_are_false_alarms():
    for rank in (1, 3, 8):
        assert detection.detection_probability(0.0, rank, pfa=1e-6) == pytest.approx(1e-6, rel=1e-13)
        assert detection.swerling1_detection_probability(0.0, rank, pfa=1e-6) == pytest.approx(1e-6, rel=1e-13)
        assert marcum.detection_probability_series(0.0, rank, detection.glrt_threshold(1e-6, rank)) == pytest.approx(
            1e-6, rel=1e-13
        )
        # scipy.stats.ncf.sf is negative there
        assert detection.cfar_detection_probability(0.0, rank, 104, 12, pfa=1e-6) == pytest.approx(1e-6, rel=1e-12)


def test_no_echo_is_needed_for_a_pod_up_to_the_pfa():
    np.testing.assert_array_equal(detection.required_noncentrality(np.array([0.0, 0.005, 0.01]), 0.01, 3), 0.0)
    assert detection.cfar_required_noncentrality(0.01, 0.01, 3, 104) == 0.0


def test_every_trial_exceeds_a_threshold_of_zero():
    assert detection.detection_probability(5.0, 3, threshold=0.0) == 1.0
    assert detection.miss_probability(5.0, 3, threshold=0.0) == 0.0
    assert marcum.detection_probability_series(5.0, 3, 0.0) == 1.0
    assert detection.cfar_detection_probability(5.0, 3, 104, threshold=0.0) == 1.0


def test_fluctuating_single_echo_has_the_textbook_law():
    assert detection.swerling1_detection_probability(40.0, 1, pfa=1e-6) == pytest.approx(1e-6 ** (1 / 21), rel=1e-13)


def test_shapes_follow_the_noncentrality():
    lam = np.linspace(0, 100, 6).reshape(2, 3)
    functions = (
        lambda x: detection.detection_probability(x, 3, pfa=1e-6),
        lambda x: detection.miss_probability(x, 3, pfa=1e-6),
        lambda x: detection.swerling1_detection_probability(x, 3, pfa=1e-6),
        lambda x: detection.cfar_detection_probability(x, 3, 104, pfa=1e-6),
        lambda x: detection.required_noncentrality(x / 101, 1e-6, 3),
        lambda x: detection.cfar_required_noncentrality(x / 101, 1e-6, 3, 104),
        lambda x: marcum.detection_probability_series(x, 3, 19.0),
    )
    for function in functions:
        assert function(lam).shape == (2, 3)
        assert isinstance(function(40.0), float)
        assert function(lam)[1, 2] == function(100.0)


def test_an_array_of_false_alarm_probabilities_gives_a_receiver_operating_characteristic():
    pfa = np.logspace(-6, -1, 6)

    pod = detection.detection_probability(np.asarray(20.0), 3, pfa=pfa)

    assert pod.shape == (6,)
    assert np.all(np.diff(pod) > 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: detection.glrt_threshold(0.0, 3), r"pfa 0 - it must lie in \(0, 1\)"),
        (lambda: detection.glrt_threshold(1.0, 3), r"pfa 1 - it must lie in \(0, 1\)"),
        (lambda: detection.glrt_threshold(np.array([0.1, np.nan]), 3), "pfa nan"),
        (lambda: detection.glrt_threshold(1e-6, 0), "rank 0 - it must be a whole number of at least 1"),
        (lambda: detection.h0_law(2.5), "rank 2.5"),
        (lambda: detection.h0_law(float("nan")), "rank nan"),
        (lambda: detection.detection_probability(-1.0, 3, pfa=1e-6), "noncentrality -1 - it must be finite"),
        (lambda: detection.detection_probability(np.inf, 3, pfa=1e-6), "noncentrality inf"),
        (lambda: detection.detection_probability(1.0, 3), "exactly one"),
        (lambda: detection.detection_probability(1.0, 3, pfa=1e-6, threshold=19.0), "exactly one"),
        (lambda: detection.detection_probability(1.0, 3, threshold=-1.0), "threshold -1"),
        (lambda: detection.required_noncentrality(1.0, 1e-6, 3), r"pod 1 - it must lie in \[0, 1\)"),
        (lambda: detection.required_noncentrality(-0.1, 1e-6, 3), r"pod -0.1"),
        (lambda: detection.cfar_threshold(1e-6, 3, 15, 12), "15 observations less rank 3 less 12 nuisance .* leave 0"),
        (lambda: detection.cfar_threshold(1e-6, 3, 104, -1), "number of nuisance dimensions -1"),
        (lambda: detection.cfar_detection_probability(1.0, 3, 3, pfa=1e-6), "leave 0"),
        (lambda: detection.cfar_required_noncentrality(0.9, 1e-12, 3, 4), "above 1e9"),
        (lambda: detection.cell_search_pfa(1e-6, 0), "number of cells 0"),
        (lambda: detection.swerling1_detection_probability(1.0, 3, threshold=700.0), "below 700"),
        (lambda: marcum.glrt_threshold_series(2.0, 3), "pfa 2"),
        (lambda: marcum.detection_probability_series(-1.0, 3, 19.0), "noncentrality -1"),
        (lambda: marcum.detection_probability_series(1.0, 0, 19.0), "rank 0"),
    ],
)
def test_impossible_arguments_are_refused_with_the_number_and_the_limit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_theory_loads_without_scipy():
    program = (
        "import sys\n"
        "from testbed.theory import consistency, detection, marcum\n"
        "delta = marcum.glrt_threshold_series(1e-6, 3)\n"
        "assert abs(marcum.detection_probability_series(40.0, 3, delta) - 0.70561) < 1e-5\n"
        "assert 'scipy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def simulated_statistics(rng, num_trials, lam):
    """T and F of projections of N = 32 complex samples on r = 3 columns, Q = 2 nuisance columns, sigma2 = 1.7."""
    N, r, Q, sigma2 = 32, 3, 2, 1.7
    X, D = (rng.standard_normal((2, N, n)).view().transpose(1, 2, 0) @ [1, 1j] for n in (r, Q))
    basis = np.linalg.qr(np.hstack([D, X]))[0]
    echo = basis[:, Q:] @ rng.standard_normal(r)
    echo *= np.sqrt(lam * sigma2 / 2) / np.linalg.norm(echo)
    noise = np.sqrt(sigma2 / 2) * (rng.standard_normal((2, num_trials, N)).transpose(1, 2, 0) @ [1, 1j])
    y = noise + echo + (D @ [3.0, -2j])
    power = np.abs(y @ basis.conj()) ** 2
    signal = power[:, Q:].sum(1)
    residual = np.sum(np.abs(y) ** 2, axis=1) - power.sum(1)
    return signal / sigma2, (signal / r) / (residual / (N - r - Q))


@pytest.mark.parametrize("lam", [0.0, 8.0, 20.0])
def test_projected_noise_and_echo_obey_both_laws(lam):
    # Four binomial counts of 20 000 trials, each within 4.5 standard errors: fails by chance once in 50 000 runs.
    num_trials = 20_000
    T, F = simulated_statistics(np.random.default_rng(7), num_trials, lam)
    for pfa in (1e-2, 1e-1):
        for statistic, threshold, pod in (
            (T, detection.glrt_threshold(pfa, 3), detection.detection_probability(lam, 3, pfa=pfa)),
            (F, detection.cfar_threshold(pfa, 3, 32, 2), detection.cfar_detection_probability(lam, 3, 32, 2, pfa=pfa)),
        ):
            stderr = np.sqrt(pod * (1 - pod) / num_trials)
            assert np.mean(statistic >= threshold) == pytest.approx(pod, abs=4.5 * stderr)


def test_fading_echoes_obey_the_swerling_1_law():
    # One binomial count of 200 000 trials within 4.5 standard errors: fails by chance once in 150 000 runs.
    rng = np.random.default_rng(3)
    lam = rng.exponential(40.0, 200_000)
    pod = detection.swerling1_detection_probability(40.0, 3, pfa=1e-3)

    T = rng.noncentral_chisquare(6, lam) / 2

    assert np.mean(detection.glrt_threshold(1e-3, 3) <= T) == pytest.approx(
        pod, abs=4.5 * np.sqrt(pod * (1 - pod) / 2e5)
    )
