"""Receiver noise: a pure function of seed, node and sample index, white, circular, and independent between streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim import compiled, noise
from sim.noise import EPOCH_STRIDE, MAX_EPOCH, Purpose, absolute_index, stream_word, unit_noise
from sim.philox import indexed_words, philox4x32

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
    # Golden: runs recorded with a seed are repeated bit for bit. Recipe: Philox4x32-10, key 1, counter (index / 2, 0,
    # node + 65536 channel, purpose); words 0 and 2 magnitudes sqrt(-log((k + 1/2) / 2^32)), words 1 and 3 phases
    # k / 2^32 turns. Written out here in double precision, so equal to float32 rounding.
    words = philox4x32(np.array([[0, 0, 2 | 3 << 16, 1], [1, 0, 2 | 3 << 16, 1]], dtype=np.uint32), 1)
    magnitudes, phases = words[:, 0::2].reshape(-1).astype(float), words[:, 1::2].reshape(-1).astype(float)
    expected = np.sqrt(-np.log((magnitudes + 0.5) / 2**32)) * np.exp(2j * np.pi * phases / 2**32)

    samples = unit_noise(1, 2, 0, 4, channel=3, purpose=Purpose.TRANSMITTER)

    np.testing.assert_allclose(samples, expected, atol=1e-6)
    assert samples.dtype == np.complex64


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_generator_gives_the_known_answers_of_random123(counter, key, words):
    assert tuple(philox4x32(np.array([counter], dtype=np.uint32), key)[0]) == words


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 63)), st.integers(1, 1500), st.integers(0, 63))
@settings(max_examples=30, deadline=None)
def test_compiled_and_plain_noise_agree_bit_for_bit(seed, first, count, channel):
    if compiled.kernels() is None:
        pytest.fail("Numba does not work here: the compiled kernels cannot be tested")
    fast = unit_noise(seed, 5, first, count, channel, Purpose.FADING_ECHO)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "kernels", lambda: None)
        plain = unit_noise(seed, 5, first, count, channel, Purpose.FADING_ECHO)

    np.testing.assert_array_equal(fast.view(np.uint64), plain.view(np.uint64))


def test_the_elementary_functions_are_right_to_float32():
    words = np.concatenate([np.arange(0, 2**32, 40_009), [2**32 - 1]]).astype(np.uint32)
    exact = np.sqrt(-np.log((words.astype(float) + 0.5) / 2**32))
    cos, sin = noise.turn(words)

    # the uniform has 24 bits: near 1 the square of the magnitude is off by 2^-25 at most, and by the polynomial's 4e-8
    assert np.max(np.abs(noise.magnitude(words).astype(float) ** 2 - exact**2)) < 4e-6
    np.testing.assert_allclose(cos, np.cos(2 * np.pi * words.astype(float) / 2**32), atol=3e-7)
    np.testing.assert_allclose(sin, np.sin(2 * np.pi * words.astype(float) / 2**32), atol=3e-7)


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


def test_the_largest_and_smallest_words_give_finite_samples():
    words = np.array([0, 2**32 - 1, 2**31, 2**31 - 1], dtype=np.uint32)

    # word 0: sqrt(33 ln 2) = 4.783; all ones: as good as 0, and never the root of a negative number
    np.testing.assert_allclose(noise.magnitude(words), np.sqrt([33 * np.log(2), 0, np.log(2), np.log(2)]), atol=4e-4)


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


CHANNELS_AND_PURPOSES = {
    "channels": ({"channel": 0}, {"channel": 1}),
    "distant channels": ({"channel": 1}, {"channel": 63}),
    "purposes": ({}, {"purpose": Purpose.TRANSMITTER}),
    "fading of direct and echo": ({"purpose": Purpose.FADING_DIRECT}, {"purpose": Purpose.FADING_ECHO}),
}


@pytest.mark.parametrize(("one", "other"), CHANNELS_AND_PURPOSES.values(), ids=CHANNELS_AND_PURPOSES)
def test_channels_and_purposes_are_uncorrelated(one, other):
    assert largest_correlation(unit_noise(1, 3, EPOCH, N, **one), unit_noise(1, 3, EPOCH, N, **other), LAGS) < 5


def shared_radius(node):
    """A generator with the known fault: a fast hash whose magnitudes forget which node they are for."""
    index = np.arange(N // 2)
    own = indexed_words(5, node, 0, 0, index.size)
    own[:, 0::2] = indexed_words(5, 0, 0, 0, index.size)[:, 0::2]
    return noise.gaussian(own)


def test_the_check_catches_a_generator_whose_streams_share_the_magnitude():
    one, other = shared_radius(1), shared_radius(2)

    # alone each passes as noise, and their samples are uncorrelated: only the envelopes tell
    assert np.mean(np.abs(one) ** 2) == pytest.approx(1.0, abs=5 / np.sqrt(N))
    assert stats.kstest(one.real.astype(float) * np.sqrt(2), "norm").pvalue > 1e-4
    assert abs(np.vdot(one, other)) / np.sqrt(N) < 5
    assert largest_correlation(one, other, LAGS) > 100


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


@pytest.mark.parametrize(("node", "channel"), [(-1, 0), (1 << 16, 0), (0, -1), (0, 1 << 16)])
def test_a_stream_that_has_no_word_is_refused(node, channel):
    with pytest.raises(ValueError, match="must lie below"):
        stream_word(node, channel)
