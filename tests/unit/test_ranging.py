"""Ranges from captures: the estimator at its bound, what biases it, what must not pass unseen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from testbed.__main__ import app
from testbed.capture import CaptureWriter
from testbed.device import Reception
from testbed.errors import CaptureError, ConfigError, SyncError
from testbed.sensing.columns import MAX_DELAY_SAMPLES, BufferColumns
from testbed.sensing.delay import Nuisance, delay_crlb, fit_at, refine
from testbed.sensing.detect import detect
from testbed.sensing.doppler import moving_share, range_doppler_map, remove_static, restore_mean, tone_frequency
from testbed.sensing.latency import find_pass
from testbed.sensing.model import Path as SurveyPath
from testbed.sensing.model import projection_basis
from testbed.sensing.ranging import RangeOptions, estimate_ranges, range_frames
from testbed.waveform.shift import cyclic_derivative, cyclic_shift
from tests.moving import Motion, drawn_velocity, motion_errors, pooled
from tests.ranges import (
    METRE,
    NODES,
    RANGE_M,
    capture_localization,
    frame_design,
    localization_experiment,
    localization_scene,
    synthetic,
)

SELF = SurveyPath(0, "self", None, 0.0)
CELL_M = 64 / 52 * METRE  # a resolution cell
DESIGN = frame_design(125, 8)  # frames of 12 symbols, 416 elements of data


def complex_normal(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def chi_squared_chance(z):
    """Two-sided, of errors over their bounds."""
    square = float(np.sum(z**2))
    return 2 * min(stats.chi2.cdf(square, z.size), stats.chi2.sf(square, z.size))


# Columns


@pytest.mark.parametrize("num_frames", [1, 6])
@pytest.mark.parametrize("delay", [0.0, 0.37, 11.62, 30.1, -7.25])
def test_frames_shifted_alone_are_those_of_the_shifted_buffer(num_frames, delay):
    design = frame_design(num_frames, 8)
    buffer = design.frame(np.ones(3)).samples[1]
    columns = BufferColumns(buffer, design.frame_len, design.numerology, design.data_symbol_idx)
    rows = np.arange(num_frames)

    whole = columns.together(delay)
    exact = columns.extract(cyclic_shift(buffer, delay).reshape(num_frames, -1))
    alone, slope = columns.each(delay, rows, (0, 1))
    own, _ = columns.each(np.full(num_frames, delay), rows, (0, 1))

    np.testing.assert_allclose(whole, exact, atol=1e-12)
    np.testing.assert_allclose(alone, whole, atol=1.5e-4)  # -80 dB of an element
    np.testing.assert_allclose(own, alone, atol=1e-12)
    expected = columns.extract(cyclic_derivative(buffer, delay).reshape(num_frames, -1))
    np.testing.assert_allclose(slope, expected, atol=5e-4)


def test_an_echo_that_moves_is_turned_by_the_receivers_time():
    design = frame_design(3, 8)
    buffer = design.frame(np.ones(3)).samples[0]
    columns = BufferColumns(buffer, design.frame_len, design.numerology, design.data_symbol_idx)
    rows, first = np.array([2, 0]), np.array([0, design.frame_len])
    nu = 3.1e-5

    (found,) = columns.each(5.3, rows, doppler=nu, first=first)

    heard = np.roll(cyclic_shift(buffer, 5.3), design.frame_len)[: 2 * design.frame_len]
    heard = heard * np.exp(2j * np.pi * nu * np.arange(heard.size))
    np.testing.assert_allclose(found, columns.extract(heard.reshape(2, -1)), atol=1.5e-4)


def test_a_delay_beyond_the_margin_of_a_frame_is_refused():
    columns = BufferColumns(
        DESIGN.frame(np.ones(3)).samples[0], DESIGN.frame_len, DESIGN.numerology, DESIGN.data_symbol_idx
    )
    with pytest.raises(ValueError, match="at most 192"):
        columns.each(MAX_DELAY_SAMPLES + 1, np.arange(3))


# The estimator


def one_frame(rng, snr=0.05, delay=7.23):
    """Echo beside a self path and a reflector, all frames of a small buffer."""
    design = frame_design(4, 8)
    buffer = design.frame(np.ones(3)).samples[0]
    columns = BufferColumns(buffer, design.frame_len, design.numerology, design.data_symbol_idx)
    D = Nuisance.of([columns.together(0.0), columns.together(0.0, 1), columns.together(5.6)], columns.num_observations)
    rows = np.arange(4)

    def echo(delays, orders):
        return columns.each(delays, rows, orders)

    y = 20 * columns.together(0.0) + columns.together(5.6) + np.sqrt(snr) * columns.together(delay)
    return y + complex_normal(rng, *y.shape), echo, D, columns


def test_newton_ends_on_the_maximum_of_the_projected_likelihood():
    y, echo, D, columns = one_frame(np.random.default_rng(1))

    fit = refine(y, np.full(4, 7.25), echo, D, 1.0, 16.0)

    for t in range(4):
        U = projection_basis(
            np.stack([columns.together(0.0)[t], columns.together(0.0, 1)[t], columns.together(5.6)[t]], axis=1)
        )
        fine = fit.delay_samples[t] + np.arange(-40, 41) * 1e-3
        x = np.stack([columns.together(tau)[t] for tau in fine])
        left = x - (x @ U.conj()) @ U.T
        J = np.abs(left.conj() @ y[t]) ** 2 / np.sum(np.abs(left) ** 2, axis=1)
        assert abs(int(np.argmax(J)) - 40) <= 1  # within 1e-3 sample, 7 mm


def test_amplitude_bound_and_residual_are_those_of_least_squares_on_all_columns():
    y, echo, D, columns = one_frame(np.random.default_rng(2))
    tau = np.full(4, 7.23)

    fit = fit_at(y, tau, echo, D)

    x, x1 = echo(tau, (0, 1))
    for t in range(4):
        B = np.stack([columns.together(0.0)[t], columns.together(0.0, 1)[t], columns.together(5.6)[t], x[t]], axis=1)
        h, rest, *_ = np.linalg.lstsq(B, y[t], rcond=None)
        assert fit.amplitude[t] == pytest.approx(h[3], rel=1e-8)
        assert fit.residual[t] == pytest.approx(float(rest[0]), rel=1e-8)
        U = projection_basis(B)
        slope = np.sum(np.abs(x1[t] - U @ (U.conj().T @ x1[t])) ** 2)
        assert fit.slope_energy[t] == pytest.approx(slope, rel=1e-8)
    assert delay_crlb(0.05, fit.slope_energy, 1.0)[0] == pytest.approx(1 / np.sqrt(2 * 0.05 * fit.slope_energy[0]))


def errors_over_bounds(integrated_db, rng, num_captures=8):
    """Errors, bounds and what was predicted, pooled over random ranges."""
    errors, bounds, predicted, energies = [], [], [], []
    sent = frame_design(125, 8)
    for seed in range(num_captures):
        design = sent.model_copy(update={"data_seed": seed + 1})
        taken = synthetic(design, integrated_db, rng, reflector_samples=1.7)
        reflector = SurveyPath(0, "clutter", "mast", 1.7)
        found = range_frames(taken.samples, taken.frames, design, 0, [SELF, reflector])
        errors.append(found.range_m - taken.range_m)
        bounds.append(found.crlb_m)
        predicted.append(found.outliers_predicted)
        energies.append(found.sinr.value * found.num_observations)
    return np.concatenate(errors), np.concatenate(bounds), float(np.mean(predicted)), np.array(energies)


@pytest.mark.parametrize("integrated_db", [18, 25, 35, 45])
def test_ranges_are_at_the_cramer_rao_bound_without_bias(integrated_db):
    # 1000 trials: one standard deviation of the ratio is 2.2 %
    errors, bounds, _, energies = errors_over_bounds(integrated_db, np.random.default_rng(integrated_db))

    z = errors / bounds
    assert z.size >= 1000
    assert 0.9 < np.sqrt(np.mean(errors**2)) / np.sqrt(np.mean(bounds**2)) < 1.1
    assert 0.9 < np.sqrt(np.mean(z**2)) < 1.1
    assert abs(np.mean(z)) < 3 / np.sqrt(z.size)
    assert 10 * np.log10(np.mean(energies)) == pytest.approx(integrated_db, abs=0.3)


@pytest.mark.parametrize("integrated_db", [6, 8, 10])
def test_outliers_come_as_often_as_predicted(integrated_db):
    errors, _, predicted, _ = errors_over_bounds(integrated_db, np.random.default_rng(integrated_db))

    share = np.mean(np.abs(errors) > CELL_M)
    assert 0.5 < share / predicted < 2.0


def test_latency_and_range_are_free_of_a_strong_echo_nearby():
    rng = np.random.default_rng(3)
    design = frame_design(40, 8)
    sent = design.frame(np.ones(3)).samples[:1]
    late, delay = 210.31, 2.6
    y = 30 * cyclic_shift(sent[0], late) + 12j * cyclic_shift(sent[0], late + delay)
    y = np.concatenate([y, y[: design.frame_len]])
    y += complex_normal(rng, y.size)

    alone = find_pass(y, sent[0], design.frame_len)
    found = range_frames(y, sent, design, 0, [SELF])

    wrong = alone.start + alone.fraction - late % design.frame_len
    right = found.start + found.latency_samples.value - late % design.frame_len
    assert abs(wrong) > 10 * found.latency_samples.stderr  # the self path's peak, pulled by the echo
    assert abs(right) < 4 * found.latency_samples.stderr
    error = found.mean_range_m.value - METRE * delay
    assert abs(error) < 4 * found.mean_range_m.stderr


def interfered(rng, design, num_passes=1, samples_apart=1.0):
    """An echo of 22 dB beside another node heard over two paths that fade the middle of the band."""
    frames = design.frame(np.ones(3)).samples[:2]
    delay, phase = rng.uniform(5.0, 14.0), np.exp(2j * np.pi * rng.random(2))
    y = 20 * frames[0] + 0.45 * phase[0] * cyclic_shift(frames[0], delay)
    other = cyclic_shift(frames[1], 9.3) - cyclic_shift(frames[1], 9.3 + samples_apart)
    y = np.tile(y + 2.0 * phase[1] * other, num_passes)
    y = np.concatenate([y, y[: design.frame_len]])
    return y + complex_normal(rng, y.size), frames, METRE * delay


def test_without_whitening_the_bound_is_missed_and_with_it_met():
    rng, z = np.random.default_rng(8), {True: [], False: []}
    for seed in range(3):
        design = frame_design(125, 8, data_seed=seed)
        samples, frames, true = interfered(rng, design)
        for whiten in z:
            found = range_frames(samples, frames, design, 0, [SELF], options=RangeOptions(whiten=whiten))
            z[whiten].append((found.range_m - true) / found.crlb_m)

    assert chi_squared_chance(np.concatenate(z[True])) > 1e-3
    assert chi_squared_chance(np.concatenate(z[False])) < 1e-6
    assert np.std(np.concatenate(z[False])) > 1.1


def test_one_frame_repeated_and_counted_as_trials_has_too_small_a_spread():
    rng, spread, z, mean = np.random.default_rng(9), [], [], []
    for seed in range(12):
        design = frame_design(1, 8, data_seed=seed)
        samples, frames, true = interfered(rng, design, num_passes=60)
        found = range_frames(samples, frames, design, 0, [SELF])
        spread.append(found.spread_over_bound)
        z.append((found.range_m - true) / found.crlb_m)
        mean.append((found.mean_range_m.value - true) / found.range_std_m.value * np.sqrt(found.num_frames))
        assert found.num_frames >= 60
        assert abs(found.mean_range_m.value - true) < 4 * found.mean_range_m.stderr  # knows of the bias
        assert found.num_data == 1
        assert not found.independent
        assert any("bias" in warning for warning in found.warnings)

    assert np.mean(spread) < 0.6  # what a capture shows of itself
    assert np.sqrt(np.mean(np.square(z))) > 1.5 * np.mean(spread)  # what it is
    # counted as trials, the ranges of most captures are not those of the bound, and their mean is wrong
    assert sum(chi_squared_chance(errors) < 1e-3 for errors in z) >= 9
    assert np.sqrt(np.mean(np.square(mean))) > 5


def test_a_node_alone_may_repeat_one_frame():
    design = frame_design(1, 8)
    sent = design.frame(np.ones(3)).samples[:1]
    y = np.tile(30 * sent[0] + 0.8 * cyclic_shift(sent[0], 7.7), 300)
    y = y + complex_normal(np.random.default_rng(5), y.size)

    found = range_frames(y, sent, design, 0, [SELF])

    assert found.independent
    assert found.num_frames >= 299
    assert 0.85 < found.spread_over_bound < 1.15


# Motion


def test_a_tone_is_found_to_its_bound():
    rng, z = np.random.default_rng(6), []
    for _ in range(300):
        nu, M = rng.uniform(-0.5, 0.5), 48
        a = np.exp(2j * np.pi * (nu * np.arange(M) + rng.random())) + 0.4 * complex_normal(rng, M)
        found = tone_frequency(a, 0.16)
        z.append(((found.frequency - nu + 0.5) % 1 - 0.5) / found.stderr)
    assert 0.9 < np.std(z) < 1.1  # 4.1 % is one standard deviation
    assert abs(np.mean(z)) < 3 / np.sqrt(300)


def test_what_stands_still_is_removed_and_a_moving_echo_keeps_its_share():
    rng = np.random.default_rng(7)
    design, M, nu = frame_design(40, 8), 40, 0.037
    columns = BufferColumns(
        design.frame(np.ones(3)).samples[0], design.frame_len, design.numerology, design.data_symbol_idx
    )
    x, turn = columns.together(0.0), np.exp(2j * np.pi * nu * np.arange(M))[:, None]
    static = np.tile(complex_normal(rng, 52), 8)  # any response over frequency

    left = remove_static(static * x + turn * x, x, 52)

    assert np.max(np.abs(remove_static(static * x, x, 52))) < 1e-12
    kept = np.sum(np.abs(left) ** 2) / np.sum(np.abs(x) ** 2)
    assert kept == pytest.approx(moving_share(nu, M), rel=0.02)
    assert moving_share(0.0, M) == 0.0
    amplitude = np.sum(x.conj() * left, axis=1) / np.sum(np.abs(x) ** 2, axis=1)
    assert abs(tone_frequency(amplitude).frequency - nu) > 1e-4  # a tone without its mean seems to turn otherwise
    restored = restore_mean(amplitude * turn[:, 0].conj(), nu)
    assert tone_frequency(restored).frequency == pytest.approx(0.0, abs=2e-5)


@pytest.mark.parametrize("divide", [False, True])
def test_the_picture_peaks_at_range_and_doppler_shift(divide):
    design, M, nu = frame_design(32, 8), 32, 5 / 32
    columns = BufferColumns(
        design.frame(np.ones(3)).samples[0], design.frame_len, design.numerology, design.data_symbol_idx
    )
    x, numerology = columns.together(0.0), design.numerology
    y = columns.together(6.5) * np.exp(2j * np.pi * nu * np.arange(M))[:, None]

    found = range_doppler_map(y, x, numerology.subcarriers, 64, np.arange(0, 16, 0.125), divide=divide)

    row, column = np.unravel_index(np.argmax(found.power), found.power.shape)
    assert found.frequency[row] == nu
    assert found.delay_samples[column] == pytest.approx(6.5, abs=0.13)


def test_a_moving_target_has_its_velocity_and_no_range_bias():
    # frames of 64 us: 64 of them resolve 244 Hz, 10.5 m/s; to 3 standard errors of the mean
    rng, each = np.random.default_rng(10), []
    for trial in range(7):
        experiment = localization_experiment(64, 12, data_seed=trial)
        motion = Motion(rng.uniform((-8.0, 5.0), (12.0, 25.0)), drawn_velocity(rng))
        target = {"position_m": motion.place_m.tolist(), "velocity_mps": motion.velocity_mps.tolist()}
        capture = capture_localization(experiment, localization_scene(**target))
        for name, at in NODES.items():
            found = estimate_ranges(capture, name, RangeOptions(moving=True))
            each.append(motion_errors(found, motion, at, experiment.waveform.frame_len))
    errors = pooled(each)
    speed, z = errors.velocity_z, errors.range_z
    assert np.all(np.abs(errors.velocity_bins) < 0.1)
    assert abs(np.mean(speed)) < 3 / np.sqrt(speed.size)
    assert 0.5 < np.std(speed) < 1.6
    assert abs(np.mean(z)) < 3 / np.sqrt(z.size)
    assert 0.9 < np.sqrt(np.mean(z**2)) < 1.1


# Captures of the reference scene


@pytest.fixture(scope="module")
def reference_capture():
    return capture_localization(localization_experiment(100, 20))


def test_ranges_of_the_reference_scene_are_at_their_bounds(reference_capture):
    for name in NODES:
        found = estimate_ranges(reference_capture, name)
        z = (found.range_m - RANGE_M[name])[~found.outlier] / found.crlb_m[~found.outlier]
        assert found.num_frames == found.num_data == 100
        assert found.num_nuisance == 3  # self path, its derivative, the reflector
        assert 0.8 < np.sqrt(np.mean(z**2)) < 1.25
        assert abs(found.mean_range_m.value - RANGE_M[name]) < 4 * found.mean_range_m.stderr
        assert found.latency_samples.value == pytest.approx(0.37, abs=1e-3)


def test_who_knows_every_frame_has_a_tenfold_sinr(reference_capture):
    own = estimate_ranges(reference_capture, "bs3")
    every = estimate_ranges(reference_capture, "bs3", RangeOptions(known="all"))

    assert every.num_nuisance == 13  # 3, of each other node: direct and slope, reflector, echo and slope
    assert every.sinr.value > 5 * own.sinr.value
    assert every.rms_crlb_m < 0.5 * own.rms_crlb_m
    assert abs(every.mean_range_m.value - RANGE_M["bs3"]) < 4 * every.mean_range_m.stderr


def test_the_echo_that_only_moves_is_told_from_a_static_one(reference_capture):
    moving = capture_localization(
        localization_experiment(64, 20), localization_scene(velocity_mps=[20.0, 0.0]), listening=("bs3",)
    )
    assert any("moving" in warning for warning in estimate_ranges(moving, "bs3").warnings)
    still = estimate_ranges(reference_capture, "bs3", RangeOptions(moving=True, zero_doppler=True))
    assert any("stands still" in warning for warning in still.warnings)


def test_an_unlisted_reflector_is_subtracted_with_a_reference_capture():
    experiment = localization_experiment(20, 20)
    scene = localization_scene().model_dump()
    scene["clutter"] = (*scene["clutter"], {"name": "silo", "position_m": [0.0, 20.0], "rcs_m2": 5000.0})
    scene = type(localization_scene()).model_validate(scene)
    on = capture_localization(experiment, scene, listening=("bs1",))
    off = capture_localization(experiment, scene, condition="empty", listening=("bs1",))

    with_silo = estimate_ranges(on, "bs1")
    without = estimate_ranges(on, "bs1", reference=off)

    assert abs(with_silo.mean_range_m.value - RANGE_M["bs1"]) > 10 * without.rms_crlb_m / np.sqrt(20)
    assert abs(without.mean_range_m.value - RANGE_M["bs1"]) < 4 * without.mean_range_m.stderr


def test_captures_that_cannot_be_ranged_are_refused(reference_capture):
    louder = reference_capture.frame.samples * 2
    other = replace(reference_capture, frame=replace(reference_capture.frame, samples=louder))
    with pytest.raises(CaptureError, match="another transmission"):
        estimate_ranges(reference_capture, "bs1", reference=other)
    with pytest.raises(CaptureError, match="nothing was transmitted"):
        estimate_ranges(replace(reference_capture, frame=None), "bs1")
    with pytest.raises(CaptureError, match="cell 't9'"):
        estimate_ranges(reference_capture, "bs1", cell="t9")
    with pytest.raises(CaptureError, match="waveform is missing"):
        estimate_ranges(replace(reference_capture, setup=reference_capture.setup | {"waveform": None}), "bs1")
    with pytest.raises(ValueError, match="must be a stretch"):
        estimate_ranges(reference_capture, "bs1", RangeOptions(min_delay_samples=9.0, max_delay_samples=8.0))
    silent = reference_capture.frame.samples.copy()
    silent[0] = 0
    with pytest.raises(SyncError, match="silent"):
        estimate_ranges(replace(reference_capture, frame=replace(reference_capture.frame, samples=silent)), "bs1")


def test_detection_refuses_frames_of_different_data(reference_capture):
    with pytest.raises(CaptureError, match="100 frames of different data"):
        detect(reference_capture, "t1")


def test_noise_alone_is_no_frame():
    sent = DESIGN.frame(np.ones(3)).samples[0]
    with pytest.raises(SyncError, match="own frame not found"):
        find_pass(complex_normal(np.random.default_rng(1), sent.size), sent, DESIGN.frame_len)
    with pytest.raises(SyncError, match="capture more"):
        find_pass(np.zeros(10, dtype=complex), sent, DESIGN.frame_len)


# isac range


@pytest.fixture(scope="module")
def capture_file(tmp_path_factory, reference_capture):
    path = tmp_path_factory.mktemp("range") / "all.h5"
    with CaptureWriter(path, reference_capture) as writer:
        for node in reference_capture.nodes:
            writer.write(node.name, Reception(node.raw, node.limits.rx_full_scale, 1, 0, 0, "reported"))
    return path


def isac(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in ("range", *arguments)])


def test_the_verb_gives_what_the_function_gives(capture_file, reference_capture):
    done = isac(capture_file, "--node", "bs3", "--json")

    assert done.exit_code == 0
    (row,) = json.loads(done.stdout)
    direct = estimate_ranges(reference_capture, "bs3")
    assert row["frame_range_m"] == direct.range_m.tolist()
    assert row["range_m"]["value"] == direct.mean_range_m.value
    assert row["range_std_m"] == direct.range_std_m.model_dump()
    assert row["num_data"] == 100


def test_the_verb_prints_a_row_per_node_and_draws_the_picture(capture_file, tmp_path):
    done = isac(capture_file, "--moving", "--figure", tmp_path / "ranges.png")

    assert done.exit_code == 0
    assert [line.split()[1] for line in done.stdout.splitlines()[1:4]] == list(NODES)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg", ".csv"}
    header, first, *_ = (tmp_path / "ranges.csv").read_text().splitlines()
    assert header == "node,range_m,velocity_mps,statistic,power_db"
    assert first.startswith("bs1,")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--known", "some"], "must be own or all"),
        (["--zero-doppler"], "--moving as well"),
        (["--figure", "ranges.pdf"], "must end in .png"),
        (["--node", "bs9"], "--node bs9"),
    ],
)
def test_options_that_cannot_be_are_refused(capture_file, options, said):
    done = isac(capture_file, *options)
    assert isinstance(done.exception, ConfigError | CaptureError)
    assert said in str(done.exception)
