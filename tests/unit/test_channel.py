"""From a scene to samples: path gains, the channel kernel, the converter, and the world that joins them."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import channel, compiled
from sim.channel import Motion, arrivals, convert, loop_planes, render
from sim.fading import PathFading
from sim.interpolator import LOOP, STREAM, split_delay
from sim.noise import MAX_EPOCH, Purpose, unit_noise
from sim.propagation import ScenePath, scene_paths
from sim.scene import Scene
from sim.world import World
from testbed.config import validate
from testbed.device import Settings
from testbed.errors import RadioError, SettingOutOfRange
from testbed.radio.gains import realise
from testbed.units import db, undb
from testbed.waveform.shift import cyclic_shift
from tests.scenes import comp_experiment, comp_scene

CARRIER_HZ, RATE_HZ = 3.5e9, 20e6
WAVELENGTH_M = 299_792_458 / 3.5e9  # 0.0857 m
NAMES = ("bs1", "bs2", "bs3")


def moved(**target):
    """The reference scene with other values for target t1."""
    scene = comp_scene().model_dump()
    scene["targets"] = [scene["targets"][0] | target, *scene["targets"][1:]]
    return validate(scene, Scene, "moved")


def paths_to(rx, scene=None, **options):
    return scene_paths(scene or comp_scene(), rx, CARRIER_HZ, RATE_HZ, **options)


def only(paths, kind, tx, via=None):
    (path,) = [p for p in paths if (p.kind, p.tx, p.via) == (kind, tx, via)]
    return path


# Propagation


@pytest.mark.parametrize("rx", range(3))
def test_path_levels_are_those_of_the_reference_scene(rx):
    # SIGNAL_CHAIN section 8, at -6 dBm over a noise of -92.97 dBm: self +27, direct +14, own target monostatic -7 to
    # -10, bistatic -18 to -21, other targets -18 to -35 dB; every range widened by the rounding of its ends
    inr_db = {(p.kind, p.tx, p.via): db(abs(p.gain) ** 2) - 6.0 + 92.965 for p in paths_to(rx)}
    own = f"t{rx + 1}"

    assert inr_db.pop(("self", rx, None)) == pytest.approx(27.0, abs=0.5)
    assert -10.5 < inr_db.pop(("echo", rx, own)) < -6.5
    for tx in {0, 1, 2} - {rx}:
        assert inr_db.pop(("direct", tx, None)) == pytest.approx(14.0, abs=0.5)
        assert -21.5 < inr_db.pop(("echo", tx, own)) < -17.5
    others = [level for (kind, _, _), level in inr_db.items() if kind == "echo"]
    assert len(others) == 6
    assert -35.5 < min(others) < max(others) < -17.5
    assert {kind for kind, _, _ in inr_db} == {"echo", "clutter"}
    assert len(inr_db) == 9


def test_direct_gain_is_friis_with_both_antennas():
    # 120 m at 3.5 GHz: 84.9 dB, less 2 x 6 dBi
    path = only(paths_to(0), "direct", 1)

    loss_db = 20 * np.log10(4 * np.pi * 119.999958 / WAVELENGTH_M)
    assert db(abs(path.gain) ** 2) == pytest.approx(12.0 - loss_db, abs=1e-6)
    assert db(abs(path.gain) ** 2) == pytest.approx(-72.9, abs=0.05)
    assert path.delay_samples == pytest.approx(8.005535, abs=1e-6)


def test_echo_gain_is_the_bistatic_radar_equation():
    # bs2 - 149.178158 m - t1 (10 m2) - 35.365909 m - bs1, antennas of 6 dBi
    path = only(paths_to(0), "echo", 1, "t1")

    power = undb(12.0) * WAVELENGTH_M**2 * 10.0 / ((4 * np.pi) ** 3 * 149.178158**2 * 35.365909**2)
    assert abs(path.gain) ** 2 / power == pytest.approx(1.0, rel=1e-6)
    assert path.delay_samples == pytest.approx((149.178158 + 35.365909) / 14.9896229, rel=1e-6)


def test_a_path_has_the_carrier_phase_of_its_length():
    path = only(paths_to(0), "echo", 0, "t1")

    # 2 x 35.365909 m
    turns = 2 * np.hypot(33.0, 82.0 - 69.282) / WAVELENGTH_M
    assert path.gain / abs(path.gain) == pytest.approx(np.exp(-2j * np.pi * turns), abs=1e-9)


def test_leakage_is_the_isolation_without_antennas():
    path = only(paths_to(2, comp_scene(self_isolation_db=37.0, self_delay_samples=0.3)), "self", 2)

    assert db(abs(path.gain) ** 2) == pytest.approx(-37.0)
    assert path.delay_samples == 0.3


def test_a_target_that_is_off_takes_its_echoes_along_and_nothing_else():
    on, off = paths_to(1), paths_to(1, targets_off=frozenset(["t3"]))

    assert set(on) - set(off) == {p for p in on if p.via == "t3"}
    assert len(on) - len(off) == 3


def test_doppler_is_positive_for_a_closing_target_and_twice_its_speed():
    # t1 runs at 10 m/s straight to bs1: 2 v / lambda = 233.5 Hz there and back
    towards = np.array([0.0 - 33.0, 69.282 - 82.0])
    scene = moved(velocity_mps=tuple((10 * towards / np.linalg.norm(towards)).tolist()))

    path = only(paths_to(0, scene), "echo", 0, "t1")
    assert path.doppler_hz == pytest.approx(2 * 10 / WAVELENGTH_M)
    # bistatic: both legs' closing speeds
    from_bs2 = np.array([-60.0 - 33.0, -34.641 - 82.0])
    cosine = towards @ from_bs2 / np.linalg.norm(towards) / np.linalg.norm(from_bs2)
    assert only(paths_to(0, scene), "echo", 1, "t1").doppler_hz == pytest.approx(10 * (1 + cosine) / WAVELENGTH_M)
    assert only(paths_to(0, scene), "direct", 1).doppler_hz == 0.0


def test_doppler_is_the_rate_at_which_the_path_shortens():
    # finite difference of the path length over a microsecond: carrier phase and Doppler tell the same story
    velocity, dt = np.array([7.0, -12.0]), 1e-6
    here = only(paths_to(1, moved(velocity_mps=tuple(velocity.tolist()))), "echo", 2, "t1")
    later = moved(position_m=tuple((np.array([33.0, 82.0]) + velocity * dt).tolist()))

    turned = np.angle(only(paths_to(1, later), "echo", 2, "t1").gain / here.gain) / (2 * np.pi * dt)

    assert turned == pytest.approx(here.doppler_hz, rel=1e-3)


# Kernel


def synthetic(rng, num_paths=6, sizes=(640, 640, 320), doppler_hz=0.0):
    """Buffers of three nodes and paths of random gain and delay, also beyond the buffer."""
    buffers = [rng.standard_normal(n) + 1j * rng.standard_normal(n) for n in sizes]
    paths = [
        ScenePath(k % 3, 0, "direct", None, complex(*rng.standard_normal(2)), float(rng.uniform(0, 900)), doppler_hz)
        for k in range(num_paths)
    ]
    return buffers, paths


def by_definition(buffers, paths, offsets, at):
    """sum a x(n - tau) exp(2j pi nu n / fs), every Fourier term by itself; the index enters as a whole number."""
    total = np.zeros(len(at), dtype=complex)
    for path in paths:
        buffer = buffers[path.tx]
        size = buffer.size
        k = (np.arange(size) + size // 2) % size - size // 2
        spectrum = np.fft.fft(buffer) / size
        tau = offsets[path.tx] + path.delay_samples
        nu = Fraction(path.doppler_hz) / Fraction(RATE_HZ)
        for i, n in enumerate(at):
            x = np.sum(spectrum * np.exp(2j * np.pi * ((k * (n % size)) % size - k * tau) / size))
            total[i] += path.gain * x * np.exp(2j * np.pi * float(nu * n % 1))
    return total


def rendered(sources, first, count, num_rx=1):
    rails = np.zeros((num_rx, 2, count), dtype=np.float32)
    render(sources, first, rails)
    samples = rails[:, 0] + 1j * rails[:, 1]
    return samples[0] if num_rx == 1 else samples


@pytest.mark.parametrize("first", [0, 123, 10**9, (1 << 40) - 300])
def test_static_paths_are_the_definition_to_single_precision(first):
    buffers, paths = synthetic(np.random.default_rng(1))
    offsets = [3.27, 118.64, 401.93]

    out = rendered(arrivals(paths, buffers, offsets, RATE_HZ), first, 300)

    expected = by_definition(buffers, paths, offsets, range(first, first + 300))
    assert 20 * np.log10(np.linalg.norm(out - expected) / np.linalg.norm(expected)) < -120


@pytest.mark.parametrize("doppler_hz", [233.5, -233.5, 0.001, 9_999_999.0])
def test_doppler_phase_is_exact_at_any_sample(doppler_hz):
    # at sample 1e9 (50 s) the phase has made up to 5e8 turns; float32 would know it to 30 turns
    buffers, paths = synthetic(np.random.default_rng(2), num_paths=3, doppler_hz=doppler_hz)
    tables = arrivals(paths, buffers, [0.0] * 3, RATE_HZ)

    for first in (0, 10**9, 10**9 + 12_345):
        expected = by_definition(buffers, paths, [0.0] * 3, range(first, first + 20))
        assert np.linalg.norm(rendered(tables, first, 20) - expected) < 1e-6 * np.linalg.norm(expected)


def test_a_turn_of_the_accumulator_is_the_nearest_2_to_the_minus_64():
    buffers, paths = synthetic(np.random.default_rng(2), num_paths=1, doppler_hz=-233.5)

    (table,) = arrivals(paths, buffers, [0.0] * 3, RATE_HZ)

    exact = Fraction(-233.5) / Fraction(RATE_HZ) * 2**64 % 2**64
    # a double knows 233.5 / 20e6 to 2^-53 of its value: 2^-70 of a turn
    assert abs(table.phase_step - exact) <= 1


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=8),
    st.integers(0, 10**10),
    st.sampled_from([0.0, 233.5]),
    st.sampled_from([0.0, 2e-6]),
    st.sampled_from([0, 180]),
)
@settings(deadline=None)
def test_any_cut_renders_the_same_samples(sizes, first, doppler_hz, drift, block_samples):
    buffers, paths = synthetic(np.random.default_rng(3), doppler_hz=doppler_hz)
    fading = PathFading(5, 3, Purpose.FADING_ECHO, 0.0, block_samples, False, 7) if block_samples else None
    paths = [replace(path, drift=drift, fading=fading) for path in paths]
    tables = arrivals(paths, buffers, [0.5, 1.5, 2.5], RATE_HZ)

    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    parts = [rendered(tables, first + start, size) for start, size in zip(starts, sizes, strict=True)]

    np.testing.assert_array_equal(np.concatenate(parts), rendered(tables, first, sum(sizes)))


def test_static_paths_share_a_table_and_moving_ones_have_their_own():
    buffers, paths = synthetic(np.random.default_rng(4))
    still = arrivals(paths, buffers, [0.0] * 3, RATE_HZ)
    _, moving = synthetic(np.random.default_rng(4), doppler_hz=10.0)
    mixed = arrivals([*paths, moving[0]], buffers, [0.0] * 3, RATE_HZ)

    assert sorted(source.tables.shape for source in still) == [(1, 2, 320), (1, 2, 640)]
    assert len(mixed) == 3


def test_a_muted_node_is_not_heard():
    buffers, paths = synthetic(np.random.default_rng(5))
    from_two = [path for path in paths if path.tx != 1]

    out = rendered(arrivals(paths, [buffers[0], None, buffers[2]], [0.0] * 3, RATE_HZ), 0, 640)

    np.testing.assert_array_equal(out, rendered(arrivals(from_two, buffers, [0.0] * 3, RATE_HZ), 0, 640))
    assert arrivals(paths, [None] * 3, [0.0] * 3, RATE_HZ) == ()


@pytest.fixture
def plain(monkeypatch):
    """Without compiled kernels."""
    monkeypatch.setattr(channel, "kernels", lambda: None)


def drifting(rng, drift=3e-7, doppler_hz=1234.5):
    buffers, paths = synthetic(rng, num_paths=5, doppler_hz=doppler_hz)
    return buffers, [replace(path, drift=drift) for path in paths]


def as_codes(samples):
    return np.rint(2048 * np.stack([samples.real, samples.imag]) / np.abs(samples).max())


@pytest.mark.parametrize("first", [0, 511, 10**9 + 77])
@pytest.mark.parametrize("block_samples", [0, 180, 700])
def test_plain_numpy_is_within_one_lsb_of_the_compiled_kernels(first, block_samples, monkeypatch):
    assert compiled.kernels() is not None
    buffers, still = synthetic(np.random.default_rng(6), doppler_hz=-77.7)
    _, moving = drifting(np.random.default_rng(7))
    fading = PathFading(5, 3, Purpose.FADING_ECHO, 2.0, block_samples, True, 0) if block_samples else None
    paths = [replace(p, fading=fading, response=(1.0, 1j)) for p in (*still, *moving)]
    sources = arrivals(paths, buffers, [0.3, 1.7, 2.9], RATE_HZ)

    fast = rendered(sources, first, 3000, num_rx=2)
    monkeypatch.setattr(channel, "kernels", lambda: None)
    slow = rendered(sources, first, 3000, num_rx=2)

    assert np.abs(as_codes(fast) - as_codes(slow)).max() <= 1
    assert np.mean(as_codes(fast) != as_codes(slow)) < 1e-2


def test_plain_numpy_converts_to_the_same_codes(plain):
    noise = unit_noise(3, 0, 0, 100_000)

    codes, clip_count = convert(rails_of(noise), 1.7, 2048)

    fast = np.empty((100_000, 2), dtype=np.int16)
    clipped = compiled.kernels().to_codes(
        rails_of(noise), np.float32(2048 / 1.7), np.float32(2047), fast.view(np.int32)[:, 0]
    )
    np.testing.assert_array_equal(codes, fast)
    assert clip_count == clipped > 100


# Delay filters


@pytest.mark.parametrize(
    ("design", "edge", "error_dbc"), [(STREAM, 0.4, -74.5), (LOOP, 0.5, -98.0)], ids=["stream", "loop"]
)
def test_a_delay_filter_is_right_over_its_band(design, edge, error_dbc):
    f = np.linspace(-edge, edge, 4001)  # cycles per sample of the stream
    worst = 0.0
    for delay in np.random.default_rng(1).uniform(0, 40, 500):
        whole, taps = split_delay(np.array(delay), design)
        lags = (whole + np.arange(design.num_taps) - (design.num_taps // 2 - 1)) / design.oversampling
        response = np.exp(-2j * np.pi * np.outer(f, lags)) @ taps.astype(float)
        worst = max(worst, np.abs(response - np.exp(-2j * np.pi * f * delay)).max())

    assert 20 * np.log10(worst) < error_dbc


def test_a_repeated_buffer_is_oversampled_exactly():
    rng = np.random.default_rng(3)
    for size in (7, 64, 640):
        buffer = rng.standard_normal(size) + 1j * rng.standard_normal(size)
        planes = loop_planes(buffer)

        assert planes.shape == (2, 2, size + 512)
        half = planes[0] + 1j * planes[1]
        np.testing.assert_allclose(half[0, :size], buffer, atol=1e-6)
        np.testing.assert_allclose(half[1, :size], cyclic_shift(buffer, -0.5), atol=1e-6)
        np.testing.assert_array_equal(half[:, size:], half[:, np.arange(size, size + 512) % size])


def test_paths_with_drifting_clocks_are_the_definition_to_minus_90_decibels():
    # a delay that grows by 1e-9 per sample stands still over 3000 samples; here only the filter is on trial
    buffers, paths = drifting(np.random.default_rng(8), drift=1e-13)

    out = rendered(arrivals(paths, buffers, [0.3, 100.7, 2.9], RATE_HZ), 1000, 600)

    expected = by_definition(buffers, paths, [0.3, 100.7, 2.9], range(1000, 1600))
    assert 20 * np.log10(np.linalg.norm(out - expected) / np.linalg.norm(expected)) < -90


@pytest.mark.parametrize("ppm", [-20.0, 3.0])
def test_a_drifting_delay_is_that_of_the_clocks_at_every_sample(ppm):
    # sample n is taken at delay tau - ppm 1e-6 n: a tone of f cycles per sample turns by f (n - tau + ppm 1e-6 n)
    n = np.arange(200_000, 204_000)
    tone = np.exp(2j * np.pi * 100 / 640 * np.arange(640))
    path = ScenePath(0, 0, "direct", None, 1.0, 12.3, 0.0, drift=-ppm * 1e-6)

    out = rendered(arrivals([path], [tone], [0.0], RATE_HZ), int(n[0]), n.size)

    expected = np.exp(2j * np.pi * 100 / 640 * (n * (1 + ppm * 1e-6) - 12.3))
    # constant within a block: half a block's drift, 256 * 20e-6 samples, turns the tone by 5e-3 rad at most
    assert np.abs(out - expected).max() < 2 * np.pi * 100 / 640 * 256 * abs(ppm) * 1e-6 + 1e-4


# Moving targets


def test_a_moving_target_is_where_it_should_be_at_any_time():
    velocity = (31.0, -17.0)
    scene = moved(velocity_mps=velocity)
    (path,) = [p for p in paths_to(1, scene) if (p.kind, p.tx, p.via) == ("echo", 2, "t1")]
    tone = np.exp(2j * np.pi * 37 / 640 * np.arange(640))
    sources = arrivals([path], [None, None, tone], [0.0] * 3, RATE_HZ, CARRIER_HZ)

    for first in (0, 10**7 + 5, 10**9):  # up to 50 s: 1.5 km
        out = rendered(sources, first, 2000)

        t = (first + np.arange(2000)) / RATE_HZ
        place = np.array([33.0, 82.0]) + t[:, None] * np.array(velocity)
        legs = [np.linalg.norm(place - np.array(scene.nodes[k].position_m), axis=1) for k in (2, 1)]
        length = legs[0] + legs[1]
        power = undb(12.0) * WAVELENGTH_M**2 * 10.0 / ((4 * np.pi) ** 3 * legs[0] ** 2 * legs[1] ** 2)
        turns = (37 / 640 * RATE_HZ * (t - length / 299_792_458) - length / WAVELENGTH_M) % 1.0
        expected = np.sqrt(power) * np.exp(2j * np.pi * turns)
        # a block's constant delay: 35 m/s * 2 * 256 samples / c = 6e-5 samples, 2e-5 rad at this tone
        assert np.abs(out - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("design", [LOOP, STREAM], ids=["loop", "stream"])
@pytest.mark.parametrize("first_block", [0, 5, 1 << 31])
def test_plain_numpy_tracks_a_target_as_the_compiled_kernel_does(first_block, design, monkeypatch):
    for path in (p for p in paths_to(1, moved(velocity_mps=(31.0, -17.0))) if p.track is not None):
        motion = Motion(path, WAVELENGTH_M, RATE_HZ, 12.3)
        fast = motion.blocks(first_block, 300, design)
        with monkeypatch.context() as patch:
            patch.setattr(channel, "kernels", lambda: None)
            slow = motion.blocks(first_block, 300, design)

        for compiled_part, plain_part in zip(fast, slow, strict=True):  # delays, taps, phases, steps, amplitudes
            np.testing.assert_array_equal(compiled_part, plain_part)


def test_the_phase_of_a_moving_target_does_not_jump_between_blocks():
    scene = moved(velocity_mps=(300.0, 0.0))
    path = only(paths_to(0, scene), "echo", 0, "t1")
    out = rendered(arrivals([path], [np.ones(640), None, None], [0.0] * 3, RATE_HZ, CARRIER_HZ), 0, 4096)

    second = np.diff(np.unwrap(np.angle(out)), n=2)

    assert np.abs(second).max() < 2e-6


# Converter


def rails_of(samples):
    samples = np.asarray(samples, dtype=np.complex64)
    return np.stack([samples.real, samples.imag])


def test_conversion_rounds_to_the_nearest_code():
    # full scale 2.0 at code 2048: 1 LSB = 1/1024
    analogue = np.array([0.4, 0.6 - 0.4j, -0.6 + 100.2j, 1.4, 3 - 3j], dtype=np.complex64) / 1024

    codes, clip_count = convert(rails_of(analogue), 2.0, 2048)

    assert codes.tolist() == [[0, 0], [1, 0], [-1, 100], [1, 0], [3, -3]]
    assert codes.dtype == np.int16
    assert clip_count == 0


@given(st.lists(st.complex_numbers(max_magnitude=3, width=64), min_size=1, max_size=30), st.integers(4, 16))
def test_a_code_is_within_half_an_lsb_or_at_full_scale(values, bits):
    full_scale = 1 << (bits - 1)
    analogue = np.array(values, dtype=np.complex64)

    codes, clip_count = convert(rails_of(analogue), 1.5, full_scale)

    wanted = np.stack([analogue.real, analogue.imag], axis=1).astype(np.float64) / 1.5 * full_scale
    largest = full_scale - 1
    error = np.abs(codes - np.clip(wanted, -largest, largest))
    assert np.max(error) <= 0.5 + 1e-6 * full_scale
    assert np.max(np.abs(codes.astype(int))) <= largest
    assert clip_count == np.count_nonzero(np.any(np.abs(codes.astype(int)) == largest, axis=1))


def test_saturation_keeps_the_sign_and_counts_samples_not_rails():
    analogue = np.array([5 + 5j, -5 + 0j, 0 - 5j, 0.1 + 0.1j, 1e30 - 1e30j], dtype=np.complex64)

    codes, clip_count = convert(rails_of(analogue), 1.0, 2048)

    assert codes.tolist() == [[2047, 2047], [-2047, 0], [0, -2047], [205, 205], [2047, -2047]]
    assert clip_count == 4


# World: the same through radios


def transmitting(scene, power_dbm=-6.0):
    world, experiment = World(scene), comp_experiment()
    wanted = experiment.waveform.frame(np.full(3, undb(power_dbm))).samples
    on_air = []
    for row, name in enumerate(NAMES):
        plan, sent, air = realise(wanted[row], world.limits(name))
        world.configure(name, Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, 40.0))
        world.transmit(name, sent[None])
        on_air.append(air)
    return world, on_air


def test_what_a_radio_hears_is_the_definition_plus_noise():
    # fold 400 frames: noise of 2 LSB^2 (1 per rail) and rounding of LSB^2/6 fall to 0.0054 LSB^2 per sample; the mean
    # over 640 of them has a relative standard error of 1/sqrt(640) = 0.04, times 5
    world, on_air = transmitting(comp_scene())
    limits = world.limits("bs2")

    got = world.receive("bs2", 400 * 640)

    folded = (got.raw[0].astype(float) @ [1, 1j]).reshape(400, 640).mean(axis=0)
    offsets = [node.start_offset_samples for node in world.scene.nodes]
    first = world.scene.nodes[1].receive_offset_samples  # this receiver begins so many samples after the epoch
    expected = by_definition(on_air, paths_to(1), offsets, range(first, first + 640))
    expected /= limits.rx_amplitude(40.0) / 2048
    noise_var = undb(-92.965) / (limits.rx_amplitude(40.0) / 2048) ** 2 + 1 / 6
    assert np.mean(np.abs(folded - expected) ** 2) == pytest.approx(noise_var / 400, rel=5 / np.sqrt(640))
    assert got.clip_count == 0


def test_order_and_size_of_reads_do_not_matter():
    one, other = transmitting(comp_scene())[0], transmitting(comp_scene())[0]

    whole = {name: one.receive(name, 5000).raw for name in NAMES}
    parts = {name: [] for name in NAMES}
    for size in (1, 999, 4000):
        for name in reversed(NAMES):
            parts[name].append(other.receive(name, size).raw)

    for name in NAMES:
        np.testing.assert_array_equal(np.concatenate(parts[name], axis=1), whole[name])


@pytest.mark.parametrize("condition", ["empty", "without:t1"])
def test_a_condition_switches_its_targets_and_begins_an_epoch(condition):
    world, _ = transmitting(comp_scene())
    before = world.epoch

    world.set_condition(condition)

    assert world.epoch == before + 1
    assert world.receive("bs1", 10).start == 0
    # the mean of 2000 folded frames shows the difference: t1 at bs1 is -7 dB over the noise, folded +26 dB
    there, gone = transmitting(comp_scene())[0], world
    folded = [
        (w.receive("bs1", 640 * 2000).raw[0].astype(float) @ [1, 1j]).reshape(-1, 640).mean(axis=0)
        for w in (there, gone)
    ]
    # `gone` was read by 10 samples
    difference = folded[0] - np.roll(folded[1], 10)
    assert np.mean(np.abs(difference) ** 2) > 0.1


# World: epochs on request


def test_a_fresh_world_continues_with_the_noise_and_phase_of_the_other():
    # one has switched, muted and received; the other was just started
    old, _ = transmitting(comp_scene())
    for condition in ("empty", "without:t2", "all"):
        old.set_condition(condition)
        old.receive("bs2", 12_345)
    old.mute("bs3")
    fresh, _ = transmitting(comp_scene())
    for world in (old, fresh):
        world.transmit("bs3", np.full((1, 640), 0.1 - 0.2j, dtype=np.complex64))
    assert old.epoch != fresh.epoch

    for world in (old, fresh):
        world.set_condition("without:t1", epoch=5000)
        assert world.epoch == 5000

    for name in NAMES:
        np.testing.assert_array_equal(old.receive(name, 5000).raw, fresh.receive(name, 5000).raw)
    for world in (old, fresh):  # and on from there
        world.set_condition("all")
        assert world.epoch == 5001
    np.testing.assert_array_equal(old.receive("bs1", 700).raw, fresh.receive("bs1", 700).raw)


@pytest.mark.parametrize("wanted", [0, 1, 41, 42])
def test_an_epoch_that_is_over_is_not_begun_again(wanted):
    world = World(comp_scene())
    world.set_condition("all", epoch=42)

    world.set_condition("all", epoch=wanted)

    assert world.epoch == 43


@pytest.mark.parametrize("wanted", [-1, MAX_EPOCH, 10**100])
def test_an_epoch_there_is_none_of_is_refused_and_changes_nothing(wanted):
    world = World(comp_scene())

    with pytest.raises(SettingOutOfRange, match=r"^epoch -?\d{1,40}: must lie in 0\.\.16777215$"):
        world.set_condition("empty", epoch=wanted)

    assert (world.epoch, world.condition) == (0, "all")


def test_after_the_last_epoch_radios_are_deaf_but_can_be_muted():
    world, _ = transmitting(comp_scene())
    world.set_condition("all", epoch=MAX_EPOCH - 1)
    world.receive("bs1", 10)

    world.mute("bs1")

    assert not world.transmitting()["bs1"]
    with pytest.raises(
        RadioError, match=r"^bs1: all 16777216 epochs of this world are used up; start the emulator again$"
    ):
        world.receive("bs1", 10)
