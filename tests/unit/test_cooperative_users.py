"""What users know of the nodes from pilots predicts what they measure with data, for every cluster and share."""

import dataclasses

import numpy as np
import pytest

from sim.propagation import scene_paths
from testbed.errors import CaptureError
from testbed.sensing.cooperative_channels import UserChannels, user_channels
from testbed.sensing.cooperative_rates import measure_link, predict_link
from testbed.units import db, undb
from tests.cooperative_scene import (
    CARRIER_HZ,
    FULL_DBM,
    NEAREST,
    NODES,
    RATE_HZ,
    USERS,
    K,
    N,
    capture_cooperative,
    cooperative_design,
    cooperative_scene,
    noise_var,
    path_gain,
    sharing,
)

SCENE = cooperative_scene()
ELEMENT = undb(FULL_DBM) * 64 / 52


def captured(wanted, epoch=None, num_frames=12):
    return capture_cooperative(wanted, num_frames=num_frames, listening=USERS, scene=SCENE, epoch=epoch)


@pytest.fixture(scope="module")
def half():
    return captured(sharing(0.5))


@pytest.fixture(scope="module")
def channels(half):
    return [user_channels(half, name) for name in USERS]


def rates(capture, cancelled="serving"):
    found = [user_channels(capture, name) for name in USERS]
    return [measure_link(capture, one, user, cancelled) for user, one in enumerate(found)]


def test_gains_are_the_true_ones_within_their_errors(channels):
    z = []
    for name, found in zip(USERS, channels, strict=True):
        true = np.abs(path_gain(SCENE, name, "direct")) ** 2 * ELEMENT
        z += ((found.power - true) / [gain.stderr for gain in found.gain]).tolist()
        assert np.abs(db(found.power / true)).max() < 1.0
        assert found.noise_var.value / noise_var(SCENE, name) == pytest.approx(1.0, abs=5 / np.sqrt(416 * 11))
        assert found.warnings == ()
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1.0, abs=0.4)  # 32 of them


def test_delays_are_the_true_ones_and_stand_in_the_middle_of_the_cyclic_prefix(channels):
    for rx, found in enumerate(channels, N):
        node = SCENE.nodes[rx]
        paths = sorted(scene_paths(SCENE, rx, CARRIER_HZ, RATE_HZ), key=lambda p: p.tx)
        true = np.array([p.delay_samples + 0.37 for p in paths]) - node.receive_offset_samples - found.start
        true -= 8320 * np.round(true / 8320)
        snr = found.power / found.noise_var.value * 416 * 12
        np.testing.assert_array_less(np.abs(found.delay_samples - true), 5 / np.sqrt(2 * snr) / (2 * np.pi * 0.24))
        assert np.abs(found.delay_samples).max() < 7.5


def test_the_channel_is_the_true_response_of_every_node(channels):
    k = cooperative_design().numerology.subcarriers
    for rx, found in enumerate(channels, N):
        node, name = SCENE.nodes[rx], USERS[rx - N]
        paths = sorted(scene_paths(SCENE, rx, CARRIER_HZ, RATE_HZ), key=lambda p: p.tx)
        delay = np.array([p.delay_samples + 0.37 for p in paths]) - node.receive_offset_samples - found.start
        ramp = np.exp(-2j * np.pi * np.outer(delay + found.advance, k) / 64)
        true = path_gain(SCENE, name, "direct")[:, None] * np.sqrt(ELEMENT) * ramp
        error = np.sum(np.abs(found.channel - true) ** 2) / np.sum(np.abs(true) ** 2)
        assert error < 0.01


def test_gains_do_not_depend_on_what_is_sent_beside_the_pilots(channels):
    for wanted in (sharing(0.0), sharing(0.5, waveform="superposition", cluster_size=8)):
        for before, name in zip(channels, USERS, strict=True):
            after = user_channels(captured(wanted, epoch=77), name)
            error = np.hypot([gain.stderr for gain in before.gain], [gain.stderr for gain in after.gain])
            assert np.max(np.abs(before.power - after.power) / error) < 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cluster_size", "comm_share"), [(1, 0.25), (2, 0.05), (2, 0.25), (2, 1.0), (4, 0.5), (8, 0.1), (8, 1.0)]
)
def test_measured_sinr_and_rate_of_slots_are_as_predicted(channels, cluster_size, comm_share):
    # predicted from ANOTHER capture's pilots; interference of 416 elements: .21 dB standard deviation at worst
    wanted = sharing(1 - comm_share, comm_share, cluster_size=cluster_size)
    for user, link in enumerate(rates(captured(wanted, epoch=1000 + cluster_size))):
        before = predict_link(channels[user], wanted, user)
        assert abs(db(link.sinr.value / before.sinr)) < 0.5
        assert abs(db(link.sinr.value / link.predicted.sinr)) < 0.5
        assert link.rate_bps_hz.value == pytest.approx(before.rate_bps_hz, rel=0.06)
        assert 0.8 < link.rate_bps_hz.value / np.log2(1 + link.sinr.value) <= 1 + 1e-9
        assert link.cluster == NEAREST[user][:cluster_size]


@pytest.mark.slow
@pytest.mark.parametrize("cancelled", ["none", "serving", "all"])
def test_measured_sinr_of_superposition_is_as_predicted_whatever_is_cancelled(channels, cancelled):
    wanted = sharing(0.75, 0.25, waveform="superposition")
    for user, link in enumerate(rates(captured(wanted, epoch=5), cancelled)):
        before = predict_link(channels[user], wanted, user, cancelled)
        assert abs(db(link.sinr.value / before.sinr)) < 0.5
        assert link.rate_bps_hz.value == pytest.approx(before.rate_bps_hz, rel=0.1)


@pytest.mark.parametrize(
    ("cluster_size", "waveform", "expected"),
    [
        (1, "slots", [(0.54, 1.43), (0.88, 1.72), (0.99, 1.89), (1.05, 1.99)]),
        (2, "slots", [(0.61, 1.81), (1.09, 2.30), (1.42, 2.63), (1.70, 2.89)]),
        (4, "slots", [(0.73, 2.17), (1.29, 2.96), (1.75, 3.53), (2.29, 4.08)]),
        (8, "slots", [(0.80, 2.27), (1.41, 3.16), (2.08, 3.94), (2.84, 4.82)]),
        (2, "superposition", [(0.31, 0.90), (0.68, 1.54), (1.10, 2.14)]),
    ],
)
def test_smallest_and_mean_rates_are_those_of_the_reference(channels, cluster_size, waveform, expected):
    for comm_share, (least, mean) in zip((0.1, 0.25, 0.5, 1.0), expected, strict=False):
        wanted = sharing(1 - comm_share, comm_share, cluster_size=cluster_size, waveform=waveform)
        found = [predict_link(channels[user], wanted, user).rate_bps_hz for user in range(K)]
        assert min(found) == pytest.approx(least, rel=0.06)
        assert np.mean(found) == pytest.approx(mean, rel=0.04)


def test_a_dead_serving_node_is_lost_to_its_user_and_predicted_so(channels):
    # node 7 is the strongest of the first user
    wanted = sharing(0.75, 0.25, dead=(7,))
    link = rates(captured(wanted, epoch=9))[0]

    before = predict_link(channels[0], wanted, 0)
    assert abs(db(link.sinr.value / before.sinr)) < 0.5
    assert before.rate_bps_hz < 0.35 * predict_link(channels[0], sharing(0.75, 0.25), 0).rate_bps_hz


def known_channels(h, noise, cover):
    from testbed.measurement import Estimate

    gain = tuple(Estimate.exact(float(np.mean(np.abs(row) ** 2))) for row in h)
    zeros = np.zeros(len(h))
    return UserChannels("u", h, gain, Estimate.exact(noise), cover, zeros, 0, 8, 12, ())


def test_the_formulas_of_both_waveforms():
    rng = np.random.default_rng(2)
    h = (rng.standard_normal((N, 52)) + 1j * rng.standard_normal((N, 52))) * np.arange(1, 9)[:, None]
    cover = cooperative_design().block_cover
    known, g, sigma2 = known_channels(h, 0.5, cover), np.mean(np.abs(h) ** 2, axis=1), 0.5
    wanted = sharing(0.3, 0.6, cluster_size=2, sensing_nodes=(0, 1, 2, 7), dead=(3,))
    serving = list(wanted.clusters[1])  # nodes 1 and 0
    others = [l for l in range(N) if l not in serving and l != 3]
    sensing = np.array([0.3 if l in (0, 1, 2, 7) else 0.0 for l in range(N)])

    assert serving == [1, 0]
    signal = 0.6 * g[serving].sum()
    slots = predict_link(known, wanted, 1)
    assert slots.sinr == pytest.approx(signal / (0.6 * g[others].sum() + sigma2))
    h_eff = np.sqrt(0.6) * np.einsum("lk,lm->mk", h[serving], cover[serving])
    full = np.mean(np.log2(1 + np.abs(h_eff) ** 2 / (0.6 * g[others].sum() + sigma2)))
    assert slots.rate_bps_hz == pytest.approx(full)

    over = wanted.model_copy(update={"waveform": "superposition"})
    beside = (0.6 + sensing[others]) @ g[others] + sigma2
    assert predict_link(known, over, 1).sinr == pytest.approx(signal / beside)
    assert predict_link(known, over, 1, "all").sinr == pytest.approx(slots.sinr)
    assert predict_link(known, over, 1, "none").sinr == pytest.approx(signal / (beside + 0.3 * g[[0, 1]].sum()))
    assert predict_link(known, wanted.model_copy(update={"comm_share": 0.0}), 1).rate_bps_hz == 0


def test_what_does_not_fit_is_refused(half, channels):
    with pytest.raises(CaptureError, match=r"u1: block 4; the waveform has 0\.\.3"):
        measure_link(half, channels[0], 4)
    with pytest.raises(ValueError, match="the user is number 4"):
        predict_link(channels[0], sharing(0.5), 4)
    with pytest.raises(CaptureError, match="u2: holds one whole frame"):
        user_channels(captured(sharing(0.5), num_frames=1), "u2")
    with pytest.raises(CaptureError, match="node 'u9': not in this capture"):
        user_channels(half, "u9")
    with pytest.raises(CaptureError, match="nothing was transmitted"):
        user_channels(dataclasses.replace(half, frame=None), "u1")
    assert half.tx_names == NODES
