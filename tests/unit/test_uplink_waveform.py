"""The uplink frame: pilots that stay orthogonal under delays, powers per element, coded data."""

import numpy as np
import pytest

from testbed.config import validate
from testbed.errors import ConfigError
from testbed.sensing.uplink_columns import FrameColumns
from testbed.waveform.coding import decode, passes_crc
from testbed.waveform.frame import BufferDesign, FrameDesign
from testbed.waveform.ofdm import resource_elements
from testbed.waveform.sequences import dft_cover
from testbed.waveform.uplink import UplinkDesign
from tests.uplink_scene import K, uplink_design

DESIGN = uplink_design()
PP, PD = np.array([4.0, 3.0, 2.0, 1.0]), np.array([0.5, 0.6, 0.7, 0.8])


def changed(**changes):
    return validate(DESIGN.model_dump() | changes, UplinkDesign, "waveform")


def test_the_reference_frame_has_108_elements_and_98_bits():
    assert (DESIGN.frame_len, DESIGN.buffer_len) == (180, 180)
    assert (DESIGN.block_len, DESIGN.num_pilots, DESIGN.num_data, DESIGN.num_bits) == (108, 4, 104, 98)
    assert isinstance(DESIGN, BufferDesign) and issubclass(FrameDesign, BufferDesign)
    assert np.union1d(DESIGN.pilot_idx, DESIGN.data_idx).tolist() == list(range(108))
    assert DESIGN.element_subcarrier[DESIGN.pilot_idx].tolist() == [1, 1, 1, 1]
    assert (DESIGN.pilot_idx // 12).tolist() == [0, 1, 2, 3]


def test_powers_are_milliwatt_per_element():
    frame = DESIGN.frame(PP, PD)

    elements = resource_elements(frame.samples, DESIGN.numerology, range(9)).reshape(K, 108)
    np.testing.assert_allclose(np.abs(elements[:, DESIGN.pilot_idx]) ** 2, np.outer(PP, np.ones(4)))
    np.testing.assert_allclose(np.abs(elements[:, DESIGN.data_idx]) ** 2, np.outer(PD, np.ones(104)))
    np.testing.assert_array_equal(frame.pilot_power, PP)
    np.testing.assert_array_equal(frame.data_power, PD)


def test_the_mean_power_of_useful_samples_is_twelve_sixteenths_of_an_element_s():
    samples = DESIGN.frame(np.ones(K)).samples.reshape(K, 9, 20)[..., 4:]

    np.testing.assert_allclose(np.mean(np.abs(samples) ** 2, axis=(1, 2)), 12 / 16)
    # prefixes are a quarter more of samples that were drawn
    np.testing.assert_allclose(DESIGN.frame(np.ones(K)).power, 12 / 16, rtol=0.1)


def test_pilots_are_a_cover_in_time_and_stay_orthogonal_at_any_delays_of_the_users():
    # exact delays leak between symbols at -30 dB; orthogonality to that
    grid = DESIGN.grid().reshape(K, 108)
    for user in range(K):
        np.testing.assert_allclose(grid[user, DESIGN.pilot_idx], np.exp(-2j * np.pi * user * np.arange(4) / 4))
        np.testing.assert_array_equal(grid[user, DESIGN.pilot_idx], dft_cover(user, 4))

    columns = FrameColumns(DESIGN.frame(np.ones(K)).samples, DESIGN.numerology, 2)
    pilots = columns.at([-0.4, 0.6, 1.3, -1.7])[:, DESIGN.pilot_idx]

    gram = np.abs(pilots @ pilots.conj().T) / 4
    assert np.max(gram - np.diag(np.diag(gram))) < 0.05
    np.testing.assert_allclose(np.diag(gram), 1.0, atol=0.1)


def test_data_carry_the_users_words_interleaved():
    elements = DESIGN.grid().reshape(K, 108)[:, DESIGN.data_idx]

    rails = np.ascontiguousarray(elements).view(np.float64)
    bits = decode(DESIGN.code_order(-rails))

    np.testing.assert_array_equal(bits, DESIGN.bits)
    assert passes_crc(bits).all()
    assert all(np.array_equal(np.sort(row), np.arange(208)) for row in DESIGN.interleaver)
    assert len({tuple(row) for row in DESIGN.interleaver}) == K
    assert len({tuple(row) for row in DESIGN.bits}) == K


def test_frames_of_other_bits_are_those_of_their_users():
    bits = np.stack([DESIGN.bits, uplink_design(2).bits])

    samples = DESIGN.samples_of(bits, PP, PD)

    np.testing.assert_array_equal(samples[0], DESIGN.frame(PP, PD).samples)
    assert samples.shape == (2, K, 180)
    assert np.abs(samples[1] - samples[0]).max() > 0.5


def test_another_seed_has_other_data_and_the_same_pilots():
    other = DESIGN.with_data_seed(7)
    fresh = uplink_design(7)

    np.testing.assert_array_equal(other.bits, fresh.bits)
    np.testing.assert_array_equal(other.interleaver, fresh.interleaver)
    assert np.any(other.bits != DESIGN.bits)
    same = other.grid().reshape(K, 108)[:, DESIGN.pilot_idx] == DESIGN.grid().reshape(K, 108)[:, DESIGN.pilot_idx]
    assert same.all()


def test_elements_and_samples_go_both_ways_through_an_advanced_window():
    # a window two samples ahead of the symbol sees it turned by two samples, nothing else
    samples = DESIGN.frame(PP, PD).samples
    plain = resource_elements(samples, DESIGN.numerology, range(9))

    early = resource_elements(samples, DESIGN.numerology, range(9), advance=2)

    turn = np.exp(-2j * np.pi * DESIGN.numerology.subcarriers * 2 / 16)
    np.testing.assert_allclose(early, plain * turn, atol=1e-12)
    with pytest.raises(ValueError, match=r"advance 5: must lie in 0\.\.4"):
        resource_elements(samples, DESIGN.numerology, range(9), advance=5)


def test_exact_columns_differ_from_ramps_by_30_decibels():
    columns = FrameColumns(DESIGN.frame(np.ones(K)).samples, DESIGN.numerology, 2)
    delays = [0.608, 0.619, 0.634, 0.639]

    ramp = DESIGN.grid().reshape(K, 108) * columns.ramp(delays, DESIGN.element_subcarrier)

    error_db = 10 * np.log10(np.mean(np.abs(columns.at(delays) - ramp) ** 2))
    assert -33 < error_db < -27
    np.testing.assert_allclose(
        columns.at(np.zeros(K)),
        DESIGN.grid().reshape(K, 108) * columns.ramp(np.zeros(K), DESIGN.element_subcarrier),
        atol=1e-12,
    )


def test_column_slopes_are_derivatives():
    columns = FrameColumns(DESIGN.frame(PP, PD).samples, DESIGN.numerology, 2)
    tau, step = np.array([0.3, -0.4, 1.0, 0.0]), 1e-5

    difference = (columns.at(tau + step) - columns.at(tau - step)) / (2 * step)

    np.testing.assert_allclose(columns.at(tau, order=1), difference, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_pilots": 3}, "num_pilots: found 3; must be at least num_users = 4"),
        ({"num_pilots": 10}, "at most num_symbols = 9"),
        ({"pilot_subcarrier": 0}, r"pilot_subcarrier: found 0; must be one of \+-1..\+-6"),
        ({"pilot_subcarrier": 7}, "pilot_subcarrier: found 7"),
        ({"num_users": 1, "num_pilots": 1, "num_symbols": 1}, "hold no bit beside the tail and the CRC"),
        ({"num_data_frames": 2}, "num_data_frames"),
        ({"num_symbols": 9000}, "num_symbols"),
    ],
)
def test_a_frame_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        changed(**changes)


def test_powers_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"data_power: .* must be 4 finite numbers >= 0"):
        DESIGN.frame(np.ones(4), np.array([1.0, -1.0, 1.0, 1.0]))
