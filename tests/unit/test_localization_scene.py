"""The localisation scene has the levels of its reference at 10 dBm and 65 dB of isolation, over the stations' noise."""

import numpy as np
import pytest

from sim.propagation import scene_paths
from sim.receiver import transmitter_noise
from sim.scene import load_scene
from sim.world import World
from testbed.device import Settings
from testbed.radio.gains import realise
from testbed.units import db, thermal_noise_dbm, undb
from testbed.waveform.shift import cyclic_shift

CARRIER_HZ, RATE_HZ = 3.5e9, 20e6
STATIONS = ("bs1", "bs2", "bs3")


@pytest.fixture(scope="module")
def scene():
    return load_scene("localization")


def levels(scene, rx, kind):
    noise_dbm = thermal_noise_dbm(RATE_HZ, scene.nodes[rx].noise_figure_db)
    paths = scene_paths(scene, rx, CARRIER_HZ, RATE_HZ)
    return {p.tx: 10.0 + db(abs(p.gain) ** 2) - noise_dbm for p in paths if p.kind == kind}


@pytest.mark.parametrize("rx", range(3))
def test_levels_at_the_stations_are_those_of_the_reference_scene(scene, rx):
    assert thermal_noise_dbm(RATE_HZ, 8.0) == pytest.approx(-93.0, abs=0.05)
    assert levels(scene, rx, "self")[rx] == pytest.approx(38.0, abs=0.1)
    relative = transmitter_noise(scene, rx, scene_paths(scene, rx, CARRIER_HZ, RATE_HZ))
    assert 10.0 + db(relative**2) + 93.0 == pytest.approx(3.0, abs=0.1)
    direct = levels(scene, rx, "direct")
    assert len(direct) == 2
    for level in direct.values():
        assert level == pytest.approx(9.3, abs=0.1)


def test_delays_of_own_echo_and_clutter_are_those_of_the_reference_scene(scene):
    for kind, expected in (("echo", (6.6, 11.3, 10.3)), ("clutter", (13.4, 2.7, 15.6))):
        own = [
            next(p for p in scene_paths(scene, rx, CARRIER_HZ, RATE_HZ) if (p.kind, p.tx) == (kind, rx))
            for rx in range(3)
        ]
        np.testing.assert_allclose([p.delay_samples for p in own], expected, atol=0.06)


def test_users_hear_the_three_stations_and_no_echo(scene):
    for rx in range(3, 6):
        assert {p.kind for p in scene_paths(scene, rx, CARRIER_HZ, RATE_HZ)} == {"direct"}


def test_a_station_on_the_air_hears_its_leakage_and_fresh_noise_in_proportion_to_its_power(scene):
    # 200 periods of 640 samples: residual power to 1/sqrt(128000) = 0.3 %, 5 of them
    world = World(scene)
    wave = np.exp(2j * np.pi * np.random.default_rng(3).random(640)) * np.sqrt(undb(10.0))
    plan, sent, on_air = realise(wave, world.limits("bs1"))
    for name in STATIONS:
        world.configure(name, Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, 40.0))
    world.transmit("bs1", sent[None])
    lsb = world.limits("bs1").rx_amplitude(40.0) / 2048

    heard = (world.receive("bs1", 200 * 640).raw[0].astype(float) @ [1, 1j]).reshape(200, 640) * lsb

    mean = heard.mean(axis=0)
    left = np.mean(np.abs(heard - mean) ** 2) * 200 / 199
    expected = undb(thermal_noise_dbm(RATE_HZ, 8.0)) + lsb**2 / 6 + undb(10.0 - 65.0 - 35.0)
    assert left / expected == pytest.approx(1.0, rel=0.015)
    arrived = sum(
        p.gain * cyclic_shift(on_air, 0.37 + p.delay_samples - 1234)
        for p in scene_paths(scene, 0, CARRIER_HZ, RATE_HZ)
        if p.tx == 0
    )
    assert np.mean(np.abs(mean - arrived) ** 2) / (expected / 200) == pytest.approx(1.0, rel=5 / np.sqrt(640))
