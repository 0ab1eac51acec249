"""One clock, epochs, no index used twice: through the real emulator and wire.

The correlation bound is 5 standard errors. For each rail of 7 lags, complex and envelope, it fails by chance with
probability 6e-7; for all comparisons of this file below 1e-4.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.emulator import SETTINGS, emulator_process, remote_radio, request, tone

pytestmark = pytest.mark.emulated

N = 1_000_000
LAGS = range(-3, 4)
# 12 bits of an amplitude of 8 LSB: rounding does not correlate what is independent
QUIET = replace(SETTINGS, rx_gain_db=58.0)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator_process() as (_, where):
        yield where


def take(endpoint: str, node: str, size: int = N) -> NDArray[np.complex64]:
    with remote_radio(endpoint, node, configured=False) as radio:
        radio.configure(QUIET)
        return radio.receive(size).samples[0]


def largest_correlation(a: NDArray[np.complexfloating], b: NDArray[np.complexfloating]) -> float:
    """Largest |normalised correlation| times sqrt(n) over the lags, of the complex samples and of the envelopes."""
    worst = 0.0
    for x, y in ((a, b), (np.abs(a), np.abs(b))):
        x, y = x - x.mean(), y - y.mean()
        norm = np.sqrt(np.sum(np.abs(x) ** 2) * np.sum(np.abs(y) ** 2))
        for lag in LAGS:
            u, v = (x[lag:], y[: y.size - lag]) if lag >= 0 else (x[:lag], y[-lag:])
            worst = max(worst, abs(np.vdot(u, v)) / norm * np.sqrt(u.size))
    return float(worst)


def test_noise_of_two_epochs_is_uncorrelated(endpoint: str) -> None:
    assert largest_correlation(take(endpoint, "bs1"), take(endpoint, "bs1")) < 5


def test_noise_of_two_nodes_is_uncorrelated_at_equal_indices(endpoint: str) -> None:
    with remote_radio(endpoint, "bs1") as first, remote_radio(endpoint, "bs2") as second:
        first.configure(QUIET)
        second.configure(QUIET)
        a, b = first.receive(N), second.receive(N)
    assert (a.epoch, a.start) == (b.epoch, b.start)
    assert largest_correlation(a.samples[0], b.samples[0]) < 5


def test_noise_of_two_conditions_is_uncorrelated(endpoint: str) -> None:
    with remote_radio(endpoint, "bs1") as radio:
        radio.configure(QUIET)
        request(endpoint, op="condition", condition="all")
        a = radio.receive(N)
        request(endpoint, op="condition", condition="without:t1")
        b = radio.receive(N)
    assert b.epoch > a.epoch
    assert largest_correlation(a.samples[0], b.samples[0]) < 5


def test_a_stream_delayed_by_two_samples_is_caught_by_this_very_check(endpoint: str) -> None:
    noise = take(endpoint, "bs1", 100_000)
    assert largest_correlation(noise[2:], noise[:-2]) > 100


def test_samples_depend_neither_on_block_sizes_nor_on_the_order_of_reading_nodes() -> None:
    def record(sizes: list[int], order: list[str]) -> dict[str, bytes]:
        with emulator_process("comp", "--seed", "7") as (_, where):
            radios = {name: remote_radio(where, name) for name in ("bs1", "bs2", "bs3")}
            opened = {name: radio.__enter__() for name, radio in radios.items()}
            opened["bs1"].transmit(tone())
            got = {}
            for name in order:
                blocks = [opened[name].receive(size).raw for size in sizes]
                got[name] = np.concatenate(blocks, axis=1).tobytes()
            return got

    one = record([400_000], ["bs1", "bs2", "bs3"])
    other = record([1, 640, 99_999, 131_072, 168_288], ["bs3", "bs1", "bs2"])
    assert one == other
    assert len(set(one.values())) == 3


def test_every_change_opens_a_new_epoch_and_muting_the_mute_does_not(endpoint: str) -> None:
    def epoch() -> int:
        value = request(endpoint, op="status")["epoch"]
        assert isinstance(value, int)
        return value

    with remote_radio(endpoint, "bs2") as radio:
        seen = [epoch()]
        for change in (
            lambda: radio.transmit(tone()),
            lambda: radio.configure(SETTINGS),
            lambda: request(endpoint, op="condition", condition="empty"),
            radio.mute,
        ):
            change()
            seen.append(epoch())
        assert np.all(np.diff(seen) == 1)
        radio.mute()
        assert epoch() == seen[-1]


def test_a_fresh_emulator_continues_a_run_with_the_noise_it_would_have_had() -> None:
    def last(*conditions: dict[str, object]) -> tuple[bytes, bytes]:
        with emulator_process("comp", "--seed", "7") as (_, where):
            with remote_radio(where, "bs1") as station, remote_radio(where, "u1") as user:
                station.transmit(tone())
                for condition in conditions:
                    assert request(where, op="condition", **condition)["epoch"] == condition["epoch"]
                    got = station.receive(100_000).raw.tobytes(), user.receive(100_000).raw.tobytes()
            return got

    begun: dict[str, object] = {"condition": "all", "epoch": 4096}
    continued: dict[str, object] = {"condition": "without:t1", "epoch": 8192}
    assert last(begun, continued) == last(continued)
    assert last(begun) != last(continued)


def test_epochs_only_go_forward(endpoint: str) -> None:
    ahead = request(endpoint, op="status")["epoch"]
    assert isinstance(ahead, int)
    ahead += 1000
    assert request(endpoint, op="condition", condition="all", epoch=ahead)["epoch"] == ahead
    assert request(endpoint, op="condition", condition="all", epoch=ahead)["epoch"] == ahead + 1
    assert request(endpoint, op="condition", condition="all", epoch=5)["epoch"] == ahead + 2
    assert request(endpoint, op="condition", condition="all")["epoch"] == ahead + 3


def test_noise_of_a_wished_epoch_is_uncorrelated_with_the_one_before(endpoint: str) -> None:
    with remote_radio(endpoint, "u1") as radio:
        radio.configure(replace(QUIET, rx_gain_db=61.0))
        a = radio.receive(N)
        request(endpoint, op="condition", condition="all", epoch=a.epoch + 777)
        b = radio.receive(N)
    assert b.epoch == a.epoch + 777
    assert largest_correlation(a.samples[0], b.samples[0]) < 5
