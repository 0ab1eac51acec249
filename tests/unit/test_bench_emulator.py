"""Contestants of the channel's races do the same job; only then are their times worth comparing."""

import numpy as np
import pytest

from sim import channel
from sim.interpolator import LOOP
from tests.bench import bench_channel, bench_wire, elsewhere
from tests.bench.bench_channel import NUM_SAMPLES, Kernel, growth, receivers, size_name
from tests.bench.harness import Result
from tests.bench.naive_channel import BLOCK, Naive, Tidy

COUNT = 40 * BLOCK


def relative_db(difference, reference):
    return 20 * np.log10(np.linalg.norm(difference) / np.linalg.norm(reference))


def test_blocks_are_as_long_as_the_kernels():
    assert BLOCK == channel.BLOCK


@pytest.mark.parametrize("first", [0, 700 * BLOCK, 20_000_000 // BLOCK * BLOCK])
@pytest.mark.parametrize("nodes, paths", [(1, 3), (3, 4)])
def test_all_hear_the_same_moving_paths(nodes, paths, first):
    for receiver in receivers(nodes, paths):
        ours = Kernel(receiver).arriving(first, COUNT)

        assert np.mean(np.abs(ours) ** 2) > 1e-3
        # 12 taps at the sample rate over 60 % of it; over the band of the buffers -74 dB at worst
        assert relative_db(Naive(receiver).arriving(first, COUNT) - ours, ours) < -74
        # the same filter as the kernel's: single precision
        assert relative_db(Tidy(receiver).arriving(first, COUNT) - ours, ours) < -120


def test_a_whole_delay_that_changes_within_a_stretch_is_followed():
    # a second at 20 m/s: some metres, more than a sample of 15 m for one path or another
    (receiver,) = receivers(1, 8)
    kernel, tidy = Kernel(receiver), Tidy(receiver)
    delays = [source.motion.blocks(0, 40_000, LOOP)[0] for source in kernel.sources]
    changing = next(int(np.flatnonzero(np.diff(whole))[0]) for whole in delays if np.diff(whole).any())
    first = max(changing - 20, 0) * BLOCK

    ours = kernel.arriving(first, COUNT)

    assert relative_db(tidy.arriving(first, COUNT) - ours, ours) < -120


def test_all_convert_to_the_same_codes_within_one():
    (receiver,) = receivers(1, 3)

    ours = Kernel(receiver).receive(0, COUNT, noise=False).astype(int)
    tidy = Tidy(receiver).receive(0, COUNT, noise=False).astype(int)

    assert np.abs(ours).max() > 200
    assert np.abs(ours - tidy).max() <= 1
    assert np.mean(ours != tidy) < 1e-2


@pytest.mark.parametrize("contestant", [Kernel, Naive, Tidy])
def test_all_add_noise_of_the_same_power(contestant):
    (receiver,) = receivers(1, 3)
    silent = contestant(receiver).arriving(0, NUM_SAMPLES) * (2048 / receiver.full_scale)

    codes = contestant(receiver).receive(0, NUM_SAMPLES).astype(float)

    noise = codes[:, 0] + 1j * codes[:, 1] - silent
    # rounding adds 1/6; 65536 samples: standard error 0.4 %, five of them
    expected = (receiver.noise * 2048 / receiver.full_scale) ** 2 + 1 / 6
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(expected, rel=0.02)


def test_contestants_go_on_along_the_stream():
    heard = []

    class Ear:
        def __init__(self, receiver):
            pass

        def receive(self, first, count):
            heard.append((first, count))

    call = bench_channel.stream(Ear, receivers(2, 1))
    call()
    call()

    assert heard == [(0, NUM_SAMPLES)] * 2 + [(NUM_SAMPLES, NUM_SAMPLES)] * 2


def result(cpu_s):
    return Result(cpu_s, cpu_s, 1 / cpu_s, 1 / cpu_s, 1.0)


def test_a_cost_on_a_line_is_said_to_be_on_it():
    def cost_ns(nodes, paths):
        return nodes * (2.5 + 2.0 * nodes * paths)

    results = {size_name(*s): result(cost_ns(*s) * 1e-9 * NUM_SAMPLES) for s in bench_channel.SIZES}
    text = growth(results)

    assert "line: 2.50 ns per sample of a receiver and 2.00 ns per path to it" in text
    assert "farthest from it 0.0 % (goal: <= 30 %: met)" in text
    assert len(text.splitlines()) == 1 + 20 + 2
    largest = size_name(16, 8)
    twice = results | {largest: result(2 * results[largest].cpu_s)}
    assert "missed" in growth(twice)


@pytest.mark.parametrize("moving", [False, True])
def test_the_bare_kernel_hears_what_the_world_hears(moving):
    bare, world = bench_wire.Bare(moving), bench_wire.InProcess(moving)
    heard = world.world.receive(world.node, 4096).raw[0].astype(int)
    offset = world.world.scene.nodes[0].receive_offset_samples
    rails = np.zeros((1, 2, 4096), dtype=np.float32)
    channel.render(bare.sources, offset, rails)

    silent = rails[0].T / bare.limits.rx_amplitude(bench_wire.SETTINGS.rx_gain_db) * 2048

    # what is left is noise of about one code per rail
    assert np.std(silent) > 50
    assert np.std(heard - silent) == pytest.approx(np.sqrt(1 + 1 / 12), rel=0.05)


@pytest.mark.interop
def test_gnu_radio_says_what_it_used():
    call = elsewhere.gnuradio_model(NUM_SAMPLES)
    if call is None:
        pytest.skip("gnuradio not installed")

    spent = call()

    assert 0 < spent.cpu_s * 0.9 < spent.wall_s < 1.0
