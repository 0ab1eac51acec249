"""The cooperative paper's figures: numbers of the specification, what a verdict depends on, and the verb.

Statistical tests: fixed seeds, four standard errors where not said otherwise, 6e-5 each to fail if the code is right.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from sim.figures import cooperative, cooperative_sweeps
from sim.figures.claims import CONVENTION, NOT, REPRODUCED, judge
from sim.figures.cooperative_claims import CLAIMS, Evidence
from sim.figures.cooperative_scenario import layouts, shared_field, user_rates
from sim.figures.cooperative_sweeps import BACKHAULS, LOADS, SHARES
from testbed.theory.cooperative import acceptance, mean_crlb
from tests.figure_verb import assert_files, assert_refused, assert_verdicts, figures_written, rows_of

SEED, DRAWS = 5, 20_000

VERDICTS = {
    "F1": REPRODUCED,
    "F1b": NOT,
    "F2": NOT,
    "F3": REPRODUCED,
    "F4": REPRODUCED,
    "F4b": CONVENTION,
    "F5": CONVENTION,
    "F6": REPRODUCED,
    "F7": CONVENTION,
    "F8": CONVENTION,
    "F9": CONVENTION,
}


def nothing(count):
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def figures():
    return cooperative.compute(DRAWS, SEED, lambda text, total: nothing)


@pytest.fixture(scope="module")
def evidence(figures):
    return figures.evidence


def verdict(claim, evidence):
    (found,) = [v for v in judge(CLAIMS, evidence) if v.claim == claim]
    return found


# Numbers of the specification


def test_table_of_figure_2(evidence):
    """400000 draws there; means from N = 6 on, where their variance is finite, medians throughout."""
    found = evidence.bounds
    for N, mean, median, by_12, by_13 in (
        (2, None, 0.1239, 0.05991, 0.09006),
        (3, None, 0.0524, 0.04182, 0.06029),
        (4, None, 0.0354, 0.03329, 0.04669),
        (6, 0.0479, 0.0233, 0.02492, 0.03376),
        (10, 0.02705, 0.01565, 0.01811, 0.02362),
        (15, 0.01904, 0.01212, 0.01447, 0.01840),
        (20, 0.01537, 0.01035, 0.01250, 0.01566),
        (30, 0.01178, 0.00848, 0.01034, 0.01270),
    ):
        assert found.num_nodes[N - 2] == N
        # a median of 20000 has a standard error of 1 to 2 %
        assert found.median[N - 2] == pytest.approx(median, rel=0.06)
        if mean is not None:
            assert found.mean[N - 2] == pytest.approx(mean, abs=4.2 * found.stderr[N - 2])
        assert mean_crlb(N) == pytest.approx(by_12, rel=1e-3)
        assert mean_crlb(N, form="mean_square") == pytest.approx(by_13, rel=1e-3)
    assert np.all(found.median < found.trimmed) and np.all(found.trimmed < found.mean)


def test_tail_indices(evidence):
    """(N - 1) / 2, erratum 2; Hill's estimate of 200 values scatters by 7 % and is a little high."""
    for size, index in evidence.bounds.tail_index.items():
        assert index == pytest.approx((size - 1) / 2, rel=0.35)
    assert evidence.bounds.tail_index[2] < 0.7 < evidence.bounds.tail_index[3]


def test_best_cluster_of_the_simulated_field(evidence):
    """13, or 11 to 14 with few layouts: the bottom is flat."""
    found = evidence.shared
    for curve in (found.median, found.trimmed):
        assert 10 <= found.num_nodes[np.argmin(curve)] <= 15
    # 8 tori of 400 stations: the acceptance at N = 15 scatters by 1 %
    at = found.num_nodes == 15
    assert found.accepted[at] == pytest.approx(0.884, abs=0.05)
    assert found.accepted[at] < acceptance(15, 1.0, 15, view="station")


def test_best_clusters_of_figure_4(evidence):
    best = {name: 1 + np.argmax(getattr(evidence.rates, name), axis=2) for name in ("theorem2", "exact")}

    assert best["theorem2"].tolist() == [[L] * len(SHARES) for L in (22, 12, 6, 5, 3)]
    assert best["exact"].tolist() == [[L] * len(SHARES) for L in (23, 13, 7, 5, 4)]


def test_areas_of_figure_5(evidence):
    """The specification's areas have the printed constant, so half of them; its ratios do not know it."""
    found = verdict("F6", evidence).numbers
    for C, area in zip(BACKHAULS, (66.8, 120, 175, 218, 254, 256), strict=True):
        assert 2 * found[f"area_at_{C:g}"] == pytest.approx(area, rel=0.02)
    ratios = verdict("F8", evidence).numbers
    for C, slot, joint in zip(
        BACKHAULS, (0.86, 0.99, 1.12, 1.38, 1.61, 1.62), (2.60, 2.61, 2.53, 2.31, 1.82, 1.62), strict=True
    ):
        assert ratios[f"slot_at_{C:g}"] == pytest.approx(slot, rel=0.02)
        assert ratios[f"joint_at_{C:g}"] == pytest.approx(joint, rel=0.02)
    assert verdict("F7", evidence).numbers["least_backhaul_slot"] == 8


# Claims


def test_verdicts(figures):
    assert {v.claim: v.verdict for v in figures.verdicts} == VERDICTS


def test_planted_errors_turn_the_verdicts(evidence):
    bounds, rates, shared = evidence.bounds, evidence.rates, evidence.shared
    halved = replace(evidence, bounds=replace(bounds, far_mean=bounds.far_mean / 2))
    assert verdict("F1", halved).verdict == NOT and verdict("F1b", halved).verdict == REPRODUCED
    tame = replace(bounds, tail_index={2: 3.0, 3: 3.0, 4: 3.0}, mean=1.1 * mean_crlb(bounds.num_nodes))
    assert verdict("F2", replace(evidence, bounds=tame)).verdict == REPRODUCED
    steep = replace(bounds, mean=bounds.mean * 0.9**bounds.num_nodes)
    assert verdict("F3", replace(evidence, bounds=steep)).verdict == NOT
    other = rates.exact.copy()
    other[2, 1, 2] = 99.0
    assert verdict("F4", replace(evidence, rates=replace(rates, exact=other))).verdict == NOT
    assert verdict("F4", replace(evidence, rates=replace(rates, exact=rates.exact[::-1]))).verdict == NOT
    off = replace(rates, exact=rates.exact * 1.05)
    assert verdict("F4b", replace(evidence, rates=off)).verdict == NOT
    better = replace(rates, theorem2=rates.exact, drawn={k: (rates.exact[at(k)], 1e-2) for k in rates.drawn})
    assert verdict("F4b", replace(evidence, rates=better)).verdict == REPRODUCED
    assert verdict("F5", replace(evidence, shared=replace(shared, median=-shared.median))).verdict == CONVENTION
    fixed = {C: evidence.regions[6.0] for C in BACKHAULS}
    assert verdict("F6", replace(evidence, regions=fixed)).verdict == NOT
    assert verdict("F8", replace(evidence, regions=fixed)).verdict == REPRODUCED
    dented = evidence.regions | {
        5.0: replace(evidence.regions[5.0], cooperative=evidence.regions[5.0].cooperative * 1.2)
    }
    assert verdict("F7", replace(evidence, regions=dented)).verdict == NOT
    high = {C: evidence.regions[C] for C in (8.0, 10.0)}
    assert verdict("F7", replace(evidence, regions=high)).verdict == REPRODUCED


def at(point):
    load, share, L = point
    return LOADS.index(load), SHARES.index(share), L - 1


def test_exact_rates_are_the_drawn_ones(evidence):
    for point, (mean, stderr) in evidence.rates.drawn.items():
        assert abs(evidence.rates.exact[at(point)] - mean) < 4 * stderr


# Draws


def test_arrivals_are_those_of_a_poisson_field():
    arrival, bearing = layouts(np.random.default_rng(1), 20_000, 8)

    assert np.mean(arrival, axis=0) == pytest.approx(np.arange(1, 9), abs=4 * np.sqrt(8 / 20_000))
    assert abs(np.mean(np.exp(1j * bearing))) < 4 / np.sqrt(bearing.size)


def test_draws_do_not_know_the_density_of_the_field():
    """Chunks or not: the same number of draws; refusing all leaves the nearest."""
    alone = user_rates(np.random.default_rng(2), 30_000, 1, 0.5, 1.0)
    refused = user_rates(np.random.default_rng(3), 30_000, 6, 0.5, 0.0)
    spread = 4 * np.sqrt((np.var(alone) + np.var(refused)) / 30_000)

    assert len(alone) == 30_000 and np.mean(alone) == pytest.approx(np.mean(refused), abs=spread)


def test_blocks_are_given_out_to_the_last():
    """With one block every asked station serves exactly one request, with many nobody is refused."""
    field = shared_field(np.random.default_rng(4), 100, 6, 2.0, 1)
    assert np.all(np.diff(field.accepted) < 0)
    generous = shared_field(np.random.default_rng(4), 100, 6, 2.0, 1000)
    assert np.all(generous.accepted == 1) and np.all(generous.crlb <= field.crlb)
    # mean load times share accepted: at most one block is used
    assert np.all(field.accepted * field.mean_load <= 1 + 1e-12)
    assert field.accepted[-1] * field.mean_load[-1] > 0.98


def test_a_trimmed_mean_leaves_out_the_largest():
    values = np.append(np.ones(99), 1e9)
    assert cooperative_sweeps.trimmed(values) == 1.0
    assert cooperative_sweeps.trimmed(np.stack([values, 2 * values])).tolist() == [1.0, 2.0]


def test_hill_finds_the_index_of_a_pareto_law():
    values = np.random.default_rng(5).pareto(1.5, 100_000) + 1
    assert cooperative_sweeps._hill(values) == pytest.approx(1.5, abs=4 * 1.5 / np.sqrt(1000))


def test_the_same_seed_gives_the_same_draws(evidence):
    again = cooperative_sweeps.bounds(SEED, DRAWS, nothing)

    assert np.array_equal(again.mean, evidence.bounds.mean) and again.tail_index == evidence.bounds.tail_index
    assert not np.array_equal(cooperative_sweeps.bounds(SEED + 1, 100, nothing).mean, again.mean)
    assert isinstance(evidence, Evidence)


# Files and the verb


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("figures") / "cooperative"
    return out, figures_written(out, "cooperative", "--draws", 2, "--seed", 3)


def test_the_verb_writes_every_figure_and_the_verdicts(written):
    out, found = written

    assert_files(out, found, ("2_bound", "3_acceptance", "4_rate", "5_region"))
    assert_verdicts(out, found, VERDICTS)
    curves = {row["curve"] for row in rows_of(out / "2_bound.csv")}
    assert {"(12)", "(14) as printed", "drawn mean", "drawn median"} <= curves
    schemes = {row["scheme"] for row in rows_of(out / "5_region.csv")}
    assert schemes == {"cooperative", "time sharing, slot", "time sharing, joint"}


def test_the_table_names_every_claim(figures):
    table = cooperative.verdict_table(figures)
    assert all(f"\n{claim}: " in table for claim in VERDICTS)


def test_json_is_plain(figures):
    found = json.loads(json.dumps(figures.to_dict(), allow_nan=False))

    assert found["settings"]["draws"] == DRAWS and set(found["curves"]) == {"bound", "acceptance", "rate", "region"}
    assert len(found["curves"]["region"]["6"]["rates"]) == cooperative_sweeps.NUM_RATES
    assert None in found["curves"]["region"]["3"]["cooperative"]  # inf where there is no plan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cooperative", "--trials", 10], "--trials 10: cooperative has no trials; leave it out"),
        (["cooperative", "--draws", 1], "--draws 1: must be 2 to 100000"),
        (["nothing"], "figure 'nothing': must be comp, localization, uplink or cooperative"),
    ],
)
def test_a_bad_option_is_answered_in_one_line(arguments, message):
    assert_refused(message, *arguments)
