"""Antennas: sector patterns, the response of a linear array, and what its channels are off by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.antenna import LinearArray, Sector
from sim.propagation import scene_paths
from testbed.units import db
from tests.worlds import CARRIER_HZ, RATE_HZ, WAVELENGTH_M, heard, node, on_air, scene


def towards(azimuth_deg, elevation_m=None):
    azimuth = np.deg2rad(azimuth_deg)
    flat = [np.cos(azimuth), np.sin(azimuth)]
    return np.array(flat if elevation_m is None else [*flat, elevation_m])


# Sectors


@pytest.mark.parametrize(
    ("azimuth_deg", "loss_db"),
    # 12 (angle / 70)^2 by hand, at most 25 dB from 101.04 degrees on
    [(30, 0.0), (65, 3.0), (-5, 3.0), (47.5, 0.75), (100, 12.0), (-40, 12.0), (132, 25.0), (-150, 25.0), (210, 25.0)],
)
def test_a_sector_loses_3_db_half_a_beamwidth_off_its_azimuth(azimuth_deg, loss_db):
    assert Sector(azimuth_deg=30.0).loss_db(towards(azimuth_deg)) == pytest.approx(loss_db, abs=1e-9)


def test_a_sector_knows_that_angles_go_round():
    sector = Sector(azimuth_deg=170.0, beamwidth_deg=60.0, front_to_back_db=20.0)

    assert sector.loss_db(towards(-170)) == pytest.approx(12 * (20 / 60) ** 2)
    assert sector.loss_db(towards(-10)) == 20.0
    assert Sector(azimuth_deg=170.0 - 720.0, beamwidth_deg=60.0).loss_db(towards(-170)) == pytest.approx(4 / 3)


@given(st.floats(-720, 720), st.floats(-3, 3))
def test_a_sectors_pattern_is_even_about_its_azimuth_and_knows_no_elevation(off_deg, height):
    sector = Sector(azimuth_deg=12.0)

    left, right = sector.loss_db(towards(12.0 + off_deg)), sector.loss_db(towards(12.0 - off_deg, height))
    assert left == pytest.approx(right, abs=1e-6)
    assert 0.0 <= left <= 25.0


# Arrays


@pytest.mark.parametrize("broadside_deg", [0.0, 35.0, -120.0])
@pytest.mark.parametrize("azimuth_deg", [0.0, 17.0, 90.0, -60.0, 180.0])
@pytest.mark.parametrize("height_m", [None, 3e5])
def test_the_response_is_the_phase_of_every_elements_distance(broadside_deg, azimuth_deg, height_m):
    # a source 1000 km away; elements 0.7 wavelengths apart to the left of broadside. The wave front's curvature is
    # pi (3 spacing)^2 / (wavelength distance) = 1e-6 rad at most
    array = LinearArray(spacing_wavelengths=0.7, broadside_deg=broadside_deg)
    at = 1e6 * towards(azimuth_deg, None if height_m is None else height_m / 1e6)
    axis = np.resize(towards(broadside_deg + 90.0), at.size) * np.array([1, 1, 0])[: at.size]
    elements = 0.7 * WAVELENGTH_M * np.arange(4)[:, None] * axis
    lengths = np.linalg.norm(at - elements, axis=1)

    response = array.response(at, 4)

    expected = np.exp(-2j * np.pi * (lengths - lengths[0]) / WAVELENGTH_M)
    np.testing.assert_allclose(response, expected, atol=2e-5)  # lengths are known to 1e-10 m, 1e-8 rad


def test_a_wave_from_broadside_reaches_all_channels_alike_and_one_from_the_left_the_last_first():
    array = LinearArray(broadside_deg=20.0)

    np.testing.assert_allclose(array.response(towards(20), 8), np.ones(8), atol=1e-12)
    # 30 degrees to the left: u = 1/2, a quarter turn of lead per half wavelength
    np.testing.assert_allclose(array.response(towards(50), 3), [1, 1j, -1], atol=1e-12)


def test_a_radio_of_many_channels_hears_a_direction_in_their_phases():
    # azimuth 30 degrees, facing 10: sin 20 degrees of half a turn per channel. A signal 56 dB over the noise of a
    # sample: the mean of 2000 knows a phase to 3.5e-5 / sqrt(2) rad; 4 of them for a quotient
    nodes = [node("a", 1.73205080757, 1.0), node("b", 0.0, 0.0, num_tx=0, num_rx=4, array={"broadside_deg": 10.0})]
    world = on_air(scene(nodes), {"a": np.full(64, 0.5)})

    samples = heard(world, "b", 2000).mean(axis=1)

    expected = np.exp(1j * np.pi * np.sin(np.deg2rad(20.0)) * np.arange(4))
    np.testing.assert_allclose(samples / samples[0], expected, atol=1e-4)


def test_echoes_come_from_their_target_and_direct_paths_from_their_transmitter():
    nodes = [node("a", 100.0, 0.0), node("b", 0.0, 0.0, num_rx=2)]
    made = scene(nodes, targets=[{"name": "t", "position_m": [0.0, 50.0], "rcs_m2": 1.0}])
    paths = {(p.kind, p.tx): p for p in scene_paths(made, 1, CARRIER_HZ, RATE_HZ)}

    assert paths["direct", 0].response == pytest.approx([1, 1])  # broadside
    assert paths["echo", 0].response == pytest.approx([1, -1])  # along the axis
    assert paths["echo", 1].response == pytest.approx([1, -1])
    assert paths["self", 1].response == (1, 1)  # no direction


# Calibration


def calibrations(array, seeds=500, nodes=4, channels=16):
    return np.array([[array.calibration(seed, k, channels) for k in range(nodes)] for seed in range(seeds)])


def test_calibration_errors_have_the_deviations_asked_for():
    # 32,000 channels: a deviation is known to 1/sqrt(2 n) = 0.4 %, a mean to 1/sqrt(n) of it, a correlation to
    # 1/sqrt(n); 4 standard errors each, which fail with probability 6e-5 if the law holds
    drawn = calibrations(LinearArray(calibration_phase_deg=12.0, calibration_gain_db=1.5))
    n = drawn.size
    phase_deg, gain_db = np.degrees(np.angle(drawn)), 2 * db(np.abs(drawn))

    for values, deviation in ((phase_deg, 12.0), (gain_db, 1.5)):
        assert np.std(values) == pytest.approx(deviation, rel=4 / np.sqrt(2 * n))
        assert abs(np.mean(values)) < 4 * deviation / np.sqrt(n)
        for axis in range(3):  # seeds, nodes, channels
            first, second = np.delete(values, 0, axis), np.delete(values, -1, axis)
            assert abs(np.mean(first * second)) < 4 * deviation**2 / np.sqrt(first.size)
    assert abs(np.corrcoef(phase_deg.ravel(), gain_db.ravel())[0, 1]) < 4 / np.sqrt(n)


def test_calibration_is_fixed_by_the_seed_and_does_not_depend_on_the_number_of_channels():
    array = LinearArray(calibration_phase_deg=12.0, calibration_gain_db=1.5)

    np.testing.assert_array_equal(array.calibration(3, 1, 4), array.calibration(3, 1, 8)[:4])
    assert np.abs(array.calibration(3, 1, 4) - array.calibration(4, 1, 4)).min() > 1e-3


def test_a_calibrated_array_has_no_errors():
    np.testing.assert_array_equal(LinearArray().calibration(1, 0, 8), np.ones(8))


def test_all_paths_of_a_receiver_share_its_calibration():
    # leakage shows it as it is; a direct path along broadside, too
    array = {"calibration_phase_deg": 25.0, "calibration_gain_db": 2.0}
    made = scene([node("a", 100.0, 0.0), node("b", 0.0, 0.0, num_rx=4, array=array)])

    paths = {p.kind: p.response for p in scene_paths(made, 1, CARRIER_HZ, RATE_HZ)}

    expected = LinearArray(**array).calibration(1, 1, 4)
    np.testing.assert_allclose(paths["self"], expected, rtol=1e-12)
    np.testing.assert_allclose(paths["direct"], expected, rtol=1e-9)
