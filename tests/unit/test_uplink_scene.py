"""The uplink scene has the levels of its reference, and every frame of its receiver is one coherence block."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from sim.noise import Purpose, absolute_index, unit_noise
from sim.propagation import scene_paths
from sim.scene import load_scene, with_direct_fading
from sim.world import World
from testbed.device import Settings
from testbed.errors import ConfigError
from testbed.radio.gains import realise
from testbed.sensing.uplink_array import UniformArray
from testbed.units import db, thermal_noise_dbm, undb
from testbed.waveform.shift import cyclic_shift
from tests.emulator import emulator_process, remote_radio, request
from tests.uplink_scene import (
    CARRIER_HZ,
    FADING,
    RATE_HZ,
    RX_GAIN_DB,
    STATIC,
    STEERING,
    TARGET_M,
    USERS,
    K,
    M,
    capture_uplink,
    uplink_design,
    uplink_scene,
    uplink_truth,
)

NOISE_DBM = thermal_noise_dbm(RATE_HZ, 5.0)


def test_gains_over_noise_are_those_of_the_reference_scene():
    # the radar equation at 3.5 GHz takes 43.32 dB for the first metre, the reference 43.3
    truth = uplink_truth(load_scene("uplink"))

    assert pytest.approx(-109.0, abs=0.05) == NOISE_DBM
    np.testing.assert_allclose(db(truth.direct_gain) - NOISE_DBM, [6.36, 5.72, 4.93, 4.66], atol=0.01)
    np.testing.assert_allclose(db(truth.echo_gain) - NOISE_DBM, [-19.64, -21.11, -20.96, -21.64], atol=0.035)
    assert db(np.mean(truth.direct_gain / truth.echo_gain)) == pytest.approx(26.0, abs=0.5)


def test_delays_are_those_of_the_reference_scene_and_echoes_come_with_the_direct_paths():
    scene = load_scene("uplink")
    paths = scene_paths(scene, K, CARRIER_HZ, RATE_HZ)
    delay = {(p.kind, p.tx): p.delay_samples + scene.nodes[p.tx].start_offset_samples for p in paths}

    direct = [delay["direct", tx] for tx in range(K)]
    assert (min(direct), max(direct)) == pytest.approx((0.608, 0.639), abs=5e-4)
    excess = [delay["echo", tx] - delay["direct", tx] for tx in range(K)]
    assert min(excess) >= 0 and max(excess) < 0.0181


def test_one_lsb_is_the_noise_of_a_rail_and_the_strongest_power_stays_far_from_clipping():
    scene = uplink_scene(FADING)
    limits = scene.limits(K)
    lsb = limits.rx_amplitude(RX_GAIN_DB) / 2048

    assert lsb**2 / (undb(NOISE_DBM) / 2) == pytest.approx(1.0, abs=0.02)
    assert uplink_truth(scene).noise_var / undb(NOISE_DBM) == pytest.approx(1.0833, abs=0.001)
    raw = capture_uplink(scene, uplink_design(), 4.0, num_blocks=500).node("bs").raw
    assert 15 < np.abs(raw).max() < 60


def test_users_only_transmit_and_an_echo_comes_from_the_target_as_the_instrument_has_it():
    scene = load_scene("uplink")
    assert [scene.limits(k).num_rx for k in range(K)] == [0, 0, 0, 0]
    assert (scene.limits(K).num_tx, scene.limits(K).num_rx) == (0, M)

    for path in scene_paths(scene, K, CARRIER_HZ, RATE_HZ):
        if path.kind == "echo":
            np.testing.assert_allclose(path.response, STEERING, atol=1e-12)


def test_an_array_of_unknown_factors_answers_with_them():
    data = load_scene("uplink").model_dump()
    data["nodes"][K]["array"] |= {"calibration_phase_deg": 20.0, "calibration_gain_db": 1.0}
    scene = type(load_scene("uplink")).model_validate(data)
    factor = scene.nodes[K].array.calibration(scene.standing_seed, K, M)

    echo = next(p for p in scene_paths(scene, K, CARRIER_HZ, RATE_HZ) if p.kind == "echo")

    assert np.std(np.angle(factor)) > 0.05
    np.testing.assert_allclose(echo.response, UniformArray().steering((0.0, 0.0), TARGET_M, M, factor), atol=1e-12)


@pytest.mark.parametrize("direct", [STATIC, FADING])
@pytest.mark.parametrize("condition", ["all", "empty"])
def test_every_frame_of_the_receiver_is_exactly_one_block_of_the_model(direct, condition):
    # code = round((sum_k (h_bmk + g_bk a_m) s_k(t - tau_k) + w) / LSB), in single precision as the emulator adds: every
    # code of 40 blocks and 8 channels, bit for bit
    scene, design = uplink_scene(direct), uplink_design()
    world, on_air = World(scene), []
    for row, name in enumerate(USERS):
        plan, sent, air = realise(design.frame(np.full(K, undb(4.0))).samples[row], world.limits(name))
        world.configure(name, Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, 0.0))
        world.transmit(name, sent[None])
        on_air.append(air)
    world.configure("bs", Settings(CARRIER_HZ, RATE_HZ, -89.75, RX_GAIN_DB))
    world.set_condition(condition)
    offset, num_blocks = scene.nodes[K].receive_offset_samples, 40

    raw = world.receive("bs", (num_blocks + 1) * 180).raw

    paths = scene_paths(scene, K, CARRIER_HZ, RATE_HZ, frozenset() if condition == "all" else frozenset({"t1"}))
    tables, factors = [], []  # in the order in which the emulator adds them: what stands still comes first
    for path in sorted(paths, key=lambda p: p.fading is not None):
        arrived = path.gain * cyclic_shift(
            on_air[path.tx], scene.nodes[path.tx].start_offset_samples + path.delay_samples
        )
        if path.fading is None:
            steady = np.array(path.response)[:, None, None] * arrived
            tables.append(steady + tables.pop() if tables else steady)
            factors = [np.ones((M, num_blocks), dtype=np.complex64)]
        else:
            gains = replace(path.fading, epoch=world.epoch).gains(1, num_blocks, M)
            tables.append(arrived)
            factors.append(gains * np.array(path.response, dtype=np.complex64)[:, None])
    model = np.zeros((2, M, num_blocks, 180), dtype=np.float32)
    for table, factor in zip(tables, factors, strict=True):
        (a, b), (c, d) = ((x.real.astype(np.float32), x.imag.astype(np.float32)) for x in (table, factor[..., None]))
        model += np.stack([a * c - b * d, a * d + b * c])
    first = 180 - offset  # where block 1 of the epoch begins
    at = absolute_index(world.epoch, first)
    noise = np.stack([unit_noise(scene.seed, K, at, num_blocks * 180, m, Purpose.RECEIVER) for m in range(M)])
    noise = noise.reshape(M, num_blocks, 180)
    model += np.float32(np.sqrt(undb(NOISE_DBM))) * np.stack([noise.real, noise.imag])
    lsb = world.limits("bs").rx_amplitude(RX_GAIN_DB) / 2048
    codes = np.rint(np.clip(model * np.float32(1 / lsb), -2047, 2047)).astype(np.int16)
    received = raw[:, first : first + num_blocks * 180].reshape(M, num_blocks, 180, 2)
    np.testing.assert_array_equal(np.moveaxis(codes, 0, -1), received)


@pytest.mark.emulated
def test_the_emulator_gives_the_same_blocks_over_the_wire_with_the_fading_asked_for():
    design = uplink_design()
    with contextlib.ExitStack() as stack:
        _, endpoint = stack.enter_context(emulator_process("uplink", "--direct-fading", "block"))
        radios = [stack.enter_context(remote_radio(endpoint, name, configured=False)) for name in (*USERS, "bs")]
        for row, radio in enumerate(radios[:K]):
            plan, sent, _ = realise(design.frame(np.full(K, undb(0.0))).samples[row], radio.limits)
            radio.configure(Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, 0.0))
            radio.transmit(sent[None])
        radios[K].configure(Settings(CARRIER_HZ, RATE_HZ, -89.75, RX_GAIN_DB))
        request(endpoint, op="condition", condition="all", epoch=500)
        received = radios[K].receive(21 * 180).raw

    for direct, same in ((FADING, True), (STATIC, False)):
        capture = capture_uplink(uplink_scene(direct), design, 0.0, num_blocks=20, epoch=500)
        assert np.array_equal(received, capture.node("bs").raw) == same


def test_direct_paths_may_be_told_to_stand_still_or_fade():
    scene = load_scene("uplink")

    assert with_direct_fading(scene, "block").fading.direct == "block"
    assert with_direct_fading(with_direct_fading(scene, "block"), "run") == scene
    with pytest.raises(ConfigError, match="--direct-fading never: must be run or block"):
        with_direct_fading(scene, "never")
    with pytest.raises(ConfigError, match="--direct-fading: the scene has no"):
        with_direct_fading(load_scene("comp"), "run")
