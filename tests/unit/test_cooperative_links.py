"""Links of the cooperative network: found wherever samples begin, judged by their echoes alone, as strong as true."""

import dataclasses

import numpy as np
import pytest

from sim.propagation import scene_paths
from testbed.errors import CaptureError, SyncError
from testbed.sensing.cooperative_capture import network_of
from testbed.sensing.cooperative_columns import ArrivedFrames
from testbed.sensing.cooperative_links import measure_links
from testbed.sensing.cooperative_location import path_lengths
from testbed.sensing.cooperative_slots import PER_SAMPLE, slot_link
from testbed.sensing.cooperative_timing import node_arrivals
from testbed.units import db
from testbed.waveform.shift import cyclic_derivative, cyclic_shift
from tests.cooperative_scene import (
    CARRIER_HZ,
    NODES,
    RATE_HZ,
    TARGET_M,
    USERS,
    N,
    capture_cooperative,
    cooperative_scene,
    noise_var,
    sharing,
)

SHARE, FRAMES = 0.25, 80
HIDDEN = {(0, 2), (0, 4), (1, 2), (1, 6), (2, 3), (2, 5), (3, 4), (4, 5)}  # pairs, the target near the line between


@pytest.fixture(scope="module")
def scene():
    return cooperative_scene()


@pytest.fixture(scope="module")
def capture(scene):
    return capture_cooperative(sharing(SHARE), num_frames=FRAMES, scene=scene)


@pytest.fixture(scope="module")
def links(capture):
    return measure_links(capture)


def true_paths(scene, rx, kind):
    paths = scene_paths(scene, rx, CARRIER_HZ, RATE_HZ)
    kinds = ("self", "direct") if kind == "first" else (kind,)
    return sorted((p for p in paths if p.kind in kinds), key=lambda p: p.tx)


def test_receivers_find_start_and_first_paths_wherever_their_samples_begin(scene, capture):
    # echoes pull first paths: by up to .003 of a sample where the link is used, by .009 where it is not
    network = network_of(capture)
    starts, worst, used = set(), 0.0, 0.0
    for rx, name in enumerate(NODES):
        arrivals = node_arrivals(network, capture.node(name))
        starts.add(arrivals.start)
        first = np.array([p.delay_samples for p in true_paths(scene, rx, "first")])
        late = scene.nodes[rx].start_offset_samples - scene.nodes[rx].receive_offset_samples - arrivals.start
        error = arrivals.first_samples - first - late
        error -= 8320 * np.round(error / 8320)
        hidden = [tuple(sorted((tx, rx))) in HIDDEN for tx in range(N)]
        worst, used = max(worst, np.abs(error).max()), max(used, np.abs(error[~np.array(hidden)]).max())
        assert arrivals.frames.shape == (FRAMES, 8320)
    assert len(starts) == N
    assert worst < 0.010
    assert used < 0.003


def test_echoes_that_the_first_path_hides_are_not_used(links):
    lost = {tuple(sorted(pair)) for pair in links.pairs[~links.chosen()].tolist()}

    assert lost == HIDDEN
    assert links.chosen().sum() == 48
    assert np.all(links.kappa[links.chosen()] > 0.5)


def test_all_frames_together_see_the_target(links):
    assert np.linalg.norm(links.place_m - TARGET_M) < 4 * np.sqrt(0.0183 / FRAMES)


def test_integrated_sinr_is_the_true_one_after_projection(scene, capture, links):
    # true |a|^2 ||(I - P_D) x||^2 / sigma2, columns from true delays; of 80 frames, 18 dB each: .11 dB
    frames, worst = capture.frame.samples, []
    for k in np.flatnonzero(links.chosen()):
        tx, rx = links.pairs[k]
        first, echo = true_paths(scene, rx, "first"), true_paths(scene, rx, "echo")
        window = slice(640 * tx + 16, 640 * (tx + 1))
        D = [cyclic_shift(frames[p.tx], p.delay_samples)[window] for p in first]
        D.append(cyclic_derivative(frames[tx], first[tx].delay_samples)[window])
        U, _ = np.linalg.qr(np.stack([d / np.linalg.norm(d) for d in D], axis=1))
        x = echo[tx].gain * cyclic_shift(frames[tx], echo[tx].delay_samples)[window]
        true = np.linalg.norm(x - U @ (U.conj().T @ x)) ** 2 / noise_var(scene, NODES[rx])
        worst.append(db(links.sinr[k] / true))
    assert np.max(np.abs(worst)) < 0.5
    assert np.sqrt(np.mean(np.square(worst))) < 0.16


def test_levels_are_those_of_the_reference(links):
    mono = links.pairs[:, 0] == links.pairs[:, 1]
    full_db = db(np.maximum(links.sinr, 1e-9) / SHARE)
    np.testing.assert_allclose(full_db[mono], [29.4, 28.3, 28.3, 26.6, 25.8, 24.9, 24.3, 24.3], atol=0.5)
    std = np.sqrt(links.path_var_m2[links.chosen()] * SHARE)
    assert std.min() == pytest.approx(0.23, abs=0.015)
    assert std.max() == pytest.approx(0.66, abs=0.03)


def test_noise_is_the_receivers_and_nothing_else_is_left_in_the_slots(scene, links):
    for name in NODES:
        assert links.noise_var[name].value / noise_var(scene, name) == pytest.approx(1.0, abs=0.006)
    # energy of the mean frame in 615 complex elements over what noise puts there: 4 % standard deviation
    assert np.abs(links.misfit - 1).max() < 0.2
    assert np.mean(links.misfit) == pytest.approx(1.0, abs=0.03)


def test_path_lengths_scatter_as_their_bounds_say(links):
    used = links.chosen()
    profiles = links.profiles.only(used)

    error = path_lengths(profiles) - profiles.path_m(TARGET_M)[:, None]

    assert error.shape == (48, FRAMES)
    z = error / np.sqrt(links.path_var_m2[used])[:, None]
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.06)
    assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(FRAMES)


def test_the_profile_is_the_projected_matched_filter_of_exact_columns(capture):
    network, (tx, rx) = network_of(capture), (3, 6)
    arrivals = node_arrivals(network, capture.node(NODES[rx]))
    window = network.design.slot_window(tx)
    arrived = ArrivedFrames.of(network.frame.samples, arrivals.first_samples)
    link = slot_link(arrived, arrivals.frames[:5], window, tx, rx, 600)

    frames = network.frame.samples
    D = [cyclic_shift(frames[l], arrivals.first_samples[l])[window] for l in range(N)]
    D.append(cyclic_derivative(frames[tx], arrivals.first_samples[tx])[window])
    U, _ = np.linalg.qr(np.stack([d / np.linalg.norm(d) for d in D], axis=1))
    for g in (40, 135, 136, 599):
        x = cyclic_shift(frames[tx], arrivals.first_samples[tx] + g / PER_SAMPLE)[window]
        x = x - U @ (U.conj().T @ x)
        J = np.abs(arrivals.frames[:5, window] @ x.conj()) ** 2 / np.linalg.norm(x) ** 2
        np.testing.assert_allclose(link.statistic[:, g], J, rtol=2e-3)
    assert not np.any(link.statistic[:, :10])  # as good as on the first path


def test_without_the_frames_of_other_nodes_the_mean_of_a_slot_is_not_explained(capture):
    # tails of self and direct paths, as long as the frame
    network = network_of(capture)
    arrivals = node_arrivals(network, capture.node("n4"))
    window = network.design.slot_window(0)
    whole = ArrivedFrames.of(network.frame.samples, arrivals.first_samples)
    own = np.where(np.arange(N)[:, None] == 0, whole.spectra, 0)

    left = [
        np.linalg.norm(slot_link(arrived, arrivals.frames, window, 0, 4, 200).mean)
        for arrived in (whole, ArrivedFrames(own))
    ]

    assert left[1] > 2 * left[0]


def test_a_smaller_sensing_cluster_has_the_links_of_its_senders_to_every_receiver(scene):
    few = capture_cooperative(
        sharing(0.5, sensing_nodes=(0, 6, 7)), num_frames=4, listening=("n0", "n1", "n7"), scene=scene
    )

    found = measure_links(few)

    assert {tuple(pair) for pair in found.pairs.tolist()} == {(tx, rx) for tx in (0, 6, 7) for rx in (0, 1, 7)}
    chosen = found.pairs[found.chosen((0, 6, 7))]
    assert set(chosen.ravel().tolist()) <= {0, 6, 7}
    assert len(chosen) == 6
    with pytest.raises(ValueError, match=r"nodes \[8\]; must be of 0..7"):
        found.chosen((8,))


def test_a_dead_node_neither_sends_nor_hears(scene):
    capture = capture_cooperative(sharing(0.5, dead=(7,)), num_frames=4, listening=("n0", "n6", "n7"), scene=scene)

    found = measure_links(capture)

    assert len(found.pairs) == 14
    assert 7 not in found.pairs
    assert np.all(np.isnan(found.first_samples[7]))
    assert np.all(np.isinf(found.path_var_matrix()[7]))
    assert np.isfinite(found.path_var_matrix()).sum() == found.chosen().sum() == 11


def test_captures_that_cannot_be_used_are_refused_in_words(scene, capture):
    def refused(wanted, match, error=CaptureError, **kwargs):
        with pytest.raises(error, match=match):
            measure_links(capture_cooperative(wanted, scene=scene, **kwargs))

    few = {"num_frames": 3, "listening": ("n0",)}
    refused(sharing(0.5, waveform="superposition"), "its slots are empty, and known data sense whatever", **few)
    refused(sharing(0.0, 0.5), "no live node senses", **few)
    refused(sharing(0.5), "holds one whole frame", num_frames=1, listening=("n0",))
    refused(sharing(0.5), "holds none of the nodes", num_frames=3, listening=USERS)
    with pytest.raises(ValueError, match=r"max_excess_samples 100; must lie in 4\.\.80"):
        measure_links(capture, max_excess_samples=100)
    with pytest.raises(CaptureError, match=r"survey: missing.*not of a cooperative experiment"):
        network_of(dataclasses.replace(capture, setup={k: v for k, v in capture.setup.items() if k != "survey"}))
    with pytest.raises(CaptureError, match="nothing was transmitted"):
        network_of(dataclasses.replace(capture, frame=None))
    with pytest.raises(CaptureError, match="are not the transmitters"):
        network_of(dataclasses.replace(capture, tx_names=NODES[::-1]))


def test_nodes_that_begin_their_frames_apart_are_told(scene):
    nodes = [n.model_copy(update={"start_offset_samples": 50.4}) if n.name == "n3" else n for n in scene.nodes]
    late = scene.model_copy(update={"nodes": tuple(nodes)})

    with pytest.raises(SyncError, match=r"n0: n3 begins its frame 50\.0 samples after n0; must be within 20"):
        measure_links(capture_cooperative(sharing(0.5), num_frames=4, listening=("n0",), scene=late))
