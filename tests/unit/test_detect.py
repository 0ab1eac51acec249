"""From captures to detections, on captures made in process: no socket, no emulator."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from sim.scene import Scene
from sim.truth import truth
from testbed.capture import load, save
from testbed.config import validate
from testbed.errors import CaptureError, SyncError
from testbed.sensing import detect as module
from testbed.sensing.detect import Detection, detect, sensing_setup
from testbed.theory import consistency, detection
from tests.scenes import RX_GAIN_DB, capture_comp, comp_experiment, comp_scene

CELLS = ("t1", "t2", "t3")


@pytest.fixture(scope="module")
def with_targets():
    """2000 frames at -6 dBm, all targets there."""
    return capture_comp(num_frames=2000)


def truth_at(power_dbm):
    experiment = comp_experiment()
    experiment = experiment.model_copy(update={"power": experiment.power.model_copy(update={"axis_dbm": (power_dbm,)})})
    return truth(comp_scene(), experiment, dict.fromkeys(experiment.node_names, RX_GAIN_DB)).points[0]


def scene_with_fence(rcs_m2=1e-3):
    """An unlisted reflector 1.51 m before bs1: it arrives 0.2 sample after the leakage, in quadrature to it, 8 dB above
    the noise. What is in phase would pass for a delay and be taken up by the offset."""
    scene = comp_scene().model_dump()
    scene["clutter"] = [*scene["clutter"], {"name": "fence", "position_m": (0.0, 67.771), "rcs_m2": rcs_m2}]
    return validate(scene, Scene, "fence")


def false_alarms(found: Detection, pfa=1e-2):
    return np.count_nonzero(found.known_noise >= detection.glrt_threshold(pfa, found.rank))


# Laws through the whole in-process chain, at fixed seeds


@pytest.mark.parametrize("cell", CELLS)
def test_both_statistics_follow_their_h0_laws_in_the_reference_scene(cell):
    # 2000 frames, quantised to 12 bits; each KS fails with probability 1e-3 if the law holds
    found = detect(capture_comp(num_frames=2000, condition=f"without:{cell}"), cell)

    assert (found.rank, found.num_nuisance, found.num_observations) == (3, 12, 104)
    assert stats.kstest(found.known_noise, detection.h0_law(3).cdf).pvalue > 1e-3
    assert stats.kstest(found.cfar, detection.cfar_h0_law(3, 104, 12).cdf).pvalue > 1e-3


@pytest.mark.parametrize("cell", CELLS)
def test_measured_noncentrality_is_that_of_the_truth(with_targets, cell):
    # lam_hat = mean(2T) - 2r, variance (4r + 4 lam)/n: beyond 4 standard errors with probability 6e-5
    found = detect(with_targets, cell)
    lam = truth_at(-6.0).noncentrality[cell].value

    lam_hat, _ = consistency.noncentrality_estimate(found.known_noise, found.rank)

    assert lam_hat == pytest.approx(lam, abs=4 * np.sqrt((4 * 3 + 4 * lam) / found.num_frames))


@pytest.mark.parametrize("cell", CELLS)
def test_offsets_are_those_of_the_truth(with_targets, cell):
    # one of three beyond 5 standard errors: 2e-6. The truth counts from the first whole sample of the own frame.
    found = detect(with_targets, cell)
    names = with_targets.tx_names
    starts = {
        p.tx: p.delay_samples.value - (0.0 if p.kind == "self" else 8.0055)  # 120 m
        for p in truth_at(-6.0).paths
        if p.rx == found.node and p.kind in ("self", "direct")
    }

    errors = found.sync.offset_samples - np.array([starts[name] for name in names])
    errors -= 640 * np.round(errors / 640)

    assert np.all(np.abs(errors) < 5 * found.sync.stderr_samples + 5e-5)  # 8.0055 is rounded


@pytest.mark.parametrize("cell", CELLS)
def test_noise_of_the_residual_is_thermal_noise_and_quantiser(with_targets, cell):
    # 2000 frames x 89 complex degrees of freedom: standard error 0.24 %, LSB^2/6 is 8 %
    residual = detect(with_targets, cell).residual_noise_var
    true = with_targets.nodes[CELLS.index(cell)].noise_var.value

    assert abs(residual.value - true) < 4 * residual.stderr
    assert residual.stderr / residual.value == pytest.approx(1 / np.sqrt(2000 * 89), rel=0.01)
    assert residual.count == pytest.approx(2000 * 89, rel=0.001)


def test_every_whole_frame_after_the_start_is_a_trial(with_targets):
    # bs1's frame starts 3.27 samples after the epoch, bs3's 401.93: 2001 frames hold 2000 whole ones for both
    assert detect(with_targets, "t1").num_frames == 2000
    assert detect(with_targets, "t3").num_frames == 2000


@pytest.mark.parametrize("self_isolation_db", [82.0, 88.0, 95.0])
def test_a_well_isolated_node_is_synchronised_on_all_the_same(self_isolation_db):
    # self path +5, -1 and -8 dB over the noise, below the direct ones at +14 dB; at 95 dB the own echo is stronger
    capture = capture_comp(num_frames=50, scene=comp_scene(self_isolation_db=self_isolation_db))
    reference = capture_comp(num_frames=50)

    for cell in CELLS:
        found, expected = detect(capture, cell).sync, detect(reference, cell).sync
        assert found.start == expected.start
        error = found.offset_samples - expected.offset_samples
        # 9 differences: one beyond 5 standard errors with probability 5e-6
        assert np.all(np.abs(error) < 5 * np.hypot(found.stderr_samples, expected.stderr_samples))


# Paths that are no clean taps


@pytest.mark.parametrize("num_frames", [2, 200])
@pytest.mark.parametrize("self_isolation_db", [60.0, 37.0])  # self path 27 and 50 dB above the noise
def test_clean_taps_need_no_derivative_column(num_frames, self_isolation_db):
    capture = capture_comp(num_frames=num_frames, scene=comp_scene(self_isolation_db=self_isolation_db))

    for cell in CELLS:
        found = detect(capture, cell)
        assert found.derivative_paths == ()
        assert found.num_nuisance == 12


def test_a_leakage_of_two_taps_gets_a_derivative_column():
    capture = capture_comp(scene=scene_with_fence())

    found = detect(capture, "t1")

    assert found.derivative_paths == ("self bs1",)
    assert found.num_nuisance == 13
    assert detect(capture, "t2").derivative_paths == ()  # the others hear bs1 as before


def test_false_alarms_are_nominal_only_with_that_column(monkeypatch):
    # 2000 frames at 1e-2: 20 +- 4.5; beyond 4 standard errors with probability 2e-4 (Poisson tail)
    capture = capture_comp(num_frames=2000, condition="without:t1", scene=scene_with_fence())

    assert abs(false_alarms(detect(capture, "t1")) - 20) < 4 * 4.5
    monkeypatch.setattr(module, "MAX_LEAK", np.inf)
    assert false_alarms(detect(capture, "t1")) > 60


# The same from a file


def test_detection_from_a_file_is_that_from_memory_bit_for_bit(tmp_path):
    capture = capture_comp(num_frames=50)
    save(tmp_path / "c.h5", capture)

    for cell in CELLS:
        before, after = detect(capture, cell), detect(load(tmp_path / "c.h5"), cell)
        for field in dataclasses.fields(Detection):
            if field.name != "sync":
                np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name), field.name)
        for field in dataclasses.fields(before.sync):
            np.testing.assert_array_equal(getattr(before.sync, field.name), getattr(after.sync, field.name), field.name)


def test_detecting_twice_gives_the_same_bits():
    capture = capture_comp(num_frames=50)

    np.testing.assert_array_equal(detect(capture, "t2").known_noise, detect(capture, "t2").known_noise)


def without_muted(capture):
    return dataclasses.replace(
        capture, nodes=tuple(dataclasses.replace(node, noise_var=None) for node in capture.nodes)
    )


def test_without_a_muted_capture_there_is_f_but_no_t():
    capture = capture_comp(num_frames=50)
    bare = without_muted(capture)

    found = detect(bare, "t1")

    assert found.known_noise is None
    assert found.noise_var is None
    np.testing.assert_array_equal(found.cfar, detect(capture, "t1").cfar)


@pytest.mark.parametrize("rcs_m2", [3e-6, 1e-3])
def test_derivative_columns_are_the_same_without_a_muted_capture(rcs_m2):
    # the noise is 2.19 LSB^2 here: taken for LSB^2, a clean path beside the leakage gets a column, or one too weak does
    capture = capture_comp(num_frames=200, scene=scene_with_fence(rcs_m2))

    found, bare = detect(capture, "t1"), detect(without_muted(capture), "t1")

    assert bare.derivative_paths == found.derivative_paths == (("self bs1",) if rcs_m2 == 1e-3 else ())
    np.testing.assert_array_equal(bare.cfar, found.cfar)


# Refusals


def refused(capture, cell, fault, error=CaptureError):
    with pytest.raises(error, match=fault) as caught:
        detect(capture, cell)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def short():
    return capture_comp(num_frames=10)


def test_an_unknown_cell_is_refused_with_those_there_are(short):
    refused(short, "t4", r"cell 't4': not in this capture's survey; cells are t1, t2, t3")


def test_a_capture_without_the_judging_node_is_refused():
    capture = capture_comp(num_frames=10, condition="without:t1", listening=("bs1",))

    assert detect(capture, "t1").node == "bs1"
    refused(capture, "t2", "node 'bs2': not in this capture; it holds bs1")


def test_a_muted_capture_is_refused():
    refused(capture_comp(num_frames=10, muted=True), "t1", "nothing was transmitted")


@pytest.mark.parametrize("tx_names", [("bs1", "bs2", "bs9"), ("bs1", "bs3", "bs2"), ("bs1", "bs2")])
def test_a_transmitter_the_survey_does_not_know_is_refused(short, tx_names):
    # its direct path would be missing from D: lam0 of 100 to 470
    refused(dataclasses.replace(short, tx_names=tx_names), "t1", "direct path")


def test_a_setup_that_is_none_is_refused(short):
    refused(dataclasses.replace(short, setup={}), "t1", "setup: numerology: missing")
    broken = short.setup | {"survey": short.setup["survey"] | {"cels": []}}
    refused(dataclasses.replace(short, setup=broken), "t1", "setup: survey.cels: unknown key; did you mean 'cells'")


@pytest.mark.parametrize(("count", "left"), [(12, "nothing"), (14, "nothing"), (15, "nothing"), (17, "2")])
def test_too_few_observations_for_the_f_test_are_refused(short, count, left):
    few = dataclasses.replace(short, setup=short.setup | {"observations": observed(count)})

    refused(
        few,
        "t1",
        f"^observations: N - r - Q = {count} - 3 - 12 leaves {left} for the F test; at least 3 needed; observe",
    )


def test_three_degrees_of_freedom_are_enough(short):
    found = detect(dataclasses.replace(short, setup=short.setup | {"observations": observed(18)}), "t1")

    assert found.num_observations - found.rank - found.num_nuisance == 3
    assert np.all(np.isfinite(found.cfar))


def observed(count):
    return {"kind": "samples", "start": 200, "count": count}


def test_a_capture_of_another_frame_is_refused(short):
    other = comp_experiment(data_seed=2, preamble_roots=(17, 19, 23)).waveform.frame(np.ones(3))

    refused(dataclasses.replace(short, frame=other), "t1", "bs1: no frame of bs1, bs2, bs3 found", SyncError)


def test_a_noise_capture_is_no_frame(short):
    silent = capture_comp(num_frames=10, muted=True)

    refused(dataclasses.replace(silent, frame=short.frame), "t1", "bs1: no frame of bs1, bs2, bs3 found", SyncError)


def test_setup_is_read_as_the_models_of_the_experiment(short):
    setup = sensing_setup(short)

    assert setup.survey == comp_experiment().survey
    assert setup.numerology == comp_experiment().waveform.numerology
    assert setup.observations == comp_experiment().detection.observations
