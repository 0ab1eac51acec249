"""Gains, links and responses measured on captures of the reference scene, against the truth of the scene.

Tolerances are in the instrument's own standard errors; a test of m quantities at 4.5 of them fails by chance with
probability below m * 7e-6. Seeds are fixed.
"""

from dataclasses import replace

import numpy as np
import pytest

from sim.truth import truth
from testbed.capture import Capture
from testbed.errors import CaptureError, SyncError
from testbed.experiment.prediction import comm_sinr, predict, sensing_snr
from testbed.measurement import Estimate, Measurement
from testbed.sensing.channel import unbiased_power, unit_drive
from testbed.sensing.link import SHOWN_SYMBOLS, measure_link
from testbed.sensing.measure import Measured, measure
from testbed.units import db, undb
from tests.scenes import capture_comp, comp_experiment, comp_scene, everyone

POWERS_DBM = (-5.0, -6.5, -4.0)
STDERRS = 4.5
GAINS_DB = {"bs1": 40.0, "bs2": 40.0, "bs3": 40.0, "u1": 43.0, "u2": 43.0, "u3": 43.0}


@pytest.fixture(scope="module")
def capture() -> Capture:
    return capture_comp(power_dbm=POWERS_DBM, num_frames=1000, listening=everyone())


@pytest.fixture(scope="module")
def measured(capture: Capture) -> Measured:
    return measure(capture)


@pytest.fixture(scope="module")
def exact() -> Measurement:
    powers = [[float(undb(p)) for p in POWERS_DBM]]
    return truth(comp_scene(), comp_experiment(), GAINS_DB, powers).points[0]


def within(estimate: Estimate, true: float, stderrs: float = STDERRS) -> bool:
    return abs(estimate.value - true) <= stderrs * estimate.stderr


def test_the_gain_of_every_path_is_the_true_one_within_its_standard_error(
    measured: Measured, exact: Measurement
) -> None:
    true = {(p.tx, p.rx, p.kind, p.via): p.power_gain.value for p in exact.paths if p.power_gain}
    paths = measured.measurement.paths
    assert {(p.tx, p.rx, p.kind, p.via) for p in paths} == set(true)
    deviations = []
    for path in paths:
        assert path.power_gain is not None
        # echoes a resolution cell apart and the converter's own rounding stay below the error
        deviations.append(
            (path.power_gain.value - true[path.tx, path.rx, path.kind, path.via]) / path.power_gain.stderr
        )
    weak = [d for d, p in zip(deviations, paths, strict=True) if p.kind in ("echo", "clutter")]
    assert np.max(np.abs(weak)) < STDERRS
    # standard errors are neither too small nor too large: 45 of them
    assert 0.7 < np.std(weak) < 1.4


def test_strong_paths_are_found_to_two_hundredths_of_a_decibel(measured: Measured, exact: Measurement) -> None:
    true = {(p.tx, p.rx, p.kind): p.power_gain.value for p in exact.paths if p.power_gain and p.via is None}
    for path in measured.measurement.paths:
        if path.kind == "self" or (path.rx[0] == "u" and path.rx[1] == path.tx[2]):
            assert path.power_gain is not None
            assert abs(db(path.power_gain.value / true[path.tx, path.rx, path.kind])) < 0.02


def test_effective_gains_agree_with_truth(measured: Measured, exact: Measurement) -> None:
    for table in ("sensing", "communication"):
        for name, response in getattr(measured.measurement, table).items():
            true = getattr(exact, table)[name]
            assert response.num_observations == true.num_observations
            assert response.serving == true.serving
            for tx, gain in response.gain.items():
                if gain.stderr < 0.05 * gain.value:
                    assert abs(db(gain.value / true.gain[tx].value)) < 0.5, (name, tx)
                # the strongest are known so well that the interpolation of a delay shows before their noise
                assert within(gain, true.gain[tx].value) or abs(db(gain.value / true.gain[tx].value)) < 0.02


def test_the_gram_matrix_gives_the_noncentrality_that_the_frames_show(measured: Measured) -> None:
    m = measured.measurement
    for cell, response in m.sensing.items():
        expected = sensing_snr(response, np.array(m.power), m.noise_var[response.node])
        lam = m.noncentrality[cell]
        per_lam = 1 / (2 * response.num_observations)
        error = np.hypot(expected.stderr, lam.stderr * per_lam)
        assert abs(expected.value - lam.value * per_lam) < STDERRS * error


def test_gains_alone_would_mistake_the_snr_more_than_the_gram_matrix_does(
    measured: Measured, exact: Measurement
) -> None:
    # why the prediction is no sum of gains: correlated frames
    power = np.array(exact.power)
    off = []
    for cell, response in exact.sensing.items():
        linear = sum(response.gain[tx].value * p for tx, p in zip(exact.node_names, power, strict=True))
        noise = exact.noise_var[response.node]
        off.append(abs(db(linear / noise.value / sensing_snr(response, power, noise).value)))
        found = measured.measurement.sensing[cell]
        assert abs(db(sensing_snr(found, power, noise).value / sensing_snr(response, power, noise).value)) < 0.1
    assert max(off) > 0.15


@pytest.mark.parametrize("kind", ["data_sinr", "pilot_sinr"])
def test_the_sinr_of_every_user_is_the_true_one(measured: Measured, exact: Measurement, kind: str) -> None:
    for user, link in measured.measurement.links.items():
        response = exact.communication[user]
        true = comm_sinr(response, np.array(exact.power), exact.noise_var[user], exact.node_names).value
        found: Estimate = getattr(link, kind)
        # pilots meet other symbols of the interferers than data do: 0.2 dB between 17 elements and 312
        assert abs(db(found.value / true)) < (0.05 if kind == "data_sinr" else 0.2), user


def test_the_error_of_a_data_aided_sinr_is_that_of_repeated_captures() -> None:
    values, stderrs = [], []
    for seed in range(12):
        taken = capture_comp(num_frames=60, listening=everyone(), scene=comp_scene(seed=100 + seed))
        sinr = measure_link(taken, "u2").measurement.data_sinr
        values.append(sinr.value)
        stderrs.append(sinr.stderr)
    # the ratio of a standard deviation of 12 to its mean estimate lies in 0.4..1.8 with probability 0.9995
    assert 0.4 < np.std(values, ddof=1) / np.mean(stderrs) < 1.8


def test_decisions_are_counted_against_the_symbols_that_were_sent(measured: Measured) -> None:
    for link in measured.links:
        found = link.measurement
        expected_ber = {"u1": (0, 1e-4), "u2": (0.02, 0.15), "u3": (0.02, 0.15)}[link.user]
        assert expected_ber[0] <= found.bit_error_rate.value <= expected_ber[1]
        assert found.bit_error_rate.value <= found.symbol_error_rate.value <= 2 * found.bit_error_rate.value + 1e-12
        # mistaken symbols look nearer than they are
        assert found.decision_sinr.value >= found.data_sinr.value * (1 - 1e-2)
        assert link.symbols.size == link.symbol_index.size == SHOWN_SYMBOLS


def test_decision_directed_reads_decibels_too_high_where_symbols_are_mistaken(measured: Measured) -> None:
    link = next(link for link in measured.links if link.user == "u3")
    assert db(link.measurement.decision_sinr.value / link.measurement.data_sinr.value) > 0.5


def test_the_mean_error_vector_is_the_inverse_of_the_sinr(measured: Measured) -> None:
    for link in measured.links:
        assert abs(np.mean(link.error_power) * link.measurement.data_sinr.value - 1) < 0.01


def test_noise_left_by_the_fit_is_the_receiver_s_own(measured: Measured) -> None:
    m = measured.measurement
    for name in everyone():
        residual = m.residual_noise_var[name]
        assert abs(residual.value / m.noise_var[name].value - 1) < max(
            0.005, STDERRS * residual.stderr / residual.value
        )


def test_a_prediction_for_other_powers_is_what_a_capture_at_these_powers_shows(measured: Measured) -> None:
    elsewhere = (-3.5, -5.0, -6.0)
    taken = measure(capture_comp(power_dbm=elsewhere, num_frames=1000, listening=everyone(), scene=comp_scene(seed=7)))
    found = taken.measurement
    expected = predict(measured.measurement, np.array(found.power), "known_noise", 1e-6)
    for cell, response in found.sensing.items():
        snr = found.noncentrality[cell].value / (2 * response.num_observations)
        assert abs(db(expected.sensing_snr[cell].value / snr)) < 0.2
        assert 0 <= expected.pod[cell] <= 1
    for user, link in found.links.items():
        assert abs(db(expected.comm_sinr[user].value / link.data_sinr.value)) < 0.1
        assert expected.rate_bps_hz[user] == pytest.approx(np.log2(1 + expected.comm_sinr[user].value))


def test_a_silent_node_keeps_its_last_gain_and_counts_its_age(measured: Measured) -> None:
    # u3 and t3 live on bs3; bs1 is switched off for two rounds
    silent = (-np.inf, -5.0, -5.0)
    taken = capture_comp(power_dbm=silent, num_frames=100, listening=everyone())
    with pytest.raises(SyncError, match="bs1: the node it synchronises on is silent"):
        measure(taken)
    experiment = comp_experiment()
    kept = [u for u in experiment.users if u.name != "u1"]
    smaller = experiment.model_copy(update={"users": tuple(kept), "cells": experiment.cells[1:]})
    taken = capture_comp(power_dbm=silent, num_frames=100, experiment=smaller, listening=everyone(smaller))
    once = measure(taken, measured.measurement).measurement
    twice = measure(taken, once).measurement
    for cell in ("t2", "t3"):
        before, after = measured.measurement.sensing[cell], twice.sensing[cell]
        assert after.gain["bs1"] == before.gain["bs1"]
        assert once.sensing[cell].age_rounds == {"bs1": 1}
        assert after.age_rounds == {"bs1": 2}
        assert after.gain["bs2"] != before.gain["bs2"]
    unknown = measure(taken).measurement.sensing["t2"]
    assert unknown.gain["bs1"] == Estimate(value=0.0, stderr=0.0, count=0)


def test_an_interferer_that_cannot_be_heard_does_not_stop_a_user() -> None:
    taken = capture_comp(power_dbm=(-5.0, -70.0, -5.0), num_frames=20, listening=everyone())
    link = measure_link(taken, "u1")
    assert db(link.measurement.data_sinr.value) > 10
    with pytest.raises(SyncError, match="u2: no frame of bs2"):
        measure_link(taken, "u2")


def test_a_gain_below_its_error_is_floored_once_and_said_so() -> None:
    found = {}
    for seed in range(6):
        taken = capture_comp(
            power_dbm=(-5.0, -64.0, -5.0), num_frames=20, listening=("u1",), scene=comp_scene(seed=seed)
        )
        response = measure_link(taken, "u1").response
        found[seed] = response
        row = np.array(response.gram)[1]
        if "bs2" in response.floored:
            assert response.gain["bs2"].value == 0
            assert not row.any()
        assert response.gain["bs2"].value >= 0
        assert response.gain["bs2"].stderr > 0
    assert any("bs2" in r.floored for r in found.values())


def test_the_squared_magnitude_of_an_estimate_is_freed_of_its_bias() -> None:
    rng = np.random.default_rng(3)
    variance, count = 0.5, 40_000
    noise = rng.standard_normal((2, count)) * np.sqrt(variance / 2)
    raw = [unbiased_power(complex(1 + a, b), variance, 1) for a, b in noise.T]
    plain = np.abs(1 + noise[0] + 1j * noise[1]) ** 2 - variance
    # unfloored the mean is |a|^2; 4.5 standard errors
    assert abs(plain.mean() - 1) < STDERRS * plain.std() / np.sqrt(count)
    assert np.sqrt(2 * variance + variance**2) == pytest.approx(plain.std(), rel=0.03)
    assert min(e.value for e in raw) == 0.0


def test_unit_drive_leaves_a_silent_node_silent() -> None:
    frames = np.array([[2.0, 2j], [0, 0]], dtype=np.complex128)
    assert np.array_equal(unit_drive(frames), [[1, 1j], [0, 0]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"condition": "without:t1"}, "measuring needs 'all'"),
        ({"frame": None}, "nothing was transmitted"),
        ({"setup": {}}, "setup"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    capture: Capture, change: dict[str, object], words: str
) -> None:
    with pytest.raises(CaptureError, match=words) as refused:
        measure(replace(capture, **change))  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_a_user_that_is_no_user_and_a_setup_without_waveform_are_refused(capture: Capture) -> None:
    with pytest.raises(CaptureError, match="users are u1, u2, u3"):
        measure_link(capture, "bs1")
    bare = {key: value for key, value in capture.setup.items() if key != "waveform"}
    with pytest.raises(CaptureError, match="waveform"):
        measure_link(replace(capture, setup=bare), "u1")
    with pytest.raises(CaptureError, match="nothing was transmitted"):
        measure_link(replace(capture, frame=None), "u1")
