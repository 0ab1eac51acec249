"""The cooperative frame: slots in which a node is alone, pilots and covers that tell nodes apart, powers as shared."""

import numpy as np
import pytest

from testbed.config import validate
from testbed.errors import ConfigError
from testbed.units import undb
from testbed.waveform.cooperative import CooperativeDesign, Sharing
from testbed.waveform.frame import BufferDesign
from testbed.waveform.ofdm import resource_elements
from tests.cooperative_scene import FULL_DBM, K, N, cooperative_design, sharing

DESIGN = cooperative_design()
P = undb(FULL_DBM)
ELEMENT = 64 / 52  # power of an element over that of a sample


def elements(frame, symbols):
    return resource_elements(frame.samples, DESIGN.numerology, symbols)


def changed(**changes):
    return validate(DESIGN.model_dump() | changes, CooperativeDesign, "waveform")


def test_the_reference_frame_has_104_symbols_slots_then_pilots_then_a_block_per_user():
    assert isinstance(DESIGN, BufferDesign)
    assert (DESIGN.num_symbols, DESIGN.frame_len, DESIGN.buffer_len) == (104, 8320, 8320)
    assert (DESIGN.slot_len, DESIGN.guard_len) == (640, 80)
    used = [s for node in range(N) for s in DESIGN.slot_symbol_idx(node)]
    used += DESIGN.pilot_symbol_idx
    used += [s for user in range(K) for s in DESIGN.block_symbol_idx(user)]
    guards = [8 * node + 7 for node in range(N)]
    assert sorted(used + guards) == list(range(104))
    assert DESIGN.slot_window(3) == slice(3 * 640 + 16, 4 * 640)


def test_every_part_has_the_power_it_is_given_per_element():
    frame = DESIGN.transmission(sharing(0.2, 0.7))

    for node in range(N):
        slot = elements(frame, DESIGN.slot_symbol_idx(node))
        np.testing.assert_allclose(np.abs(slot[node]) ** 2, 0.2 * P * ELEMENT)
        np.testing.assert_array_equal(np.delete(slot, node, axis=0), 0)
    np.testing.assert_allclose(np.abs(elements(frame, DESIGN.pilot_symbol_idx)) ** 2, P * ELEMENT)
    for user in range(K):
        block = elements(frame, DESIGN.block_symbol_idx(user))
        np.testing.assert_allclose(np.abs(block) ** 2, 0.7 * P * ELEMENT)
    np.testing.assert_array_equal(frame.pilot_power, np.full(N, P))
    np.testing.assert_allclose(frame.data_power, 0.7 * P)


def test_a_full_symbol_s_samples_have_the_power_of_the_node_and_a_frame_less():
    frame = DESIGN.transmission(sharing(0.5))

    pilots = frame.samples[:, 64 * 80 : 72 * 80].reshape(N, 8, 80)[..., 16:]
    np.testing.assert_allclose(np.mean(np.abs(pilots) ** 2, axis=(1, 2)), P)
    # 7 symbols at .5, 8 at 1, 32 at .5 of 104; prefixes are drawn
    np.testing.assert_allclose(frame.power / P, 27.5 / 104, rtol=0.03)


def test_guards_and_slots_of_others_are_silent_to_the_last_bit():
    frame = DESIGN.transmission(sharing(0.5))

    for node in range(N):
        own = slice(node * 640, node * 640 + 560)
        before_pilots = frame.samples[node, : 64 * 80].copy()
        before_pilots[own] = 0
        assert not np.any(before_pilots)


def test_a_node_outside_the_sensing_cluster_is_silent_in_its_slot_only():
    frame = DESIGN.transmission(sharing(0.5, sensing_nodes=(0, 2, 5)))

    for node in range(N):
        assert np.any(frame.samples[node, : 64 * 80]) == (node in (0, 2, 5))
        assert np.all(np.abs(elements(frame, DESIGN.block_symbol_idx(1))[node]) > 0)


def test_a_dead_node_s_row_is_zero():
    frame = DESIGN.transmission(sharing(0.5, dead=(6,)))

    assert np.flatnonzero(~np.any(frame.samples, axis=1)).tolist() == [6]
    assert frame.pilot_power[6] == frame.data_power[6] == 0


def test_serving_nodes_send_the_same_symbols_under_their_covers_and_others_their_own():
    wanted = sharing(0.5, cluster_size=3)
    frame = DESIGN.transmission(wanted)

    for user, cluster in enumerate(wanted.clusters):
        block = elements(frame, DESIGN.block_symbol_idx(user)) / np.sqrt(0.5 * P * ELEMENT)
        for node in cluster:
            cover = np.exp(2j * np.pi * node * np.arange(8) / 8)
            np.testing.assert_allclose(block[node], cover[:, None] * DESIGN.user_elements[user], atol=1e-12)
        others = [node for node in range(N) if node not in cluster]
        match = np.mean(block * DESIGN.user_elements[user].conj() * DESIGN.block_cover.conj()[..., None], axis=(1, 2))
        assert np.max(np.abs(match[others])) < 5 / np.sqrt(416)
        np.testing.assert_allclose(match[list(cluster)], 1.0)


def test_under_covers_the_mean_power_is_the_sum_of_gains_whatever_the_phases():
    rng = np.random.default_rng(1)
    h = rng.standard_normal((N, 1)) + 1j * rng.standard_normal((N, 1))

    together = np.sum(h * DESIGN.block_cover, axis=0)

    assert np.mean(np.abs(together) ** 2) == pytest.approx(np.sum(np.abs(h) ** 2))


def test_pilots_are_one_sequence_under_orthogonal_covers_and_no_symbol_is_another_one():
    pilots = DESIGN.pilots
    gram = np.einsum("lmk,nmk->kln", pilots, pilots.conj())

    np.testing.assert_allclose(gram, np.broadcast_to(8 * np.eye(N), gram.shape), atol=1e-12)
    plain = pilots[0]
    overlap = np.abs(plain @ plain.conj().T) / 52
    assert np.max(overlap - np.eye(8)) < 0.3


def test_superposition_leaves_slots_empty_and_adds_known_sensing_symbols_to_data():
    wanted = sharing(0.4, 0.6, waveform="superposition", sensing_nodes=(1, 3))
    frame = DESIGN.transmission(wanted)

    assert not np.any(frame.samples[:, : 64 * 80])
    block = elements(frame, DESIGN.block_symbol_idx(2)) / np.sqrt(P * ELEMENT)
    data = DESIGN.transmission(sharing(0.4, 0.6))
    plain = elements(data, DESIGN.block_symbol_idx(2)) / np.sqrt(P * ELEMENT)
    sensing = np.sqrt(wanted.node_sensing_share)[:, None, None] * DESIGN.sensing_elements[:, 2]
    np.testing.assert_allclose(block, plain + sensing, atol=1e-12)
    assert np.flatnonzero(np.any(sensing, axis=(1, 2))).tolist() == [1, 3]


def test_the_contract_of_all_designs_gives_slots_and_pilots_one_power_and_blocks_another():
    pilot, data = np.arange(1.0, 9.0), np.arange(8.0)

    frame = DESIGN.frame(pilot, data)

    for node in range(N):
        slot = elements(frame, DESIGN.slot_symbol_idx(node))[node]
        np.testing.assert_allclose(np.abs(slot) ** 2, pilot[node] * ELEMENT)
    block = elements(frame, DESIGN.block_symbol_idx(0))
    np.testing.assert_allclose(np.mean(np.abs(block) ** 2, axis=(1, 2)), data * ELEMENT)
    np.testing.assert_array_equal(DESIGN.frame(pilot).data_power, pilot)
    with pytest.raises(ValueError, match="pilot_power"):
        DESIGN.frame(-pilot)


def test_another_seed_has_other_symbols_and_the_same_pilots():
    other, fresh = DESIGN.with_data_seed(7), cooperative_design(7)

    for name in ("slot_elements", "user_elements", "own_elements", "sensing_elements"):
        np.testing.assert_array_equal(getattr(other, name), getattr(fresh, name))
        assert np.any(getattr(other, name) != getattr(DESIGN, name))
    np.testing.assert_array_equal(other.pilots, DESIGN.pilots)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_pilot_symbols": 7}, "num_pilot_symbols: found 7; must be at least num_stations = 8"),
        ({"block_symbols": 6}, "block_symbols: found 6; must be at least num_stations = 8"),
        ({"num_stations": 1}, "num_stations"),
        ({"guard_symbols": 0}, "guard_symbols"),
        ({"num_data_frames": 2}, "num_data_frames"),
        ({"slot_symbols": 1000, "num_stations": 64, "num_pilot_symbols": 64, "block_symbols": 64}, "frame_len: found"),
    ],
)
def test_a_frame_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        changed(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensing_share": 0.6}, "comm_share: 0.5 and sensing_share 0.6 are more than 1 together"),
        ({"sensing_nodes": [0, 8]}, r"sensing_nodes: found \[0, 8\]; must be different nodes of 0..7"),
        ({"clusters": [[0], [1, 1], [2], [3]]}, r"clusters\[1\]: found \[1, 1\]"),
        ({"full_power": [1.0] * 7 + [-1.0]}, "full_power"),
    ],
)
def test_a_sharing_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        validate(sharing(0.5).model_dump() | changes, Sharing, "sharing")


def test_a_sharing_of_another_network_is_refused():
    with pytest.raises(ValueError, match="found 3 nodes and 1 clusters; must be 8 and 4"):
        DESIGN.transmission(
            Sharing(full_power=(1.0,) * 3, sensing_share=0, comm_share=1, sensing_nodes=(), clusters=((0,),))
        )


def test_a_sharing_survives_a_file():
    wanted = sharing(0.3, dead=(2,), waveform="superposition")

    assert validate(wanted.model_dump(mode="json"), Sharing, "sharing") == wanted
