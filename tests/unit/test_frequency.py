"""Clock offsets on synthetic captures, exact for any offset (tests/clocks.py), against the Cramer-Rao bounds.

A standard deviation from 400 repetitions errs by 3.5 %: a ratio of 1 leaves 0.9..1.15 with probability 2e-3. The seeds
are fixed, and the estimates reach the bounds to 1 / F^2.
"""

from dataclasses import replace

import numpy as np
import pytest

from testbed.config import validate
from testbed.errors import ConfigError, SyncError
from testbed.experiment.acquire import setup_document
from testbed.experiment.comp.config import CompExperiment
from testbed.measurement import ClockMeasurement, Estimate
from testbed.sensing.detect import sensing_setup
from testbed.sensing.frequency import (
    MAX_OFFSET,
    MIN_FRAMES,
    ClockOffset,
    clock_warnings,
    clocks_told,
    corrected,
    find_clock,
    frame_offsets,
    slopes,
)
from testbed.sensing.link import measure_link
from testbed.sensing.measure import measure
from testbed.sensing.resample import EDGE_SAMPLES, derotate, resample
from testbed.units import db
from testbed.waveform.ofdm import resource_elements
from testbed.waveform.shift import cyclic_derivative
from tests.clocks import on_other_clock, unit_noise
from tests.scenes import (
    capture_comp,
    comp_experiment,
    comp_scene,
    comp_text,
    own_clock_experiment,
    scene_with_user_clocks,
)

EXPERIMENT = comp_experiment()
NUMEROLOGY = EXPERIMENT.waveform.numerology
FRAMES = EXPERIMENT.waveform.frame(np.ones(3)).samples  # 640 samples, mean power 1
CARRIER_CYCLES = NUMEROLOGY.carrier_hz / NUMEROLOGY.sample_rate_hz  # 175
RATE_HZ = NUMEROLOGY.sample_rate_hz
STDERRS = 4.5


def bounds(frame, num_samples, inr_db):
    """Standard deviations of nu and eps that no unbiased estimate is below: see testbed/sensing/frequency.py."""
    f, power = np.fft.fftfreq(frame.size), np.abs(np.fft.fft(frame)) ** 2
    middle = np.sum(f * power) / power.sum()
    beta = np.sqrt(np.sum((f - middle) ** 2 * power) / power.sum())
    per_radian = np.sqrt(6 / (10 ** (inr_db / 10) * num_samples**3))
    return per_radian / (2 * np.pi), per_radian / (2 * np.pi * beta)


# The estimate


@pytest.mark.parametrize(
    ("num_frames", "inr_db", "eps", "cfo_hz"), [(16, 0.0, 2e-6, 0.0), (64, -5.0, -20e-6, 300.0), (48, 10.0, 0.0, 9e3)]
)
def test_offsets_reach_the_cramer_rao_bounds_without_bias(num_frames, inr_db, eps, cfo_hz):
    nu = eps * CARRIER_CYCLES + cfo_hz / RATE_HZ
    clean = 10 ** (inr_db / 20) * on_other_clock(FRAMES[0], num_frames, eps=eps, nu=nu, delay=217.3)
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        found.append(find_clock(clean + unit_noise(rng, clean.size), FRAMES, 0, CARRIER_CYCLES))
    errors = np.array([(o.nu - nu, o.eps - eps) for o in found])
    stated = np.array([(o.nu_stderr, o.eps_stderr) for o in found]).mean(axis=0)
    bound = np.array(bounds(FRAMES[0], clean.size, inr_db))

    deviation = errors.std(axis=0, ddof=1)
    assert np.all((deviation > 0.9 * bound) & (deviation < 1.15 * bound)), deviation / bound
    assert np.all((stated > 0.9 * bound) & (stated < 1.15 * bound)), stated / bound
    assert np.all(np.abs(errors.mean(axis=0)) < 3 * deviation / 20)


@pytest.mark.parametrize("ppm", [-50.0, -25.0, -1.3, 0.0, 7.7, 50.0])
def test_any_two_crystals_are_found_over_a_long_capture(ppm):
    # 50 ppm over 1500 frames: 48 samples of drift, 5.6 cycles per frame
    eps = ppm * 1e-6
    rng = np.random.default_rng(7)
    clean = on_other_clock(FRAMES[1], 1500, eps=eps, nu=eps * CARRIER_CYCLES, delay=-311.7)

    found = find_clock(clean + unit_noise(rng, clean.size), FRAMES, 1, CARRIER_CYCLES)

    assert abs(found.nu - eps * CARRIER_CYCLES) < STDERRS * found.nu_stderr
    assert abs(found.eps - eps) < STDERRS * found.eps_stderr
    # of 3.5 GHz: 2.6 mHz, of 20 MS/s: 0.5 parts in 1e9
    assert found.nu_stderr * RATE_HZ < 0.01
    assert found.eps_stderr < 2e-9
    assert found.num_frames == 1500


def test_a_weak_node_is_found_beside_strong_ones_of_the_same_clock():
    eps, nu, rng = 3e-6, 3e-6 * CARRIER_CYCLES, np.random.default_rng(2)
    sent = 10.0 * FRAMES[0] + 3.0 * FRAMES[1] + 0.3 * FRAMES[2]  # 20, 9.5 and -10.5 dB
    clean = on_other_clock(sent, 400, eps=eps, nu=nu, delay=77.7)

    found = find_clock(clean + unit_noise(rng, clean.size), FRAMES, 2, CARRIER_CYCLES)

    assert abs(found.nu - nu) < STDERRS * found.nu_stderr
    assert abs(found.eps - eps) < STDERRS * found.eps_stderr


def test_no_crystal_s_offset_and_too_few_frames_are_refused():
    rng = np.random.default_rng(3)
    far = 0.3 * on_other_clock(FRAMES[0], 32, nu=2.5 * MAX_OFFSET * CARRIER_CYCLES)
    with pytest.raises(SyncError, match=r"u1: bs1, whose clock it follows, is not heard within \+-60 ppm"):
        find_clock(far + unit_noise(rng, far.size), FRAMES, 0, CARRIER_CYCLES, name="u1", names=["bs1", "bs2", "bs3"])
    with pytest.raises(SyncError, match=f"7 frames are too few .* capture {MIN_FRAMES}"):
        find_clock(far[: 640 * 7], FRAMES, 0, CARRIER_CYCLES)
    with pytest.raises(SyncError, match="node 1, whose clock it follows, is silent"):
        find_clock(far, FRAMES * [[1.0], [0.0], [1.0]], 1, CARRIER_CYCLES)
    with pytest.raises(SyncError, match="not heard"):
        find_clock(unit_noise(rng, far.size), FRAMES, 0, CARRIER_CYCLES)


def test_slopes_of_exact_lines_are_exact():
    n = np.arange(101) - 50
    for w in (-3.1, 0.0, 1e-4, 2.9):
        a = 0.3j * np.exp(1j * w * n)

        found = slopes(a, a * (0.2 - 1e-3 * n))

        assert found.omega == pytest.approx(w, abs=1e-12)
        assert found.amplitude == pytest.approx(0.3j, abs=1e-12)
        assert (found.delay, found.drift) == pytest.approx((0.2, -1e-3), abs=1e-12)
        assert found.omega_stderr < 1e-12


# The correction


@pytest.mark.parametrize("ppm", [-100.0, -2.0, 0.5, 20.0])
def test_a_corrected_capture_is_what_the_other_clock_would_have_taken(ppm):
    eps, nu = ppm * 1e-6, 0.0123
    taken = on_other_clock(FRAMES[0], 400, eps=eps, nu=nu, delay=17.3)
    wanted = on_other_clock(FRAMES[0], 401, delay=17.3)

    found = corrected(taken, ClockOffset(nu, 0.0, eps, 0.0, 400))

    assert abs(found.size - (taken.size * (1 + eps) - EDGE_SAMPLES)) < 3
    frames = found.size // 640
    symbols = tuple(range(1, 8))
    elements, exact = (
        resource_elements(x[: frames * 640].reshape(frames, 640), NUMEROLOGY, symbols) for x in (found, wanted)
    )
    error = np.mean(np.abs(elements - exact) ** 2) / np.mean(np.abs(exact) ** 2)
    assert db(float(error)) < -85


def test_white_noise_stays_white_and_of_its_variance():
    rng = np.random.default_rng(5)

    out = resample(unit_noise(rng, 1 << 19), 20e-6)

    spectrum = np.mean(np.abs(np.fft.fft(out[: 510 * 1024].reshape(510, 1024))) ** 2, axis=0) / 1024
    inside = np.abs(np.fft.fftfreq(1024)) < 0.49
    # 510 periodograms: each bin errs by 4.4 %; 1004 bins stay within 5 of those but for 6e-4
    assert np.all(np.abs(spectrum[inside] - 1) < 5 / np.sqrt(510))
    assert np.mean(spectrum[inside]) == pytest.approx(1.0, abs=4.5 / np.sqrt(510 * 1004))
    # neighbouring samples stay independent
    assert abs(np.mean(out[1:] * out[:-1].conj())) < 0.01


def test_no_drift_changes_nothing_and_no_crystal_drifts_by_a_thousandth():
    samples = unit_noise(np.random.default_rng(6), 5000).astype(np.complex64)
    assert np.array_equal(resample(samples, 0.0), samples)
    with pytest.raises(ValueError, match="at most 1e-3"):
        resample(samples, 0.002)
    assert resample(samples[:10], 1e-4).size == 0


def test_derotation_keeps_its_phase_over_a_long_capture():
    k = np.arange(3_000_000)
    tone = np.exp(2j * np.pi * ((0.01234567 * k) % 1.0)).astype(np.complex64)
    assert np.abs(derotate(tone, 0.01234567) - 1).max() < 1e-5


# What is left between frames


def test_what_turns_among_aligned_frames_is_told_per_transmitter():
    rng = np.random.default_rng(8)
    turning = (0.0, 1e-3, 0.0)  # cycles per frame
    drift = (0.0, 0.0, 1e-4)  # samples per frame
    n = np.arange(500)[:, None]
    columns = np.array([1.0, 0.3, 0.1])[:, None] * FRAMES
    frames = unit_noise(rng, 500 * 640).reshape(500, 640)
    for x, w, d in zip(columns, turning, drift, strict=True):
        frames += np.exp(2j * np.pi * w * n) * (x + d * (n - 249.5) * cyclic_derivative(x, 0.0))

    found = frame_offsets(frames.astype(np.complex64), columns, np.zeros((0, 640), dtype=np.complex128))

    for offset, w, d in zip(found, turning, drift, strict=True):
        assert abs(offset.nu * 640 - w) < STDERRS * offset.nu_stderr * 640
        assert abs(-offset.eps * 640 - d) < STDERRS * offset.eps_stderr * 640
    assert found[1].nu_stderr * 640 < 1e-4 / 20


def test_a_phase_that_wanders_has_the_error_of_its_slow_motion():
    # a random phase that stays for 20 frames: its line errs as 25 independent ones do, not as 500
    pulls = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        phases = np.repeat(0.1 * rng.standard_normal(25), 20)
        a = np.exp(1j * phases) + 0.01 * unit_noise(rng, 500)
        found = slopes(a, 0.0 * a)
        pulls.append(found.omega / found.omega_stderr)
    # with 500 independent ones taken for granted the pulls are 4.5
    assert 0.8 < np.std(pulls) < 1.3


def test_random_phases_are_no_line():
    rng = np.random.default_rng(1)
    for stays in (1, 10):
        phases = np.exp(2j * np.pi * np.repeat(rng.random(500 // stays), stays))
        frames = (phases[:, None] * FRAMES[0] + unit_noise(rng, 500 * 640).reshape(500, 640)).astype(np.complex64)
        nothing = np.zeros((0, 640), dtype=np.complex128)
        assert frame_offsets(frames, FRAMES[:1], nothing) == [None]


def clock(value, stderr, status="ignored", count=500):
    left = Estimate(value=value, stderr=stderr, count=count)
    return ClockMeasurement(tx="bs2", rx="bs1", cfo_hz=left, clock_ppm=Estimate.exact(0.0), left_hz=left, status=status)


def test_a_turning_phase_is_a_warning_from_five_standard_errors_on():
    assert clock_warnings([clock(0.49, 0.1), clock(-0.49, 0.1)]) == ()
    (said,) = clock_warnings([clock(-0.52, 0.1)])
    assert said.startswith(
        "bs1: phases turn from frame to frame, of bs2 by -0.52 +- 0.1 Hz, though they are said to share"
    )
    (said,) = clock_warnings([clock(0.52, 0.1, "corrected")])
    assert "on the clock of the serving node; do the nodes share a reference?" in said
    # an error that rests on the scatter of eight frames has heavier tails
    assert clock_warnings([clock(0.6, 0.1, count=8)]) == ()


# Links


@pytest.fixture(scope="module")
def ideal():
    taken = capture_comp(power_dbm=-5.0, num_frames=500, listening=("u1", "u2", "u3"))
    return {user: measure_link(taken, user).measurement for user in ("u1", "u2", "u3")}


@pytest.mark.parametrize(("clock_ppm", "cfo_hz"), [(2.0, 100.0), (-20.0, 1000.0), (0.0, 5.0)])
def test_a_user_on_its_own_clock_measures_the_link_it_has(ideal, clock_ppm, cfo_hz):
    scene = scene_with_user_clocks(clock_ppm=clock_ppm, cfo_hz=cfo_hz)
    taken = capture_comp(
        power_dbm=-5.0, num_frames=500, listening=tuple(ideal), scene=scene, experiment=own_clock_experiment()
    )
    for user, wanted in ideal.items():
        link = measure_link(taken, user)

        for kind in ("data_sinr", "pilot_sinr"):
            found, true = getattr(link.measurement, kind), getattr(wanted, kind)
            assert abs(found.value - true.value) < STDERRS * np.hypot(found.stderr, true.stderr), (user, kind)
        true_hz = -(clock_ppm * 1e-6 * NUMEROLOGY.carrier_hz + cfo_hz)
        assert {row.tx for row in link.clocks} == {"bs1", "bs2", "bs3"}
        for row in link.clocks:
            assert row.status == "corrected"
            assert abs(row.cfo_hz.value - true_hz) < STDERRS * row.cfo_hz.stderr
            assert abs(row.clock_ppm.value + clock_ppm) < STDERRS * row.clock_ppm.stderr
        assert clock_warnings(link.clocks) == ()


def test_a_small_offset_that_nobody_looks_for_costs_sinr_and_is_told(ideal):
    taken = capture_comp(power_dbm=-5.0, num_frames=500, listening=("u1",), scene=scene_with_user_clocks(cfo_hz=5.0))

    link = measure_link(taken, "u1")

    assert db(link.measurement.data_sinr.value / ideal["u1"].data_sinr.value) < -1.0
    (row,) = [row for row in link.clocks if row.tx == "bs1"]
    assert row.status == "ignored"
    assert abs(row.left_hz.value + 5.0) < STDERRS * row.left_hz.stderr
    (said,) = clock_warnings(link.clocks)
    assert said.startswith("u1: phases turn from frame to frame, of bs1 by ")
    assert ", bs3 by " in said


def test_a_large_offset_that_nobody_looks_for_is_named_where_no_frame_is_found():
    scene = scene_with_user_clocks(clock_ppm=2.0, cfo_hz=100.0)
    taken = capture_comp(power_dbm=-5.0, num_frames=500, listening=("u1",), scene=scene)
    with pytest.raises(
        SyncError, match=r"no frame of bs1 found .*; carriers are off \(bs1 by -7100 Hz, .*the radios do"
    ):
        measure_link(taken, "u1")


def test_a_frame_that_is_not_there_is_not_blamed_on_clocks():
    silence = unit_noise(np.random.default_rng(9), 640 * 20)
    with pytest.raises(SyncError, match=r"^lost$"), clocks_told(silence, FRAMES, NUMEROLOGY, ("a", "b", "c")):
        raise SyncError("lost")


def test_radios_on_one_reference_turn_nowhere():
    measured = measure(capture_comp(power_dbm=-5.0, num_frames=300, listening=("bs1", "bs2", "bs3", "u1", "u2", "u3")))
    rows = measured.measurement.clocks
    assert [(row.rx, row.tx) for row in rows] == [
        (rx, tx) for rx in ("bs1", "bs2", "bs3", "u1", "u2", "u3") for tx in ("bs1", "bs2", "bs3")
    ]
    pulls = np.array([row.cfo_hz.value / row.cfo_hz.stderr for row in rows])
    drifts = np.array([row.clock_ppm.value / row.clock_ppm.stderr for row in rows])
    # 18 pulls each: their mean square is 1 +- 0.33
    assert 0.2 < np.mean(pulls**2) < 2.5
    assert 0.2 < np.mean(drifts**2) < 2.5
    assert not any("phases turn" in warning for warning in measured.warnings)


def test_a_capture_too_short_to_tell_says_nothing_of_clocks():
    taken = capture_comp(power_dbm=-5.0, num_frames=4, listening=("u1",))
    assert measure_link(taken, "u1").clocks == ()


def test_scenes_on_one_clock_are_the_reference_scene():
    assert scene_with_user_clocks() == comp_scene()


def test_an_experiment_says_whose_clock_is_its_own():
    assert EXPERIMENT.own_clocks == ()
    assert own_clock_experiment().own_clocks == ("u1", "u2", "u3")
    data = comp_text()
    # one node has nobody to disagree with; its users may
    alone = {key: data[key][:1] for key in ("nodes", "users", "cells")}
    waveform = data["waveform"] | {"preamble_roots": data["waveform"]["preamble_roots"][:1]}
    for said, clocks in ((False, ("u1",)), ("nodes", ("u1",)), (True, ())):
        experiment = validate(data | alone | {"waveform": waveform, "shared_reference": said}, CompExperiment, "x")
        assert experiment.own_clocks == clocks
        assert setup_document(experiment)["own_clocks"] == list(clocks)
    with pytest.raises(ConfigError, match="shared_reference: false is not supported for several nodes"):
        validate(data | {"shared_reference": False}, CompExperiment, "x")
    with pytest.raises(ConfigError, match="shared_reference"):
        validate(data | {"shared_reference": "users"}, CompExperiment, "x")


def test_a_capture_stored_before_there_were_other_clocks_is_read():
    taken = capture_comp(power_dbm=-5.0, num_frames=20, listening=("u1",))
    setup = {key: value for key, value in taken.setup.items() if key != "own_clocks"}
    assert sensing_setup(replace(taken, setup=setup)).own_clocks == ()
