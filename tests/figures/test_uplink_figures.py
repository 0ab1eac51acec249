"""The uplink paper's figures: numbers of the specification, what a verdict depends on, drops and the verb."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from sim.__main__ import figure
from sim.figures import uplink_claims, uplink_sweeps
from sim.figures.claims import CONVENTION, NOT, REPRODUCED
from sim.figures.uplink import compute, verdict_table
from sim.figures.uplink_pod import USERS
from sim.figures.uplink_scenario import Setting, draw_blocks, drop, gains, mean_rates, problem
from sim.figures.uplink_sweeps import Sweep, calibrated_gap, over_load
from testbed.allocation.uplink import solve
from testbed.theory.uplink import estimates
from testbed.units import db, undb
from tests.figure_verb import assert_files, assert_refused, assert_verdicts

SEED, DROPS = 0, 5


def nothing(text, total):
    """Progress that nobody watches."""
    return lambda count: None


@pytest.fixture(scope="module")
def figures():
    return compute(DROPS, 30, 2000, SEED, nothing)


@pytest.fixture(scope="module")
def evidence(figures):
    return figures.evidence


def verdict(claim, evidence):
    return uplink_claims.CLAIMS[claim][1](evidence)[0]


def planted(sweep, **factors):
    return replace(sweep, values=sweep.values | {name: sweep.values[name] * f for name, f in factors.items()})


# Numbers of the specification, of four other drops there; 6 drops here scatter by some per cent


def test_verdicts(figures):
    found = {v.claim: v.verdict for v in figures.verdicts}

    convention = {"C4.1", "C4.3", "C4.4", "C6.1", "C8.1", "C9.2"}
    assert {claim for claim, value in found.items() if value == NOT} == {"C3.2", "C9.3"}
    assert {claim for claim, value in found.items() if value == CONVENTION} - {"C7.1"} == convention
    assert list(found) == list(uplink_claims.CLAIMS)
    for claim in found:
        assert claim in verdict_table(figures)


def test_gain_of_power_control(evidence):
    gain = evidence.power.gain("lb_opa", "lb_fpa")
    for power, meant in ((6, 0.316), (8, 0.212), (10, 0.143), (12, 0.099), (15, 0.065), (20, 0.047)):
        assert gain[evidence.power.at(power)] == pytest.approx(meant, abs=0.05)
    assert uplink_claims._crossing(evidence.power.x, gain, 0.1882) == pytest.approx(8.7, abs=1.0)


def test_gains_of_combiners(evidence):
    gain = evidence.power.gain("opa_optimal", "opa_zf")
    for power, meant, spread in ((4, 0.074, 0.02), (10, 0.018, 0.006), (15, 0.005, 0.002), (30, 0.0001, 0.0001)):
        assert gain[evidence.power.at(power)] == pytest.approx(meant, abs=spread)


def test_cost_of_sensing(evidence):
    own = -evidence.power.gain("opa_optimal", "comm_optimal")
    disturbs = -evidence.echo.gain("opa_optimal_echo_disturbs", "comm_optimal")

    assert np.all((own > -0.06) & (own < -0.005))  # a gain of 1 to 5 %
    assert disturbs[-1] == pytest.approx(0.029, abs=0.006) and disturbs[0] == pytest.approx(0.041, abs=0.01)


@pytest.mark.parametrize(
    ("power", "users", "zf", "best"),
    [(10, 2, 3.95, 4.01), (10, 8, 7.13, 10.91), (10, 10, 3.63, 12.49), (20, 10, 13.6, 23.6)],
)
def test_table_of_figure_5(evidence, power, users, zf, best):
    sweep = evidence.load[power]

    assert sweep.mean("zf")[sweep.at(users)] == pytest.approx(zf, rel=0.15)
    assert sweep.mean("optimal")[sweep.at(users)] == pytest.approx(best, rel=0.10)


@pytest.mark.parametrize(("pilots", "gap"), [(4, 0.175), (10, 0.153), (16, 0.136), (20, 0.117)])
def test_calibration_of_figure_6(evidence, pilots, gap):
    assert calibrated_gap(evidence.calibration[pilots])[1] == pytest.approx(gap, abs=0.02)


def test_curves_of_figures_7_and_8(evidence):
    sensing = db(evidence.distance.mean("sensing"))
    assert sensing[0] == pytest.approx(-0.2, abs=2.5) and sensing[-1] == pytest.approx(17.8, abs=1.5)
    assert evidence.pilots.mean("optimal")[[0, -1]] == pytest.approx([15.11, 9.41], rel=0.05)
    assert evidence.pilots.mean("fpa_optimal")[:2] == pytest.approx([13.75, 14.66], rel=0.06)
    assert db(evidence.pilots.mean("sensing"))[[0, -1]] == pytest.approx([4.3, 6.1], abs=0.8)


def test_theory_is_the_trials(evidence):
    d = evidence.detection
    for K in USERS:
        # 5 binomial standard errors of 2000 trials, and 0.003 for symbols that are not orthogonal: 32 points, 1e-5
        allowed = 5 * np.sqrt(d.theory[K] * (1 - d.theory[K]) / 2000) + 0.003
        assert np.all(np.abs(d.theory[K] - d.simulated[K]) < allowed)
    assert np.max([np.abs(d.approximate[K] - d.theory[K]) for K in USERS]) == pytest.approx(0.30, abs=0.05)


# What a verdict depends on


def test_planted_errors_turn_the_verdicts(evidence):
    perfect = {p: planted(s, zf=s.values["optimal"] / s.values["zf"]) for p, s in evidence.load.items()}
    falling = np.geomspace(1, 0.1, 6)
    for claim, changed in (
        ("C4.2", replace(evidence, power=planted(evidence.power, opa_zf=1.1))),
        ("C5.2", replace(evidence, load={p: planted(s, zf=0.9) for p, s in evidence.load.items()})),
        ("C5.3", replace(evidence, load=perfect)),
        ("C6.1", replace(evidence, calibration={t: planted(s, zf=0.8) for t, s in evidence.calibration.items()})),
        ("C6.2", replace(evidence, antennas=planted(evidence.antennas, zf=0.9))),
        ("C7.1", replace(evidence, distance=planted(evidence.distance, sensing=np.geomspace(1, 0.01, 5)))),
        ("C8.2", replace(evidence, pilots=planted(evidence.pilots, sensing=falling, fpa_sensing=falling))),
    ):
        assert verdict(claim, changed) == NOT, claim
    load = {p: planted(s, mrc=s.x) for p, s in evidence.load.items()}
    assert verdict("C5.1", replace(evidence, load=load)) == NOT


def test_planted_errors_of_convergence_and_detection(evidence):
    c, d = evidence.convergence, evidence.detection
    falling = replace(c, ao=c.ao | {"15 dBm, 30 m": (7.0, 7.5, 7.4)})
    assert verdict("C3.1", replace(evidence, convergence=falling)) == NOT
    settled = replace(c, residual=dict.fromkeys(c.residual, 1e-6))
    assert verdict("C3.2", replace(evidence, convergence=settled)) == REPRODUCED
    short = replace(c, closed=[value + 1e-3 for value in c.closed])
    assert verdict("C3.3", replace(evidence, convergence=short)) == NOT
    off = replace(d, simulated={K: v + 0.05 for K, v in d.simulated.items()})
    assert verdict("C9.1", replace(evidence, detection=off)) == NOT
    alarming = replace(d, simulated_pfa={K: v + 0.002 for K, v in d.simulated_pfa.items()})
    assert verdict("C9.1", replace(evidence, detection=alarming)) == NOT
    quiet = replace(d, world_pfa={K: np.full(len(d.x), d.pfa) for K in USERS})
    assert verdict("C9.3", replace(evidence, detection=quiet)) == REPRODUCED
    sorted_theory = {K: np.sort([d.theory[k] for k in USERS], axis=0)[i] + 1e-6 * i for i, K in enumerate(USERS)}
    assert verdict("C9.2", replace(evidence, detection=replace(d, theory=sorted_theory))) == REPRODUCED
    reversed_theory = {K: sorted_theory[k] for K, k in zip(USERS, USERS[::-1], strict=True)}
    assert verdict("C9.2", replace(evidence, detection=replace(d, theory=reversed_theory))) == NOT


def test_planted_gains_turn_the_verdicts_of_figure_4(evidence):
    more = planted(evidence.power, lb_ao=1.3)
    assert verdict("C4.1", replace(evidence, power=more)) == REPRODUCED
    fpa = evidence.power.values["lb_fpa"]
    none = {name: fpa for name in ("lb_opa", "lb_ao")}
    far = {name: evidence.near_far.values["lb_fpa"] for name in ("lb_opa", "lb_ao")}
    nothing_gained = replace(
        evidence,
        power=replace(evidence.power, values=evidence.power.values | none),
        near_far=replace(evidence.near_far, values=evidence.near_far.values | far),
    )
    assert verdict("C4.1", nothing_gained) == NOT
    same = evidence.power.values["opa_optimal"] / evidence.power.values["comm_optimal"]
    costly = planted(evidence.power, comm_optimal=1.0367 * same)
    assert verdict("C4.3", replace(evidence, power=costly)) == REPRODUCED
    assert verdict("C4.4", replace(evidence, power=planted(evidence.power, opa_optimal=2.0))) == REPRODUCED
    assert verdict("C4.4", replace(evidence, power=planted(evidence.power, opa_optimal=0.1))) == NOT


def test_means_are_over_drops_known_at_every_point():
    nan = np.nan
    sweep = Sweep(
        np.array([1.0, 2, 3]), {"a": np.array([[1.0, 2, nan], [3, nan, nan], [5, 4, nan]]), "b": np.ones((3, 3))}
    )

    assert sweep.mean("a")[:2].tolist() == [3, 3] and np.isnan(sweep.mean("a")[2])
    assert sweep.gain("a", "b")[:2].tolist() == [2, 2]
    assert sweep.at(2.2) == 1


def test_a_calibration_outside_the_powers_is_no_number():
    sweep = Sweep(uplink_sweeps.CALIBRATION_DBM, {"zf": np.ones((2, 5)), "optimal": np.full((2, 5), 2.0)})

    assert np.isnan(calibrated_gap(sweep)).all()


# Drops and blocks


def test_users_of_a_drop_do_not_depend_on_their_number():
    few, many = (drop(Setting(num_users=K), 3, 7) for K in (2, 6))

    assert np.array_equal(few, many[:2])
    assert not np.array_equal(few, drop(Setting(num_users=2), 4, 7))
    assert not np.array_equal(few, drop(Setting(num_users=2), 3, 8))


def test_users_are_uniform_in_the_disc():
    places = np.concatenate([drop(Setting(), 1, n) for n in range(500)]) - [90, 0]
    square = np.sum(places**2, axis=1)

    assert np.max(square) <= 900
    # uniform square radius: mean 450, s.d. 260; 4 standard errors of 2000
    assert np.mean(square) == pytest.approx(450, abs=4 * 260 / np.sqrt(2000))
    assert np.mean(places, axis=0) == pytest.approx([0, 0], abs=4 * 15 / np.sqrt(2000))


def test_gains_are_those_of_the_distances():
    # 100 m and 80 m past the target at 20 m: 30 + 32 log10(100) dB; 30 - 3 + 22 log10(80) + 28 log10(20) dB
    beta, eta = gains(Setting(), np.array([[100.0, 0.0], [20.0, 0.0]]))

    assert db(beta[0]) == pytest.approx(-94, abs=1e-9)
    assert db(eta[0]) == pytest.approx(-27 - 22 * np.log10(80) - 28 * np.log10(20), abs=1e-9)
    assert db(eta[1]) == pytest.approx(-27 - 28 * np.log10(20), abs=1e-9)  # on the target: 1 m
    here = problem(Setting(), np.array([[100.0, 0.0]] * 4))
    assert here.min_sensing_sinr == pytest.approx(0.0995442, rel=1e-6)
    assert np.all(np.asarray(here.energy) == 100 * undb(15.0))


def test_blocks_have_the_covariances_of_the_estimates():
    here = problem(Setting(num_antennas=4), drop(Setting(), 1, 0))
    p = np.full(4, 30.0)
    drawn = draw_blocks(here, p, p, 20_000, 0)
    meant = estimates(here.statistics, p).effective / here.noise_var
    u = drawn.direct_estimate + drawn.echo_estimate
    found = np.einsum("nak,nbk->kab", u, u.conj()) / 20_000

    # an element's s.e. is the variance over 141; 6 of them, 64 elements
    assert np.max(np.abs(found - meant) / np.max(np.abs(meant), axis=(1, 2))[:, None, None]) < 6 / 141
    alone = problem(Setting(num_antennas=4), drop(Setting(), 1, 0), sensing=False)
    assert not np.any(draw_blocks(alone, p, p, 5, 0).echo)


def test_rates_of_blocks_are_above_the_bound():
    here = problem(Setting(), drop(Setting(), 1, 0))
    a = solve(here)
    drawn = draw_blocks(here, a.pilot_power, a.data_power, 200, 0)

    assert a.objective < np.sum(mean_rates(here, drawn, a.data_power, "mrc"))


def test_the_same_seed_gives_the_same_numbers():
    first, second = (over_load(10.0, 4, 2, 10, lambda count: None) for _ in range(2))

    for name in first.values:
        assert np.array_equal(first.values[name], second.values[name])


# The verb


@pytest.fixture(scope="module")
def written(figures, tmp_path_factory):
    """What the verb writes and prints, of numbers that are there already."""
    asked, out = [], tmp_path_factory.mktemp("figures") / "uplink"

    def there(*arguments):
        asked.append(arguments[:4])
        return figures

    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(io.StringIO()) as printed:
        patched.setattr("sim.figures.uplink.compute", there)
        figure("uplink", draws=3, seed=9, trials=500, reading=None, method=None, out=out, as_json=True)
    assert asked == [(3, 100, 500, 9)]
    return out, json.loads(printed.getvalue())


def test_the_verb_writes_every_figure_and_the_verdicts(written):
    out, found = written
    stems = "3_convergence", "4_power", "5_load", "6_antennas", "7_distance", "8_pilots", "9_detection"

    assert_files(out, found, stems)
    assert_verdicts(out, found, uplink_claims.CLAIMS)


def test_json_holds_settings_and_curves(written):
    _, found = written

    assert found["settings"]["drops"] == DROPS and found["settings"]["trials"] == 2000
    curve = found["curves"]["power"]
    assert len(curve["x"]) == len(curve["lb_opa"]) == len(uplink_sweeps.POWERS_DBM)
    assert curve["lb_ao"][-1] is None  # not computed at 30 dBm
    assert set(found["detection"]["theory"]) == {"1", "2", "4", "8"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draws", 1], "--draws 1: must be 2 to 100000"),
        (["--trials", 1], "--trials 1: must be 2 to 200000"),
        (["--method", "sca"], "--method sca: uplink has no method"),
        (["--reading", "all"], "--reading all: uplink has no reading"),
    ],
)
def test_a_bad_option_is_answered_in_one_line(arguments, message):
    assert_refused(message, "uplink", *arguments)
