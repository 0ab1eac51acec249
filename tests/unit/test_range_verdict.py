"""Verdicts on ranges: the law of a sum of squares, and errors of method that must turn them."""

import numpy as np
import pytest
from scipy import stats

from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.range_verdict import outlier_p_value, range_chi_square, range_std_interval
from testbed.sensing.ranging import RangeOptions, estimate_ranges
from testbed.theory.chi_square import bonferroni_level, bonferroni_rejects, chi_square_test, std_interval
from tests.ranges import (
    NODES,
    RANGE_M,
    capture_localization,
    localization_experiment,
    localization_scene,
    ranging_of,
)

# The law


def test_p_values_of_normal_errors_are_uniform():
    # Kolmogorov-Smirnov, p below 1e-3 in one of 1000 seeds
    rng = np.random.default_rng(1)
    p = [chi_square_test(float(np.sum(rng.standard_normal(12) ** 2)), 12).p_value for _ in range(500)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("level", [0.05, 1e-3])
def test_the_limits_are_where_the_p_value_is_the_level(level):
    test = chi_square_test(400.0, 400, level)
    for limit in (test.low, test.high):
        assert chi_square_test(limit, 400, level).p_value == pytest.approx(level)
    assert chi_square_test(test.high * 0.999, 400, level).consistent
    assert not chi_square_test(test.high * 1.001, 400, level).consistent
    assert not chi_square_test(test.low * 0.999, 400, level).consistent


def test_400_trials_reject_at_1e_3_beyond_a_ratio_of_1_118():
    test = chi_square_test(400.0, 400, 1e-3)
    # Wilson and Hilferty: chi2 / d is the cube of a normal variable of mean 1 - 2/9d and variance 2/9d, and 5e-4 of it
    # lie beyond 3.2905 deviations
    assert np.sqrt(test.high / 400) == pytest.approx((1 - 2 / 3600 + 3.2905 * np.sqrt(2 / 3600)) ** 1.5, abs=2e-4)
    assert np.sqrt(test.high / 400) == pytest.approx(1.118, abs=5e-4)
    assert test.ratio == 1.0


@pytest.mark.parametrize(("std", "low", "high"), [(0.308, 0.288, 0.331), (0.236, 0.221, 0.254)])
def test_intervals_of_a_standard_deviation_are_those_of_the_reference(std, low, high):
    assert std_interval(std, 399) == pytest.approx((low, high), abs=5e-4)


def test_intervals_hold_the_true_deviation_as_often_as_they_say():
    # 2000 intervals: 0.5 % is one standard deviation, 4 of them
    s = np.std(np.random.default_rng(2).standard_normal((2000, 8)), axis=1, ddof=1)
    low, high = std_interval(1.0, 7)  # proportional to the deviation
    assert np.mean((low * s <= 1) & (high * s >= 1)) == pytest.approx(0.95, abs=0.02)


def test_several_tests_share_a_level():
    assert bonferroni_level(0.05, 10) == pytest.approx(0.005)
    assert bonferroni_rejects([0.3, 0.004, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9], 0.05)
    assert not bonferroni_rejects([0.3, 0.02], 0.03)


@pytest.mark.parametrize(
    "call",
    [
        lambda: chi_square_test(-1.0, 3),
        lambda: chi_square_test(float("nan"), 3),
        lambda: chi_square_test(1.0, 0),
        lambda: chi_square_test(1.0, 3, 1.0),
        lambda: std_interval(-1.0, 3),
        lambda: std_interval(1.0, 3, 0.0),
        lambda: bonferroni_rejects([], 0.05),
        lambda: bonferroni_rejects([1.5], 0.05),
    ],
)
def test_arguments_out_of_range_are_refused(call):
    with pytest.raises(ValueError):
        call()


# Ranges by hand


def normal_ranges(num=200, seed=3, **changes):
    z = np.random.default_rng(seed).standard_normal(num)
    return ranging_of("bs1", 50.0 + 0.2 * z, 0.2, **changes)


def test_ranges_at_their_bounds_pass_against_truth_and_against_their_mean():
    # each p below 1e-3 in one of 1000 seeds
    ranging = normal_ranges()
    assert range_chi_square(ranging, 50.0).num_dof == 200
    assert range_chi_square(ranging, 50.0).p_value > 1e-3
    assert range_chi_square(ranging).num_dof == 199
    assert range_chi_square(ranging).p_value > 1e-3


def test_a_bias_shows_against_the_truth_and_not_against_their_mean():
    ranging = normal_ranges()
    assert range_chi_square(ranging, 50.3).p_value < 1e-10
    assert range_chi_square(ranging).p_value > 1e-3


def test_frames_are_weighted_by_their_bounds():
    rng, std = np.random.default_rng(4), np.where(np.arange(400) % 2, 0.1, 1.0)
    ranging = ranging_of("bs1", 50.0 + std * rng.standard_normal(400), std)

    weight = 1 / std**2
    mean = np.sum(weight * ranging.range_m) / np.sum(weight)
    expected = np.sum((ranging.range_m - mean) ** 2 * weight)
    assert range_chi_square(ranging).statistic == pytest.approx(expected)
    assert range_chi_square(ranging).p_value > 1e-3


def test_what_a_target_moved_is_no_error():
    drift = np.linspace(-5.0, 5.0, 200)
    ranging = normal_ranges()
    moved = ranging_of("bs1", ranging.range_m + drift, 0.2, drift_m=drift)
    assert range_chi_square(moved, 50.0).statistic == pytest.approx(range_chi_square(ranging, 50.0).statistic)


def test_outliers_are_left_out_and_judged_by_their_number():
    ranging = normal_ranges()
    ranges, outlier = ranging.range_m.copy(), np.zeros(200, dtype=bool)
    ranges[:6], outlier[:6] = 90.0, True
    found = ranging_of("bs1", ranges, 0.2, outlier=outlier, outliers_predicted=0.01)

    assert range_chi_square(found, 50.0).num_dof == 194
    assert range_chi_square(found, 50.0).p_value > 1e-3
    # of 200 trials at twice 1 %: scipy binom.sf(5, 200, 0.02)
    assert outlier_p_value(found) == pytest.approx(stats.binom.sf(5, 200, 0.02))
    assert outlier_p_value(ranging_of("bs1", ranges, 0.2, outlier=outlier, outliers_predicted=1e-4)) < 1e-6
    assert outlier_p_value(ranging) == 1.0


def test_too_few_ranges_are_refused():
    with pytest.raises(CaptureError, match="0 of 3 ranges are no outliers"):
        range_chi_square(ranging_of("bs1", np.ones(3), 0.2, outlier=np.ones(3, dtype=bool)))
    alone = ranging_of("bs1", np.array([1.0, 2.0]), 0.2, range_std_m=Estimate(value=0.0, stderr=0.0, count=1))
    with pytest.raises(CaptureError, match="1 ranges have no spread"):
        range_std_interval(alone)


# Errors of method, in captures of the reference scene


@pytest.fixture(scope="module")
def captures():
    """Equal powers at two isolations, data and noise of their own; interference is strongest at bs1's band edges."""
    return [
        capture_localization(
            localization_experiment(300, 10, data_seed=40 + i),
            localization_scene(isolation_db, seed=14),
            listening=("bs1",),
            epoch=100 * i + 100,
        )
        for i, isolation_db in enumerate((60.0, 70.0))
    ]


def pooled(captures, *, whiten):
    """Of errors at bs1 over all captures; the search is short to save time."""
    options = RangeOptions(whiten=whiten, min_delay_samples=4.0, max_delay_samples=10.0)
    tests = [range_chi_square(estimate_ranges(c, "bs1", options), RANGE_M["bs1"]) for c in captures]
    return chi_square_test(sum(test.statistic for test in tests), sum(test.num_dof for test in tests))


def test_ranges_pooled_over_isolations_pass_whitened_and_fail_unwhitened(captures):
    # whitened, p below 1e-3 in one of 1000 seeds; the scene's spectra give 1.2 bounds, seen at 1e-3 in 99.9 % of seeds
    whitened, plain = pooled(captures, whiten=True), pooled(captures, whiten=False)

    assert whitened.p_value > 1e-3
    assert plain.p_value < 1e-3
    assert plain.statistic > plain.high


def test_one_frame_repeated_and_counted_as_trials_fails_everywhere():
    # by too small a spread; where each frame has its own data the same scene passes (above, and in test_ranging)
    capture = capture_localization(localization_experiment(1, 20), num_frames=100)
    for name in NODES:
        repeated = estimate_ranges(capture, name)
        assert repeated.num_frames == 100
        own = range_chi_square(repeated)
        assert own.statistic < own.low
        assert own.p_value < 1e-6
