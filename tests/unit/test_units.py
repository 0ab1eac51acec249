"""Decibels, thermal noise and sizes for people."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.units import SPEED_OF_LIGHT_MPS, db, si_bytes, thermal_noise_dbm, undb


@given(st.floats(-300, 300))
def test_decibels_and_linear_are_inverse(ratio_db):
    assert db(undb(ratio_db)) == pytest.approx(ratio_db, abs=1e-10)


def test_decibels_are_of_power_not_of_amplitude():
    assert db(100.0) == pytest.approx(20.0)
    assert undb(3.0) == pytest.approx(1.995262, rel=1e-6)


@pytest.mark.filterwarnings("error")
def test_no_power_is_minus_infinity_without_a_warning():
    assert db(0.0) == -math.inf
    assert db(np.zeros(2)).tolist() == [-math.inf, -math.inf]
    assert undb(-math.inf) == 0.0


@pytest.mark.parametrize("convert", [db, undb])
def test_a_number_stays_a_python_number_and_an_array_an_array(convert):
    assert type(convert(2.0)) is float
    assert convert(np.array([[1.0, 2.0]])).shape == (1, 2)
    assert convert(np.array([2.0, 3.0]))[1] == convert(3.0)


@pytest.mark.parametrize(
    ("bandwidth_hz", "noise_figure_db", "noise_dbm"),
    [
        (1.0, 0.0, -173.975),  # k T0 at 290 K: 10 log10(1.380649e-23 * 290 * 1e3)
        (20e6, 8.0, -92.965),  # base station of SIGNAL_CHAIN section 8: -93.0 dBm
        (20e6, 5.0, -95.965),  # user there: -96.0 dBm
    ],
)
def test_thermal_noise_is_k_t0_b_f(bandwidth_hz, noise_figure_db, noise_dbm):
    assert thermal_noise_dbm(bandwidth_hz, noise_figure_db) == pytest.approx(noise_dbm, abs=1e-3)


def test_speed_of_light_is_the_defined_one():
    assert SPEED_OF_LIGHT_MPS == 299_792_458.0


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (276e6, "276 MB"), (2.5e9, "2.5 GB"), (4.2e15, "4200 TB")],
)
def test_sizes_for_people_have_two_to_three_digits_and_a_unit(count, text):
    assert si_bytes(count) == text
