"""The cooperative scene has the levels, delays and room of its reference."""

import numpy as np
import pytest

from sim.propagation import scene_paths
from sim.scene import load_scene
from testbed.units import db, thermal_noise_dbm, undb
from tests.cooperative_scene import (
    CARRIER_HZ,
    FULL_DBM,
    NODE_M,
    NODES,
    RATE_HZ,
    RX_GAIN_DB,
    TARGET_M,
    USER_M,
    USERS,
    K,
    N,
    capture_cooperative,
    noise_var,
    path_gain,
    sharing,
)

SCENE = load_scene("cooperative")
NODE_NOISE_DBM, USER_NOISE_DBM = thermal_noise_dbm(RATE_HZ, 8.0), thermal_noise_dbm(RATE_HZ, 5.0)


def level_db(name, kind, noise_dbm):
    return FULL_DBM + db(np.abs(path_gain(SCENE, name, kind)) ** 2) - noise_dbm


def test_places_are_those_of_the_reference():
    assert SCENE.node_names == (*NODES, *USERS)
    places = np.array([node.position_m for node in SCENE.nodes])
    np.testing.assert_array_equal(places, np.concatenate([NODE_M, USER_M]))
    away = np.linalg.norm(NODE_M - TARGET_M, axis=1)
    np.testing.assert_allclose(away, [81.5, 86.5, 86.7, 95.1, 100.2, 104.8, 108.7, 108.6], atol=0.051)
    assert SCENE.targets[0].position_m == tuple(TARGET_M)
    assert SCENE.targets[0].rcs_m2 == 10.0


def test_self_paths_stand_51_db_above_noise_and_direct_ones_34_to_51():
    assert pytest.approx(-93.0, abs=0.05) == NODE_NOISE_DBM
    direct = []
    for rx, name in enumerate(NODES):
        assert level_db(name, "self", NODE_NOISE_DBM)[rx] == pytest.approx(51.0, abs=0.1)
        direct += np.delete(level_db(name, "direct", NODE_NOISE_DBM), rx).tolist()
    assert len(direct) == 56
    assert min(direct) == pytest.approx(33.7, abs=0.1)
    assert max(direct) == pytest.approx(51.1, abs=0.1)


def test_echoes_are_about_as_strong_as_noise_and_come_up_to_fifteen_samples_late():
    for rx, name in enumerate(NODES):
        level = level_db(name, "echo", NODE_NOISE_DBM)
        assert level.min() > -3
        assert level.max() < 2.5
        paths = {(p.kind, p.tx): p.delay_samples for p in scene_paths(SCENE, rx, CARRIER_HZ, RATE_HZ)}
        assert max(paths["echo", tx] for tx in range(N)) < 14.51


def test_users_hear_their_strongest_node_per_element_as_in_the_reference_and_no_echo():
    per_element_db = db(64 / 52)
    strongest = [level_db(name, "direct", USER_NOISE_DBM).max() + per_element_db for name in USERS]
    np.testing.assert_allclose(strongest, [9.8, 7.9, 10.8, 27.6], atol=0.11)
    for rx in range(N, N + K):
        assert {p.kind for p in scene_paths(SCENE, rx, CARRIER_HZ, RATE_HZ)} == {"direct"}


def test_one_lsb_is_the_noise_of_a_rail():
    for rx, name in enumerate((*NODES, *USERS)):
        noise_dbm = NODE_NOISE_DBM if rx < N else USER_NOISE_DBM
        lsb = SCENE.limits(rx).rx_amplitude(RX_GAIN_DB[name]) / 2048
        assert lsb**2 / (undb(noise_dbm) / 2) == pytest.approx(1.0, abs=0.02)
        assert noise_var(SCENE, name) / undb(noise_dbm) == pytest.approx(1.0833, abs=0.002)


def test_full_power_passes_every_converter_and_nothing_clips_up_to_three_quarters_of_it_for_data():
    # the strongest sum is at n0: self, n5, n3 and n1, all at full power in the pilots
    capture = capture_cooperative(sharing(0.25), num_frames=2, listening=(*NODES, *USERS))

    peak = {node.name: int(np.abs(node.raw).max()) for node in capture.nodes}
    assert 1900 < peak["n0"] < 2040
    assert max(peak[name] for name in NODES) < 2047
    assert max(peak[name] for name in USERS) < 100
    rail = np.abs(capture.frame.samples.view(np.float64)).max(axis=1)
    assert np.all(db(rail**2) < FULL_DBM + 10.5)  # of 29 dBm full scale less 0.5


def test_phases_are_drawn_alike_both_ways():
    direct = np.array([path_gain(SCENE, name, "direct") for name in NODES])
    np.testing.assert_allclose(direct, direct.T)
    off = np.angle(direct[np.triu_indices(N, 1)])
    assert np.std(off) > 1.0
