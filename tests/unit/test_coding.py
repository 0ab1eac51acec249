"""The convolutional code: its words and distances, Viterbi decoding, error rates against the union bound; the CRC."""

import binascii

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from testbed.waveform.coding import CRC_BITS, MEMORY, decode, encode, passes_crc, with_crc

# total information weight of all paths of distance d, of the (171, 133) code: Odenwalder 1970, table in Proakis
INFORMATION_WEIGHT = {10: 36, 12: 211, 14: 1404, 16: 11_633, 18: 77_433, 20: 502_690}


def union_bound(ebn0_db):
    """P_b <= sum_d B_d Q(sqrt(2 d R Eb / N0)), R = 1/2."""
    ebn0 = 10 ** (ebn0_db / 10)
    return sum(weight * norm.sf(np.sqrt(d * ebn0)) for d, weight in INFORMATION_WEIGHT.items())


def noisy(words, ebn0_db, rng):
    """Correlations of antipodal bits in white Gaussian noise, as log-likelihood ratios."""
    var = 1 / 10 ** (ebn0_db / 10)  # per rail: Es / N0 of a code bit is Eb / N0 / 2, and N0 / 2 its variance
    received = 1 - 2.0 * words + np.sqrt(var) * rng.standard_normal(words.shape)
    return 2 / var * received


def test_an_impulse_reads_out_the_generators():
    word = encode(np.array([1, 0])).reshape(-1, 2)

    assert word[: MEMORY + 1, 0].tolist() == [1, 1, 1, 1, 0, 0, 1]  # 171 octal
    assert word[: MEMORY + 1, 1].tolist() == [1, 0, 1, 1, 0, 1, 1]  # 133 octal
    assert not word[MEMORY + 1 :].any()


def test_the_code_is_linear_and_words_end_in_state_zero():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, (2, 50, 98))

    np.testing.assert_array_equal(encode(a ^ b), encode(a) ^ encode(b))
    assert encode(a).shape == (50, 208)
    padded = np.concatenate([a, np.zeros((50, 6), dtype=int)], axis=1)
    assert not encode(padded)[:, 208:].any()


def test_free_distance_and_its_information_weight_are_those_of_the_literature():
    # all inputs that begin and end with 1, of up to 14 bits, and leave state 0 once: every path of distance 10
    paths = weight = 0
    for length in range(1, 15):
        inner = max(length - 2, 0)
        bits = (np.arange(1 << inner)[:, None] >> np.arange(inner)) & 1
        ends = np.ones((len(bits), 1), dtype=int)
        bits = np.concatenate([ends, bits, ends], axis=1) if length > 1 else ends
        zeros = np.lib.stride_tricks.sliding_window_view(bits, MEMORY, axis=1) if length > MEMORY else None
        once = np.ones(len(bits), dtype=bool) if zeros is None else ~np.all(zeros == 0, axis=2).any(axis=1)
        distance = encode(bits).sum(axis=1)
        assert distance[once].min() >= 10
        paths += np.count_nonzero(once & (distance == 10))
        weight += bits[once & (distance == 10)].sum()

    assert (paths, weight) == (11, 36)


@given(st.integers(1, 120), st.integers(0, 2**32 - 1))
def test_noiseless_words_decode_to_their_bits(num_bits, seed):
    bits = np.random.default_rng(seed).integers(0, 2, (3, 2, num_bits))

    np.testing.assert_array_equal(decode(1 - 2.0 * encode(bits)), bits)


def test_any_four_errors_of_a_word_are_corrected_and_nine_erasures_filled():
    # d_free = 10
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 2, (500, 98))
    soft = 1 - 2.0 * encode(bits)
    wrong, erased = soft.copy(), soft.copy()
    for row in range(500):
        wrong[row, rng.choice(208, 4, replace=False)] *= -1
        erased[row, rng.choice(208, 9, replace=False)] = 0

    np.testing.assert_array_equal(decode(wrong), bits)
    np.testing.assert_array_equal(decode(erased), bits)


def test_decoding_finds_the_likeliest_of_all_words():
    # brute force over all 2^7 words, very noisy
    rng = np.random.default_rng(3)
    every = (np.arange(128)[:, None] >> np.arange(7)) & 1
    llr = rng.standard_normal((300, 2 * (7 + MEMORY)))

    best = every[np.argmax(llr @ (1 - 2.0 * encode(every)).T, axis=1)]

    np.testing.assert_array_equal(decode(llr), best)


def test_the_bit_error_rate_is_that_of_the_union_bound():
    # 3.5 dB: six terms 1.05e-4, the rest a tenth of it. 16,000 words have some 50 error events: 15 % standard error
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 2, (16_000, 98))

    errors = np.mean(decode(noisy(encode(bits), 3.5, rng)) != bits)

    assert 0.5 * union_bound(3.5) < errors < 1.5 * union_bound(3.5)
    assert errors < norm.sf(np.sqrt(2 * 10**0.35)) / 100  # uncoded


@pytest.mark.soak
@pytest.mark.parametrize("ebn0_db", [3.5, 4.0, 4.5])
def test_the_bit_error_rate_follows_the_union_bound(ebn0_db):
    # 4.5 dB: 2.9e-6, 30 error events in 20 million bits: 18 % standard error
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2, (200_000, 98), dtype=np.uint8)

    errors = np.mean(decode(noisy(encode(bits), ebn0_db, rng)) != bits)

    assert 0.5 * union_bound(ebn0_db) < errors < 1.5 * union_bound(ebn0_db)


def test_the_check_bits_are_those_of_crc_ccitt():
    # CRC-16/CCITT-FALSE of "123456789" is 29B1; Python's own has the register preset to 0, which a prefix makes up for
    bits = np.unpackbits(np.frombuffer(b"123456789", dtype=np.uint8))

    checks = np.packbits(with_crc(bits)[-CRC_BITS:]).tobytes()

    assert checks.hex() == "29b1"
    assert checks == binascii.crc_hqx(b"123456789", 0xFFFF).to_bytes(2, "big")


def test_any_one_or_two_wrong_bits_and_a_word_of_zeros_do_not_pass():
    word = with_crc(np.random.default_rng(6).integers(0, 2, 82))
    wrong = np.array([word ^ flips for flips in np.eye(98, dtype=np.uint8)])
    pairs = wrong[:, None] ^ np.eye(98, dtype=np.uint8)

    assert passes_crc(word)
    assert not passes_crc(wrong).any()
    assert np.count_nonzero(passes_crc(pairs)) == 98  # those that were flipped back
    assert not passes_crc(np.zeros(98, dtype=np.uint8))


@pytest.mark.parametrize("llr", [np.zeros(13), np.zeros(12), np.full(40, np.nan)])
def test_what_is_no_word_is_refused(llr):
    with pytest.raises(ValueError, match="llr: "):
        decode(llr)
