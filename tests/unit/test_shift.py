"""What a delay does to a repeated frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.waveform.ofdm import resource_elements
from testbed.waveform.shift import cyclic_derivative, cyclic_shift, rms_bandwidth
from tests.scenes import comp_experiment

DESIGN = comp_experiment().waveform
FRAMES = DESIGN.frame(np.ones(3)).samples  # 640 samples, CP 16
delays = st.floats(-2000, 2000)
lengths = st.integers(2, 65)  # even and odd, the Nyquist bin present and absent


def noise_frame(length, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(length) + 1j * rng.standard_normal(length)


def fourier_sum(frame, delay_samples, at):
    """The definition evaluated term by term: sum over bins of X_k exp(2j pi f_k (n - tau)) / N, f in [-1/2, 1/2)."""
    size = len(frame)
    f = (np.arange(size) + size // 2) % size - size // 2
    spectrum = np.array([np.sum(frame * np.exp(-2j * np.pi * k * np.arange(size) / size)) for k in f])
    return np.array([np.sum(spectrum * np.exp(2j * np.pi * f * (n - delay_samples) / size)) / size for n in at])


@given(lengths, delays, delays)
def test_delays_compose(length, first, second):
    frame = noise_frame(length)

    twice = cyclic_shift(cyclic_shift(frame, first), second)

    np.testing.assert_allclose(twice, cyclic_shift(frame, first + second), atol=1e-10)


@given(lengths, delays)
def test_a_delay_keeps_the_energy(length, delay):
    frame = noise_frame(length)

    assert np.linalg.norm(cyclic_shift(frame, delay)) == pytest.approx(np.linalg.norm(frame), rel=1e-12)


@given(lengths, st.integers(-300, 300))
def test_a_whole_delay_is_a_roll(length, delay):
    frame = noise_frame(length)

    np.testing.assert_allclose(cyclic_shift(frame, delay), np.roll(frame, delay), atol=1e-11)


@given(st.integers(2, 33), st.floats(-50, 50))
def test_a_delay_is_the_fourier_sum_of_the_definition(length, delay):
    frame = noise_frame(length)

    np.testing.assert_allclose(cyclic_shift(frame, delay), fourier_sum(frame, delay, range(length)), atol=1e-11)


def test_the_nyquist_bin_turns_as_the_frequency_minus_one_half():
    alternating = (-1.0) ** np.arange(8)  # one tone at the band edge

    # exp(-2j pi (-1/2) tau): a quarter sample turns it by +45 degrees; +1/2 would give -45, their mean a real number
    np.testing.assert_allclose(cyclic_shift(alternating, 0.25), np.exp(0.25j * np.pi) * alternating, atol=1e-14)


def test_a_delay_beyond_the_cyclic_prefix_is_exact():
    # 40.37 samples with a prefix of 16: symbols reach far into the next one; by definition only the frame wraps
    delay, at = 40.37, np.array([0, 17, 95, 639])

    delayed = cyclic_shift(FRAMES[0], delay)

    np.testing.assert_allclose(delayed[at], fourier_sum(FRAMES[0], delay, at), atol=1e-10)
    np.testing.assert_allclose(cyclic_shift(delayed, 600 - delay), np.roll(FRAMES[0], 600), atol=1e-11)


@pytest.mark.parametrize(("delay", "low_db", "high_db"), [(12.5, -46, -42), (15.5, -35, -32), (12, -400, -250)])
def test_phase_ramps_on_resource_elements_are_not_what_a_fractional_delay_does(delay, low_db, high_db):
    # SIGNAL_CHAIN section 3: they differ by -32 to -43 dB, a noncentrality of 20 to 2000 under H0, although the delay
    # is shorter than the prefix of 16; only whole delays are ramps. The bounds are those of data seed 1.
    numerology = DESIGN.numerology
    sent = resource_elements(FRAMES, numerology, [2, 3])
    ramped = sent * np.exp(-2j * np.pi * numerology.subcarriers / numerology.fft_size * delay)

    arrived = resource_elements(cyclic_shift(FRAMES, delay), numerology, [2, 3])

    differ_db = 20 * np.log10(np.linalg.norm(arrived - ramped) / np.linalg.norm(arrived))
    assert low_db < differ_db < high_db


@given(lengths, st.floats(-100, 100))
def test_the_derivative_is_the_limit_of_differences(length, delay):
    # central difference of step h: relative error (2 pi f h)^2 / 6 <= (pi h)^2 / 6 = 1.5e-9 at h = 3e-5
    frame, h = noise_frame(length), 3e-5

    differences = (cyclic_shift(frame, delay + h) - cyclic_shift(frame, delay - h)) / (2 * h)

    np.testing.assert_allclose(cyclic_derivative(frame, delay), differences, atol=1e-7 * np.linalg.norm(frame))


def test_the_derivative_of_the_first_harmonic_is_known():
    n = np.arange(16)
    tone = np.exp(2j * np.pi * n / 16)

    # x(n - tau) = exp(2j pi (n - tau) / 16), d/d tau at tau = 2
    expected = -2j * np.pi / 16 * np.exp(2j * np.pi * (n - 2) / 16)
    np.testing.assert_allclose(cyclic_derivative(tone, 2.0), expected, atol=1e-14)


def test_a_delay_per_row_is_a_delay_of_each_row():
    delays_samples = np.array([0.3, -17.25, 100.0])

    rows = cyclic_shift(FRAMES, delays_samples)

    assert rows.shape == (3, 640)
    np.testing.assert_allclose(rows[1], cyclic_shift(FRAMES[1], -17.25), atol=1e-13)
    assert cyclic_shift(FRAMES[0], delays_samples).shape == (3, 640)
    assert cyclic_derivative(FRAMES[0], delays_samples).shape == (3, 640)


def test_rms_bandwidth_of_the_reference_frame_is_a_quarter_cycle_per_sample():
    # SIGNAL_CHAIN: beta = 0.24. Flat over +-26 of 64 bins: sqrt(sum k^2 / 52) / 64 = 0.239.
    np.testing.assert_allclose(rms_bandwidth(FRAMES), 0.24, atol=0.01)


def test_rms_bandwidth_of_a_tone_is_its_frequency():
    tone = np.exp(2j * np.pi * 5 * np.arange(40) / 40)

    assert rms_bandwidth(tone) == pytest.approx(5 / 40, rel=1e-12)
