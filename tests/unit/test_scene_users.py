"""Users: nodes that only receive, over a mean path loss; in the scene, on the way, and as radios of the world."""

import math

import numpy as np
import pytest
import tomli_w

from sim.propagation import scene_paths
from sim.scene import Scene, load_scene
from sim.truth import effective_noise_var, truth
from sim.world import World
from testbed.config import validate
from testbed.device import Settings
from testbed.errors import ConfigError, RadioError
from testbed.experiment.load import load_experiment
from testbed.radio.gains import realise
from testbed.units import db, undb
from testbed.waveform.shift import cyclic_shift
from tests.scenes import comp_experiment, comp_scene

CARRIER_HZ, RATE_HZ = 3.5e9, 20e6
LIGHT_MPS, WAVELENGTH_M = 299_792_458.0, 299_792_458.0 / 3.5e9
NODES, USERS = ("bs1", "bs2", "bs3"), ("u1", "u2", "u3")
SERVING = dict(zip(USERS, NODES, strict=True))
USER_GAIN_DB = 43.0  # 1 LSB = noise rms per rail


def with_user(**changes):
    """The reference scene with other values for user u1."""
    data = comp_scene().model_dump()
    data["nodes"][3].update(changes)
    return validate(data, Scene, "scene")


def paths_to(name, scene=None):
    scene = scene or comp_scene()
    return scene_paths(scene, scene.node_names.index(name), CARRIER_HZ, RATE_HZ)


def distance_m(a, b, scene=None):
    places = {node.name: node.position_m for node in (scene or comp_scene()).nodes}
    return math.dist(places[a], places[b])


# Scene


def test_users_stand_behind_the_base_stations_whose_noise_stays():
    # the order of nodes is part of the noise's key
    scene = comp_scene()
    assert scene.node_names == (*NODES, *USERS)

    without = scene.model_copy(update={"nodes": scene.nodes[:3]})
    settings = Settings(CARRIER_HZ, RATE_HZ, -10.0, 40.0)
    worlds = World(scene), World(without)
    for world in worlds:
        for name in NODES:
            world.configure(name, settings)
            world.transmit(name, 0.5 * np.ones((1, 640), dtype=np.complex64))
    for name in NODES:
        np.testing.assert_array_equal(*(world.receive(name, 2000).raw for world in worlds))


def test_users_of_the_preset_are_where_the_scene_puts_them():
    survey, scene = load_experiment("comp").survey, comp_scene()

    assert [(u.name, u.position_m) for u in survey.users] == [(n.name, n.position_m) for n in scene.nodes[3:]]


def test_a_scene_written_as_toml_is_the_same_scene(tmp_path):
    # those without a path loss have no such key: TOML has no null
    document = comp_scene().model_dump(mode="json")
    assert [set(row) >= {"path_loss"} for row in document["nodes"]] == [False] * 3 + [True] * 3
    (tmp_path / "my.toml").write_text(tomli_w.dumps(document), encoding="utf-8")

    assert load_scene(str(tmp_path / "my.toml")) == comp_scene()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"path_loss": {"reference_db": -1.0, "exponent": 3.0}},
            r"nodes\[3\].path_loss.reference_db: found -1.0; must",
        ),
        ({"path_loss": {"reference_db": 43.3, "exponent": 0.0}}, r"nodes\[3\].path_loss.exponent: found 0.0; must"),
        ({"path_loss": {"reference_db": 43.3}}, r"nodes\[3\].path_loss.exponent: missing"),
        ({"path_loss": {"reference_db": 43.3, "exponent": 3.0, "sigma_db": 8}}, r"path_loss.sigma_db: unknown key"),
        (
            {"position_m": (0.0, 69.9)},
            r"nodes\[3\].position_m: u1 is 0.618 m from bs1; its path loss holds from 1 m on",
        ),
    ],
)
def test_a_fault_of_a_users_path_loss_is_one_line(changes, fault):
    with pytest.raises(ConfigError, match=fault):
        with_user(**changes)


# The way to a user


def test_levels_at_the_users_are_those_of_the_reference_scene():
    # SIGNAL_CHAIN section 8 at -6 dBm: own direct paths 12.7, 4.1 and 2.9 dB over a noise of -96.0 dBm in 20 MHz, the
    # other base stations' between -4 and -11 dB
    noise_dbm = db(1.380649e-23 * 290 * RATE_HZ * 1e3) + 5.0
    assert noise_dbm == pytest.approx(-96.0, abs=0.05)

    own, cross = [], []
    for user in USERS:
        levels = {NODES[p.tx]: db(abs(p.gain) ** 2) - 6.0 - noise_dbm for p in paths_to(user)}
        own.append(levels.pop(SERVING[user]))
        cross += levels.values()

    np.testing.assert_allclose(own, [12.7, 4.1, 2.9], atol=0.05)
    assert len(cross) == 6
    assert -11.0 < min(cross) < max(cross) < -4.0


@pytest.mark.parametrize("user", USERS)
def test_a_user_hears_each_transmitter_over_one_direct_path_of_its_path_loss(user):
    paths = paths_to(user)

    assert [(p.tx, p.kind, p.via, p.doppler_hz) for p in paths] == [(tx, "direct", None, 0.0) for tx in range(3)]
    for path in paths:
        length_m = distance_m(NODES[path.tx], user)
        assert db(abs(path.gain) ** 2) == pytest.approx(6.0 - 43.3 - 30 * math.log10(length_m), abs=1e-9)
        assert path.delay_samples == pytest.approx(length_m / LIGHT_MPS * RATE_HZ, rel=1e-12)
        phase = np.exp(-2j * np.pi * length_m / WAVELENGTH_M)
        assert path.gain / abs(path.gain) == pytest.approx(phase, abs=1e-9)


def test_both_antennas_count():
    louder = paths_to("u1", with_user(antenna_gain_dbi=2.5))

    for path, reference in zip(louder, paths_to("u1"), strict=True):
        assert db(abs(path.gain) ** 2 / abs(reference.gain) ** 2) == pytest.approx(2.5)


def test_a_receiver_without_a_path_loss_is_in_free_space_with_its_echoes():
    paths = paths_to("u1", with_user(path_loss=None))

    assert len(paths) == 3 * (1 + 3 + 1)
    (direct,) = [p for p in paths if (p.kind, p.tx) == ("direct", 0)]
    friis_db = 6.0 - 20 * math.log10(4 * math.pi * distance_m("bs1", "u1") / WAVELENGTH_M)
    assert db(abs(direct.gain) ** 2) == pytest.approx(friis_db)


def test_a_user_is_no_transmitter_of_anybodys_path():
    assert {p.tx for name in (*NODES, *USERS) for p in paths_to(name)} == {0, 1, 2}


# Users as radios


def transmitting(power_dbm=-6.0):
    world = World(comp_scene())
    wanted = comp_experiment().waveform.frame(np.full(3, undb(power_dbm))).samples
    on_air = []
    for row, name in enumerate(NODES):
        plan, sent, air = realise(wanted[row], world.limits(name))
        world.configure(name, Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, 40.0))
        world.transmit(name, sent[None])
        on_air.append(air)
    for user in USERS:
        world.configure(user, Settings(CARRIER_HZ, RATE_HZ, -89.75, USER_GAIN_DB))
    return world, on_air


def test_a_user_has_a_receiver_and_no_transmitter():
    world = World(comp_scene())

    assert (world.limits("u1").num_tx, world.limits("u1").num_rx) == (0, 1)
    assert world.transmitting() == dict.fromkeys(NODES, False)


def test_a_user_that_is_told_to_transmit_refuses_in_one_line():
    world, _ = transmitting()
    before = world.epoch

    for samples in (np.zeros((1, 640), dtype=np.complex64), np.zeros((0, 640), dtype=np.complex64)):
        with pytest.raises(RadioError, match=r"^u2: has no transmitter$"):
            world.transmit("u2", samples)
    assert world.epoch == before


def test_muting_a_user_is_harmless_in_any_state():
    world, _ = transmitting()
    first = world.receive("u2", 100)

    world.mute("u2")
    second = world.receive("u2", 100)

    assert (second.epoch, second.start) == (first.epoch, 100)  # nothing changed, so no epoch began
    World(comp_scene()).mute("u2")  # not configured either


@pytest.mark.parametrize("user", USERS)
def test_what_a_user_hears_is_the_frames_over_its_paths_plus_its_noise(user):
    # 400 frames folded: what is left is the noise, 2 LSB^2 and rounding, over 400; its mean over 640 samples has a
    # relative standard error of 1/sqrt(640) = 0.04, times 5. Without the weakest path, 10 dB below the noise of a
    # sample, there would be 40 times more left
    world, on_air = transmitting()
    scene, index = world.scene, world.scene.node_names.index(user)

    got = world.receive(user, 400 * 640)

    amplitude = world.limits(user).rx_amplitude(USER_GAIN_DB) / 2048
    folded = (got.raw[0].astype(float) @ [1, 1j]).reshape(400, 640).mean(axis=0) * amplitude
    expected = np.zeros(640, dtype=complex)
    for path in paths_to(user):
        begin = scene.nodes[path.tx].start_offset_samples + path.delay_samples
        expected += path.gain * cyclic_shift(on_air[path.tx], begin - scene.nodes[index].receive_offset_samples)
    left = np.mean(np.abs(folded - expected) ** 2)
    noise_var = effective_noise_var(scene, index, RATE_HZ, USER_GAIN_DB)
    assert left / noise_var * 400 == pytest.approx(1.0, rel=5 / math.sqrt(640))
    assert got.clip_count == 0


def test_targets_make_no_difference_to_a_user():
    worlds = transmitting()[0], transmitting()[0]
    for world, condition in zip(worlds, ("all", "empty"), strict=True):
        world.set_condition(condition, epoch=100)

    np.testing.assert_array_equal(*(world.receive("u3", 5000).raw for world in worlds))


@pytest.mark.parametrize("user", USERS)
def test_a_users_noise_is_one_lsb_per_rail_at_the_presets_gain(user):
    # 2e6 samples: standard error 7e-4 of the variance; 4 of them
    world = World(comp_scene())
    index = world.scene.node_names.index(user)
    assert comp_experiment().rx_gain_db(user) == USER_GAIN_DB
    world.configure(user, Settings(CARRIER_HZ, RATE_HZ, -89.75, USER_GAIN_DB))

    codes = world.receive(user, 2_000_000).raw[0].astype(float)

    lsb = world.limits(user).rx_amplitude(USER_GAIN_DB) / 2048
    assert math.sqrt(undb(-95.965) / 2) / lsb == pytest.approx(1.0, abs=0.02)
    expected = effective_noise_var(world.scene, index, RATE_HZ, USER_GAIN_DB)
    assert 2 * lsb**2 * np.mean(codes**2) == pytest.approx(expected, rel=4 / math.sqrt(2e6))


def test_the_rates_of_the_reference_scene_are_above_one_bit_with_equal_powers():
    # requirement of the preset: at -5 dBm per base station log2(1 + SINR) >= 1 for every user
    (point,) = truth(comp_scene(), comp_experiment(), {}, [[undb(-5.0)] * 3]).points

    for o, user in enumerate(USERS):
        gram, s = np.array(point.communication[user].gram), np.sqrt(point.power)
        others = np.where(np.arange(3) == o, 0.0, s)
        sinr = s[o] ** 2 * gram[o, o] / (others @ gram @ others + point.noise_var[user].value)
        assert math.log2(1 + sinr) > 1.0
