"""Positions from ranges: efficiency, weights, mirror images, singular places, one range that is wrong, path lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize

from testbed.sensing.localize import dilution, locate, locate_paths, position_covariance

SIDE = 200 / np.sqrt(3)
ANGLE = np.deg2rad([90.0, 210.0, 330.0])
NODES = np.stack([SIDE * np.cos(ANGLE), SIDE * np.sin(ANGLE), np.full(3, 10.0)], axis=1)
FIVE = np.vstack([NODES, [[90.0, 80.0, 12.0], [-90.0, 60.0, 8.0]]])
LINE = np.array([[0.0, 0, 10], [100, 0, 10], [200, 0, 10]])
TARGET = np.array([40.0, 10.0, 1.5])


def ranges(nodes, target):
    return np.linalg.norm(nodes - target, axis=1)


@pytest.mark.parametrize(("place", "hdop"), [((0, 0), 1.158), ((40, 10), 1.214), ((0, 90), 1.427)])
def test_dilution_of_the_specification(place, hdop):
    assert dilution(NODES, (*place, 1.5)) == pytest.approx(hdop, abs=5e-4)


@settings(max_examples=60)
@given(st.floats(-90, 90), st.floats(-90, 90), st.floats(0.5, 8.0))
def test_exact_ranges_give_the_exact_place(x, y, height):
    target = np.array([x, y, height])

    found = locate(FIVE, ranges(FIVE, target), 0.3, height)

    assert found.position_m == pytest.approx(target, abs=1e-9)
    assert found.chi2 < 1e-15 and found.num_dof == 3 and found.outlier is None and found.p_value == pytest.approx(1)


def test_another_optimiser_finds_the_same_place():
    rng = np.random.default_rng(3)
    sigma = np.array([0.3, 1.0, 3.0])
    for _ in range(10):
        measured = ranges(NODES, TARGET) + sigma * rng.standard_normal(3)
        found = locate(NODES, measured, sigma, 1.5)

        def cost(place, measured=measured):
            return np.sum(((ranges(NODES, [*place, 1.5]) - measured) / sigma) ** 2)

        best = minimize(cost, TARGET[:2], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14})
        assert found.position_m[:2] == pytest.approx(best.x, abs=1e-5)
        assert found.chi2 <= best.fun * (1 + 1e-10)


@pytest.mark.parametrize(
    ("nodes", "target", "sigma", "height"),
    [
        (NODES, TARGET, np.array([0.3, 1.0, 3.0]), 1.5),
        (FIVE, np.array([0.0, 60.0, 1.5]), np.array([0.3, 0.5, 1.0, 0.4, 0.8]), 1.5),
        (NODES, np.array([20.0, 10.0, -80.0]), np.full(3, 0.05), None),
    ],
)
def test_normalised_errors_are_chi_squared(nodes, target, sigma, height):
    # 600 errors each; fails with chance 1e-3 per case if the code is right, two-sided
    rng = np.random.default_rng(1)
    size, trials = (2, 600) if height is not None else (3, 600)
    covariance = position_covariance(nodes, target, sigma, known_height=height is not None)
    assert covariance.shape == (size, size)
    total = 0.0
    for _ in range(trials):
        measured = ranges(nodes, target) + sigma * rng.standard_normal(len(nodes))
        error = (locate(nodes, measured, sigma, height, outlier_chance=0).position_m - target)[:size]
        total += error @ np.linalg.solve(covariance, error)

    low, high = stats.chi2.ppf([5e-4, 1 - 5e-4], size * trials)
    assert low < total < high


def test_weights_are_worth_a_factor_of_almost_two():
    # 400 trials: the ratio scatters by 5 %; the specification measured 1.7 to 1.9
    rng = np.random.default_rng(2)
    sigma = np.array([0.3, 1.0, 3.0])
    weighted, plain = [], []
    for _ in range(400):
        measured = ranges(NODES, TARGET) + sigma * rng.standard_normal(3)
        weighted.append(locate(NODES, measured, sigma, 1.5, outlier_chance=0).position_m - TARGET)
        plain.append(locate(NODES, measured, 1.0, 1.5, outlier_chance=0).position_m - TARGET)
    ratio = np.sqrt(np.sum(np.square(plain)) / np.sum(np.square(weighted)))
    bound = np.sqrt(np.trace(position_covariance(NODES, TARGET, sigma)))

    assert 1.5 < ratio < 2.1
    assert np.sqrt(np.mean(np.sum(np.square(weighted), axis=1))) == pytest.approx(bound, rel=0.12)


def test_a_reported_ellipse_holds_the_target_as_often_as_it_says():
    # 500 trials at 95 %: 4 standard errors are 0.039
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(500):
        found = locate(FIVE, ranges(FIVE, TARGET) + 0.3 * rng.standard_normal(5), 0.3, 1.5, outlier_chance=0)
        ellipse = found.ellipse(0.95)
        dx, dy = (found.position_m - TARGET)[:2]
        along = dx * np.cos(ellipse.angle_rad) + dy * np.sin(ellipse.angle_rad)
        across = dy * np.cos(ellipse.angle_rad) - dx * np.sin(ellipse.angle_rad)
        inside += (along / ellipse.semi_major_m) ** 2 + (across / ellipse.semi_minor_m) ** 2 <= 1
    assert inside / 500 == pytest.approx(0.95, abs=0.039)
    assert found.error_bound_m == pytest.approx(0.3 * found.dilution)


# Mirror images


def test_nodes_of_one_height_cannot_tell_above_from_below():
    found = locate(NODES, ranges(NODES, TARGET), 0.3)

    assert found.position_m == pytest.approx(TARGET, abs=1e-6)  # below the nodes
    assert found.alternatives_m == pytest.approx(np.array([[40.0, 10.0, 18.5]]), abs=1e-6)
    assert "mirror ambiguity" in found.note
    assert found.covariance_m2.shape == (3, 3) and found.dilution > 5 * dilution(NODES, TARGET)


def test_nodes_on_a_line_cannot_tell_left_from_right():
    target = np.array([50.0, 40.0, 1.5])
    for nodes in (LINE, LINE[:2]):
        found = locate(nodes, ranges(nodes, target), 0.3, 1.5)
        both = np.vstack([found.position_m, found.alternatives_m])
        assert both[np.argsort(both[:, 1])] == pytest.approx(np.array([[50, -40, 1.5], [50, 40, 1.5]]), abs=1e-6)
        assert np.all(np.isfinite(found.covariance_m2)) and "mirror ambiguity" in found.note


def test_nodes_almost_on_a_line_leave_both_sides_open_to_noise():
    bent = LINE + np.array([[0.0, 0, 0], [0, 0.5, 0], [0, 0, 0]])
    target = np.array([50.0, 40.0, 1.5])

    assert len(locate(bent, ranges(bent, target), 0.3, 1.5).alternatives_m) == 1
    assert len(locate(bent, ranges(bent, target), 0.003, 1.5).alternatives_m) == 0


def test_a_triangle_has_no_mirror_image():
    found = locate(NODES, ranges(NODES, TARGET), 0.3, 1.5)

    assert found.alternatives_m.shape == (0, 3) and found.note == ""


# Singular places


def test_on_the_line_of_the_nodes_the_bound_is_infinite():
    target = np.array([50.0, 0.0, 1.5])
    found = locate(LINE, ranges(LINE, target), 0.3, 1.5)

    assert found.position_m == pytest.approx(target, abs=1e-3)
    assert found.error_bound_m == found.dilution == dilution(LINE, target) == np.inf
    assert found.ellipse().semi_major_m == np.inf
    assert "singular" in found.note


def test_a_line_of_nodes_and_no_height_is_singular():
    found = locate(LINE, ranges(LINE, [50, 40, 1.5]), 0.3)

    assert np.all(np.isinf(found.covariance_m2)) and np.all(np.isfinite(found.position_m))


def test_on_a_node_there_is_still_an_answer():
    found = locate(FIVE, ranges(FIVE, FIVE[0]), 0.3, 10.0)

    assert found.position_m == pytest.approx(FIVE[0], abs=1e-6)


# One range that is wrong


@pytest.mark.parametrize("wrong", range(5))
@pytest.mark.parametrize("excess_m", [-15.0, 8.0, 200.0])
def test_one_outlier_among_five_is_found_and_survived(wrong, excess_m):
    rng = np.random.default_rng(wrong)
    measured = ranges(FIVE, TARGET) + 0.3 * rng.standard_normal(5)
    measured[wrong] += excess_m

    found = locate(FIVE, measured, 0.3, 1.5)

    assert found.outlier == wrong and f"range {wrong}" in found.note and found.num_dof == 2
    assert np.linalg.norm(found.position_m - TARGET) < 5 * found.error_bound_m


def test_ranges_that_fit_are_left_alone():
    # 300 trials at a chance of 1e-3: 4 or more come about in 0.03 % of seeds
    rng = np.random.default_rng(6)
    found = [locate(FIVE, ranges(FIVE, TARGET) + 0.3 * rng.standard_normal(5), 0.3, 1.5).outlier for _ in range(300)]

    assert sum(outlier is not None for outlier in found) <= 3


def test_among_three_a_contradiction_is_seen_but_not_whose():
    found = locate(NODES, ranges(NODES, TARGET) + np.array([30.0, 0, 0]), 0.3, 1.5)

    assert found.outlier is None and "too few" in found.note and found.p_value < 1e-6


def test_two_outliers_are_more_than_can_be_told():
    found = locate(FIVE, ranges(FIVE, TARGET) + np.array([30.0, -40.0, 0, 0, 0]), 0.3, 1.5)

    assert "whichever one is left out" in found.note


def test_a_range_without_weight_does_not_count():
    measured = ranges(FIVE, TARGET) + np.array([0, 0, 500.0, 0, 0])
    sigma = np.array([0.3, 0.3, np.inf, 0.3, 0.3])

    assert locate(FIVE, measured, sigma, 1.5).position_m == pytest.approx(TARGET, abs=1e-8)


# Path lengths


def paths(nodes, pairs, target):
    sent, heard = nodes[[a for a, _ in pairs]], nodes[[b for _, b in pairs]]
    return sent, heard, ranges(sent, target) + ranges(heard, target)


def test_paths_out_and_back_are_ranges():
    measured = ranges(NODES, TARGET) + np.array([0.1, -0.2, 0.3])
    one = locate(NODES, measured, 0.3, 1.5)
    other = locate_paths(NODES, NODES, 2 * measured, 0.6, 1.5)

    assert other.position_m == pytest.approx(one.position_m, abs=1e-12)
    assert other.covariance_m2 == pytest.approx(one.covariance_m2)


@settings(max_examples=30)
@given(st.floats(-70, 70), st.floats(-70, 70))
def test_path_lengths_between_nodes_find_the_place(x, y):
    target = np.array([x, y, 1.5])
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]

    found = locate_paths(*paths(NODES, pairs, target), 0.3, 1.5)

    assert found.position_m == pytest.approx(target, abs=1e-6)


def test_bistatic_paths_alone_and_their_bound():
    # 300 errors, chance 1e-3, two-sided
    rng = np.random.default_rng(8)
    sent, heard, exact = paths(FIVE, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)], TARGET)
    covariance = position_covariance(sent, TARGET, 0.3, receiver_position_m=heard)
    total = 0.0
    for _ in range(300):
        found = locate_paths(sent, heard, exact + 0.6 * rng.standard_normal(5), 0.6, 1.5, outlier_chance=0)
        error = (found.position_m - TARGET)[:2]
        total += error @ np.linalg.solve(covariance, error)

    low, high = stats.chi2.ppf([5e-4, 1 - 5e-4], 600)
    assert low < total < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NODES[:, :2], np.ones(3), 0.3, 1.5), r"node_position_m \(3, 2\) - it must be \(K, 3\)"),
        ((NODES, np.ones(2), 0.3, 1.5), r"range_m \(2,\)"),
        ((NODES, np.ones(3), 0.0, 1.5), "standard deviations above 0"),
        ((NODES, np.array([1, np.nan, 1]), 0.3, 1.5), "must be finite"),
        ((NODES[:1], np.ones(1), 0.3, 1.5), "found 1 usable - at least 2 are needed"),
        ((NODES[:2], np.ones(2), 0.3, None), "found 2 usable - at least 3 are needed"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        locate(*arguments)
    with pytest.raises(ValueError, match="receiver_position_m"):
        locate_paths(NODES, FIVE, np.ones(3), 0.3, 1.5)
