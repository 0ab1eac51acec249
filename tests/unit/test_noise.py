"""Receiver noise: a pure function of seed, node and sample index, white, circular, and independent between streams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.noise import EPOCH_STRIDE, MAX_EPOCH, absolute_index, unit_noise

N = 1_000_000
EPOCH = EPOCH_STRIDE


# A function of the index


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.integers(0, 9) | st.integers(0, 1 << 62))
def test_any_cut_gives_the_same_samples(sizes, first):
    whole = unit_noise(1, 0, first, sum(sizes))
    starts = np.cumsum([0, *sizes[:-1]]).tolist()

    parts = [unit_noise(1, 0, first + start, size) for start, size in zip(starts, sizes, strict=True)]

    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 5, EPOCH - 1, (1 << 64) - 20])
def test_a_single_sample_is_that_of_any_block_around_it(first):
    block = unit_noise(7, 2, max(first - 3, 0), 10)

    assert unit_noise(7, 2, first, 1)[0] == block[min(first, 3)]


def test_the_noise_of_seed_1_is_what_it_was():
    # Golden: runs recorded with a seed are repeated bit for bit. Recipe: Philox4x64-10, key (1, 0), counter 0; low half
    # of each word the magnitude sqrt(-log((k + 1/2) / 2^32)), high half the phase k / 2^32 turns. Written out here in
    # double precision, so equal to float32 rounding.
    words = np.random.Philox(key=np.array([1, 0], np.uint64), counter=0).random_raw(5)
    low, high = words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)
    expected = np.sqrt(-np.log((low + 0.5) / 2**32)) * np.exp(2j * np.pi * high / 2**32)

    np.testing.assert_allclose(unit_noise(1, 0, 0, 5), expected, atol=1e-6)
    assert unit_noise(1, 0, 0, 1).dtype == np.complex64


# Law of one stream, at a fixed seed


@pytest.fixture(scope="module")
def stream():
    return unit_noise(1, 0, absolute_index(3, 0), N).astype(np.complex128)


def test_mean_power_is_one_and_the_mean_zero(stream):
    # |w|^2 has mean 1 and variance 1; w has variance 1, w^2 variance 2: 4 standard errors, 6e-5 each
    assert np.mean(np.abs(stream) ** 2) == pytest.approx(1.0, abs=4 / np.sqrt(N))
    assert abs(np.mean(stream)) < 4 / np.sqrt(N)
    assert abs(np.mean(stream**2)) < 4 * np.sqrt(2 / N)  # circular


def test_magnitude_is_rayleigh_and_phase_uniform(stream):
    # KS of a million, each failing with probability 1e-3 if the law holds
    assert stats.kstest(np.abs(stream) ** 2, "expon").pvalue > 1e-3
    assert stats.kstest(np.angle(stream) / (2 * np.pi) % 1.0, "uniform").pvalue > 1e-3
    assert stats.kstest(stream.real * np.sqrt(2), "norm").pvalue > 1e-3


def test_magnitude_and_phase_are_independent(stream):
    power = np.abs(stream) ** 2 - 1
    for turns in (1, 2, 4):
        # E power * exp(j turns phase) = 0 with variance 1 / N; beyond 4.5 of them: 2e-9
        assert abs(np.mean(power * np.exp(1j * turns * np.angle(stream)))) < 4.5 / np.sqrt(N)


@pytest.mark.parametrize("probability", [1e-2, 1e-4])
def test_the_tail_of_the_power_is_exponential(stream, probability):
    # P(|w|^2 > -ln p) = p: what a false-alarm rate is made of; 4 standard errors
    count = np.count_nonzero(np.abs(stream) ** 2 > -np.log(probability))

    assert count == pytest.approx(N * probability, abs=4 * np.sqrt(N * probability))


def test_the_largest_and_smallest_words_give_finite_samples(monkeypatch):
    class Words:
        def __init__(self, **arguments):
            pass

        def random_raw(self, count):
            return np.array([0, (1 << 64) - 1, 0xFFFFFFFF, 0xFFFFFFFF << 32][:count], dtype=np.uint64)

    monkeypatch.setattr(np.random, "Philox", Words)

    samples = unit_noise(1, 0, 0, 4)

    assert np.all(np.isfinite(samples))
    # word 0: sqrt(33 ln 2) = 4.783; all ones: as good as 0
    np.testing.assert_allclose(np.abs(samples), [np.sqrt(33 * np.log(2)), 0, 0, np.sqrt(33 * np.log(2))], atol=1e-3)


# Independence between streams


def largest_correlation(a, b, lags):
    """Largest |normalised correlation| * sqrt(n) over lags, of the complex samples and of their envelopes."""

    def at(x, y, lag):
        x, y = (x[lag:], y[: y.size - lag]) if lag >= 0 else (x[:lag], y[-lag:])
        return abs(np.vdot(x, y)) / np.sqrt(np.vdot(x, x).real * np.vdot(y, y).real) * np.sqrt(x.size)

    def envelope(x):
        magnitude = np.abs(x)
        return magnitude - magnitude.mean()

    return max(at(x, y, lag) for x, y in ((a, b), (envelope(a), envelope(b))) for lag in lags)


LAGS = range(-3, 4)
STREAMS = {
    "nodes": ((1, 0, EPOCH), (1, 1, EPOCH)),
    "distant nodes": ((1, 0, EPOCH), (1, 63, EPOCH)),
    "epochs": ((1, 0, EPOCH), (1, 0, 2 * EPOCH)),
    "distant epochs": ((1, 0, EPOCH), (1, 0, (MAX_EPOCH - 1) * EPOCH)),
    "nodes and epochs": ((1, 0, EPOCH), (1, 1, 2 * EPOCH)),
    "seeds": ((1, 0, EPOCH), (2, 0, EPOCH)),
    "seed and node exchanged": ((1, 2, EPOCH), (2, 1, EPOCH)),
    "seeds that agree in double precision": ((1 << 63, 0, EPOCH), ((1 << 63) + 1, 0, EPOCH)),
    "the largest seeds": (((1 << 64) - 1, 0, EPOCH), ((1 << 64) - 2, 0, EPOCH)),
}


@pytest.mark.parametrize(("one", "other"), STREAMS.values(), ids=STREAMS)
def test_streams_are_uncorrelated_in_samples_and_envelope(one, other):
    # |rho| < 5 / sqrt(n) at 7 lags: complex beyond it with probability 7 exp(-25), envelopes 7 * 6e-7
    assert largest_correlation(unit_noise(*one, N), unit_noise(*other, N), LAGS) < 5


def test_a_stream_is_white(stream):
    # an output of Philox makes four samples: lags up to 8
    assert largest_correlation(stream, stream, [*range(-8, 0), *range(1, 9)]) < 5


def planted(how, node):
    """Generators that share between nodes what they must not; n = 1e6."""
    own = unit_noise(5, node, 0, N)
    common = unit_noise(5, 77, 0, N + 3)
    return {
        "all": common[:N],
        "shifted by three samples": common[3 * node :][:N],
        "one sample in fifty": np.where(np.arange(N) % 50 == 0, common[:N], own),
        "magnitudes alone": np.abs(common[:N]) * own / np.abs(own),
        "phases alone": np.abs(own) * common[:N] / np.abs(common[:N]),
        "conjugates": common[:N] if node == 0 else common[:N].conj(),
    }[how]


@pytest.mark.parametrize(
    "how",
    ["all", "shifted by three samples", "one sample in fifty", "magnitudes alone", "phases alone", "conjugates"],
)
def test_the_same_check_catches_streams_that_share_something(how):
    assert largest_correlation(planted(how, 0), planted(how, 1), LAGS) > 15


# Indices


def test_epochs_never_share_an_index():
    for epoch in (0, 1, 5, MAX_EPOCH - 2):
        assert absolute_index(epoch, EPOCH_STRIDE - 1) + 1 == absolute_index(epoch + 1, 0)
    assert absolute_index(MAX_EPOCH - 1, EPOCH_STRIDE - 1) == (1 << 64) - 1


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (MAX_EPOCH, 0), (0, -1), (0, EPOCH_STRIDE)])
def test_an_index_outside_its_epoch_is_refused(epoch, start):
    with pytest.raises(ValueError, match="must lie below"):
        absolute_index(epoch, start)
