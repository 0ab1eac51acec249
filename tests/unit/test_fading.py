"""Block fading: the law of the gains, what they are independent of, and at which sample of a receiver they switch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.fading import PathFading
from sim.noise import MAX_EPOCH, Purpose
from sim.propagation import scene_paths
from testbed.errors import ConfigError
from testbed.radio.gains import quantise
from testbed.units import undb
from testbed.waveform.shift import cyclic_shift
from tests.worlds import CARRIER_HZ, heard, largest_correlation, node, on_air, scene

N = 200_000
ECHO = PathFading(1, 5, Purpose.FADING_ECHO, k_factor=0.0, block_samples=180, per_channel=False, epoch=3)
DIRECT = PathFading(1, 5, Purpose.FADING_DIRECT, k_factor=0.0, block_samples=180, per_channel=True, epoch=3)


# Law


def test_gains_are_circular_gaussian_of_unit_power():
    # 200,000 blocks: 4 standard errors each, and KS p > 1e-3; together they fail with probability 3e-3
    (gains,) = ECHO.gains(0, N, 1).astype(complex)

    assert abs(np.mean(gains)) < 4 / np.sqrt(N)
    assert np.mean(np.abs(gains) ** 2) == pytest.approx(1.0, abs=4 / np.sqrt(N))
    assert abs(np.mean(gains**2)) < 4 * np.sqrt(2 / N)
    assert stats.kstest(np.abs(gains) ** 2, "expon").pvalue > 1e-3
    assert stats.kstest(np.angle(gains) / (2 * np.pi) % 1.0, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("k_db", [-10.0, 0.0, 9.0, 60.0])
def test_a_rician_gain_has_unit_power_and_a_steady_part(k_db):
    # |g|^2 has mean 1 and variance (1 + 2 K) / (1 + K)^2: 4 standard errors, 6e-5 each
    k = undb(k_db)
    fading = PathFading(1, 5, Purpose.FADING_DIRECT, k, 180, True, 3)

    (gains,) = fading.gains(0, N, 1).astype(complex)

    assert np.mean(np.abs(gains) ** 2) == pytest.approx(1.0, abs=4 * np.sqrt((1 + 2 * k) / N) / (1 + k) + 1e-7)
    assert abs(np.mean(gains) - np.sqrt(k / (1 + k))) < 4 / np.sqrt((1 + k) * N) + 1e-7


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 1 << 39))
def test_gains_of_a_block_do_not_depend_on_what_is_asked_for_beside_it(sizes, first):
    whole = DIRECT.gains(first, sum(sizes), 3)

    starts = (first + np.cumsum([0, *sizes[:-1]])).tolist()
    parts = [DIRECT.gains(start, size, 3) for start, size in zip(starts, sizes, strict=True)]

    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


# Independence. 35 numbers per pair that exceed 5 standard errors with probability 6e-7 each; 2e-4 for all pairs


def changed(fading, **values):
    return PathFading(**{**fading.__dict__, **values})


OTHERS = {
    "path": changed(ECHO, stream=6),
    "distant path": changed(ECHO, stream=65_535),
    "next epoch": changed(ECHO, epoch=4),
    "last epoch": changed(ECHO, epoch=MAX_EPOCH - 1),
    "seed": changed(ECHO, seed=2),
    "direct path of the same number": changed(ECHO, purpose=Purpose.FADING_DIRECT),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_gains_of_two_paths_epochs_and_kinds_are_independent(other):
    assert largest_correlation(ECHO.gains(0, N, 1)[0], other.gains(0, N, 1)[0]) < 5


def test_blocks_are_independent():
    (gains,) = ECHO.gains(0, N, 1)

    assert largest_correlation(gains, gains, [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]) < 5


def test_channels_share_an_echos_gain_and_scatter_by_themselves():
    echo, direct = ECHO.gains(0, N, 3), DIRECT.gains(0, N, 3)

    np.testing.assert_array_equal(echo, np.broadcast_to(echo[0], (3, N)))
    assert largest_correlation(direct[0], direct[1]) < 5
    assert largest_correlation(direct[0], direct[2]) < 5


def test_the_check_finds_gains_that_repeat_from_path_to_path():
    (gains,) = ECHO.gains(0, N, 1)

    assert largest_correlation(gains[3:], gains[:-3]) > 100
    assert largest_correlation(gains, gains.conj()) > 100


# Through radios


def fading_scene(*, seed=1, offset=0, mode, num_rx=1, k_db=-200.0, echoes=True, users=1):
    """Users that transmit and a receiver that hears them directly, scattered, and by way of a target."""
    fading = {"static": {"echo": "block", "direct": "run"}, "fading": {"echo": "block", "direct": "block"}}
    loss = {"reference_db": 20.0, "exponent": 2.0, "rician_k_db": k_db, "echoes": echoes}
    nodes = [node(f"u{i}", 20.0 + i, 3.0 * i, num_rx=1) for i in range(users)]
    nodes.append(node("b", 0.0, 0.0, num_tx=0, num_rx=num_rx, path_loss=loss, receive_offset_samples=offset))
    targets = [{"name": "t", "position_m": [9.0, 5.0], "rcs_m2": 30.0}]
    return scene(nodes, seed=seed, targets=targets, fading={"block_samples": 180, **fading[mode]})


def steps(samples):
    """Indices k at which sample k is another than sample k - 1, by far more than noise."""
    return np.flatnonzero(np.abs(np.diff(samples)) > 0.02 * np.abs(samples).mean()) + 1


@pytest.mark.parametrize("offset", [0, 7, 179, 180, 1_000_003])
@pytest.mark.parametrize("sizes", [[4000], [1, 179, 180, 3640]], ids=["whole", "cut"])
def test_gains_switch_exactly_where_180_samples_of_the_epoch_are_full(offset, sizes):
    # A constant from the user is constant between switches. Sample k of the receiver is number k + offset of the epoch:
    # the user's frame begins at multiples of 180 of it, and so do the blocks
    world = on_air(fading_scene(mode="fading", offset=offset), {"u0": np.full(180, 0.7)}, rx_gain_db=30.0)

    samples = np.concatenate([heard(world, "b", size, 30.0)[0] for size in sizes])

    assert steps(samples).tolist() == [k for k in range(1, 4000) if (k + offset) % 180 == 0]


def test_in_mode_static_only_echoes_are_redrawn():
    # the same direct gain in every block and every epoch: what is left without the target never changes
    world = on_air(fading_scene(mode="static"), {"u0": np.full(180, 0.7)}, rx_gain_db=30.0)
    world.set_condition("empty")
    empty = heard(world, "b", 1800, 30.0)[0]
    world.set_condition("all")
    first = heard(world, "b", 1800, 30.0)[0].reshape(10, 180).mean(axis=1)
    world.set_condition("all")
    second = heard(world, "b", 1800, 30.0)[0].reshape(10, 180).mean(axis=1)

    assert steps(empty).size == 0
    echoes = np.concatenate([first, second]) - empty.mean()
    assert np.unique(np.round(echoes, 9)).size == 20
    # the echo 19 dB below the direct path: what varies is as strong as the path, within a factor
    (echo,) = [p for p in scene_paths(world.scene, 1, CARRIER_HZ, 20e6) if p.kind == "echo"]
    power = np.mean(np.abs(echoes) ** 2) / (abs(echo.gain) ** 2 * 0.49 * undb(15.0))
    # mean of 20 exponentials: between 0.3 and 2.3 but with probability 1e-4
    assert 0.3 < power < 2.3


def test_in_mode_fading_every_epoch_draws_anew_and_a_named_epoch_draws_the_same():
    def blocks(*epochs):
        world = on_air(fading_scene(mode="fading"), {"u0": np.full(180, 0.7)}, rx_gain_db=30.0)
        for epoch in epochs:
            world.set_condition("all", epoch=epoch)
        return world.receive("b", 1800).raw

    np.testing.assert_array_equal(blocks(100), blocks(50, 100))
    assert np.abs(blocks(100).astype(int) - blocks(101)).reshape(-1, 180, 2).mean(axis=(1, 2)).min() > 10


@pytest.mark.parametrize("mode", ["static", "fading"])
def test_a_block_is_every_users_cyclically_delayed_frame_times_one_gain_per_path(mode):
    # The receiver of the uplink scene: 8 channels, frames of 180 samples, block by block. After the users' frames at
    # both their delays are fitted nothing is left but noise: 300 x 8 x 176 degrees of freedom, 5 standard errors
    rng = np.random.default_rng(3)
    frames = quantise(0.3 * np.exp(2j * np.pi * rng.random((2, 180))), 16)
    made = fading_scene(mode=mode, num_rx=8, offset=37, users=2)
    world = on_air(made, {"u0": frames[0], "u1": frames[1]}, rx_gain_db=30.0, rate_hz=1e6)
    paths = [p for p in scene_paths(made, 2, CARRIER_HZ, 1e6) if p.kind == "direct"]
    world.skip("b", 180 - 37)  # to the begin of a block

    received = heard(world, "b", 300 * 180, 30.0).reshape(8, 300, 180)

    sent = [world.limits("b").tx_amplitude(0.0) * frames[p.tx] for p in paths]
    delays = {p.tx: {q.delay_samples for q in scene_paths(made, 2, CARRIER_HZ, 1e6) if q.tx == p.tx} for p in paths}
    columns = np.stack([cyclic_shift(sent[tx], tau) for tx in (0, 1) for tau in sorted(delays[tx])], axis=1)
    gains, *_ = np.linalg.lstsq(columns, received.reshape(-1, 180).T, rcond=None)
    left = received.reshape(-1, 180).T - columns @ gains
    lsb = world.limits("b").rx_amplitude(30.0) / 32768
    noise = 1.380649e-23 * 290 * 1e6 * 1e3 * undb(5.0) + lsb**2 / 6
    freedom = 300 * 8 * (180 - columns.shape[1])
    assert np.sum(np.abs(left) ** 2) / freedom / noise == pytest.approx(1.0, abs=5 / np.sqrt(freedom))


def test_scattering_is_white_over_channels_and_an_echo_is_of_one_direction():
    # gains of 2000 blocks with the other kind of path switched off; correlations of 8 channels within 5 of 1/sqrt(2000)
    def gains(made, condition):
        world = on_air(made, {"u0": np.full(180, 0.7)}, rx_gain_db=20.0)
        world.set_condition(condition)
        return heard(world, "b", 2000 * 180, 20.0).reshape(8, 2000, 180).mean(axis=2)

    direct = gains(fading_scene(mode="fading", num_rx=8), "empty")
    normal = direct / np.sqrt(np.mean(np.abs(direct) ** 2, axis=1, keepdims=True))
    assert np.abs(normal @ normal.conj().T / 2000 - np.eye(8)).max() < 5 / np.sqrt(2000)
    assert stats.kstest(np.abs(normal[0]) ** 2, "expon").pvalue > 1e-4

    # without scattering the steady direct path is a constant: what varies is the echo, along one vector
    made = fading_scene(mode="static", num_rx=8, k_db=100.0)
    echo = gains(made, "all")
    echo = echo - gains(made, "empty").mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(echo @ echo.conj().T)
    (path,) = [p for p in scene_paths(made, 1, CARRIER_HZ, 20e6) if p.kind == "echo"]
    steering = np.array(path.response) / np.sqrt(8)
    assert abs(np.vdot(vectors[:, -1], steering)) > 0.999
    assert values[-2] < 1e-3 * values[-1]


def test_blocks_and_random_starts_do_not_go_together():
    nodes = [node("a", 0.0, 0.0), node("b", 50.0, 0.0, impairments={"random_start": True})]

    with pytest.raises(
        ConfigError, match=r"nodes\[1\]\.impairments\.random_start: blocks of fading .* random start moves"
    ):
        scene(nodes, fading={"block_samples": 180})


def test_fading_of_direct_paths_that_nothing_scatters_is_refused():
    with pytest.raises(ConfigError, match=r"fading\.direct: 'block', but no node has a path_loss with rician_k_db"):
        scene([node("a", 0.0, 0.0)], fading={"block_samples": 180, "direct": "block"})
