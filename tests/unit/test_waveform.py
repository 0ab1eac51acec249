"""Numerology, sequences, OFDM, frames and observations."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from testbed.config import validate
from testbed.errors import ConfigError
from testbed.waveform.frame import Frame, FrameDesign
from testbed.waveform.numerology import Numerology
from testbed.waveform.observations import ResourceElements, SampleRun
from testbed.waveform.ofdm import modulate, resource_elements
from testbed.waveform.sequences import BITS_PER_SYMBOL, comb, constellation, data_symbols, dft_cover, zadoff_chu
from tests.scenes import comp_experiment

DESIGN = comp_experiment().waveform
NUMEROLOGY = DESIGN.numerology  # 20 MS/s, 64 bins, CP 16, +-1 .. +-26
LARGE = NUMEROLOGY.model_dump() | {"fft_size": 16384, "cp_len": 0}
MODULATIONS = list(BITS_PER_SYMBOL)


@st.composite
def numerologies(draw):
    fft_size = draw(st.integers(8, 96))
    half = draw(st.integers(1, (fft_size - 2) // 2))
    cp_len = draw(st.integers(0, fft_size))
    return Numerology(carrier_hz=1e9, sample_rate_hz=1e6, fft_size=fft_size, cp_len=cp_len, num_subcarriers=2 * half)


def design(**changes):
    return validate(DESIGN.model_dump() | changes, FrameDesign, "waveform")


# Numerology


def test_sizes_of_the_reference_numerology_in_hertz_and_samples():
    assert NUMEROLOGY.subcarrier_spacing_hz == 312_500.0
    assert NUMEROLOGY.bandwidth_hz == 53 * 312_500.0  # from the lower edge of -26 to the upper edge of +26
    assert NUMEROLOGY.symbol_len == 80
    assert DESIGN.frame_len == 640


@given(numerologies())
def test_subcarriers_are_symmetric_about_an_empty_carrier(numerology):
    subcarriers = numerology.subcarriers

    assert len(subcarriers) == numerology.num_subcarriers
    assert 0 not in subcarriers
    np.testing.assert_array_equal(subcarriers, -subcarriers[::-1])
    assert np.all(np.diff(subcarriers) > 0)
    assert np.max(subcarriers) == numerology.num_subcarriers // 2


@given(numerologies())
def test_every_bin_has_the_frequency_of_its_subcarrier(numerology):
    frequency = np.fft.fftfreq(numerology.fft_size) * numerology.fft_size  # of each bin, in subcarrier spacings

    np.testing.assert_allclose(frequency[numerology.bins], numerology.subcarriers, atol=1e-9)


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_subcarriers": 51},
        {"num_subcarriers": 64},  # would use the band edge
        {"cp_len": 65},
        {"fft_size": 4},
        {"sample_rate_hz": 0.0},
        {"carrier_hz": -1.0},
    ],
)
def test_a_numerology_that_cannot_be_sent_is_refused(sizes):
    with pytest.raises(ConfigError, match=next(iter(sizes))):
        validate(NUMEROLOGY.model_dump() | sizes, Numerology, "numerology")


# Zadoff-Chu


@given(st.integers(2, 200), st.integers(1, 199))
def test_zadoff_chu_has_unit_modulus(length, root):
    assume(root < length and np.gcd(root, length) == 1)

    np.testing.assert_allclose(np.abs(zadoff_chu(root, length)), 1.0, atol=1e-14)


@given(st.integers(2, 200), st.integers(1, 199))
def test_zadoff_chu_has_an_ideal_cyclic_autocorrelation(length, root):
    assume(root < length and np.gcd(root, length) == 1)
    sequence = zadoff_chu(root, length)

    autocorrelation = [np.vdot(sequence, np.roll(sequence, lag)) for lag in range(length)]

    assert autocorrelation[0] == pytest.approx(length)
    np.testing.assert_allclose(autocorrelation[1:], 0.0, atol=1e-11 * length)


@pytest.mark.parametrize(("first", "second"), [(5, 7), (5, 11), (7, 11), (1, 52)])
def test_two_roots_of_length_53_correlate_with_the_square_root_of_53_at_every_lag(first, second):
    a, b = zadoff_chu(first, 53), zadoff_chu(second, 53)

    cross = np.array([np.vdot(a, np.roll(b, lag)) for lag in range(53)])

    np.testing.assert_allclose(np.abs(cross), np.sqrt(53), rtol=1e-12)


def test_zadoff_chu_of_a_long_length_keeps_its_exact_phase():
    # the phase u n (n + 1) / N passes 2^31: reduced modulo 2 N in Python's integers
    n, root, length = 65_000, 5, 65_537

    expected = np.exp(-1j * np.pi * ((root * n * (n + 1)) % (2 * length)) / length)

    assert zadoff_chu(root, length)[n] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("root", "length"), [(0, 53), (53, 53), (6, 9), (-1, 53)])
def test_a_root_that_is_not_coprime_to_the_length_is_refused(root, length):
    with pytest.raises(ValueError, match=f"root {root}"):
        zadoff_chu(root, length)


# Pilot codes


@given(numerologies(), st.integers(1, 12))
def test_comb_masks_share_out_every_subcarrier_once(numerology, num_nodes):
    masks = np.stack([comb(node, num_nodes, numerology.subcarriers) for node in range(num_nodes)])

    np.testing.assert_array_equal(masks.sum(axis=0), 1)
    # node l owns k = l mod L, also for negative k
    owner = masks.argmax(axis=0)
    assert all((int(k) - int(l)) % num_nodes == 0 for k, l in zip(numerology.subcarriers, owner, strict=True))


@given(st.integers(1, 16))
def test_dft_covers_of_different_nodes_are_orthogonal(num_symbols):
    covers = np.stack([dft_cover(node, num_symbols) for node in range(num_symbols)])

    np.testing.assert_allclose(covers @ covers.conj().T, num_symbols * np.eye(num_symbols), atol=1e-12)


def test_dft_cover_pilots_of_all_nodes_are_orthogonal_on_every_subcarrier():
    pilots = design(pilot_code="dft_cover", num_pilot_symbols=4).grid()[:, 1:5]  # node, symbol, subcarrier

    gram = np.einsum("ask,bsk->kab", pilots, pilots.conj())

    np.testing.assert_allclose(gram, 4 * np.broadcast_to(np.eye(3), (52, 3, 3)), atol=1e-12)


def test_comb_pilots_are_disjoint_and_as_strong_as_a_full_symbol():
    pilots = DESIGN.grid()[:, 1]

    assert np.all(np.count_nonzero(pilots, axis=0) == 1)
    np.testing.assert_allclose(np.sum(np.abs(pilots) ** 2, axis=1), 52.0)


# Constellations


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_constellation_has_unit_power_and_no_mean(modulation):
    points = constellation(modulation)

    assert len(set(np.round(points, 9))) == 2 ** BITS_PER_SYMBOL[modulation]
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1.0, rel=1e-14)
    assert abs(np.mean(points)) < 1e-15


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_neighbours_of_a_constellation_differ_in_one_bit(modulation):
    points = constellation(modulation)
    distance = np.abs(points[:, None] - points[None, :])
    nearest = np.min(distance[distance > 0])

    pairs = np.argwhere(np.isclose(distance, nearest))

    side = 2 ** (BITS_PER_SYMBOL[modulation] // 2)
    assert len(pairs) == 4 * side * (side - 1)  # of a square lattice, both directions
    assert all((int(a) ^ int(b)).bit_count() == 1 for a, b in pairs)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_data_symbols_are_the_points_of_their_indices_and_use_all(modulation):
    symbols, index = data_symbols(modulation, (40, 100), np.random.default_rng(1))

    np.testing.assert_array_equal(symbols, constellation(modulation)[index])
    # 4000 draws: a given one of 64 points is missing with probability 64 * exp(-62)
    assert set(index.ravel()) == set(range(2 ** BITS_PER_SYMBOL[modulation]))


# OFDM


@given(numerologies(), st.integers(1, 5))
def test_modulation_and_extraction_return_the_resource_elements(numerology, num_symbols):
    rng = np.random.default_rng(1)
    shape = (2, num_symbols, numerology.num_subcarriers)
    grid = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    samples = modulate(grid, numerology)

    assert samples.shape == (2, num_symbols * numerology.symbol_len)
    np.testing.assert_allclose(resource_elements(samples, numerology, range(num_symbols)), grid, atol=1e-12)


@given(numerologies())
def test_the_cyclic_prefix_repeats_the_end_of_its_symbol(numerology):
    samples = modulate(np.ones((2, numerology.num_subcarriers), dtype=complex), numerology)

    for symbol in samples.reshape(2, numerology.symbol_len):
        np.testing.assert_array_equal(symbol[: numerology.cp_len], symbol[numerology.fft_size :])


def test_a_subcarrier_is_a_tone_at_its_frequency():
    grid = np.zeros((1, 52), dtype=complex)
    grid[0, list(NUMEROLOGY.subcarriers).index(-3)] = 1.0

    body = modulate(grid, NUMEROLOGY)[16:]

    np.testing.assert_allclose(body, np.exp(-2j * np.pi * 3 * np.arange(64) / 64) / 8, atol=1e-15)


def test_white_noise_keeps_its_variance_per_resource_element():
    # 2000 frames x 104 elements of E|w|^2 = 3: relative standard error 1 / sqrt(208000) = 0.0022. 4 of them: 6e-5.
    rng = np.random.default_rng(1)
    noise = np.sqrt(1.5) * (rng.standard_normal((2000, 640)) + 1j * rng.standard_normal((2000, 640)))

    elements = resource_elements(noise, NUMEROLOGY, [2, 3])

    assert np.mean(np.abs(elements) ** 2) == pytest.approx(3.0, rel=4 / np.sqrt(elements.size))


def test_extraction_takes_the_listed_symbols_in_their_order():
    grid = np.arange(4)[:, None] * np.ones((4, 52), dtype=complex)

    elements = resource_elements(modulate(grid, NUMEROLOGY), NUMEROLOGY, [3, 1])

    np.testing.assert_allclose(elements[:, 0], [3, 1], atol=1e-12)


@pytest.mark.parametrize("symbols", [[8], [-1], [0, 99]])
def test_symbols_outside_the_frame_are_refused(symbols):
    with pytest.raises(ValueError, match=r"must lie in 0\.\.7"):
        resource_elements(np.zeros(640, dtype=complex), NUMEROLOGY, symbols)


def test_a_grid_of_another_width_is_refused():
    with pytest.raises(ValueError, match="50 subcarriers"):
        modulate(np.zeros((1, 50), dtype=complex), NUMEROLOGY)


# Frames


@pytest.mark.parametrize("pilot_code", ["comb", "dft_cover"])
@pytest.mark.parametrize("modulation", MODULATIONS)
def test_a_frame_has_mean_power_one_then_that_of_its_node(pilot_code, modulation):
    built = design(pilot_code=pilot_code, num_pilot_symbols=3, modulation=modulation)
    power = np.array([0.25, 3.0, 0.0])  # milliwatt

    np.testing.assert_allclose(built.frame(np.ones(3)).power, 1.0, rtol=1e-13)
    np.testing.assert_allclose(built.frame(power).power, power, rtol=1e-13)


def test_pilot_and_data_power_scale_their_parts_of_the_frame():
    unit = DESIGN.frame(np.ones(3)).samples

    split = DESIGN.frame(np.array([4.0, 1.0, 0.0]), np.array([0.25, 0.0, 9.0]))

    # preamble and pilot symbol: 160 samples; six data symbols: 480
    np.testing.assert_allclose(split.samples[:, :160], np.array([[2.0], [1.0], [0.0]]) * unit[:, :160])
    np.testing.assert_allclose(split.samples[:, 160:], np.array([[0.5], [0.0], [3.0]]) * unit[:, 160:])
    np.testing.assert_array_equal(split.pilot_power, [4.0, 1.0, 0.0])
    np.testing.assert_array_equal(split.data_power, [0.25, 0.0, 9.0])


def test_a_frame_is_preamble_then_pilots_then_data():
    grid = resource_elements(DESIGN.frame(np.ones(3)).samples, NUMEROLOGY, range(8))
    scale = np.abs(grid[:, :1, :1])  # frame-mean power 1 puts nfft / nused on an element, the same for all symbols

    np.testing.assert_allclose((grid / scale)[1, 0], zadoff_chu(7, 53)[:52], atol=1e-12)
    assert np.count_nonzero(np.abs(grid[0, 1]) > 1e-9) == 16  # comb k = 0 mod 3: +-3 .. +-24
    assert DESIGN.data_symbol_idx == (2, 3, 4, 5, 6, 7)
    for node in range(3):
        points = (grid / scale)[node, 2:]
        nearest = np.min(np.abs(points[..., None] - constellation("qpsk")), axis=-1)
        assert np.max(nearest) < 1e-12


def test_frame_mean_power_one_means_nfft_over_nused_per_resource_element():
    # symbols whose prefix is as strong as their body: averaged over 30 data seeds, 64/52 within 1 %
    power = [
        np.mean(np.abs(resource_elements(design(data_seed=s).frame(np.ones(3)).samples, NUMEROLOGY, range(8))) ** 2)
        for s in range(30)
    ]

    assert np.mean(power) == pytest.approx(64 / 52, rel=0.01)


def test_the_same_data_seed_gives_the_same_frame_bit_for_bit():
    np.testing.assert_array_equal(design().frame(np.ones(3)).samples, DESIGN.frame(np.ones(3)).samples)


def test_another_data_seed_changes_pilots_and_data_but_not_the_preamble():
    grid, other = DESIGN.grid(), design(data_seed=2).grid()

    np.testing.assert_array_equal(grid[:, 0], other[:, 0])
    for node in range(3):
        assert not np.array_equal(grid[node, 1], other[node, 1])
        assert not np.array_equal(grid[node, 2:], other[node, 2:])


def test_pilots_and_data_are_drawn_apart():
    # 16 to 18 QPSK symbols agree with those of the first data symbol by chance with probability 4^-16
    grid = DESIGN.grid()

    for node in range(3):
        owned = np.abs(grid[node, 1]) > 0
        assert not np.allclose(grid[node, 1][owned] / np.abs(grid[node, 1][owned]), grid[node, 2][owned])


def test_data_of_two_nodes_are_uncorrelated():
    # 6 x 52 independent unit symbols: |correlation| is Rayleigh of scale 1/sqrt(312); beyond 4.3 of them: 1e-8 each
    data = DESIGN.grid()[:, 2:].reshape(3, -1)

    gram = np.abs(data @ data.conj().T) / 312

    np.testing.assert_allclose(np.diag(gram), 1.0)
    assert np.max(gram - np.diag(np.diag(gram))) < 4.3 / np.sqrt(312)


def test_peak_to_average_takes_the_larger_rail():
    samples = np.array([[1.0, -3.0 + 1.0j, 2.0j, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0j, -1.0, -1.0j]], dtype=complex)

    ratio = Frame(samples, np.ones(3), np.ones(3)).peak_to_average

    # 9 over (1 + 10 + 4) / 4; a silent node has nothing to clip; a constant envelope has 0 dB
    np.testing.assert_allclose(ratio, [9 / 3.75, 1.0, 1.0])


@pytest.mark.parametrize("power", [[1.0, 1.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], [1.0, np.inf, 1.0], 1.0])
def test_powers_that_are_not_one_finite_number_per_node_are_refused(power):
    with pytest.raises(ValueError, match="pilot_power"):
        DESIGN.frame(np.array(power))
    with pytest.raises(ValueError, match="data_power"):
        DESIGN.frame(np.ones(3), np.array(power))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"preamble_roots": (5, 5, 7)}, "one different root per node"),
        ({"preamble_roots": ()}, "preamble_roots"),
        ({"preamble_roots": (5, 53, 7)}, "root 53"),
        ({"preamble_len": 47}, "preamble_len: found 47"),
        ({"pilot_code": "dft_cover", "num_pilot_symbols": 2}, "needs at least 3"),
        ({"modulation": "8psk"}, "modulation"),
        ({"num_data_symbols": 0}, "num_data_symbols"),
        ({"numerology": LARGE, "num_data_symbols": 4096}, r"frame_len: found \d+ samples .* at most 4194304"),
    ],
)
def test_a_design_that_cannot_be_built_is_refused(changes, fault):
    with pytest.raises(ConfigError, match=fault):
        design(**changes)


def test_the_largest_frame_is_accepted_and_nothing_of_its_size_allocated_to_refuse_a_larger_one():
    # 16384 bins: 256 symbols are 2^22 samples
    assert design(numerology=LARGE, num_data_symbols=254).frame_len == 1 << 22
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="found 4210688 samples"):
            design(numerology=LARGE, num_data_symbols=255)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6


# Observations


def test_resource_elements_are_flattened_symbol_by_symbol():
    frames = DESIGN.frame(np.ones(3)).samples
    observations = ResourceElements(symbols=(2, 5))

    seen = observations.extract(frames, NUMEROLOGY)

    assert seen.shape == (3, 104)
    assert observations.num_observations(NUMEROLOGY) == 104
    np.testing.assert_array_equal(seen[:, 52:], resource_elements(frames, NUMEROLOGY, [5])[:, 0])
    assert observations.last_sample(NUMEROLOGY) == 6 * 80


def test_a_sample_run_is_the_samples_themselves():
    frames = DESIGN.frame(np.ones(3)).samples
    observations = SampleRun(kind="samples", start=100, count=50)

    np.testing.assert_array_equal(observations.extract(frames, NUMEROLOGY), frames[:, 100:150])
    assert observations.num_observations(NUMEROLOGY) == 50
    assert observations.last_sample(NUMEROLOGY) == 150


@pytest.mark.parametrize("symbols", [[2, 2], [-1], []])
def test_a_symbol_is_observed_once_and_counted_from_zero(symbols):
    # twice the same elements would pass for independent noise
    with pytest.raises(ConfigError, match="symbols"):
        validate({"kind": "resource_elements", "symbols": symbols}, ResourceElements, "observations")


# Buffers of several frames


def test_frames_of_a_buffer_differ_in_data_only_and_the_first_is_the_one_of_a_buffer_of_one():
    alone, several = design(), design(num_data_frames=3)

    assert several.buffer_len == 3 * alone.frame_len == several.frame(np.ones(3)).frame_len
    np.testing.assert_array_equal(several.grid(), alone.grid())
    head = several.data_symbol_idx[0]
    for t in (1, 2):
        np.testing.assert_array_equal(several.grid(t)[:, :head], alone.grid()[:, :head])
        for node in range(3):
            same = np.mean(several.data_indices(node, t) == several.data_indices(node, 0))
            assert same == pytest.approx(0.25, abs=0.1)  # QPSK; 312 symbols: 4 standard deviations
    assert not np.array_equal(several.data_indices(0, 1), several.data_indices(1, 1))
    with pytest.raises(ValueError, match=r"0\.\.2"):
        several.data_indices(0, 3)


def test_powers_scale_pilots_and_data_of_every_frame_of_a_buffer():
    several = design(num_data_frames=3)
    unit, scaled = (
        several.frame(np.ones(3)).samples,
        several.frame(np.array([1.0, 4.0, 0.0]), np.full(3, 9.0)).samples,
    )

    np.testing.assert_allclose(np.mean(np.abs(unit) ** 2, axis=1), 1.0, rtol=1e-12)
    unit, scaled = (samples.reshape(3, 3, several.frame_len) for samples in (unit, scaled))
    head = several.data_symbol_idx[0] * NUMEROLOGY.symbol_len
    np.testing.assert_allclose(scaled[1, :, :head], 2 * unit[1, :, :head])
    np.testing.assert_allclose(scaled[2, :, :head], 0.0)
    np.testing.assert_allclose(scaled[..., head:], 3 * unit[..., head:])


def test_a_buffer_that_no_radio_holds_is_refused():
    with pytest.raises(ConfigError, match="65000 frames"):
        design(num_data_frames=65000)
