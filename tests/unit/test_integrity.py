"""Frames that say whether they are whole: false alarms, losses, silences, and what cannot be seen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from testbed.sensing.integrity import LEVEL, Gap, Heard, Integrity, examine, hear
from testbed.waveform.shift import cyclic_shift
from tests.scenes import comp_experiment

FRAME_LEN = 640
NUM_FRAMES = 2000
NODES = 3

Samples = NDArray[np.complex128]


def sent() -> Samples:
    return comp_experiment().waveform.frame(np.ones(NODES)).samples


def noise(rng: np.random.Generator, *shape: int) -> Samples:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def air(snr_db: float, seed: int, num_frames: int = NUM_FRAMES, gains: Samples | None = None) -> NDArray[np.complex64]:
    """Frames of three nodes over unit noise, each with an echo, at fractional delays; the second is 10 dB weaker."""
    rng = np.random.default_rng(seed)
    arrived = np.stack([cyclic_shift(x, 100 + 7.37 * row) for row, x in enumerate(sent())])
    arrived = arrived + 0.2j * np.roll(arrived, 9, axis=1)
    arrived *= np.array([1.0, 0.1**0.5, 0.8])[:, None] * 10 ** (snr_db / 20)
    each = np.ones((NODES, num_frames)) if gains is None else gains
    return (each.T @ arrived + noise(rng, num_frames, FRAME_LEN)).astype(np.complex64)


def lost(received: NDArray[np.complex64], at: int, count: int) -> NDArray[np.complex64]:
    """The same without `count` samples, in whole frames."""
    samples = np.delete(received.ravel(), slice(at, at + count))
    return samples[: samples.size - samples.size % FRAME_LEN].reshape(-1, FRAME_LEN)


def looked_at(received: NDArray[np.complex64], level: float = LEVEL) -> Integrity:
    heard = hear(received, sent())
    assert heard is not None
    return examine(received, heard, level)


def test_without_faults_nothing_is_flagged_at_any_snr() -> None:
    # 4 SNRs x 10 streams of 2000 frames at level 1e-6, two rules: a false alarm in 12,500 runs of this test
    for snr_db in (-30.0, -10.0, 10.0, 40.0):
        for seed in range(10):
            found = looked_at(air(snr_db, seed))
            assert (found.losses, found.gaps) == ((), ()), (snr_db, seed)
            assert found.verified


def test_frames_out_of_line_by_noise_alone_are_as_many_as_stated() -> None:
    # level = frames x columns x p: a frame is out of line with probability p, and weaker in half of the cases
    share = 1e-2
    num_streams = 10
    counted = sum(
        gap.num_samples // FRAME_LEN
        for seed in range(num_streams)
        for gap in looked_at(air(30.0, seed), level=share * NUM_FRAMES * NODES).gaps
    )
    expected = num_streams * NUM_FRAMES * NODES * share / 2
    # frames of two columns at once count once: below 1 %. 5 standard errors: fails by chance once in 1.7 million
    assert abs(counted - expected) < 5 * np.sqrt(expected) + 0.01 * expected


def test_frames_too_weak_to_be_heard_verify_nothing() -> None:
    assert hear(air(-60.0, 1), sent()) is None


def test_frames_too_weak_for_two_groups_are_not_verified_and_not_flagged() -> None:
    received = air(-30.0, 1, num_frames=60)
    heard = hear(air(10.0, 1), sent())
    assert heard is not None
    assert examine(received, heard) == Integrity(verified=False)


@pytest.mark.parametrize("snr_db", [-30.0, -10.0, 30.0])
@pytest.mark.parametrize("count", [1, 7, 320, 639])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_loss_is_found_where_and_as_large_as_it_is(snr_db: float, count: int, share: float) -> None:
    at = int(share * NUM_FRAMES * FRAME_LEN)
    found = looked_at(lost(air(snr_db, 3), at, count))
    assert not found.verified
    assert found.losses
    # where groups are barely told apart, their place is vague; and halves a sample apart put the arrival between them
    if snr_db > -30 and (1 < count < 639 or share != 0.5):
        [loss] = found.losses
        assert loss.num_samples == count
        assert abs(loss.sample - at) < 1.5 * NUM_FRAMES / 64 * FRAME_LEN


def test_a_loss_of_whole_frames_is_the_blind_spot() -> None:
    found = looked_at(lost(air(10.0, 3), 500_000, 3 * FRAME_LEN))
    assert (found.verified, found.losses, found.gaps) == (True, (), ())


def test_a_loss_in_the_last_frames_shows_as_frames_that_are_missing() -> None:
    at = (NUM_FRAMES - 4) * FRAME_LEN
    found = looked_at(lost(air(10.0, 3), at, 77))
    assert found.losses == ()
    assert {(gap.tx, gap.sample) for gap in found.gaps} >= {(0, at)}


def test_two_losses_are_both_found() -> None:
    found = looked_at(lost(lost(air(10.0, 3), 900_000, 50), 300_000, 20))
    assert [loss.num_samples for loss in found.losses] == [20, 50]


def test_a_loss_before_later_samples_is_found_by_what_was_heard_earlier() -> None:
    received = air(10.0, 3)
    heard = hear(received[:1000], sent())
    assert heard is not None
    rest = received.ravel()[1000 * FRAME_LEN + 33 :]
    [loss] = examine(rest[: 999 * FRAME_LEN].reshape(-1, FRAME_LEN), heard).losses
    assert (loss.sample, loss.num_samples) == (0, 33)


@pytest.mark.parametrize("tx", [0, 1, 2])
@pytest.mark.parametrize("size", [200, 640, 5000, 700_000])
def test_a_silent_transmitter_is_found_and_named(tx: int, size: int) -> None:
    # 200 samples of 640 take 0.3 of the amplitude: 40 dB over the noise of a frame at 15 dB per sample
    first = 300 * FRAME_LEN + 123
    received = air(15.0, 5).ravel()
    there = air(15.0, 5, gains=np.tile((np.arange(NODES) != tx)[:, None], NUM_FRAMES)).ravel()  # the same noise
    received[first : first + size] = there[first : first + size]
    found = looked_at(received.reshape(-1, FRAME_LEN))
    assert found.losses == ()
    [gap] = found.gaps
    assert gap.tx == tx
    assert gap.sample in (300 * FRAME_LEN, 301 * FRAME_LEN)
    assert abs(gap.num_samples - size) <= 2 * FRAME_LEN


def test_two_transmitters_silent_together_are_both_named() -> None:
    gains = np.ones((NODES, NUM_FRAMES))
    gains[:2, 40:45] = 0
    assert looked_at(air(20.0, 5, gains=gains)).gaps == (
        Gap(0, 40 * FRAME_LEN, 5 * FRAME_LEN),
        Gap(1, 40 * FRAME_LEN, 5 * FRAME_LEN),
    )


def fading(kind: str, rng: np.random.Generator, num_frames: int) -> Samples:
    gains = noise(rng, NODES, num_frames)
    if kind == "rician":
        return np.sqrt(10 / 11) + gains / np.sqrt(11)
    if kind == "blocks":
        return np.repeat(gains[:, :10], num_frames // 10, axis=1)
    if kind == "steady leakage":
        gains[0] = 4.0
    return gains


@pytest.mark.parametrize("kind", ["rayleigh", "rician", "blocks", "steady leakage"])
@pytest.mark.parametrize("snr_db", [0.0, 30.0])
def test_fading_is_neither_a_loss_nor_a_silence(kind: str, snr_db: float) -> None:
    for seed in range(20):
        gains = fading(kind, np.random.default_rng(seed), 500)
        heard = hear(air(snr_db, 1), sent())  # its mean may cancel in the fading itself
        assert heard is not None
        found = examine(air(snr_db, seed, 500, gains), heard)
        assert (found.losses, found.gaps) == ((), ()), seed


def test_a_rotating_carrier_raises_no_alarm() -> None:
    turning = np.exp(2j * np.pi * 0.013 * np.arange(NUM_FRAMES))
    gains = np.stack([np.ones(NUM_FRAMES), turning, turning])
    found = looked_at(air(20.0, 1, gains=gains))
    assert (found.verified, found.gaps) == (True, ())


def test_a_dc_offset_hides_nothing() -> None:
    offset = np.complex64(30.0 + 10.0j)  # 40 dB above the frames
    assert looked_at(air(-10.0, 3) + offset) == Integrity(verified=True)
    [loss] = looked_at(lost(air(-10.0, 3) + offset, 600_000, 77)).losses
    assert loss.num_samples == 77


def test_the_strongest_arrival_of_every_transmitter_is_found_to_an_eighth_of_a_sample() -> None:
    heard = hear(air(20.0, 1), sent())
    assert isinstance(heard, Heard)
    assert heard.tx == (0, 1, 2)
    for row, frame in enumerate(sent()):
        there = cyclic_shift(frame, 100 + 7.37 * row)
        overlap = abs(np.vdot(heard.columns[:, row], there)) / np.linalg.norm(there)
        assert overlap > 0.99


def test_too_few_frames_say_nothing() -> None:
    heard = hear(air(20.0, 1), sent())
    assert heard is not None
    assert examine(air(20.0, 1, num_frames=3), heard) == Integrity(verified=False)
