"""The world as a measuring instrument: levels, noise, clocks, starts, stale samples, impairments, as radios hear them.

What test_channel.py holds of epochs, conditions and cuts is not repeated here.
"""

import resource
import time
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from sim.channel import arrivals, render
from sim.impairments import iq_mix
from sim.noise import unit_noise
from sim.propagation import ScenePath, scene_paths
from sim.world import START_SPAN
from testbed.device import Settings
from testbed.errors import RadioError
from testbed.radio.gains import quantise
from testbed.units import db, undb
from testbed.waveform.shift import cyclic_shift
from tests.worlds import (
    CARRIER_HZ,
    LIGHT_MPS,
    RATE_HZ,
    WAVELENGTH_M,
    heard,
    in_root_milliwatt,
    largest_correlation,
    node,
    on_air,
    scene,
)

FULL = np.sqrt(undb(15.0))  # sqrt(milliwatt) of |1|
KT_MW = 1.380649e-23 * 290 * RATE_HZ * 1e3


def lsb(gain_db, bits=16):
    """Step of the converter at the antenna: full scale is 10.2 dBm at gain 0."""
    return np.sqrt(undb(10.2 - gain_db)) / (1 << (bits - 1))


def pair(distance_m=3.0, **values):
    """Node a that sends, and b at a distance that only receives."""
    return [node("a", 0.0, 0.0), node("b", distance_m, 0.0, num_tx=0, **values)]


# Levels, delays, carriers


def test_power_is_right_to_a_thousandth_of_a_decibel_and_delay_to_ten_picoseconds():
    # Friis over 30 m; 400 frames of 500 random samples folded: 47 dB over the noise of a sample, 73 dB after folding
    rng = np.random.default_rng(1)
    buffer = 0.5 * np.exp(2j * np.pi * rng.random(500))
    world = on_air(scene(pair(30.0)), {"a": buffer}, tx_gain_db=-3.0, rx_gain_db=55.0)

    folded = heard(world, "b", 400 * 500, 55.0)[0].reshape(400, 500).mean(axis=0)

    k = np.arange(-200, 200)
    h = (np.fft.fft(folded) / np.fft.fft(FULL * np.sqrt(undb(-3.0)) * quantise(buffer, 16)))[k]
    weight = np.abs(np.fft.fft(buffer)[k]) ** 2
    friis = (WAVELENGTH_M / (4 * np.pi * 30.0)) ** 2
    delay = 30.0 / LIGHT_MPS * RATE_HZ
    flat = h * np.exp(2j * np.pi * k * delay / 500)
    gain = np.sum(weight * flat) / np.sum(weight)
    # standard error 1e-5 of the amplitude, 9e-5 dB; of the delay 1e-5 / (2 pi 0.23) samples, 0.35 ps
    assert db(abs(gain) ** 2 / friis) == pytest.approx(0.0, abs=1e-3)
    assert np.angle(gain * np.exp(2j * np.pi * (30.0 / WAVELENGTH_M % 1.0))) == pytest.approx(0.0, abs=1e-4)
    slope = np.sum(weight * k * np.angle(flat / gain)) / np.sum(weight * k**2)
    assert -slope * 500 / (2 * np.pi) / RATE_HZ * 1e12 == pytest.approx(0.0, abs=10.0)


@pytest.mark.parametrize("cfo_hz", [0.0, 233.5, -1_234_567.0])
def test_a_carrier_is_right_to_a_thousandth_of_a_hertz_and_in_phase_after_a_billion_samples(cfo_hz):
    # 50 s: 1e-3 Hz would be 0.3 rad. The mean of 10,000 samples 62 dB over the noise knows the phase to 6e-6 rad
    nodes = pair(2.0)
    nodes[0]["impairments"] = {"cfo_hz": cfo_hz}
    world = on_air(scene(nodes), {"a": np.full(1, 0.5)}, rx_gain_db=35.0)
    for start in (0, 10**9):
        n = start + np.arange(10_000)
        got = world.receive("b", n.size)
        assert got.start == start
        nu = Fraction(cfo_hz) / Fraction(RATE_HZ)
        turns = np.array([float(nu * int(k) % 1) for k in n]) - 2.0 / WAVELENGTH_M
        level = np.mean(in_root_milliwatt(world, "b", got, 35.0)[0] * np.exp(-2j * np.pi * turns))
        assert np.angle(level) == pytest.approx(0.0, abs=1e-4)
        assert db(abs(level) ** 2) == pytest.approx(15.0 - 6.0206 + db((WAVELENGTH_M / (8 * np.pi)) ** 2), abs=0.002)
        world.skip("b", 10**9 - n.size if start == 0 else 1)


@pytest.mark.parametrize(("tx_ppm", "rx_ppm"), [(2.0, 0.0), (0.0, 2.0), (-1.5, 3.0)])
def test_clocks_shift_a_carrier_and_stretch_what_is_sent(tx_ppm, rx_ppm):
    # a tone of 100 cycles in 640 samples: to the receiver, whose sample k is the transmitter's sample k (1 + eps), it
    # is at (f + fc / fs) eps more. Delay stands still within 512 samples: 2 pi f 256 eps = 1.2e-3 rad at most, zero in
    # the mean over a block
    nodes = pair(2.0, impairments={"clock_ppm": rx_ppm})
    nodes[0]["impairments"] = {"clock_ppm": tx_ppm}
    f, eps = 100 / 640, (tx_ppm - rx_ppm) * 1e-6
    world = on_air(scene(nodes), {"a": 0.5 * np.exp(2j * np.pi * f * np.arange(640))}, rx_gain_db=35.0)
    delay = 2.0 / LIGHT_MPS * RATE_HZ

    for start, gap in ((0, 512 * 1000), (512 * 1010, 512 * 200_000), (512 * 201_020, 1)):
        n = start + np.arange(5120)
        turns = f * (n * (1 + eps) - delay) + CARRIER_HZ / RATE_HZ * eps * n - 2.0 / WAVELENGTH_M
        left = heard(world, "b", n.size, 35.0)[0] * np.exp(-2j * np.pi * (turns % 1.0))
        assert np.angle(np.mean(left)) == pytest.approx(0.0, abs=2e-4)
        assert np.abs(np.angle(left)).max() < 1.3e-3 + 6e-3  # noise: 8e-4 / sqrt(2) rad per sample, 10 times that
        world.skip("b", gap)


@pytest.mark.parametrize(("rate", "error_db"), [(0.1e-6, -90.0), (2e-6, -65.0), (20e-6, -45.0)])
def test_a_delay_that_grows_stands_still_within_blocks_of_512_samples(rate, error_db):
    # delay is right in the middle of a block, off by 256 rate samples at its ends. For samples that fill the whole
    # band, mean square f^2 = 1/12: 2 pi sqrt(1/12) * 512 rate / sqrt(12) = -45.4 dBc at 20 ppm, 20 dB per decade. The
    # path of a target grows by 2e-6 at 600 m/s
    rng = np.random.default_rng(1)
    buffer = rng.standard_normal(640) + 1j * rng.standard_normal(640)
    path = ScenePath(0, 0, "direct", None, 1.0, 12.3, 0.0, drift=rate)
    n = 51_200 + np.arange(2048)
    rails = np.zeros((1, 2, n.size), dtype=np.float32)

    render(arrivals([path], [buffer], [0.0], RATE_HZ), int(n[0]), rails)

    turns = (n * (1 - rate) - 12.3)[:, None] * np.fft.fftfreq(640)
    expected = np.exp(2j * np.pi * turns) @ np.fft.fft(buffer) / 640
    error = np.linalg.norm(rails[0, 0] + 1j * rails[0, 1] - expected) / np.linalg.norm(expected)
    assert 20 * np.log10(error) < error_db
    assert 20 * np.log10(error) == pytest.approx(20 * np.log10(2 * np.pi / 12 * 512 * rate), abs=1.0)


def test_equal_clocks_that_are_off_are_as_good_as_right_ones():
    nodes = pair(2.0, impairments={"clock_ppm": 7.0, "cfo_hz": 50.0})
    nodes[0]["impairments"] = {"clock_ppm": 7.0, "cfo_hz": 50.0}
    one, other = (on_air(scene(made), {"a": np.full(7, 0.5)}) for made in (nodes, pair(2.0)))

    np.testing.assert_array_equal(one.receive("b", 5000).raw, other.receive("b", 5000).raw)


# Noise


@pytest.mark.parametrize(("gain_db", "bits"), [(71.0, 16), (55.0, 12)])
def test_noise_power_is_right_to_0_02_decibels(gain_db, bits):
    # 2^21 samples: standard error 0.003 dB, so 0.02 dB are 6.7 of them; rounding adds LSB^2/6
    world = on_air(scene(pair(), hardware={"rx_bits": bits}), rx_gain_db=gain_db)

    power = np.mean(np.abs(heard(world, "b", 1 << 21, gain_db)) ** 2)

    assert db(power / (KT_MW * undb(5.0) + lsb(gain_db, bits) ** 2 / 6)) == pytest.approx(0.0, abs=0.02)


def test_noise_is_independent_between_nodes_channels_epochs_and_seeds():
    # 6 pairs of a million samples, 35 numbers each below 5 standard errors: 1.3e-4 in all
    nodes = [node("a", 0.0, 0.0, num_rx=2), node("b", 9.0, 0.0)]
    size = 1_000_000
    world, reseeded = on_air(scene(nodes), rx_gain_db=65.0), on_air(scene(nodes, seed=2), rx_gain_db=65.0)
    first = world.receive("a", size).samples
    b = world.receive("b", size).samples[0]
    world.set_condition("all")
    again = world.receive("a", size).samples
    other = reseeded.receive("a", size).samples[0]

    for one, two in (
        (first[0], first[1]),
        (first[0], b),
        (first[1], b),
        (first[0], again[0]),
        (first[0], again[1]),
        (first[0], other),
    ):
        assert largest_correlation(one, two) < 5
    assert largest_correlation(first[0][1:], first[0][:-1]) > 100  # the check finds what is shared


# The transmitter's noise


def leaky(tx_noise_dbc=-50.0, isolation_db=40.0, **values):
    return [node("a", 0.0, 0.0, self_isolation_db=isolation_db, tx_noise_dbc=tx_noise_dbc, **values)]


def excess(nodes, level=0.9, tx_gain_db=0.0, size=400_000, muted=False):
    """Power of what is heard beside a constant and the receiver's own noise, and its standard error."""
    world = on_air(scene(nodes), {"a": np.full(640, level)}, tx_gain_db=tx_gain_db, rx_gain_db=32.0)
    if muted:
        world.mute("a")
    samples = heard(world, "a", size, 32.0)[0]
    power = np.var(samples)
    return power - KT_MW * undb(5.0) - lsb(32.0) ** 2 / 6, power / np.sqrt(size)


@pytest.mark.parametrize(
    ("nodes", "changes", "expected_dbm"),
    [
        (leaky(), {}, 15.0 - 50 - 40),
        (leaky(isolation_db=46.0), {}, 15.0 - 50 - 46),
        (leaky(tx_noise_dbc=-43.0), {}, 15.0 - 43 - 40),
        (leaky(), {"tx_gain_db": -7.0}, 15.0 - 7 - 50 - 40),
        (leaky(), {"level": 0.3}, 15.0 + db(1 / 9) - 50 - 40),
        (leaky(self_taps=[{"delay_samples": 3, "gain_db": -6.0}]), {}, 15.0 - 50 - 40 + db(1 + undb(-6.0))),
    ],
    ids=["as it is", "isolation", "dbc", "gain", "level", "tap"],
)
def test_a_transmitters_noise_is_so_far_below_its_leakage(nodes, changes, expected_dbm):
    # 15 dBm at 0.9 of full scale is 14.08 dBm. 400,000 samples: 5 standard errors, 0.03 dB where it dominates
    power, stderr = excess(nodes, **changes)

    assert power == pytest.approx(undb(expected_dbm + db(0.81)), abs=5 * stderr)
    assert power > 5 * stderr


@pytest.mark.parametrize(("nodes", "changes"), [(leaky(), {"muted": True}), (leaky(tx_noise_dbc=None), {})])
def test_who_is_silent_or_clean_makes_no_noise(nodes, changes):
    power, stderr = excess(nodes, **changes)

    assert abs(power) < 5 * stderr


def test_a_transmitters_noise_is_fresh_at_every_sample_and_independent_of_the_receivers():
    # what it adds, told apart by a world without it: of the same sample and epoch only the receiver's noise is equal
    size = 500_000
    noisy, clean = (
        on_air(scene([*leaky(dbc), node("b", 50.0, 0.0)]), {"a": np.full(640, 0.9)}, rx_gain_db=32.0)
        for dbc in (-50.0, None)
    )
    receiver = heard(clean, "a", size, 32.0)[0]
    added = heard(noisy, "a", size, 32.0)[0] - receiver
    noisy.set_condition("all")
    clean.set_condition("all")
    later = heard(noisy, "a", size, 32.0)[0] - heard(clean, "a", size, 32.0)[0]

    assert largest_correlation(added, receiver) < 5
    assert largest_correlation(added, later) < 5
    assert largest_correlation(added, added, [-3, -2, -1, 1, 2, 3, 640]) < 5
    # and only through leakage: the neighbour hears none of it
    np.testing.assert_array_equal(noisy.receive("b", 5000).raw, clean.receive("b", 5000).raw)


def test_all_channels_hear_the_same_transmitters_noise_by_their_calibration():
    array = {"calibration_phase_deg": 40.0, "calibration_gain_db": 3.0}
    nodes = leaky(-40.0, num_rx=3, array=array)
    made = scene(nodes)
    world = on_air(made, {"a": np.full(640, 0.9)}, rx_gain_db=30.0)

    samples = heard(world, "a", 100_000, 30.0)

    (path,) = [p for p in scene_paths(made, 0, CARRIER_HZ, RATE_HZ) if p.kind == "self"]
    levels, noise = samples.mean(axis=1), samples - samples.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(levels / levels[0], np.array(path.response) / path.response[0], atol=1e-3)
    # the receiver's noise is 30 dB below the transmitter's: a ratio has a bias of 1e-3 to 2e-3 and scatters by 1e-4
    ratios = noise @ noise[0].conj() / np.vdot(noise[0], noise[0])
    np.testing.assert_allclose(ratios, np.array(path.response) / path.response[0], atol=4e-3)


# Random starts


def starts(epochs, seed=1, *, who="a", offset=0.0):
    """Where in b's samples a's frame of 16,384 begins, one per epoch."""
    frame = 0.5 * np.exp(2j * np.pi * np.random.default_rng(1).random(START_SPAN))
    random = {"impairments": {"random_start": True}}
    a = node("a", 0.0, 0.0, start_offset_samples=offset, **(random if who == "a" else {}))
    b = node("b", 3.0, 0.0, num_tx=0, **(random if who == "b" else {}))
    world = on_air(scene([a, b], seed=seed), {"a": frame})
    found = []
    for epoch in epochs:
        world.set_condition("all", epoch=epoch)
        spectrum = np.fft.fft(heard(world, "b", START_SPAN)[0]) * np.fft.fft(frame).conj()
        peak = np.fft.ifft(spectrum)
        place = int(np.argmax(np.abs(peak)))
        left, top, right = np.abs(peak[[place - 1, place, (place + 1) % START_SPAN]])
        found.append(place + 0.5 * (right - left) / (left + right + abs(top - abs(left - right))))
    return np.array(found)


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_random_start_is_anywhere_and_another_one_in_every_epoch(who):
    # 80 epochs: KS p > 1e-3, and correlation of neighbours below 4 of 1/sqrt(80)
    found = starts(range(100, 180), who=who)
    share = found / START_SPAN

    assert stats.kstest(share, "uniform").pvalue > 1e-3
    assert abs(np.mean(np.exp(2j * np.pi * np.diff(share)))) < 4 / np.sqrt(79)
    np.testing.assert_array_equal(starts([120, 121], who=who), found[20:22])
    assert starts([120], seed=2, who=who)[0] != pytest.approx(found[20], abs=1)


def test_a_random_start_joins_the_one_in_the_scene_and_knows_fractions():
    found, later = starts(range(100, 112)), starts(range(100, 112), offset=100.0)

    np.testing.assert_allclose((later - found) % START_SPAN, 100.0, atol=0.05)
    assert np.ptp(found % 1.0) > 0.3
    # a receiver begins at whole samples, nobody else's start moves
    assert np.ptp(starts(range(100, 112), who="b") % 1.0) < 0.05


def test_starts_of_two_nodes_and_of_both_directions_are_independent():
    # 400 epochs: a mean phasor has a standard error of 1/20, below 4 of them
    values = {"impairments": {"random_start": True}}
    world = on_air(scene([node("a", 0.0, 0.0, **values), node("b", 9.0, 0.0, **values)]))
    rows = []
    for epoch in range(100, 500):
        world.set_condition("all", epoch=epoch)
        rows.append(
            [world._start_offset(0), world._start_offset(1), world._receive_offset(0), world._receive_offset(1)]
        )
    share = np.array(rows) / START_SPAN

    assert share.min() >= 0.0 and share.max() <= 1.0
    for i in range(4):
        for j in range(i):
            for shift in (-1, 1):
                assert abs(np.mean(np.exp(2j * np.pi * (share[:, i] + shift * share[:, j])))) < 4 / 20


# Stale samples, pauses, skips


def stale_pair(stale=3000, **values):
    return pair(2.0, impairments={"stale_samples": stale}, **values)


def test_after_a_retune_so_many_samples_are_still_of_the_old_gain():
    world = on_air(scene(stale_pair()), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)
    before = world.receive("b", 2000).samples[0]

    world.configure("b", Settings(CARRIER_HZ, RATE_HZ, -89.75, 34.0))
    parts = [world.receive("b", size).samples[0] for size in (1, 2998, 10, 5000)]

    after = np.abs(np.concatenate(parts))
    level = np.abs(before).mean()
    # noise 62 dB below the signal, 8e-4 of it: 8 standard errors
    np.testing.assert_allclose(after[:3000], level, rtol=7e-3)
    np.testing.assert_allclose(after[3000:], level * np.sqrt(undb(4.0)), rtol=7e-3)


def test_stale_samples_are_of_what_was_sent_before():
    # the radio's own transmit gain is part of its settings, and heard through its leakage
    nodes = [node("a", 0.0, 0.0, self_isolation_db=40.0, impairments={"stale_samples": 500})]
    world = on_air(scene(nodes), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)
    level = np.abs(world.receive("a", 2000).samples[0]).mean()

    world.configure("a", Settings(CARRIER_HZ, RATE_HZ, -6.0, 30.0))

    after = np.abs(world.receive("a", 1000).samples[0])
    np.testing.assert_allclose(after[:500], level, rtol=7e-3)
    np.testing.assert_allclose(after[500:], level * np.sqrt(undb(-6.0)), rtol=7e-3)


def test_stale_samples_outlast_the_epochs_in_which_nothing_was_received():
    world = on_air(scene(stale_pair()), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)
    level = np.abs(world.receive("b", 2000).samples[0]).mean()
    world.configure("b", Settings(CARRIER_HZ, RATE_HZ, -89.75, 34.0))

    world.set_condition("empty")
    first = np.abs(world.receive("b", 1000).samples[0])
    world.set_condition("all")
    rest = np.abs(world.receive("b", 3000).samples[0])

    np.testing.assert_allclose(first, level, rtol=7e-3)
    np.testing.assert_allclose(rest[:2000], level, rtol=7e-3)
    np.testing.assert_allclose(rest[2000:], level * np.sqrt(undb(4.0)), rtol=7e-3)


def test_nothing_is_stale_after_the_first_settings_or_the_same_again():
    world = on_air(scene(stale_pair()), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)
    plain = on_air(scene(stale_pair(0)), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)
    for each in (world, plain):
        each.configure("b", Settings(CARRIER_HZ, RATE_HZ, -89.75, 30.4))  # realised as 30 again

    np.testing.assert_array_equal(world.receive("b", 4000).raw, plain.receive("b", 4000).raw)


def test_a_radio_can_be_tuned_back_to_where_the_others_are():
    # what it heard before cannot be told: the others send on another carrier than it had
    world = on_air(scene(stale_pair()), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)
    world.configure("b", Settings(3.6e9, RATE_HZ, -89.75, 30.0))
    world.skip("b", 3000)  # the stale ones
    with pytest.raises(RadioError, match=r"^b: tuned to 3.6e\+09 Hz .* while a sends on 3.5e\+09 Hz"):
        world.receive("b", 10)

    world.configure("b", Settings(CARRIER_HZ, RATE_HZ, -89.75, 30.0))

    assert np.abs(world.receive("b", 100).samples).min() > 0.01


@pytest.mark.parametrize("sizes", [[9000], [1, 999, 3000, 5000]])
def test_a_pause_lasts_from_its_first_sample_to_its_last_and_everybody_hears_it(sizes):
    # the transmitter begins 300 samples into the epoch, b listens from 1000 on: pauses 2000 .. 2499 and 5000 .. 5000 of
    # the transmitter are 1300 .. 1799 and 4300 of b
    nodes = pair(2.0, receive_offset_samples=1000)
    nodes[0] |= {"start_offset_samples": 300.0, "self_isolation_db": 50.0}
    world = on_air(scene(nodes), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)
    world.silence("a", 2000, 500)
    world.silence("a", 5000, 1)

    b = np.concatenate([np.abs(heard(world, "b", size, 30.0)[0]) for size in sizes])
    a = np.abs(heard(world, "a", 9000, 30.0)[0])

    assert np.flatnonzero(b < 0.5 * np.median(b)).tolist() == [*range(1300, 1800), 4300]
    assert np.flatnonzero(a < 0.5 * np.median(a)).tolist() == [*range(2300, 2800), 5300]
    world.set_condition("all")  # another epoch knows nothing of it
    assert np.abs(heard(world, "b", 9000, 30.0)[0]).min() > 0.5 * np.median(b)


def test_skipped_samples_are_gone_and_the_others_unchanged():
    one, other = (on_air(scene(pair()), {"a": np.full(77, 0.5)}) for _ in range(2))
    whole = one.receive("b", 6000).raw

    first = other.receive("b", 1000)
    other.skip("b", 2345)
    second = other.receive("b", 2000)

    assert (first.start, second.start) == (0, 3345)
    np.testing.assert_array_equal(second.raw, whole[:, 3345:5345])


# Impairments in their order


def impaired(size=20_000, level=0.5, gain_db=30.0, buffer=None, **impairments):
    """What b hears, relative to its full scale, and how much clipped."""
    world = on_air(
        scene(pair(2.0, impairments=impairments)),
        {"a": np.full(64, level) if buffer is None else buffer},
        rx_gain_db=gain_db,
    )
    got = world.receive("b", size)
    return got.samples[0].astype(complex), got.clip_count


def test_iq_imbalance_is_of_the_field_and_dc_comes_behind_it():
    # a tone and its mirror: mu x + nu conj(x) + dc, dc as it stands in the scene
    tone = 0.5 * np.exp(2j * np.pi * 5 / 64 * np.arange(64))
    values = {"iq_gain_db": 1.0, "iq_phase_deg": 4.0, "dc_offset_dbfs": -30.0, "dc_phase_deg": 50.0}

    plain, bad = impaired(buffer=tone, size=64_000)[0], impaired(buffer=tone, size=64_000, **values)[0]

    def lines(x):
        spectrum = np.fft.fft(x.reshape(-1, 64).mean(axis=0)) / 64
        return spectrum[5], spectrum[-5], spectrum[0]

    g, phi = 10 ** (1 / 20), np.deg2rad(4.0)
    norm = 2 * np.sqrt((1 + g**2) / 2)
    x = lines(plain)[0]
    expected = [x * (1 + g * np.exp(-1j * phi)) / norm, np.conj(x) * (1 - g * np.exp(1j * phi)) / norm]
    expected.append(undb(-15.0) * np.exp(1j * np.deg2rad(50.0)))
    # a line is known to 8e-4 / sqrt(64,000) = 3e-6 of the tone
    np.testing.assert_allclose(lines(bad), expected, atol=3e-5 * abs(x))


def test_receiver_noise_is_not_imbalanced_nor_turned():
    # alone it is circular with its own power, whatever the mixer does: 5 standard errors of a million samples
    size = 1_000_000
    world = on_air(
        scene(pair(impairments={"iq_gain_db": 3.0, "iq_phase_deg": 10.0, "phase_noise_deg": 30.0})), rx_gain_db=65.0
    )
    noise = heard(world, "b", size, 65.0)[0]

    power = np.mean(np.abs(noise) ** 2)
    assert power / (KT_MW * undb(5.0) + lsb(65.0) ** 2 / 6) == pytest.approx(1.0, abs=5 / np.sqrt(size))
    assert abs(np.mean(noise**2)) < 5 * np.sqrt(2 / size) * power
    a, b, c = iq_mix(3.0, 10.0)
    assert abs(a**2 - b**2 - c**2 + 2j * a * c) > 0.3  # it would show


def test_phase_noise_turns_what_arrives_and_leaves_dc_where_it_is():
    # rms 3 degrees of 10 kHz: 1e6 samples hold about 1e6 * 3 B / fs = 1500 independent values; 4 times sqrt(2 / 1500)
    samples, _ = impaired(size=1_000_000, phase_noise_deg=3.0, phase_noise_bandwidth_hz=10e3, dc_offset_dbfs=-10.0)
    plain = impaired(size=1000)[0].mean()

    field = samples - undb(-5.0)
    phase = np.angle(field / plain)
    assert np.std(phase) == pytest.approx(np.deg2rad(3.0), rel=4 * np.sqrt(2 / 1500))
    np.testing.assert_allclose(np.abs(field), abs(plain), rtol=8e-3)


def test_clipping_comes_last_and_counts():
    # a tone that a DC of -10 dBFS pushes beyond the limit of -8 dBFS at its crests
    tone = 0.9 * np.exp(2j * np.pi * 5 / 64 * np.arange(64))
    free, _ = impaired(size=5000, buffer=tone, dc_offset_dbfs=-10.0)
    cut, count = impaired(size=5000, buffer=tone, dc_offset_dbfs=-10.0, clip_dbfs=-8.0)

    limit = 10 ** (-8.0 / 20)
    expected = np.clip(free.real, -limit, limit) + 1j * np.clip(free.imag, -limit, limit)
    np.testing.assert_allclose(cut, expected, atol=2 / 32768)
    assert count == np.count_nonzero((np.abs(free.real) > limit) | (np.abs(free.imag) > limit)) > 500


def test_a_transmitters_imbalance_and_carrier_go_with_its_samples():
    nodes = pair(2.0)
    nodes[0]["impairments"] = {"tx_iq_gain_db": 1.0, "tx_lo_leakage_dbfs": -20.0}
    tone = 0.5 * np.exp(2j * np.pi * 5 / 64 * np.arange(64))
    bad, plain = (on_air(scene(made), {"a": tone}, rx_gain_db=30.0) for made in (nodes, pair(2.0)))

    lines = [np.fft.fft(w.receive("b", 64_000).samples[0].reshape(-1, 64).mean(axis=0)) / 64 for w in (bad, plain)]

    g = 10 ** (1 / 20)
    norm = 2 * np.sqrt((1 + g**2) / 2)
    channel = lines[1][5] / 0.5
    assert lines[0][5] == pytest.approx(0.5 * channel * (1 + g) / norm, rel=1e-4)
    # delay and phase of the path turn the image as a tone of its own
    delay = 2.0 / LIGHT_MPS * RATE_HZ
    image = channel * np.exp(2j * np.pi * 10 / 64 * delay) * 0.5 * (1 - g) / norm
    assert lines[0][-5] == pytest.approx(image, abs=1e-4 * float(abs(channel)))
    carrier = channel * np.exp(2j * np.pi * 5 / 64 * delay) * 0.1
    assert lines[0][0] == pytest.approx(carrier, abs=1e-4 * float(abs(channel)))
    bad.mute("a")
    assert np.abs(bad.receive("b", 1000).samples).max() < 0.01


# Buffers


def test_nodes_may_repeat_buffers_of_different_lengths():
    # 1, 64 and 997 samples, all heard at once over their own paths: what is left is noise, to 5 standard errors
    rng = np.random.default_rng(2)
    nodes = [node("a", 0.0, 0.0), node("b", 3.0, 1.0), node("c", 1.0, 4.0), node("u", 2.0, 2.0, num_tx=0)]
    buffers = {
        name: 0.5 * np.exp(2j * np.pi * rng.random(size)) for name, size in zip("abc", (1, 64, 997), strict=True)
    }
    made = scene(nodes)
    world = on_air(made, buffers, rx_gain_db=25.0)

    samples = heard(world, "u", 3000, 25.0)[0]

    expected = np.zeros(3000, dtype=complex)
    for path in scene_paths(made, 3, CARRIER_HZ, RATE_HZ):
        buffer = buffers["abc"[path.tx]]
        delayed = cyclic_shift(FULL * buffer, path.delay_samples)
        expected += path.gain * np.resize(delayed, 3000)
    left = samples - expected
    noise = KT_MW * undb(5.0) + 2 * lsb(25.0) ** 2 / 12
    # rounding of what is sent: 3 transmitters, their LSB over their paths
    paths = scene_paths(made, 3, CARRIER_HZ, RATE_HZ)
    noise += sum(abs(p.gain) ** 2 for p in paths) * (FULL / 32768) ** 2 / 6
    assert np.mean(np.abs(left) ** 2) / noise == pytest.approx(1.0, abs=5 / np.sqrt(3000))


def test_a_buffer_of_many_frames_is_sent_as_it_is_without_taking_all_memory():
    # 2,048,000 samples of ever different data: 16 MB as sent, 33 MB at double precision. What the receiver hears in the
    # third repetition, late in the buffer, is that stretch; time and memory are those of a few transforms
    size = 2_048_000
    rng = np.random.default_rng(6)
    buffer = (0.5 * np.exp(2j * np.pi * rng.random(size))).astype(np.complex64)
    nodes = [node("a", 0.0, 0.0), node("b", 2.9979, 0.0, num_tx=0, num_rx=4)]
    targets = [{"name": "t", "position_m": [10.0, 10.0], "rcs_m2": 1.0}]
    made = scene(nodes, targets=targets)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    world = on_air(made, {"a": buffer}, rx_gain_db=30.0)
    place = 2 * size + 1_999_000

    world.skip("b", place)
    samples = heard(world, "b", 4000, 30.0)[0]

    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
    assert time.process_time() - began < 10.0  # measured: 1 s
    assert grown_mb < 600  # measured: 350 MB, of which 4 channels of the sum at double precision 131 MB
    expected = sum(
        p.gain * cyclic_shift(FULL * buffer, p.delay_samples) for p in scene_paths(made, 1, CARRIER_HZ, RATE_HZ)
    )
    expected = np.resize(np.roll(expected, -(place % size))[:4000], 4000)
    noise = KT_MW * undb(5.0) + lsb(30.0) ** 2 / 6 + np.mean(np.abs(expected) ** 2) / (0.5 * 32768) ** 2 / 6
    assert np.mean(np.abs(samples - expected) ** 2) / noise == pytest.approx(1.0, abs=5 / np.sqrt(4000))


def test_what_is_sent_does_not_change_with_the_callers_array():
    one, other = on_air(scene(pair())), on_air(scene(pair()))
    buffer = np.full((1, 64), 0.5, dtype=np.complex64)
    for world in (one, other):
        world.transmit("a", buffer)
    expected = one.receive("b", 1000).raw

    buffer *= 0

    np.testing.assert_array_equal(other.receive("b", 1000).raw, expected)


def test_a_target_that_runs_through_a_radio_does_no_harm():
    # at sample 256 it stands in the radio: the middle of a block
    speed = 100.0 / (256 / RATE_HZ)
    targets = [{"name": "t", "position_m": [100.0, 0.0], "rcs_m2": 1.0, "velocity_mps": [-speed, 0.0]}]
    world = on_air(scene([node("a", 0.0, 0.0)], targets=targets), {"a": np.full(64, 0.5)}, rx_gain_db=0.0)

    with np.errstate(all="raise"):
        got = world.receive("a", 2000)

    assert np.abs(got.samples[:, 1024:]).max() < 0.1


def test_channels_of_a_radio_have_noise_of_their_own_and_a_field_in_common():
    world = on_air(scene(pair(2.0, num_rx=3)), {"a": np.full(64, 0.5)}, rx_gain_db=30.0)

    got = world.receive("b", 100_000)

    assert got.raw.shape == (3, 100_000, 2)
    samples = in_root_milliwatt(world, "b", got, 30.0)
    # broadside is along x: no phase between channels; a mean is known to 8e-4 / sqrt(100,000) of the level
    np.testing.assert_allclose(samples.mean(axis=1), samples.mean(), rtol=2e-5)
    assert largest_correlation(samples[0], samples[1]) < 5
    assert largest_correlation(samples[1], samples[2]) < 5


def test_the_first_index_of_an_epochs_noise_is_its_own():
    # sample k of epoch e is number e 2^40 + k: no epoch hears another one's noise, wherever it listens
    world = on_air(scene(pair(receive_offset_samples=1234)), rx_gain_db=71.0)
    world.set_condition("all", epoch=77)
    world.skip("b", 5)

    samples = heard(world, "b", 2000, 71.0)[0]

    expected = np.sqrt(KT_MW * undb(5.0)) * unit_noise(1, 1, (77 << 40) + 5, 2000)
    assert np.abs(samples - expected).max() < lsb(71.0)
