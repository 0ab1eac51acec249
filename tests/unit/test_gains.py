"""Gain plans: a power becomes a gain step and a digital scale; a receive gain leaves room for the peak."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.device import Settings
from testbed.errors import SettingOutOfRange
from testbed.radio.gains import MIN_NOISE_LSB, plan_gain, plan_receive_gain, quantise, realise
from testbed.units import db, undb
from tests.scenes import comp_experiment, comp_scene

# 12 bits; a full-scale tone is 15 dBm at 0 dB; transmit gain -89.75..0 dB in 0.25 dB, receive gain -3..71 dB in 1 dB
LIMITS = comp_scene().limits(0)
FRAME = comp_experiment().waveform.frame(np.ones(3)).samples[0]  # 1 milliwatt; peak 7.15 dB over the mean
powers_dbm = st.floats(-80, 7)
rails = st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=50)


# Transmit


@given(powers_dbm)
def test_what_is_on_the_air_is_within_half_a_code_of_what_was_wanted(power_dbm):
    wanted = np.sqrt(undb(power_dbm)) * FRAME

    plan, _, on_air = realise(wanted, LIMITS)

    half_code = 0.5 / 2048 * LIMITS.tx_amplitude(plan.tx_gain_db)
    error = on_air - wanted
    assert np.max(np.abs([error.real, error.imag])) <= half_code * (1 + 1e-9)


@given(powers_dbm)
def test_the_realised_power_is_within_a_hundredth_of_a_decibel(power_dbm):
    # 640 samples of independent rounding errors leave 2e-4 dB with 12 bits
    _, _, on_air = realise(np.sqrt(undb(power_dbm)) * FRAME, LIMITS)

    assert db(float(np.mean(np.abs(on_air) ** 2))) == pytest.approx(power_dbm, abs=0.01)


@given(powers_dbm)
def test_what_is_sent_at_the_planned_gain_is_what_is_on_the_air(power_dbm):
    plan, sent, on_air = realise(np.sqrt(undb(power_dbm)) * FRAME, LIMITS)

    # the radio turns full scale into tx_full_scale_dbm + tx_gain_db
    amplitude = np.sqrt(10 ** ((15.0 + plan.tx_gain_db) / 10))
    np.testing.assert_allclose(sent.astype(complex) * amplitude, on_air, rtol=1e-12)
    # and converts it without a further error: it is on the converter's grid already
    np.testing.assert_array_equal(quantise(sent, 12), sent.astype(complex))


@given(powers_dbm)
def test_the_peak_is_half_a_decibel_below_full_scale_and_no_gain_step_is_wasted(power_dbm):
    plan, sent, _ = realise(np.sqrt(undb(power_dbm)) * FRAME, LIMITS)

    peak = max(np.abs(sent.real).max(), np.abs(sent.imag).max())
    room_db = -2 * db(float(peak))  # a rail is an amplitude: 20 log10
    assert 0.5 - 0.01 <= room_db <= 0.75 + 0.01
    # a gain the radio has
    assert LIMITS.realise(Settings(3.5e9, 20e6, plan.tx_gain_db, 40.0), "bs1").tx_gain_db == plan.tx_gain_db


def test_powers_a_decibel_apart_are_a_decibel_apart_on_the_air():
    on_air = [realise(np.sqrt(undb(float(p))) * FRAME, LIMITS)[2] for p in range(-11, -2)]

    steps_db = np.diff(db(np.mean(np.abs(np.array(on_air)) ** 2, axis=1)))

    np.testing.assert_allclose(steps_db, 1.0, atol=2e-3)


def test_a_power_below_the_lowest_gain_is_made_by_the_digital_scale():
    # the lowest gain gives full scale -74.75 dBm; the peak of -90 dBm stands 8.1 dB below: 0.39 of full scale
    plan, sent, on_air = realise(np.sqrt(undb(-90.0)) * FRAME, LIMITS)

    assert plan.tx_gain_db == -89.75
    assert np.abs(sent).max() < 0.5
    assert db(float(np.mean(np.abs(on_air) ** 2))) == pytest.approx(-90.0, abs=0.01)


def test_a_silent_node_sends_nothing_at_the_lowest_gain():
    plan, sent, on_air = realise(np.zeros(640, dtype=complex), LIMITS)

    assert (plan.tx_gain_db, plan.scale) == (-89.75, 0.0)
    assert not sent.any()
    assert not on_air.any()


@pytest.mark.parametrize("power_dbm", [7.4, 8.0, 20.0])
def test_too_much_power_is_refused_and_the_largest_that_is_named_can_be_had(power_dbm):
    with pytest.raises(SettingOutOfRange) as caught:
        realise(np.sqrt(undb(power_dbm)) * FRAME, LIMITS)

    message = str(caught.value)
    assert message.startswith(f"power: {power_dbm:.2f} dBm needs tx_gain_db ")
    assert "emulated 12-bit radio" in message
    largest_dbm = float(re.search(r"use at most (-?[\d.]+) dBm", message)[1])
    assert realise(np.sqrt(undb(largest_dbm - 0.005)) * FRAME, LIMITS)[0].tx_gain_db == 0.0  # named with 2 decimals
    with pytest.raises(SettingOutOfRange):
        realise(np.sqrt(undb(largest_dbm + 0.26)) * FRAME, LIMITS)


def test_peak_to_average_is_paid_for_in_gain():
    # same power, peak rail 3 dB higher: 3 dB more gain
    quiet, loud = plan_gain(1.0, 1.0, LIMITS), plan_gain(1.0, 10**0.15, LIMITS)

    assert loud.tx_gain_db - quiet.tx_gain_db == 3.0
    assert quiet.tx_gain_db == -14.5  # 0 dBm of rail, 0.5 dB back-off, 15 dBm full scale


# Converter


@given(rails, st.integers(4, 16))
def test_quantising_twice_is_quantising_once(values, bits):
    samples = np.array(values) + 1j * np.array(values)[::-1]

    once = quantise(samples, bits)

    np.testing.assert_array_equal(quantise(once, bits), once)
    # and complex64 holds every code
    np.testing.assert_array_equal(once.astype(np.complex64).astype(complex), once)


@given(rails, st.integers(4, 16))
def test_codes_are_whole_and_never_beyond_full_scale(values, bits):
    codes = quantise(np.array(values) + 0j, bits).real * 2 ** (bits - 1)

    np.testing.assert_array_equal(codes, np.rint(codes))
    assert np.abs(codes).max() <= 2 ** (bits - 1) - 1


@given(st.floats(-0.87, 0.87), st.integers(4, 16))  # 4 bits reach 7/8
def test_a_quantised_rail_is_the_nearest_code(value, bits):
    quantised = quantise(np.array([value * 1j]), bits)[0]

    assert quantised.real == 0
    assert abs(quantised.imag - value) <= 0.5 / 2 ** (bits - 1)


# Receive


@pytest.mark.parametrize(
    ("peak", "noise_rms_lsb", "planned_db"),
    [
        (0.5, 1.0, 43.0),  # 6.02 dB of peak less 3 dB back-off: 3.02 dB up, peak decides
        (0.1, 1.0, 46.0),  # 17 dB up would do; 2 LSB of noise are 6.02 dB up
        (0.1, 4.0, 33.0),  # noise already 2 LSB and 6 dB: down to 2 LSB, -6.02 floored
        (1.0, 2.0, 37.0),  # full scale: 3 dB down
        (1e-3, 0.1, 66.0),  # noise 20 dB below 1 LSB: 26.02 dB up for 2 LSB, floored
    ],
)
def test_the_peak_comes_first_then_two_lsb_of_noise(peak, noise_rms_lsb, planned_db):
    assert plan_receive_gain(peak, noise_rms_lsb, 40.0, LIMITS) == planned_db


@given(st.floats(1e-4, 1.0), st.floats(0.5, 50.0), st.integers(0, 60))
def test_a_planned_receive_gain_keeps_its_rules(peak, noise_rms_lsb, gain_db):
    try:
        planned_db = plan_receive_gain(peak, noise_rms_lsb, float(gain_db), LIMITS)
    except SettingOutOfRange:
        return
    up_db = planned_db - gain_db
    assert LIMITS.realise(Settings(3.5e9, 20e6, 0.0, planned_db), "bs1").rx_gain_db == planned_db
    if planned_db > LIMITS.rx_gain_min_db:
        assert 2 * db(peak) + up_db <= -3.0 + 1e-6
        assert 2 * db(noise_rms_lsb) + up_db <= 2 * db(2.0) + 1e-6
    assert 2 * db(noise_rms_lsb) + up_db >= 2 * db(MIN_NOISE_LSB) - 1e-6


def test_noise_below_one_lsb_is_refused_with_what_to_do():
    # peak at full scale wants 3 dB less gain; the noise was 1 LSB
    with pytest.raises(SettingOutOfRange) as caught:
        plan_receive_gain(1.0, 1.0, 40.0, LIMITS)

    assert "rx_gain_db: 37 dB keeps the peak 3 dB below full scale" in str(caught.value)
    assert "3.0 dB below 1 LSB rms; reduce the transmit power or the leakage" in str(caught.value)


def test_a_planned_receive_gain_stays_within_the_radio():
    assert plan_receive_gain(1e-4, 1.0, 70.0, LIMITS) == 71.0  # 6 dB up asked for
    assert plan_receive_gain(1.0, 50.0, 0.0, LIMITS) == -3.0  # 28 dB down asked for


@pytest.mark.parametrize("noise_rms_lsb", [0.0, float("nan")])
def test_a_receiver_without_any_noise_is_refused(noise_rms_lsb):
    with pytest.raises(SettingOutOfRange, match="is the receiver alive"):
        plan_receive_gain(0.5, noise_rms_lsb, 40.0, LIMITS)


# Settings as a radio realises them


@pytest.mark.parametrize(
    ("wanted_db", "realised_db"), [(-10.1, -10.0), (-10.13, -10.25), (-89.8, -89.75), (0.1, 0.0), (-0.124, 0.0)]
)
def test_gains_are_rounded_to_the_step_and_returned_rounded(wanted_db, realised_db):
    realised = LIMITS.realise(Settings(3.5e9, 20e6, wanted_db, 40.4), "bs1")

    assert realised.tx_gain_db == realised_db
    assert realised.rx_gain_db == 40.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tx_gain_db", 0.2),
        ("tx_gain_db", float("nan")),
        ("tx_gain_db", float("-inf")),
        ("rx_gain_db", 72.0),
        ("carrier_hz", 69e6),
        ("sample_rate_hz", 62e6),
        ("carrier_hz", float("nan")),
    ],
)
def test_a_setting_the_radio_does_not_have_is_refused_with_number_and_limits(field, value):
    wanted = {"carrier_hz": 3.5e9, "sample_rate_hz": 20e6, "tx_gain_db": -10.0, "rx_gain_db": 40.0} | {field: value}

    with pytest.raises(SettingOutOfRange, match=rf"^bs1\.{field}: .* is outside .* of emulated 12-bit radio"):
        LIMITS.realise(Settings(**wanted), "bs1")
