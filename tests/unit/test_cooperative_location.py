"""Positions from all links at once reach their bound at every share of power; ranges of weak links do not."""

import dataclasses
import itertools

import numpy as np
import pytest

from testbed.sensing.cooperative_links import Links, measure_links
from testbed.sensing.cooperative_location import (
    MIN_SINR,
    locate_by_ranges,
    locate_directly,
    path_lengths,
    position_bound,
)
from testbed.sensing.cooperative_search import Area, Profiles, at_excess, search
from tests.cooperative_scene import NODE_M, TARGET_M, N, capture_cooperative, sharing

FRAMES = 150
METRES = 299_792_458.0 / 20e6
SHARES = (1.0, 0.25, 0.0625)
PAIRS = np.array([(i, j) for i in range(N) for j in range(N)])
BEST = {4: (0, 1, 6, 7), 5: (0, 1, 3, 6, 7)}  # of the reference, by exact bound


def at_share(share):
    return measure_links(capture_cooperative(sharing(share, min(1 - share, 0.75)), num_frames=FRAMES))


@pytest.fixture(scope="module")
def all_links():
    return {share: at_share(share) for share in SHARES}


@pytest.fixture(scope="module")
def direct(all_links):
    return {share: locate_directly(links) for share, links in all_links.items()}


def ratio(located):
    return located.mean_square_error(TARGET_M).value / located.bound_m2


def bump(excess, at, height=400.0):
    """A profile like that of 52 of 64 subcarriers, parabolic at its peak."""
    return height * np.sinc(0.81 * (excess - at)) ** 2


def synthetic(target, rng=None, std=0.0, num_frames=3, pairs=PAIRS):
    """Profiles of echoes where they belong, each link's shifted by an error of its own."""
    profiles = Profiles([], NODE_M[pairs[:, 0]], NODE_M[pairs[:, 1]], METRES, 32)
    true = profiles.excess_samples(np.asarray(target, float))
    grid = np.arange(1281) / 32
    errors = np.zeros((num_frames, len(pairs))) if rng is None else std * rng.standard_normal((num_frames, len(pairs)))
    J = [bump(grid, true[k] + errors[:, k, None] / METRES) for k in range(len(pairs))]
    return dataclasses.replace(profiles, statistic=J)


def made_links(profiles, pairs=PAIRS, var=0.09, target=TARGET_M):
    ones = np.ones(len(pairs))
    return Links(
        node_names=tuple("abcdefgh"),
        node_position_m=NODE_M,
        sensing_share=0.5,
        pairs=pairs,
        profiles=profiles,
        area=Area.around(NODE_M),
        place_m=np.asarray(target, float),
        kappa=ones,
        information=ones,
        sinr=200 * ones,
        sinr_stderr=ones,
        path_var_m2=var * ones,
        misfit=ones,
        noise_var={},
        first_samples=np.zeros((N, N)),
        warnings=(),
    )


@pytest.mark.parametrize("target", [(-5.0, -8.0), (60.3, -90.2), (-109.0, 84.0), (10.0, 20.0)])
def test_without_noise_both_ways_find_a_target_anywhere_in_the_area(target):
    links = made_links(synthetic(target), target=target)

    np.testing.assert_allclose(locate_directly(links).position_m, np.tile(target, (3, 1)), atol=0.008)
    np.testing.assert_allclose(locate_by_ranges(links).position_m, np.tile(target, (3, 1)), atol=1e-3)


def test_path_lengths_are_those_of_the_profiles_peaks():
    profiles = synthetic(TARGET_M)

    inner = profiles.excess_samples(TARGET_M) > 0.1
    assert inner.sum() > 50
    expected = np.tile(profiles.path_m(TARGET_M)[:, None], 3)
    np.testing.assert_allclose(path_lengths(profiles)[inner], expected[inner], atol=1e-3)


def test_profiles_are_read_between_grid_points_and_nothing_stands_beyond_them():
    grid = np.arange(1281) / 32
    J = np.stack([bump(grid, 7.3), bump(grid, 11.11)])
    excess = np.array([[7.31, 6.9, 41.0], [11.1, 12.013, -0.5]])

    found = at_excess(J, excess, 32)

    expected = bump(excess, np.array([[7.3], [11.11]]))
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=1e-4)
    np.testing.assert_array_equal(found[:, 2], 0)
    np.testing.assert_allclose(at_excess(J, excess[:1], 32)[0], found[0])


def test_the_bound_is_the_inverse_information_of_the_links_between_the_nodes_of_a_set():
    links = made_links(synthetic(TARGET_M))
    unit = (TARGET_M - NODE_M) / np.linalg.norm(TARGET_M - NODE_M, axis=1, keepdims=True)
    nodes = (1, 4, 6)
    F = sum(np.outer(unit[i] + unit[j], unit[i] + unit[j]) / 0.09 for i in nodes for j in nodes)

    np.testing.assert_allclose(position_bound(links, nodes), np.linalg.inv(F))
    assert locate_directly(links, nodes).bound_m2 == pytest.approx(np.trace(np.linalg.inv(F)))


def test_one_node_or_nodes_on_a_line_with_the_target_have_no_bound_and_no_error():
    pairs = PAIRS[:1]
    alone = made_links(synthetic(TARGET_M, pairs=pairs), pairs)

    assert np.all(np.isinf(position_bound(alone, (0,))))
    located = locate_by_ranges(alone, (0,))
    assert np.all(np.isnan(located.position_m))
    assert located.mean_square_error(TARGET_M) is None
    assert np.all(np.isinf(position_bound(alone, ())))
    with pytest.raises(ValueError, match="no link to locate with"):
        locate_directly(alone, ())


def test_weighted_least_squares_reach_the_bound_with_normal_errors():
    # 400 frames of normal errors: 6 % standard deviation of the ratio
    links = made_links(synthetic(TARGET_M, np.random.default_rng(5), std=0.3, num_frames=400))

    assert ratio(locate_by_ranges(links)) == pytest.approx(1.0, abs=0.2)


def test_an_area_is_a_rectangle():
    with pytest.raises(ValueError, match="must be finite, low below high"):
        Area((0.0, 1.0), (1.0, 1.0))
    profiles = synthetic(TARGET_M)
    inside = search(profiles, Area((0.0, -50.0), (50.0, 50.0)))
    assert np.all(inside[:, 0] == 0)


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_direct_positions_reach_the_bound_of_all_eight_nodes_at_every_share(direct, share):
    # 150 frames: standard deviation .09 of the ratio; [.8, 1.25] with fixed noise
    assert direct[share].num_links == 48
    assert 0.8 < ratio(direct[share]) < 1.25
    assert direct[share].bound_m2 * share == pytest.approx(0.0046, rel=0.04)


@pytest.mark.slow
def test_the_error_falls_as_one_over_the_share_of_power(direct):
    # errors .09 at three points over a factor of 16: .045 of the slope; noise is fixed
    mse = [direct[share].mean_square_error(TARGET_M).value for share in SHARES]

    assert -1.12 < np.polyfit(np.log(SHARES), np.log(mse), 1)[0] < -0.88


@pytest.mark.slow
def test_ranges_of_strong_links_do_as_well_and_those_of_weak_ones_spoil_the_position(all_links):
    strong, weak = all_links[1.0], all_links[0.0625]

    assert locate_by_ranges(strong).num_links == 48
    assert 0.8 < ratio(locate_by_ranges(strong)) < 1.25
    assert ratio(locate_by_ranges(weak, min_sinr=0.0)) > 4
    few = locate_by_ranges(weak)
    assert few.num_links == np.sum(weak.chosen() & (weak.sinr >= MIN_SINR)) < 20
    assert 0.75 < ratio(few) < 1.3
    assert few.bound_m2 > 4 * position_bound(weak).trace()


@pytest.mark.slow
def test_best_sets_are_those_of_the_reference_and_reach_their_bounds_in_the_same_frames(all_links):
    links, errors = all_links[1.0], {}
    for size, best in BEST.items():
        sets = itertools.combinations(range(N), size)
        assert min(sets, key=lambda nodes: np.trace(position_bound(links, nodes))) == best
        located = locate_directly(links, best)
        assert 0.8 < ratio(located) < 1.25
        errors[size] = located.square_errors_m2(TARGET_M)
    assert position_bound(links, BEST[4]).trace() == pytest.approx(0.0106, rel=0.05)
    # nearest four: three times the error, paired over frames
    nearest = locate_directly(links, (0, 1, 2, 3))
    gain = nearest.square_errors_m2(TARGET_M) - errors[4]
    assert nearest.bound_m2 == pytest.approx(0.0328, rel=0.05)
    assert np.mean(gain) > 4 * np.std(gain) / np.sqrt(FRAMES)
    step = errors[4] - errors[5]
    assert np.mean(step) > 3 * np.std(step) / np.sqrt(FRAMES)
