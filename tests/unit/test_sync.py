"""Start and sub-sample offsets on synthetic captures: delayed frames plus unit noise, no emulator."""

import numpy as np
import pytest

from testbed.errors import SyncError
from testbed.sensing.detect import SensingSetup, columns
from testbed.sensing.glrt import glrt
from testbed.sensing.model import cell_paths, nuisance_paths
from testbed.sensing.sync import MIN_PEAK_SIGMA, fold, synchronise
from testbed.theory import detection
from testbed.waveform.shift import cyclic_shift
from tests.scenes import comp_experiment

EXPERIMENT = comp_experiment()
NUMEROLOGY = EXPERIMENT.waveform.numerology
FRAMES = EXPERIMENT.waveform.frame(np.ones(3)).samples  # 640 samples, mean power 1
SETUP = SensingSetup(numerology=NUMEROLOGY, survey=EXPERIMENT.survey, observations=EXPERIMENT.detection.observations)
T1 = EXPERIMENT.survey.cells[0]  # judged by bs1
WANTED = cell_paths(EXPERIMENT.survey, T1, NUMEROLOGY.sample_rate_hz)
NUISANCE = nuisance_paths(EXPERIMENT.survey, T1, NUMEROLOGY.sample_rate_hz)
PATHS = (*WANTED, *NUISANCE)
STARTS = np.array([203.27, 17.61, 501.93])  # first sample of each node's frame in the capture, modulo 640
PFA = 1e-2


def path_gains(rng, self_inr_db, *, target=True):
    """Gains at unit noise as in SIGNAL_CHAIN section 8: direct +14 dB, echoes -8 to -30 dB; phases from rng."""
    level_db = {"self": self_inr_db, "direct": 14.0, "echo": -25.0, "clutter": -22.0}
    inr_db = [(-8.0 if p.tx == 0 else -20.0) if p in WANTED else level_db[p.kind] for p in PATHS]
    gains = 10 ** (np.array(inr_db) / 20) * np.exp(2j * np.pi * rng.random(len(PATHS)))
    return gains if target else np.where([p in WANTED for p in PATHS], 0.0, gains)


def noise(rng, count):
    return (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / np.sqrt(2)


def received(rng, num_frames, gains, starts=STARTS, frames=FRAMES):
    """num_frames repetitions of everything that arrives at bs1, plus noise of E|w|^2 = 1."""
    period = sum(
        gain * cyclic_shift(frames[path.tx], starts[path.tx] + path.delay_samples)
        for gain, path in zip(gains, PATHS, strict=True)
    )
    return np.tile(period, num_frames) + noise(rng, num_frames * 640)


def errors_of(sync, starts=STARTS):
    """Found minus true frame starts, in samples, modulo the frame."""
    error = sync.start + sync.offset_samples - starts
    return error - 640 * np.round(error / 640)


def false_alarm_rate(samples, sync, offset_error=0.0):
    """Share of frames of an absent target above the threshold for a nominal 1e-2, bs1's own delays off by an error."""
    offsets = sync.offset_samples + np.array([offset_error, 0.0, 0.0])
    aligned = samples[sync.start : samples.size - 640 + sync.start].reshape(-1, 640)
    y = SETUP.observations.extract(aligned, NUMEROLOGY)
    X, D = columns(WANTED, FRAMES, offsets, SETUP), columns(NUISANCE, FRAMES, offsets, SETUP)
    result = glrt(y, X, 1.0, D)
    return np.mean(result.statistic >= detection.glrt_threshold(PFA, result.rank))


# Offsets


@pytest.mark.parametrize("self_inr_db", [27.0, 50.0])
def test_offsets_are_found_within_five_standard_errors(self_inr_db):
    # three errors of known law: beyond 5 standard errors with probability 2e-6
    rng = np.random.default_rng(1)

    sync = synchronise(received(rng, 50, path_gains(rng, self_inr_db)), FRAMES, PATHS, 0)

    assert np.all(np.abs(errors_of(sync)) < 5 * sync.stderr_samples)
    # Cramer-Rao of a lone path: 1 / (2 pi beta sqrt(2 INR n)), beta = 0.24, n = 32 000; the joint fit comes close
    bound = 1 / (2 * np.pi * 0.24 * np.sqrt(2 * 10 ** (np.array([self_inr_db, 14.0, 14.0]) / 10) * 32_000))
    assert np.all((sync.stderr_samples > 0.9 * bound) & (sync.stderr_samples < 1.6 * bound))
    assert sync.num_frames == 50


@pytest.mark.parametrize("self_inr_db", [27.0, 50.0])
def test_offset_errors_scatter_by_their_standard_errors(self_inr_db):
    # 64 captures x 3 offsets: the variance of 192 pulls is 1 +- sqrt(2 / 192) = 0.10, their mean 0 +- 0.072; beyond 4
    # standard errors with probability 1e-4 (a chi-squared tail is heavier than a Gaussian one)
    pulls = []
    for seed in range(64):
        rng = np.random.default_rng(seed)
        starts = 640 * rng.random(3)
        sync = synchronise(received(rng, 8, path_gains(rng, self_inr_db), starts), FRAMES, PATHS, 0)
        pulls.append(errors_of(sync, starts) / sync.stderr_samples)
    pulls = np.array(pulls)

    assert np.mean(pulls**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 192))
    assert abs(np.mean(pulls)) < 4 / np.sqrt(192)
    # each node by itself: 64 pulls, standard error 0.18
    np.testing.assert_allclose(np.mean(pulls**2, axis=0), 1.0, atol=4 * np.sqrt(2 / 64))


def test_start_is_a_whole_sample_and_own_offset_its_rest():
    rng = np.random.default_rng(3)
    samples = received(rng, 20, path_gains(rng, 27.0))

    sync = synchronise(samples, FRAMES, PATHS, 0)
    later = synchronise(samples[100:], FRAMES, PATHS, 0)

    assert sync.start == 203
    assert sync.offset_samples[0] == pytest.approx(0.27, abs=1e-3)
    assert sync.offset_samples[1] == pytest.approx(17.61 - 203, abs=0.02)
    assert np.all(np.abs(sync.offset_samples) <= 320)
    assert later.start == 103


@pytest.mark.parametrize("fraction", [0.0, 0.49, 0.5, 0.51, -0.499])
def test_a_start_between_two_samples_is_found_from_either(fraction):
    rng = np.random.default_rng(4)
    starts = STARTS + np.array([fraction - 0.27, 0.0, 0.0])

    sync = synchronise(received(rng, 20, path_gains(rng, 27.0), starts), FRAMES, PATHS, 0)

    assert np.all(np.abs(errors_of(sync, starts)) < 5 * sync.stderr_samples)


def test_a_silent_transmitter_has_no_offset_and_does_not_disturb_the_others():
    rng = np.random.default_rng(5)
    frames = FRAMES * np.array([[1.0], [0.0], [1.0]])

    sync = synchronise(received(rng, 50, path_gains(rng, 27.0), frames=frames), frames, PATHS, 0)

    assert np.isnan(sync.offset_samples).tolist() == [False, True, False]
    assert np.isnan(sync.stderr_samples).tolist() == [False, True, False]
    assert np.all(np.abs(errors_of(sync)[[0, 2]]) < 5 * sync.stderr_samples[[0, 2]])


# Self paths below the direct ones, whose correlations bury them


@pytest.mark.parametrize("self_inr_db", [7.0, 2.0, -1.0, -4.0, -8.0, -14.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_well_isolated_receiver_is_found_on_what_the_others_leave(self_inr_db, seed):
    # direct paths at +14 dB, the own echo at -8 dB: below that the echo is the stronger of the two. 72 errors beyond 5
    # standard errors with probability 4e-5
    rng = np.random.default_rng(seed)

    sync = synchronise(received(rng, 100, path_gains(rng, self_inr_db)), FRAMES, PATHS, 0)

    assert sync.start == 203
    assert sync.peak_sigma > MIN_PEAK_SIGMA
    assert np.all(np.abs(errors_of(sync)) < 5 * sync.stderr_samples)


@pytest.mark.parametrize("reference", [0, 1, 2])
def test_the_node_synchronised_on_moves_the_start_and_nothing_else(reference):
    # a user synchronises on its serving node: the start is where that node's strongest path arrives
    rng = np.random.default_rng(10)
    samples = received(rng, 50, path_gains(rng, 2.0))

    sync = synchronise(samples, FRAMES, PATHS, reference)

    first = min(path.delay_samples for path in PATHS if path.tx == reference)
    assert sync.start == pytest.approx(STARTS[reference] + first, abs=0.55)  # half a sample, half a grid step
    assert np.all(np.abs(errors_of(sync)) < 5 * sync.stderr_samples)


@pytest.mark.parametrize("self_inr_db", [27.0, -4.0])
def test_a_node_behind_an_obstacle_is_found_by_its_first_path(self_inr_db):
    # bs2's echo off t1 at -2 dB, its direct path at -8 dB, some samples earlier
    rng = np.random.default_rng(11)
    gains = path_gains(rng, self_inr_db)
    for k, path in enumerate(PATHS):
        if path.tx == 1 and (path.kind == "direct" or path in WANTED):
            gains[k] *= 10 ** ((-8.0 if path.kind == "direct" else -2.0) / 20) / abs(gains[k])

    sync = synchronise(received(rng, 100, gains), FRAMES, PATHS, 0)

    assert np.all(np.abs(errors_of(sync)) < 5 * sync.stderr_samples)


def test_an_unlisted_reflector_is_not_taken_for_a_first_path():
    # stronger than every listed echo, 9.4 samples after the leakage: nothing arrives before the leakage
    rng = np.random.default_rng(12)
    samples = received(rng, 100, path_gains(rng, 27.0))
    samples = samples + 10.0 * np.tile(cyclic_shift(FRAMES[0], STARTS[0] + 9.4), 100)

    sync = synchronise(samples, FRAMES, PATHS, 0)

    assert sync.start == 203
    assert np.all(np.abs(errors_of(sync)) < 0.05)


# What the accuracy is for


@pytest.mark.parametrize("self_inr_db", [27.0, 50.0])
def test_false_alarms_are_nominal_after_the_joint_fit(self_inr_db):
    # 3999 frames at 1e-2: 40 +- 6.3; beyond 4 standard errors with probability 1e-4
    rng = np.random.default_rng(6)
    samples = received(rng, 4000, path_gains(rng, self_inr_db, target=False))

    sync = synchronise(samples, FRAMES, PATHS, 0)

    assert false_alarm_rate(samples, sync) == pytest.approx(PFA, abs=4 * np.sqrt(PFA * (1 - PFA) / 3999))


def test_a_tenth_of_a_sample_on_the_self_path_makes_every_frame_a_false_alarm():
    # what a parabola through three correlation points leaves (SIGNAL_CHAIN section 2)
    rng = np.random.default_rng(6)
    samples = received(rng, 4000, path_gains(rng, 27.0, target=False))
    sync = synchronise(samples, FRAMES, PATHS, 0)

    assert false_alarm_rate(samples, sync, offset_error=0.1) > 0.99


@pytest.mark.parametrize("error", [-1e-2, 1e-2])
def test_a_hundredth_of_a_sample_on_the_self_path_is_seen_in_the_false_alarms(error):
    # what stopping at the self column alone leaves; nominal is 0.01 +- 0.0016
    rng = np.random.default_rng(6)
    samples = received(rng, 4000, path_gains(rng, 33.0, target=False))
    sync = synchronise(samples, FRAMES, PATHS, 0)

    assert false_alarm_rate(samples, sync, offset_error=error) > PFA + 6 * 0.0016


# Refusals


def refusal(samples, frames=FRAMES, **names):
    with pytest.raises(SyncError) as caught:
        synchronise(samples, frames, PATHS, 0, name="bs1", **names)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("seed", range(8))
def test_noise_alone_is_no_frame(seed):
    message = refusal(1e-3 * noise(np.random.default_rng(seed), 6400), names=("bs1", "bs2", "bs3"))

    # where - what was found - what is allowed - what to do; 1e-6 milliwatt is -60 dBm
    assert message.startswith("bs1: no frame of bs1, bs2, bs3 found in 6400 samples (peak ")
    assert "sigma, need 8)" in message
    assert "raise its power or rx_gain_db" in message
    assert "input is -60 dBm" in message


def test_a_receiver_that_gives_zeros_has_no_frame():
    assert "no frame of node 0, node 1, node 2 found" in refusal(np.zeros(6400, dtype=complex))


def test_the_frame_of_another_node_is_not_taken_for_ones_own():
    rng = np.random.default_rng(8)
    gains = np.where([path.kind == "direct" for path in PATHS], path_gains(rng, 27.0), 0.0)

    message = refusal(received(rng, 50, gains), names=("bs1", "bs2", "bs3"))

    assert message.startswith("bs1: no frame of bs1 found in 32000 samples (peak ")
    assert message.endswith("or check the antenna and the self isolation")


def test_a_transmitter_that_is_not_heard_is_named():
    # without its direct path in the fit its offset would be that of a noise peak
    rng = np.random.default_rng(8)
    gains = np.where([path.tx == 2 for path in PATHS], 0.0, path_gains(rng, 27.0))

    message = refusal(received(rng, 50, gains), names=("bs1", "bs2", "bs3"))

    assert message.startswith("bs1: no frame of bs3 found in 32000 samples (peak ")
    assert message.endswith("or check the antenna and what obstructs the direct path")


def test_less_than_a_frame_is_refused():
    with pytest.raises(SyncError, match="639 samples hold no frame of 640"):
        synchronise(np.zeros(639, dtype=complex), FRAMES, PATHS, 0)


def test_a_receiver_cannot_synchronise_on_a_silent_node():
    rng = np.random.default_rng(9)
    frames = FRAMES * np.array([[0.0], [1.0], [1.0]])

    with pytest.raises(SyncError, match="bs1: the node it synchronises on is silent"):
        synchronise(noise(rng, 6400), frames, PATHS, 0, name="bs1")


# Folding


def test_folding_is_the_mean_over_whole_frames():
    samples = np.arange(10) + 1j

    np.testing.assert_allclose(fold(samples, 4), [(0 + 4) / 2 + 1j, 3 + 1j, 4 + 1j, 5 + 1j])


def test_folding_single_precision_keeps_double_precision():
    # float32 sums of 20 000 ones and a small part would lose it
    samples = np.full(20_000 * 4, 1 + 1e-4j, dtype=np.complex64)

    assert fold(samples, 4)[0].imag == pytest.approx(float(np.float32(1e-4)), rel=1e-12)
