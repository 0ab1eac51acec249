"""Impairments against closed forms; seeds are fixed, tolerances in standard errors where something is drawn."""

from itertools import pairwise

import numpy as np
import pytest
import tomli_w
from scipy import stats

from sim.impairments import PHASE_NOISE_CHANNEL, START_CHANNEL, Impairments, iq_mix
from sim.scene import Scene
from testbed.config import validate
from testbed.errors import ConfigError
from tests.clocks import unit_noise
from tests.scenes import comp_scene, scene_with_user_clocks

RATE_HZ = 20e6
WHERE = {"seed": 3, "node_idx": 1, "sample_rate_hz": RATE_HZ}


def field(count, seed=1, channels=1):
    rng = np.random.default_rng(seed)
    return np.stack([unit_noise(rng, count) for _ in range(channels)]).astype(np.complex64)


def received(impairments, x, first=0):
    return impairments.receive(x, first=first, **WHERE)


# Off


def test_a_perfect_radio_is_off_and_costs_nothing():
    perfect = Impairments()
    x, sent = field(100), np.ones(100, dtype=complex)
    assert perfect.is_off
    assert received(perfect, x) is x
    assert perfect.transmit(sent) is sent
    assert perfect.clip(x, 1.0) == (x, 0)
    assert perfect.dc_offset == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("clock_ppm", -2.0),
        ("cfo_hz", 1.0),
        ("phase_noise_deg", 0.1),
        ("dc_offset_dbfs", -40.0),
        ("iq_gain_db", 0.1),
        ("iq_phase_deg", -0.1),
        ("tx_iq_gain_db", 0.1),
        ("tx_iq_phase_deg", 0.1),
        ("tx_lo_leakage_dbfs", -60.0),
        ("clip_dbfs", -1.0),
        ("random_start", True),
        ("stale_samples", 1),
    ],
)
def test_any_one_impairment_is_on(key, value):
    assert not validate({key: value}, Impairments, "x").is_off


@pytest.mark.parametrize("key", ["phase_noise_bandwidth_hz", "dc_phase_deg", "tx_lo_phase_deg"])
def test_the_detail_of_what_is_off_is_off(key):
    assert validate({key: 7.0}, Impairments, "x").is_off


def test_a_scene_with_impairments_goes_through_a_file():
    scene = scene_with_user_clocks(clock_ppm=2.0, dc_offset_dbfs=-40.0, stale_samples=640)
    text = tomli_w.dumps(scene.model_dump(mode="json"))
    assert "clip_dbfs" not in text
    again = validate(scene.model_dump(), Scene, "x")
    assert again == scene != comp_scene()
    assert again.nodes[-1].impairments.stale_samples == 640
    with pytest.raises(ConfigError, match=r"impairments\.clok_ppm: unknown key; did you mean 'clock_ppm'"):
        scene_with_user_clocks(clok_ppm=2.0)


# IQ imbalance


def image_db(y, k):
    """Image of a tone in bin k, below it."""
    Y = np.fft.fft(y)
    return 10 * np.log10(abs(Y[-k]) ** 2 / abs(Y[k]) ** 2)


@pytest.mark.parametrize(("gain_db", "phase_deg"), [(0.0, 1.0), (0.5, 0.0), (-0.3, 2.0), (1.0, -5.0)])
def test_the_image_lies_below_the_tone_by_the_closed_form(gain_db, phase_deg):
    g, phi = 10 ** (gain_db / 20), np.deg2rad(phase_deg)
    wanted = 10 * np.log10((1 - 2 * g * np.cos(phi) + g**2) / (1 + 2 * g * np.cos(phi) + g**2))
    tone = np.exp(2j * np.pi * 37 * np.arange(1024) / 1024)
    receiver = Impairments(iq_gain_db=gain_db, iq_phase_deg=phase_deg)
    transmitter = Impairments(tx_iq_gain_db=gain_db, tx_iq_phase_deg=phase_deg)

    at_receiver = received(receiver, tone[None].astype(np.complex64))[0]
    at_transmitter = transmitter.transmit(tone)

    assert image_db(at_receiver, 37) == pytest.approx(wanted, abs=0.01)
    assert image_db(at_transmitter, 37) == pytest.approx(wanted, abs=1e-9)
    # the power of a circular signal stays
    assert np.mean(np.abs(at_transmitter) ** 2) == pytest.approx(1.0, abs=1e-12)
    # a transmitter's is no receiver's
    assert received(transmitter, tone) is tone
    assert receiver.transmit(tone) is tone


def test_the_mix_of_rails_is_the_widely_linear_form():
    a, b, c = iq_mix(0.7, 3.0)
    g, phi = 10 ** (0.7 / 20), np.deg2rad(3.0)
    norm = np.sqrt((1 + g**2) / 2)
    mu, nu = (1 + g * np.exp(-1j * phi)) / 2 / norm, (1 - g * np.exp(1j * phi)) / 2 / norm
    x = 0.3 - 0.8j
    assert mu * x + nu * np.conj(x) == pytest.approx(a * x.real + 1j * (b * x.imag + c * x.real), abs=1e-15)
    assert iq_mix(0.0, 0.0) == (1.0, 1.0, 0.0)


# Phase noise


def test_phase_noise_has_the_stated_variance_and_autocorrelation():
    sigma_deg, bandwidth_hz = 3.0, 20e3
    oscillator = Impairments(phase_noise_deg=sigma_deg, phase_noise_bandwidth_hz=bandwidth_hz)
    count = 1 << 24  # 0.84 s

    phi = np.rad2deg(oscillator.phase_noise(5, count, **WHERE))

    # R(tau) = sigma^2 exp(-(pi B tau)^2 / ln 2); independent values lie 1 / (2 sqrt(pi) width) apart: the integral of
    # (R / sigma^2)^2 is sqrt(ln 2 / (2 pi)) / B = 16.6 us, so 50,500 of them, and a variance errs by sqrt(2 / 50500)
    independent = count / RATE_HZ * bandwidth_hz / np.sqrt(np.log(2) / (2 * np.pi))
    for lag in (0, 50, 150, 300, 500, 800):
        wanted = sigma_deg**2 * np.exp(-((np.pi * bandwidth_hz * lag / RATE_HZ) ** 2) / np.log(2))
        found = float(np.mean(phi[: count - lag] * phi[lag:]))
        assert abs(found - wanted) < 4.5 * sigma_deg**2 * np.sqrt(2 / independent), lag
    assert abs(np.mean(phi)) < 4.5 * sigma_deg / np.sqrt(independent / np.sqrt(2))
    # Gaussian: every 2000th sample is independent of the others to 1e-20
    assert stats.kstest(phi[::2000] / sigma_deg, "norm").pvalue > 1e-4


def test_the_spectrum_of_phase_noise_falls_by_half_at_its_bandwidth():
    bandwidth_hz, length = 100e3, 1 << 12
    oscillator = Impairments(phase_noise_deg=1.0, phase_noise_bandwidth_hz=bandwidth_hz)
    phi = oscillator.phase_noise(0, length << 11, **WHERE).reshape(-1, length)
    window = np.hanning(length)
    spectrum = np.mean(np.abs(np.fft.rfft(phi * window)) ** 2, axis=0)
    f = np.arange(spectrum.size) * RATE_HZ / length  # 4.9 kHz apart
    near = f < 300e3
    wanted = 2.0 ** -((f[near] / bandwidth_hz) ** 2)
    # 2048 periodograms: 2.2 % each; the level is fitted
    level = np.sum(spectrum[near] * wanted) / np.sum(wanted**2)
    assert np.all(np.abs(spectrum[near] / level - wanted) < 0.1 * wanted + 1e-3)


def test_the_variance_of_phase_noise_is_the_same_between_knots_and_at_them():
    # the kernel's spacing is 66 samples here; 2^21 samples hold 31,775 spacings
    oscillator = Impairments(phase_noise_deg=1.0, phase_noise_bandwidth_hz=40e3)
    phi = np.rad2deg(oscillator.phase_noise(0, 66 * 31_000, **WHERE)).reshape(-1, 66)
    variance = phi.var(axis=0)
    # kernels overlap: neighbours are correlated by exp(-1/4), so 31,000 count as some 12,000
    assert np.all(np.abs(variance - 1) < 5 * np.sqrt(2 / 12_000))
    # between samples of one capture the error is common; what is left is the ripple
    assert np.ptp(variance) < 0.02


@pytest.mark.parametrize("bandwidth_hz", [0.5, 300.0, 20e3, 1.5e6, 2.6e6])
def test_samples_do_not_depend_on_how_a_stream_is_cut(bandwidth_hz):
    radio = Impairments(phase_noise_deg=5.0, phase_noise_bandwidth_hz=bandwidth_hz, iq_gain_db=0.4, iq_phase_deg=2.0)
    first, x = (3 << 40) + 12_345, field(20_000, channels=2)
    whole = received(radio, x, first)
    cuts = np.sort([0, 1, 2, 3, *np.random.default_rng(4).integers(0, 20_001, 40), 20_000])
    parts = [received(radio, x[:, a:b], first + int(a)) for a, b in pairwise(cuts)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    assert whole.dtype == np.complex64
    assert not np.array_equal(whole, x)


def test_oscillators_of_two_nodes_and_seeds_are_independent():
    oscillator = Impairments(phase_noise_deg=1.0, phase_noise_bandwidth_hz=1e6)
    one = oscillator.phase_noise(0, 1 << 18, **WHERE)
    # 2^18 samples hold 39,500 independent ones
    for other in (WHERE | {"node_idx": 2}, WHERE | {"seed": 4}):
        another = oscillator.phase_noise(0, 1 << 18, **other)
        assert abs(np.corrcoef(one, another)[0, 1]) < 4.5 / np.sqrt(39_500)
    assert np.array_equal(one, oscillator.phase_noise(0, 1 << 18, **WHERE))
    assert PHASE_NOISE_CHANNEL != START_CHANNEL


def test_channels_of_a_receiver_share_its_oscillator():
    radio = Impairments(phase_noise_deg=5.0, phase_noise_bandwidth_hz=1e5)
    turned = received(radio, np.ones((3, 1000), dtype=np.complex64))
    assert np.array_equal(turned[0], turned[1])
    assert np.array_equal(turned[0], turned[2])
    # a rotation: magnitudes stay
    np.testing.assert_allclose(np.abs(turned), 1.0, atol=1e-6)
    phase = radio.phase_noise(0, 1000, **WHERE)
    np.testing.assert_allclose(np.angle(turned[0]), phase, atol=1e-6)


def test_a_bandwidth_the_sample_rate_cannot_follow_is_refused():
    radio = Impairments(phase_noise_deg=1.0, phase_noise_bandwidth_hz=3e6)
    with pytest.raises(ValueError, match=r"phase_noise_bandwidth_hz: 3e\+06 .* must be at most 2\.65e\+06"):
        radio.phase_noise(0, 10, **WHERE)
    assert radio.phase_noise(0, 0, **WHERE).size == 0


# DC, leaking carrier, clipping


def test_dc_and_leaking_carrier_have_the_stated_level_and_phase():
    radio = Impairments(dc_offset_dbfs=-40.0, dc_phase_deg=30.0, tx_lo_leakage_dbfs=-60.0, tx_lo_phase_deg=-90.0)
    assert radio.dc_offset == pytest.approx(0.01 * np.exp(1j * np.pi / 6))
    sent = np.exp(2j * np.pi * np.arange(64) / 64)
    assert np.mean(radio.transmit(sent)) == pytest.approx(-0.001j)
    np.testing.assert_allclose(radio.transmit(sent) - sent, -0.001j, atol=1e-15)


@pytest.mark.parametrize("clip_dbfs", [0.0, -3.0, -6.0])
def test_as_many_samples_are_cut_as_a_gaussian_law_says(clip_dbfs):
    # noise of 1 mW per sample at a full scale of 2 sqrt(mW)
    x, full_scale = field(1 << 20), 2.0
    limit = full_scale * 10 ** (clip_dbfs / 20)
    beyond = 2 * stats.norm.sf(limit * np.sqrt(2))
    share = 1 - (1 - beyond) ** 2  # of either rail

    clipped, count = Impairments(clip_dbfs=clip_dbfs).clip(x, full_scale)

    assert abs(count - share * x.size) < 4.5 * np.sqrt(share * (1 - share) * x.size)
    assert max(np.abs(clipped.real).max(), np.abs(clipped.imag).max()) <= np.float32(limit)
    inside = (np.abs(x.real) <= limit) & (np.abs(x.imag) <= limit)
    assert np.array_equal(clipped[inside], x[inside])
    assert np.count_nonzero(~inside) == count


def test_what_does_not_reach_the_limit_is_not_copied():
    x = 0.1 * field(100)
    clipped, count = Impairments(clip_dbfs=-1.0).clip(x, 1.0)
    assert clipped is x
    assert count == 0
