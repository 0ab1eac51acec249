"""Best sets of nodes, users' rates and the planner on the preset's network, and the planner in the mean."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from testbed.allocation.cooperative import (
    MeanProblem,
    PairProblem,
    RateModel,
    SensingModel,
    UserChannels,
    best_by_moments,
    best_by_pairs,
    cooperative_boundary,
    least_share,
    mean_sinr,
    plan,
    region_area,
    time_sharing_boundary,
    user_rates,
)
from testbed.allocation.cooperative_mean import best_cluster
from testbed.theory.cooperative import crlb, crlb_of_information, fim_of_pairs, mean_rate, pair_information
from tests.cooperative_network import NODES, TARGET, range_variances, user_channels


@pytest.fixture(scope="module")
def network():
    return PairProblem(NODES, TARGET, range_variances(), user_channels(), 1.0, 5.0, 0.4, margin_db=0.3)


# Sets


def test_best_sets_are_the_best_of_all():
    rng = np.random.default_rng(1)
    nodes = rng.normal(size=(7, 2))
    d, th = np.hypot(*nodes.T), np.arctan2(nodes[:, 1], nodes[:, 0])
    for own_echo in (True, False):
        found = best_by_moments(d, th, 2.0, 3.0, own_echo=own_echo)
        assert found.exact and found.nodes[1] == () and found.crlb[0] == found.crlb[1] == np.inf
        for size in range(3, 8):
            all_sets = itertools.combinations(range(7), size)
            bounds = {s: crlb(nodes[list(s)], np.zeros(2), 2.0, 3.0, own_echo=own_echo) for s in all_sets}
            best = min(bounds, key=bounds.get)
            assert found.nodes[size] == best
            assert found.crlb[size] == pytest.approx(bounds[best], rel=1e-10)


def test_best_sets_over_pairs_are_the_best_of_all():
    """Links of any quality, some unusable, three target positions."""
    rng = np.random.default_rng(2)
    nodes, targets = rng.normal(size=(6, 2)), rng.normal(size=(3, 2))
    var = rng.uniform(0.5, 2.0, (3, 6, 6))
    var[:, 0, 3] = var[:, 2, 2] = np.inf
    found = best_by_pairs(pair_information(nodes, targets, var))
    for size in range(2, 7):
        bounds = {}
        for s in itertools.combinations(range(6), size):
            at = np.ix_(range(3), s, s)
            each = crlb_of_information(fim_of_pairs(nodes[list(s)], targets, var[at]))
            bounds[s] = np.exp(np.mean(np.log(each)))
        best = min(bounds, key=bounds.get)
        assert found.nodes[size] == best
        assert found.crlb[size] == pytest.approx(bounds[best], rel=1e-9)
    greedy = best_by_pairs(pair_information(nodes, targets, var), exact=False)
    assert np.all(greedy.crlb[2:] >= found.crlb[2:] * (1 - 1e-12)) and greedy.crlb[6] == pytest.approx(found.crlb[6])


def test_greedy_is_close_to_the_best_and_nearest_is_not():
    """40 layouts of 12 nodes; greedy mean <= 1.004 and worst 1.20 in 400 layouts of the specification."""
    rng = np.random.default_rng(3)
    greedy, nearest = [], []
    for _ in range(40):
        nodes = rng.uniform(-1, 1, (12, 2))
        d, th = np.hypot(*nodes.T), np.arctan2(nodes[:, 1], nodes[:, 0])
        best = best_by_moments(d, th).crlb[3:7]
        greedy.append(best_by_moments(d, th, exact=False).crlb[3:7] / best)
        order = np.argsort(d)
        nearest.append([crlb(nodes[order[:size]], np.zeros(2)) for size in range(3, 7)] / best)

    assert np.min(greedy) > 1 - 1e-12 and np.mean(greedy) < 1.02 and np.max(greedy) < 1.3
    assert np.min(nearest) > 1 - 1e-12
    assert 1.01 < np.median(np.array(nearest)[:, 0]) < 1.3 and np.max(nearest) > 2


def test_without_own_echoes_greedy_begins_with_three():
    rng = np.random.default_rng(4)
    nodes = rng.normal(size=(18, 2))
    found = best_by_moments(np.hypot(*nodes.T), np.arctan2(nodes[:, 1], nodes[:, 0]), own_echo=False)

    assert not found.exact and found.crlb[2] == np.inf
    assert np.all(np.diff(found.crlb[3:]) < 0) and [len(s) for s in found.nodes[3:]] == list(range(3, 19))


# Users


def test_rates_of_one_server_are_those_of_its_sinr():
    users = user_channels()
    for share in (0.1, 0.5, 1.0):
        assert user_rates(users, 1, share) == pytest.approx(np.log2(1 + mean_sinr(users, 1, share)), rel=1e-12)
    strongest = 10 * np.log10(np.max(users.gain, axis=0) / users.noise_var)
    assert strongest == pytest.approx([9.8, 7.9, 10.8, 27.6], abs=0.45)  # the scene's, before quantisation


def test_mean_sinr_is_an_upper_bound_and_all_are_concave_in_the_share():
    for waveform in ("slots", "superposition"):
        users = user_channels(waveform)
        for size in (1, 2, 4, 8):
            share = np.linspace(0, 1, 21)
            rates = np.array([user_rates(users, size, p) for p in share])
            bound = np.array([np.log2(1 + mean_sinr(users, size, p)) for p in share])
            assert np.all(rates <= bound * (1 + 1e-3)) and np.all(rates[1:] > 0.8 * bound[1:])
            assert np.all(rates[0] == 0) and np.all(np.diff(rates, axis=0) > 0)
            assert np.all(np.diff(rates, 2, axis=0) < 1e-12)


def test_two_servers_with_uniform_phases_have_a_closed_form():
    """E ln(a + b cos phi) = ln((a + sqrt(a^2 - b^2)) / 2)."""
    users = UserChannels(np.array([[3.0], [1.5], [0.4]]), 0.7)
    share, left = 0.6, 0.6 * 0.4 + 0.7
    a, b = 1 + share * 4.5 / left, 2 * share * np.sqrt(4.5) / left

    expected = np.log2((a + np.sqrt(a * a - b * b)) / 2)
    assert user_rates(users, 2, share)[0] == pytest.approx(expected, rel=1e-3)
    weaker = UserChannels(np.array([[3.0], [1.5], [0.4]]) * [[0.5], [0.5], [1.0]], 0.7)
    assert user_rates(users, 2, share, margin_db=10 * np.log10(2)) == pytest.approx(
        user_rates(weaker, 2, share), rel=1e-9
    )


def test_known_channels_are_averaged_over_subcarriers_and_cover():
    rng = np.random.default_rng(5)
    h = rng.normal(size=(3, 2, 16)) + 1j * rng.normal(size=(3, 2, 16))
    gain = np.mean(np.abs(h) ** 2, axis=2)
    users = UserChannels(gain, 0.5, h, cover_len=8)
    order = np.argsort(-gain[:, 1])
    total = np.zeros((16, 8))
    for m in range(8):
        total[:, m] = np.abs(sum(h[node, 1] * np.exp(2j * np.pi * node * m / 8) for node in order[:2])) ** 2
    left = 0.3 * gain[order[2], 1] + 0.5

    assert user_rates(users, 2, 0.3)[1] == pytest.approx(np.mean(np.log2(1 + 0.3 * total / left)), rel=1e-12)


def test_least_share_reaches_the_floor_and_no_less_does():
    users = user_channels()
    for size in (2, 4):
        share = least_share(users, size, 1.0, 0.3)
        assert np.min(user_rates(users, size, share, 0.3)) == pytest.approx(1.0, abs=1e-9)
        assert np.min(user_rates(users, size, share * (1 - 1e-6), 0.3)) < 1
    assert np.isnan(least_share(users, 1, 3.0)) and least_share(users, 1, 0.0) == 0.0


def test_shares_of_the_scene_document():
    """Its measured channels have phases of their own: 4 % from the mean over phases."""
    slots, superposition = user_channels(), user_channels("superposition")
    sizes = (1, 2, 3, 4, 8)

    assert [least_share(slots, L, 1.0) for L in sizes] == pytest.approx([0.535, 0.221, 0.176, 0.161, 0.142], rel=0.04)
    found = [least_share(superposition, L, 1.0) for L in sizes]
    assert found == pytest.approx([0.921, 0.437, 0.291, 0.236, 0.142], rel=0.04)
    smallest = [[np.min(user_rates(slots, L, p)) for p in (0.1, 0.25, 0.5, 1.0)] for L in (1, 2, 4, 8)]
    document = [[0.54, 0.88, 0.99, 1.05], [0.61, 1.09, 1.42, 1.70], [0.73, 1.29, 1.75, 2.29], [0.80, 1.41, 2.08, 2.84]]
    assert np.array(smallest) == pytest.approx(np.array(document), rel=0.04)


# The preset


def test_links_of_the_scene_document():
    var = range_variances()
    lost = {(i, j) for i in range(8) for j in range(i, 8) if not np.isfinite(var[i, j])}

    assert np.sum(np.isfinite(var)) == 48 and var == pytest.approx(var.T, rel=1e-9)
    assert lost == {(0, 2), (0, 4), (1, 2), (1, 6), (2, 3), (2, 5), (3, 4), (4, 5)}
    std = np.sqrt(var[np.isfinite(var)])
    assert (np.min(std), np.max(std)) == pytest.approx((0.23, 0.66), abs=0.015)


def test_plan_of_the_preset(network):
    """R = 1, C = 5, e = 0.4: L = 2, p^c = 0.241, N = 7, CRLB 0.0065 m^2 in the scene document."""
    found = plan(network)

    assert found.status == "optimal" and found.comm_cluster_size == 2
    assert found.sensing_nodes == (0, 1, 2, 3, 5, 6, 7)
    assert found.comm_power_share == pytest.approx(0.241, abs=0.006)
    assert found.crlb == pytest.approx(0.0065, rel=0.03)
    assert found.rates == pytest.approx([1.20, 1.05, 1.94, 4.96], rel=0.02)
    assert found.backhaul == pytest.approx(2 * 1.0 + 7 * 0.4) and found.backhaul <= 5
    by_size = {option.comm_cluster_size: option for option in found.options}
    assert [len(by_size[L].sensing_nodes) for L in (1, 2, 3, 4, 5)] == [8, 7, 5, 2, 0]
    assert [by_size[L].crlb for L in (3, 4)] == pytest.approx([0.0087, 0.048], rel=0.04)
    assert by_size[1].comm_power_share > 0.85 and by_size[1].crlb > 0.03
    json.dumps(found.to_dict(), allow_nan=False)


def test_crlbs_of_the_scene_document(network):
    sets = network.best_sets()

    assert sets.crlb[3:] == pytest.approx([0.0188, 0.0106, 0.0070, 0.0057, 0.0049, 0.0046], rel=0.03)
    assert sets.nodes[4] == (0, 1, 6, 7) and sets.nodes[7] == (0, 1, 2, 3, 5, 6, 7)
    used = np.array(sets.nodes[5])
    F = fim_of_pairs(NODES[used], TARGET, range_variances()[np.ix_(used, used)])
    assert sets.crlb[5] == pytest.approx(crlb_of_information(F), rel=1e-10)


def test_other_requirements_of_the_scene_document(network):
    more = plan(replace(network, min_rate_bps_hz=1.5, backhaul_bps_hz=6.0))
    assert more.comm_cluster_size == 2 and more.sensing_nodes == (0, 1, 2, 3, 5, 6, 7)
    assert more.comm_power_share == pytest.approx(0.695, abs=0.015) and more.crlb == pytest.approx(0.0162, rel=0.05)
    once = plan(replace(network, backhaul_bps_hz=3.0, count_copies=False))
    assert once.comm_cluster_size == 8 and once.sensing_nodes == (0, 1, 3, 6, 7)
    assert once.comm_power_share == pytest.approx(0.152, abs=0.005) and once.crlb == pytest.approx(0.0083, rel=0.02)


@pytest.mark.parametrize(
    ("dead", "size", "share", "num", "crlb_m2"),
    [(7, 3, 0.52, 5, 0.022), (1, 4, 0.79, 2, 0.19), (0, 2, 0.208, 7, 0.0076), (6, 2, 0.241, 7, 0.0101)],
)
def test_a_dead_node_is_planned_around(network, dead, size, share, num, crlb_m2):
    found = plan(replace(network, live=np.arange(8) != dead))

    assert dead not in found.sensing_nodes and len(found.sensing_nodes) == num
    assert found.comm_cluster_size == size
    assert found.comm_power_share == pytest.approx(share, abs=0.012)
    assert found.crlb == pytest.approx(crlb_m2, rel=0.05)
    assert min(found.rates) > 1.0


def test_a_plan_beats_every_other_choice(network):
    """All L, all sets, at and above the least share: nothing that meets the requirements has a smaller bound."""
    found = plan(network)
    sets = network.best_sets()
    for L in range(1, 9):
        share = least_share(network.users, L, 1.0, 0.3)
        for extra in (0.0, 0.05):
            room = (5.0 - L) / 0.4
            for num in range(2, 9):
                if num <= room + 1e-9 and share + extra < 1:
                    assert sets.crlb[num] / (1 - share - extra) >= found.crlb * (1 - 1e-9)


def test_infeasible_plans_say_what_would_do(network):
    rate = plan(replace(network, min_rate_bps_hz=3.0, backhaul_bps_hz=30.0))
    assert rate.status == "infeasible" and rate.sensing_nodes == () and rate.crlb == np.inf
    assert "R: a rate of 3 bit/s/Hz with 0.3 dB margin" in rate.note and "user 1 reaches 2.799" in rate.note
    assert plan(replace(network, min_rate_bps_hz=2.79, backhaul_bps_hz=30.0)).status == "optimal"

    once = plan(replace(network, backhaul_bps_hz=1.7, count_copies=False))
    assert "C: the backhaul carries 1.7 bit/s/Hz, 1.8 are needed" in once.note and "a rate of 0.9" in once.note
    for change in ({"backhaul_bps_hz": 1.8}, {"min_rate_bps_hz": 0.9, "backhaul_bps_hz": 1.7}):
        assert plan(replace(network, count_copies=False, **change)).status == "optimal"

    copies = plan(replace(network, min_rate_bps_hz=1.5, backhaul_bps_hz=3.5))  # L = 1 cannot reach 1.5
    assert "3.8 are needed (L R = 2 x 1.5 for data and 2 sensing nodes at 0.4)" in copies.note
    assert plan(replace(network, min_rate_bps_hz=1.5, backhaul_bps_hz=3.8)).status == "optimal"

    blind = plan(replace(network, range_var_m2=np.full((8, 8), np.inf)))
    assert "no set of nodes locates the target" in blind.note
    json.dumps(blind.to_dict(), allow_nan=False)


def test_faulty_problems_are_refused(network):
    for change, message in (
        ({"backhaul_bps_hz": -1.0}, "backhaul_bps_hz: found -1"),
        ({"range_var_m2": np.zeros((8, 8))}, r"range_var\[0, 0\]: found 0; must be above 0"),
        ({"range_var_m2": np.ones((7, 7))}, "range_var: found shape"),
        ({"live": np.ones(7, dtype=bool)}, "must be of 8 nodes"),
        ({"target_position_m": NODES[3]}, "no node may stand on it"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(network, **change)
    with pytest.raises(ValueError, match="gain: found shape"):
        UserChannels(np.ones(3), 1.0)
    with pytest.raises(ValueError, match="noise_var"):
        UserChannels(np.ones((3, 2)), 0.0)
    with pytest.raises(ValueError, match="waveform 'both'"):
        UserChannels(np.ones((3, 2)), 1.0, waveform="both")
    with pytest.raises(ValueError, match="response: found shape"):
        UserChannels(np.ones((3, 2)), 1.0, np.ones((2, 2, 5)))


# In the mean


def test_separation_finds_the_optimum_of_a_grid():
    """All N, L near the best and p^c on a grid of 0.01, by brute force."""
    problem = MeanProblem(2.5, backhaul=5.5)
    found = plan(problem)
    best = np.inf
    for L in range(7, 15):
        for share in np.linspace(0.01, 0.5, 50):
            if problem.rate.rate(L, share) >= 2.5:
                sizes = np.arange(2, 11)  # (5.5 - 2.5) / 0.3
                best = min(best, float(np.min(problem.sensing.crlb(sizes))) / (1 - share))
                break

    assert found.status == "optimal" and len(found.sensing_nodes) == 10 and found.rates == pytest.approx((2.5,))
    assert found.crlb <= best * (1 + 1e-12) and best < 1.02 * found.crlb
    kappa_free = mean_rate(found.comm_cluster_size, found.comm_power_share, acceptance=1.0)
    assert kappa_free > 2.5


def test_every_copy_counted_couples_the_clusters():
    copies = plan(MeanProblem(1.0, count_copies=True))
    once = plan(MeanProblem(1.0))

    assert 1 < copies.comm_cluster_size < once.comm_cluster_size and copies.crlb >= once.crlb
    assert copies.backhaul <= 6
    assert copies.crlb == min(option.crlb for option in copies.options)


def test_given_nodes_take_the_place_of_the_mean_layout():
    rng = np.random.default_rng(6)
    nodes = rng.normal(size=(12, 2))
    found = plan(MeanProblem(2.0, backhaul=3.5, node_position=nodes, target_position=np.zeros(2)))

    assert len(found.sensing_nodes) == 5
    bound = crlb(nodes[list(found.sensing_nodes)], np.zeros(2))
    assert found.crlb == pytest.approx(bound / (1 - found.comm_power_share), rel=1e-10)
    order = np.argsort(np.hypot(*nodes.T))[:5]
    assert bound <= crlb(nodes[order], np.zeros(2)) * (1 + 1e-12)


def test_infeasible_in_the_mean():
    largest = best_cluster(RateModel())[1]
    rate, backhaul = plan(MeanProblem(5.5)), plan(MeanProblem(2.0, backhaul=2.3))

    assert "R: a mean rate of 5.5 nats/s/Hz" in rate.note and f"{largest:.4g} is the most" in rate.note
    assert "C: the backhaul carries 2.3 nats/s/Hz, 2.6 are needed" in backhaul.note and "1.7" in backhaul.note
    assert plan(MeanProblem(2.0, backhaul=2.6)).status == "optimal"
    copies = plan(MeanProblem(4.0, backhaul=6.0, count_copies=True))
    assert copies.status == "infeasible" and "L R =" in copies.note


@pytest.mark.parametrize("backhaul", [3.0, 5.0, 8.0])
def test_the_cooperative_region_contains_time_sharing_under_joint_accounting(backhaul):
    """Claim F7, in both sensing models; under slot accounting it fails below C = 6 or 8."""
    for form in ("law", "mean_distance"):
        sensing = SensingModel(view="station", form=form)
        problem = MeanProblem(1.0, backhaul, rate=RateModel(view="printed"), sensing=sensing)
        rates = np.linspace(0.0, 5.0, 26)
        own = cooperative_boundary(problem, rates)
        joint, slot = (time_sharing_boundary(problem, rates, accounting) for accounting in ("joint", "slot"))

        assert np.all(own <= joint * (1 + 1e-9))
        assert np.any(own < 0.9 * joint)
        assert np.all(slot <= joint * (1 + 1e-12))
        assert np.all(own <= slot * (1 + 1e-9)) == (backhaul >= 8)
        assert np.isinf(own[-1]) == (backhaul < 5.6)


def test_areas_of_the_specification():
    """Claims F6 and F8 at C = 6 with (16): ratios 1.38 and 2.31; its 218 has the printed constant 1."""
    problem = MeanProblem(1.0, 6.0, rate=RateModel(view="printed"), sensing=SensingModel(view="station", form="law"))
    rates = np.linspace(0.0, best_cluster(problem.rate)[1], 50)
    areas = [
        region_area(rates, crlb)
        for crlb in (
            cooperative_boundary(problem, rates),
            time_sharing_boundary(problem, rates, "slot"),
            time_sharing_boundary(problem, rates, "joint"),
        )
    ]

    assert 2 * areas[0] == pytest.approx(218, rel=0.02)
    assert areas[0] / areas[1] == pytest.approx(1.38, abs=0.03)
    assert areas[0] / areas[2] == pytest.approx(2.31, abs=0.05)
