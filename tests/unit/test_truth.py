"""The truth file: noncentrality, delays, gains and noise, against computations that share no code with it."""

import math
import sys

import numpy as np
import pytest

from sim import __main__ as command_line
from sim.channel import convert
from sim.noise import unit_noise
from sim.scene import Scene, load_scene, with_self_isolation
from sim.truth import effective_noise_var, truth, truth_of_paths
from testbed import interrupts
from testbed.config import validate
from testbed.errors import ConfigError
from testbed.experiment.comp.config import CompExperiment
from testbed.measurement import load_measurements, save_measurements
from testbed.radio.gains import realise
from testbed.theory import detection
from testbed.units import db, undb
from tests.scenes import RX_GAIN_DB, comp_experiment, comp_scene, comp_text

NAMES = ("bs1", "bs2", "bs3")
CELLS = ("t1", "t2", "t3")
GAINS_DB = dict.fromkeys(NAMES, RX_GAIN_DB)
LSB = math.sqrt(10**-2.98) / 2048  # sqrt(milliwatt): full scale 10.2 dBm at 0 dB, so -29.8 dBm at 40 dB; 12 bits

# SIGNAL_CHAIN section 8: PoD averaged over data seeds, -10.5 .. -2.5 dBm per base station in 1 dB steps, PFA 1e-6,
# N = 104, effective noise with LSB^2/6
POD_TABLE = {
    "t1": [0.049, 0.116, 0.250, 0.466, 0.717, 0.905, 0.984, 0.999, 1.0],
    "t2": [0.045, 0.107, 0.235, 0.445, 0.697, 0.895, 0.981, 0.999, 1.0],
    "t3": [0.006, 0.014, 0.036, 0.088, 0.198, 0.389, 0.638, 0.857, 0.969],
}


def at_powers(experiment, *axis_dbm):
    return experiment.model_copy(update={"power": experiment.power.model_copy(update={"axis_dbm": axis_dbm})})


def detection_text():
    """The CoMP preset without users and loop, which would ask for a cell and a user per node."""
    return {key: table for key, table in comp_text().items() if key not in ("users", "loop")}


def noncentralities(experiment):
    """lam of every cell (rows) at every power."""
    points = truth(comp_scene(), experiment, GAINS_DB).points
    return [[point.noncentrality[cell].value for point in points] for cell in CELLS]


def test_pod_averaged_over_data_seeds_is_the_table_of_the_reference_scene():
    # One seed scatters by 0.05 at mid-curve, the mean of 20 by 0.011: 0.04 is 3.6 of them, at fixed seeds
    lam = np.array([noncentralities(comp_experiment(data_seed=seed)) for seed in range(1, 21)])

    pod = detection.detection_probability(lam, 3, pfa=1e-6)

    np.testing.assert_allclose(pod.mean(axis=0), list(POD_TABLE.values()), atol=0.04)
    # there too: one data seed differs by up to .15 at mid-curve, standard deviation .05
    assert 0.03 < np.max(pod.std(axis=0)) < 0.08
    assert 0.08 < np.max(np.abs(pod - pod.mean(axis=0))) < 0.20


# An independent computation: geometry, gains and columns written out, explicit projector by pinv

POSITIONS_M = {
    "bs1": (0.0, 69.282),
    "bs2": (-60.0, -34.641),
    "bs3": (60.0, -34.641),
    "u1": (14.0, 53.0),
    "u2": (-19.0, -41.0),
    "u3": (22.0, -60.0),
    "t1": (33.0, 82.0),
    "t2": (-87.0, -17.0),
    "t3": (92.0, -66.0),
    "mast": (5.0, -60.0),
}
RCS_M2 = {"t1": 10.0, "t2": 7.0, "t3": 15.0, "mast": 3.0}
START_SAMPLES = {"bs1": 3.27, "bs2": 1.64, "bs3": 4.93}
LIGHT_MPS, RATE_HZ, WAVELENGTH_M = 299_792_458.0, 20e6, 299_792_458.0 / 3.5e9


def column(frame, delay_samples, symbols=(2, 3)):
    """Symbols of a delayed frame: DFT of all 640 samples with a phase ramp, then of 64 without prefix."""
    k = (np.arange(640) + 320) % 640 - 320
    time = np.fft.ifft(np.fft.fft(frame) * np.exp(-2j * np.pi * k * delay_samples / 640))
    used = [*range(-26, 0), *range(1, 27)]
    return np.concatenate([np.fft.fft(time[80 * s + 16 : 80 * s + 80])[used] / 8 for s in symbols])


def frames_on_air(powers_mw):
    wanted = comp_experiment().waveform.frame(np.array(powers_mw)).samples
    return [realise(wanted[row], comp_scene().limits(row))[2] for row in range(3)]


def thermal_noise(noise_figure_db):
    """In milliwatt."""
    return 1.380649e-23 * 290 * RATE_HZ * 10 ** (noise_figure_db / 10) * 1e3


def independent_noncentrality(rx, cell, powers_mw, unlisted=()):
    echo, others = 0, []
    for tx, frame in zip(NAMES, frames_on_air(powers_mw), strict=True):
        if not frame.any():
            continue
        start = START_SAMPLES[tx] - round(START_SAMPLES[rx])  # the receiver counts from its frame's first whole sample
        length_m = 0.0 if tx == rx else math.dist(POSITIONS_M[tx], POSITIONS_M[rx])
        others.append(column(frame, start + length_m / LIGHT_MPS * RATE_HZ))
        for via, rcs_m2 in RCS_M2.items():
            out_m, back_m = (math.dist(POSITIONS_M[node], POSITIONS_M[via]) for node in (tx, rx))
            x = column(frame, start + (out_m + back_m) / LIGHT_MPS * RATE_HZ)
            if via == cell:
                power = 10**1.2 * WAVELENGTH_M**2 * rcs_m2 / ((4 * math.pi) ** 3 * out_m**2 * back_m**2)
                echo = echo + math.sqrt(power) * np.exp(-2j * np.pi * (out_m + back_m) / WAVELENGTH_M) * x
            elif via not in unlisted:
                others.append(x)
    D = np.stack([d / np.linalg.norm(d) for d in others], axis=1)
    visible = echo - D @ (np.linalg.pinv(D) @ echo)
    return 2 * np.sum(np.abs(visible) ** 2) / (thermal_noise(8.0) + LSB**2 / 6)


def heard_by(user, serving, powers_mw):
    """What a user hears of every base station at its data elements, shape (3, 312)."""
    length_m = {tx: math.dist(POSITIONS_M[tx], POSITIONS_M[user]) for tx in NAMES}
    arrival = {tx: START_SAMPLES[tx] + length_m[tx] / LIGHT_MPS * RATE_HZ for tx in NAMES}
    rows = []
    for tx, frame in zip(NAMES, frames_on_air(powers_mw), strict=True):
        amplitude = 10 ** (-(43.3 + 30 * math.log10(length_m[tx]) - 6.0) / 20)
        phase = np.exp(-2j * np.pi * length_m[tx] / WAVELENGTH_M)
        # the user counts from the first whole sample of its serving node's frame
        rows.append(amplitude * phase * column(frame, arrival[tx] - round(arrival[serving]), range(2, 8)))
    return np.stack(rows)


@pytest.mark.parametrize(("rx", "cell"), list(zip(NAMES, CELLS, strict=True)))
def test_noncentrality_is_that_of_an_independent_computation(rx, cell):
    points = truth(comp_scene(), at_powers(comp_experiment(), -9.5, -2.5), GAINS_DB).points

    for point, power_dbm in zip(points, (-9.5, -2.5), strict=True):
        expected = independent_noncentrality(rx, cell, [undb(power_dbm)] * 3)
        assert point.noncentrality[cell].value == pytest.approx(expected, rel=1e-9)
        assert point.rank[cell] == 3


@pytest.mark.parametrize(("rx", "cell"), list(zip(NAMES, CELLS, strict=True)))
def test_a_reflector_the_experiment_does_not_list_has_no_column(rx, cell):
    # the detector that is judged by the truth does not know it either
    data = comp_text()
    data["reflectors"] = []
    experiment = at_powers(validate(data, CompExperiment, "no mast"), -6.0)

    (point,) = truth(comp_scene(), experiment, GAINS_DB).points
    (listed,) = truth(comp_scene(), at_powers(comp_experiment(), -6.0), GAINS_DB).points

    expected = independent_noncentrality(rx, cell, [undb(-6.0)] * 3, unlisted=("mast",))
    assert point.noncentrality[cell].value == pytest.approx(expected, rel=1e-9)
    assert point.noncentrality[cell].value > listed.noncentrality[cell].value * 1.001
    assert point.paths == listed.paths  # it is there all the same


def test_a_target_the_experiment_does_not_list_has_no_column():
    data = detection_text()
    data["cells"] = data["cells"][:2]
    experiment = at_powers(validate(data, CompExperiment, "two cells"), -6.0)

    (point,) = truth(comp_scene(), experiment, GAINS_DB).points

    assert set(point.noncentrality) == {"t1", "t2"}
    expected = independent_noncentrality("bs2", "t2", [undb(-6.0)] * 3, unlisted=("t3",))
    assert point.noncentrality["t2"].value == pytest.approx(expected, rel=1e-9)


def test_noncentrality_is_of_the_power_that_is_really_sent():
    # -2.4 dBm needs another digital scale than -9.5 dBm (the gain has steps of 0.25 dB): other codes, other rounding
    low, high = truth(comp_scene(), at_powers(comp_experiment(), -9.5, -2.4), GAINS_DB).points

    np.testing.assert_allclose(db(np.array(high.power) / np.array(low.power)), 7.1, atol=2e-3)
    assert np.max(np.abs(db(np.array(high.power) / np.array(low.power)) - 7.1)) > 1e-6
    for cell in CELLS:
        assert db(high.noncentrality[cell].value / low.noncentrality[cell].value) == pytest.approx(7.1, abs=0.02)


def test_a_weaker_target_has_less_noncentrality_in_proportion():
    scene = comp_scene().model_dump()
    scene["targets"][1]["rcs_m2"] = 3.5  # half
    experiment = at_powers(comp_experiment(), -6.0)

    (half,) = truth(validate(scene, Scene, "half"), experiment, GAINS_DB).points
    (full,) = truth(comp_scene(), experiment, GAINS_DB).points

    assert half.noncentrality["t2"].value == pytest.approx(full.noncentrality["t2"].value / 2, rel=1e-12)
    # for the others it is nuisance, of whatever strength
    assert half.noncentrality["t1"].value == pytest.approx(full.noncentrality["t1"].value, rel=1e-12)


# Power vectors

UNEQUAL_MW = (0.5, 0.1, 0.3)  # -3, -10 and -5.2 dBm
SILENT_MW = (0.25, 0.0, 0.25)


@pytest.mark.parametrize(("rx", "cell"), list(zip(NAMES, CELLS, strict=True)))
@pytest.mark.parametrize("powers_mw", [UNEQUAL_MW, SILENT_MW, (0.0, 0.0, 0.5)])
def test_noncentrality_of_a_power_vector_is_that_of_an_independent_computation(rx, cell, powers_mw):
    # a silent node has no columns: its self, direct and other echoes cost the detector nothing
    (point,) = truth(comp_scene(), comp_experiment(), GAINS_DB, [powers_mw]).points

    assert point.noncentrality[cell].value == pytest.approx(independent_noncentrality(rx, cell, powers_mw), rel=1e-9)
    assert point.rank[cell] == np.count_nonzero(powers_mw)


def test_power_vectors_replace_the_axis_and_are_told_as_realised():
    experiment = comp_experiment()
    vectors = [UNEQUAL_MW, [undb(-6.0)] * 3, SILENT_MW]

    points = truth(comp_scene(), experiment, GAINS_DB, vectors).points

    assert [point.origin for point in points] == ["truth"] * 3
    assert points[1] == truth(comp_scene(), at_powers(experiment, -6.0), GAINS_DB).points[0]
    for point, vector in zip(points, vectors, strict=True):
        on_air = [float(np.mean(np.abs(frame) ** 2)) for frame in frames_on_air(vector)]
        assert list(point.power) == pytest.approx(on_air, rel=1e-12)
        np.testing.assert_allclose(point.power, vector, rtol=2e-3)  # 12 bits: rounding of the frame's samples
    assert points[2].power[1] == 0.0


def test_with_every_node_silent_there_is_nothing_to_detect():
    (point,) = truth(comp_scene(), comp_experiment(), GAINS_DB, [(0.0, 0.0, 0.0)]).points

    assert point.power == (0.0, 0.0, 0.0)
    assert set(point.rank.values()) == {0}
    assert {lam.value for lam in point.noncentrality.values()} == {0.0}
    assert point.sensing["t1"].gain["bs1"].value > 0  # that is known all the same


@pytest.mark.parametrize(
    ("vector", "fault"),
    [
        ((0.1, 0.2), r"^powers\[1\]: found 2 numbers; must be 3, in milliwatt, one for each of bs1, bs2, bs3$"),
        ((0.1,) * 4, r"^powers\[1\]: found 4 numbers; must be 3"),
        ((), r"^powers\[1\]: found 0 numbers; must be 3"),
        ((0.1, -0.2, 0.1), r"^powers\[1\]: -0.2 mW of bs2; must be 0 \(silent\) to 1e\+08 mW$"),
        ((0.1, 0.1, math.nan), r"^powers\[1\]: nan mW of bs3"),
        ((math.inf, 0.1, 0.1), r"^powers\[1\]: inf mW of bs1"),
    ],
)
def test_what_is_no_power_vector_is_refused_in_one_line(vector, fault):
    with pytest.raises(ConfigError, match=fault):
        truth(comp_scene(), comp_experiment(), GAINS_DB, [UNEQUAL_MW, vector])


def test_an_experiment_without_an_axis_asks_for_powers():
    experiment = comp_experiment().model_copy(update={"power": None})

    assert len(truth(comp_scene(), experiment, GAINS_DB, [UNEQUAL_MW]).points) == 1
    with pytest.raises(ConfigError, match=r"power.axis_dbm: the experiment has none; give the powers, e.g. --power-mw"):
        truth(comp_scene(), experiment, GAINS_DB)


# Power responses: cells under test


def noncentrality_by_response(point, cell, power=None):
    """lam = 2 N / sigma2 s^T gram s."""
    response, s = point.sensing[cell], np.sqrt(point.power if power is None else power)
    return 2 * response.num_observations / point.noise_var[response.node].value * (s @ np.array(response.gram) @ s)


@pytest.mark.parametrize("powers_mw", [(0.25, 0.25, 0.25), UNEQUAL_MW, SILENT_MW, (0.0, 0.0, 0.5)])
def test_the_sensing_response_reproduces_the_noncentrality(powers_mw):
    (point,) = truth(comp_scene(), comp_experiment(), GAINS_DB, [powers_mw]).points

    for rx, cell in zip(NAMES, CELLS, strict=True):
        response = point.sensing[cell]
        assert (response.node, response.serving, response.num_observations) == (rx, None, 104)
        assert noncentrality_by_response(point, cell) == pytest.approx(point.noncentrality[cell].value, rel=1e-9)
        np.testing.assert_array_equal(response.gram, np.transpose(response.gram))
        assert [response.gain[name].value for name in NAMES] == np.diag(response.gram).tolist()
        assert all(gain.value > 0 and gain.stderr == 0 for gain in response.gain.values())


def test_the_sensing_response_of_one_power_vector_predicts_that_of_another():
    # columns differ by the rounding of the frames only: SIGNAL_CHAIN section 4 asks for 0.16 dB
    one, other = truth(comp_scene(), comp_experiment(), GAINS_DB, [(0.25, 0.25, 0.25), UNEQUAL_MW]).points

    for cell in CELLS:
        predicted = noncentrality_by_response(one, cell, other.power)
        assert db(predicted / other.noncentrality[cell].value) == pytest.approx(0.0, abs=0.01)


def test_the_gain_of_a_silent_node_is_that_it_has_when_it_transmits():
    silent, loud = truth(comp_scene(), comp_experiment(), GAINS_DB, [SILENT_MW, (0.25, 0.25, 0.25)]).points

    for cell in CELLS:
        # with its own self and direct path among the nuisance; rounding of the frame is what differs
        assert db(silent.sensing[cell].gain["bs2"].value / loud.sensing[cell].gain["bs2"].value) == pytest.approx(
            0.0, abs=0.01
        )
        np.testing.assert_allclose(silent.sensing[cell].gram[1], loud.sensing[cell].gram[1], rtol=0.02)
    # while for the others there is less nuisance now
    assert silent.sensing["t1"].gain["bs1"].value > loud.sensing["t1"].gain["bs1"].value


# Power responses: users

SERVING = {"u1": "bs1", "u2": "bs2", "u3": "bs3"}


@pytest.mark.parametrize("powers_mw", [(0.25, 0.25, 0.25), UNEQUAL_MW])
@pytest.mark.parametrize("user", SERVING)
def test_the_communication_response_gives_the_power_of_any_mixture_at_the_data_elements(user, powers_mw):
    (point,) = truth(comp_scene(), comp_experiment(), GAINS_DB, [powers_mw]).points
    response, s = point.communication[user], np.sqrt(point.power)
    heard = heard_by(user, SERVING[user], powers_mw)

    assert (response.node, response.serving, response.num_observations) == (user, SERVING[user], 312)
    assert [response.gain[name].value for name in NAMES] == np.diag(response.gram).tolist()
    for mixture in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]):
        expected = np.mean(np.abs(mixture @ heard) ** 2)
        scaled = s * mixture
        assert scaled @ np.array(response.gram) @ scaled == pytest.approx(expected, rel=1e-9)


def test_a_users_sinr_follows_from_response_power_and_noise():
    # the error vector over 2000 repetitions: interference repeats with the frame, noise of known variance is added
    powers_mw, rng = (undb(-6.0),) * 3, np.random.default_rng(1)
    (point,) = truth(comp_scene(), comp_experiment(), {}, [powers_mw]).points

    for o, (user, serving) in enumerate(SERVING.items()):
        gram, noise_var = np.array(point.communication[user].gram), point.noise_var[user].value
        s = np.sqrt(point.power)
        others = np.where(np.arange(3) == o, 0.0, s)
        sinr = s[o] ** 2 * gram[o, o] / (others @ gram @ others + noise_var)

        heard = heard_by(user, serving, powers_mw)
        noise = rng.standard_normal((2000, 312, 2)) @ [1, 1j] * math.sqrt(noise_var / 2)
        error = np.mean(np.abs(heard.sum(axis=0) - heard[o] + noise) ** 2)
        # |i + w|^2 has a variance below (|i|^2 + sigma^2)^2, twice that as |i|^2 differs: 5 standard errors, 6e-7 each
        assert np.mean(np.abs(heard[o]) ** 2) / error == pytest.approx(sinr, rel=5 * math.sqrt(2 / 2000 / 312))
    # nfft/nused = +0.90 dB over the in-band ratio of 12.71 dB; rounding to codes raises the noise by 0.33 dB; the rest
    # is the share of these symbols' prefixes in the frame's power
    snr = point.communication["u1"].gain["bs1"].value * point.power[0] / point.noise_var["u1"].value
    assert db(snr) == pytest.approx(12.71 + 0.90 - 0.33, abs=0.1)


def test_users_have_the_thermal_noise_of_their_noise_figure_and_the_step_of_their_gain():
    (point,) = truth(comp_scene(), at_powers(comp_experiment(), -6.0), {"u2": 37.0}).points

    lsb = math.sqrt(10**-3.28) / 2048  # full scale -32.8 dBm at 43 dB
    assert list(point.noise_var) == [*NAMES, *SERVING]
    expected = {"u1": thermal_noise(5.0) + lsb**2 / 6, "u2": thermal_noise(5.0) + lsb**2 * 10**0.6 / 6}
    for user, value in expected.items():
        assert point.noise_var[user].value / value == pytest.approx(1.0, rel=1e-12)
    assert point.links == {}


def test_paths_to_a_user_count_from_the_frame_of_its_serving_node():
    (point,) = truth(comp_scene(), at_powers(comp_experiment(), -6.0), GAINS_DB).points
    paths = {p.tx: p for p in point.paths if p.rx == "u2"}

    assert {(p.kind, p.via) for p in paths.values()} == {("direct", None)}
    # bs2 - u2: 41.489 m are 2.7679 samples; 1.64 + 2.7679 begins at sample 4
    assert paths["bs2"].delay_samples.value == pytest.approx(1.64 + 2.7679 - 4, abs=1e-4)
    # bs1 - u2: 111.90 m, 7.4656 samples
    assert paths["bs1"].delay_samples.value == pytest.approx(3.27 + 7.4656 - 4, abs=1e-4)
    assert db(paths["bs2"].power_gain.value) == pytest.approx(6.0 - 43.3 - 30 * math.log10(41.489), abs=1e-3)


def test_a_user_in_free_space_hears_echoes_as_part_of_each_signal():
    data = comp_scene().model_dump()
    data["nodes"][3]["path_loss"] = None
    (point,) = truth(validate(data, Scene, "free"), at_powers(comp_experiment(), -6.0), GAINS_DB).points

    assert {p.kind for p in point.paths if p.rx == "u1"} == {"direct", "echo", "clutter"}
    direct = next(p for p in point.paths if (p.rx, p.tx, p.kind) == ("u1", "bs1", "direct"))
    # 0.9 dB per used element; echoes are 36 dB and more below the direct path, which is at most 0.14 dB each
    assert db(point.communication["u1"].gain["bs1"].value / direct.power_gain.value) == pytest.approx(0.9, abs=0.3)


# Noise


def test_effective_noise_is_thermal_noise_and_a_sixth_of_the_squared_lsb():
    thermal = undb(-92.965)

    assert effective_noise_var(comp_scene(), 0, 20e6, 40.0) / (thermal + LSB**2 / 6) == pytest.approx(1.0, rel=2e-4)
    # 10 dB less gain: 10 times LSB^2
    lower = effective_noise_var(comp_scene(), 0, 20e6, 30.0)
    assert lower / (thermal + 10 * LSB**2 / 6) == pytest.approx(1.0, rel=2e-4)


@pytest.mark.parametrize("rx_gain_db", [40.0, 46.0])
def test_noise_through_the_converter_has_the_effective_variance(rx_gain_db):
    # 2e6 samples: standard error 7e-4; LSB^2/6 is 8 % at 1 LSB per rail, 2 % at 2; 4 standard errors
    scene = comp_scene()
    limits = scene.limits(0)
    analogue = unit_noise(1, 0, 0, 2_000_000) * np.float32(np.sqrt(undb(-92.9648)))

    codes, _ = convert(np.stack([analogue.real, analogue.imag]), limits.rx_amplitude(rx_gain_db), limits.rx_full_scale)

    lsb = limits.rx_amplitude(rx_gain_db) / 2048
    measured = 2 * lsb**2 * np.mean(codes.astype(float) ** 2)
    assert measured == pytest.approx(effective_noise_var(scene, 0, 20e6, rx_gain_db), rel=4 / np.sqrt(2e6))


def test_every_receiver_has_the_noise_of_its_gain():
    scene, experiment = comp_scene(), at_powers(comp_experiment(), -6.0)

    (point,) = truth(scene, experiment, {"bs1": 40.0, "bs2": 34.0, "bs3": 46.0}).points

    for index, (name, gain_db) in enumerate([("bs1", 40.0), ("bs2", 34.0), ("bs3", 46.0)]):
        assert point.noise_var[name].value == effective_noise_var(scene, index, 20e6, gain_db)
    (same,) = truth(scene, experiment, GAINS_DB).points
    ratio = same.noncentrality["t2"].value / point.noncentrality["t2"].value
    assert ratio == pytest.approx(point.noise_var["bs2"].value / same.noise_var["bs2"].value, rel=1e-12)


# Paths


def test_paths_are_those_of_the_scene_counted_from_the_own_frame():
    (point,) = truth(comp_scene(), at_powers(comp_experiment(), -6.0), GAINS_DB).points
    paths = {(p.rx, p.tx, p.kind, p.via): p for p in point.paths}

    assert len(paths) == 3 * 15 + 3 * 3  # per node 1 self, 2 direct, 9 echoes, 3 clutter; per user 3 direct
    # bs2's frame starts at 1.64: its first whole sample is 2
    assert paths["bs2", "bs2", "self", None].delay_samples.value == pytest.approx(-0.36)
    assert paths["bs2", "bs3", "direct", None].delay_samples.value == pytest.approx(4.93 - 2 + 8.005538, abs=1e-6)
    assert db(paths["bs2", "bs2", "self", None].power_gain.value) == pytest.approx(-60.0)
    assert all(p.delay_samples.stderr == 0 for p in point.paths)


def test_delays_are_counted_modulo_the_frame():
    scene = comp_scene().model_dump()
    scene["nodes"][0]["start_offset_samples"] = 600.0
    (point,) = truth(validate(scene, Scene, "late"), at_powers(comp_experiment(), -6.0), GAINS_DB).points

    delays = [p.delay_samples.value for p in point.paths]

    assert np.all(np.abs(delays) <= 320)
    direct = next(p for p in point.paths if (p.rx, p.tx, p.kind) == ("bs2", "bs1", "direct"))
    assert direct.delay_samples.value == pytest.approx(600 - 2 + 8.005535 - 640, abs=1e-6)


# Names, and the file


def test_an_experiment_on_some_nodes_of_the_scene_leaves_the_others_silent():
    data = detection_text()
    data["nodes"], data["cells"] = data["nodes"][:2], data["cells"][:2]
    data["waveform"]["preamble_roots"] = [5, 7]
    experiment = at_powers(validate(data, CompExperiment, "two"), -6.0)

    (point,) = truth(comp_scene(), experiment, {"bs1": 40.0, "bs2": 40.0}).points

    assert point.node_names == ("bs1", "bs2")
    assert point.rank == {"t1": 2, "t2": 2}
    assert {p.tx for p in point.paths} == {p.rx for p in point.paths} == {"bs1", "bs2"}


@pytest.mark.parametrize(
    ("table", "name", "fault"),
    [
        ("nodes", "bs9", r"nodes\[1\].name: 'bs9' is no node of the scene; it has bs1, bs2, bs3"),
        ("cells", "t9", r"cells\[1\].name: 't9' is no target of the scene; it has t1, t2, t3"),
        ("reflectors", "wall", r"reflectors\[0\].name: 'wall' is no clutter of the scene; it has mast"),
    ],
)
def test_a_name_the_scene_does_not_have_is_refused(table, name, fault):
    data = detection_text()
    data[table][-1 if table == "reflectors" else 1]["name"] = name
    data["cells"][1]["node"] = data["nodes"][1]["name"]

    with pytest.raises(ConfigError, match=fault):
        truth(comp_scene(), validate(data, CompExperiment, "other"), GAINS_DB | {"bs9": 40.0})


def test_a_user_the_scene_does_not_have_is_refused():
    data = comp_text()
    data["users"][1]["name"] = "u9"

    with pytest.raises(ConfigError, match=r"^users\[1\].name: 'u9' is no node of the scene; it has bs1, bs2, bs3, u1"):
        truth(comp_scene(), validate(data, CompExperiment, "other"), {})


def test_a_node_that_only_receives_in_the_scene_is_refused():
    data = detection_text()
    data["nodes"][1]["name"] = data["cells"][1]["node"] = "u2"

    with pytest.raises(ConfigError, match=r"^nodes\[1\].name: 'u2' has num_tx = 0 and num_rx = 1 in the scene; nodes"):
        truth(comp_scene(), validate(data, CompExperiment, "other"), {})


def test_the_truth_file_keeps_every_bit_and_names_its_experiment(tmp_path):
    experiment = comp_experiment()
    file = truth(comp_scene(), experiment, GAINS_DB)
    save_measurements(tmp_path / "truth.json", file)

    assert load_measurements(tmp_path / "truth.json") == file
    assert file.experiment_sha256 == experiment.sha256
    assert [point.origin for point in file.points] == ["truth"] * 9


@pytest.mark.parametrize("gain_db", [math.nan, math.inf, -math.inf, 71.5, -3.5])
def test_a_gain_the_scenes_radios_do_not_have_is_refused(gain_db):
    with pytest.raises(ConfigError, match=r"^rx_gain_db: .* dB of bs2 is outside -3\.\.71 dB of emulated 12-bit radio"):
        truth(comp_scene(), comp_experiment(), GAINS_DB | {"bs2": gain_db})


def test_a_moving_target_has_no_truth_file():
    scene = comp_scene()
    moving = scene.targets[1].model_copy(update={"velocity_mps": (0.0, 3.0)})
    scene = scene.model_copy(update={"targets": (scene.targets[0], moving, scene.targets[2])})

    with pytest.raises(ConfigError, match=r"targets\[1\].velocity_mps: t2 moves; .* static scenes"):
        truth(scene, comp_experiment(), GAINS_DB)


def test_gains_are_those_the_experiment_fixes_unless_given():
    experiment = at_powers(comp_experiment(), -6.0)

    fixed = truth(comp_scene(), experiment, {}).points
    assert fixed == truth(comp_scene(), experiment, GAINS_DB | dict.fromkeys(SERVING, 43.0)).points
    assert fixed != truth(comp_scene(), experiment, {"u1": 44.0}).points


def test_a_gain_that_nobody_fixed_is_asked_for_and_one_of_nobody_refused():
    data = comp_text()
    data["capture"]["rx_gain_db"] = "auto"  # the users have their own
    experiment = at_powers(validate(data, CompExperiment, "auto"), -6.0)

    assert truth(comp_scene(), experiment, GAINS_DB).points[0].noise_var["u1"].value > 0
    with pytest.raises(
        ConfigError, match=r"^rx_gain_db: the experiment says auto; give the realised gain of bs1, bs3$"
    ):
        truth(comp_scene(), experiment, {"bs2": 40.0})
    with pytest.raises(
        ConfigError, match=r"^rx_gain_db: t1 is no receiver of the experiment; receivers are bs1, .*u3$"
    ):
        truth(comp_scene(), experiment, GAINS_DB | {"t1": 40.0})


# The command


def isac_sim(monkeypatch, *arguments):
    """Exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["isac-sim", *arguments])
    monkeypatch.setattr(interrupts, "install", lambda: None)  # signals are the test runner's
    try:
        command_line.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_power_vectors_of_the_command_line_keep_every_bit(tmp_path, monkeypatch):
    vectors = [(0.1 + 0.2, 1 / 3, math.nextafter(0.25, 1)), (0.0, 1e-3, 5e-324)]
    out = tmp_path / "truth.json"
    options = [part for v in vectors for part in ("--power-mw", ",".join(repr(p) for p in v))]

    status = isac_sim(monkeypatch, "truth", "comp", "comp", *options, "--rx-gain-db", "u3=42", "--out", str(out))

    assert status == 0
    assert load_measurements(out) == truth(comp_scene(), comp_experiment(), {"u3": 42.0}, vectors)


@pytest.mark.parametrize(
    ("vector", "fault"),
    [
        ("0.1,0.2", "powers[0]: found 2 numbers; must be 3"),
        ("0.1,-0.2,0.1", "powers[0]: -0.2 mW of bs2; must be 0 (silent)"),
        ("-0.1,0.2,0.1", "powers[0]: -0.1 mW of bs1; must be 0 (silent)"),
        ("0.1,0.2,inf", "powers[0]: inf mW of bs3"),
        ("0.1,nan,0.1", "powers[0]: nan mW of bs2"),
        ("0.1,0.2,", "--power-mw '0.1,0.2,': must read A,B,..."),
        ("", "--power-mw '': must read A,B,..."),
        ("0.1;0.2;0.3", "--power-mw '0.1;0.2;0.3': must read A,B,..."),
        ("1000,0.1,0.1", "power: 30.00 dBm needs tx_gain_db"),
    ],
)
def test_a_bad_power_vector_on_the_command_line_is_one_line(tmp_path, monkeypatch, capsys, vector, fault):
    out = tmp_path / "truth.json"

    assert isac_sim(monkeypatch, "truth", "comp", "comp", "--power-mw", vector, "--out", str(out)) != 0

    error = capsys.readouterr().err
    assert fault in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("node", "changes", "key"),
    [
        (0, {"num_rx": 2}, "num_rx"),
        (1, {"tx_noise_dbc": -40.0}, "tx_noise_dbc"),
        (0, {"self_taps": [{"delay_samples": 3.0, "gain_db": -20.0}]}, "self_taps"),
        (3, {"impairments": {"phase_noise_deg": 1.0}}, "impairments"),
        (0, {"impairments": {"clock_ppm": 1.0}}, "impairments"),
    ],
)
def test_a_scene_the_truth_file_cannot_tell_of_is_refused_with_the_key(node, changes, key):
    document = comp_scene().model_dump(mode="json")
    document["nodes"][node] |= changes

    with pytest.raises(ConfigError, match=rf"^nodes\[{node}\]\.{key}: .* truth file cannot tell of; remove it"):
        truth(validate(document, Scene, "x"), comp_experiment(), GAINS_DB)


def test_a_user_may_have_its_own_clock():
    document = comp_scene().model_dump(mode="json")
    document["nodes"][3] |= {"impairments": {"clock_ppm": 2.0, "cfo_hz": 100.0}}

    own = truth(validate(document, Scene, "x"), comp_experiment(), GAINS_DB)
    common = truth(comp_scene(), comp_experiment(), GAINS_DB)

    assert own.points == common.points


# Paths only

STATIONS_M = {"bs1": (0.0, 69.282), "bs2": (-60.0, -34.641), "bs3": (60.0, -34.641)}
LORRY_M, POST_M = (5.0, 20.0), (-55.0, -15.0)
LOCALIZATION_USERS_M = {"u1": (14.0, 53.0), "u2": (-19.0, -41.0), "u3": (22.0, -60.0)}


def localization(**changes):
    """The localisation scene, its transmitters noisy; keywords replace keys of its target."""
    document = load_scene("localization").model_dump(mode="json")
    document["targets"][0] |= changes
    return validate(document, Scene, "localization")


def test_paths_of_noisy_transmitters_are_those_of_the_geometry():
    # the CoMP preset's radios have the same names, the users stand elsewhere: paths are the scene's
    experiment = comp_experiment()

    file = truth_of_paths(localization(), experiment, {})

    (point,) = file.points
    assert file.experiment_sha256 == experiment.sha256
    assert (point.origin, point.node_names, point.power) == ("truth", NAMES, (0.0, 0.0, 0.0))
    assert (point.noncentrality, point.sensing, point.communication) == ({}, {}, {})
    paths = {(p.rx, p.tx, p.kind): p for p in point.paths}
    assert len(point.paths) == len(paths) == 3 * (1 + 2 + 3 + 3) + 3 * 3
    for rx, here in STATIONS_M.items():
        leakage = paths[rx, rx, "self"]
        assert leakage.delay_samples.value == pytest.approx(0.37)  # all begin 0.37 after a whole sample
        assert db(leakage.power_gain.value) == pytest.approx(-65.0)
        for tx, there in STATIONS_M.items():
            for kind, via, rcs_m2 in (("echo", LORRY_M, 50.0), ("clutter", POST_M, 3.0)):
                out_m, back_m = math.dist(there, via), math.dist(via, here)
                path = paths[rx, tx, kind]
                delay = (out_m + back_m) / LIGHT_MPS * RATE_HZ
                assert path.delay_samples.value == pytest.approx(0.37 + delay, rel=1e-9)
                gain = 10**1.2 * WAVELENGTH_M**2 * rcs_m2 / ((4 * math.pi) ** 3 * out_m**2 * back_m**2)
                assert path.power_gain.value == pytest.approx(gain, rel=1e-9)
                assert path.phase_rad.value == pytest.approx(paths[tx, rx, kind].phase_rad.value)  # reciprocal
    for user, place in LOCALIZATION_USERS_M.items():
        length_m = {tx: math.dist(there, place) for tx, there in STATIONS_M.items()}
        begin = round(0.37 + length_m[SERVING[user]] / LIGHT_MPS * RATE_HZ)
        for tx in NAMES:
            path = paths[user, tx, "direct"]
            arrival = 0.37 + length_m[tx] / LIGHT_MPS * RATE_HZ
            assert path.delay_samples.value == pytest.approx(arrival - begin, abs=1e-9)
            assert db(path.power_gain.value) == pytest.approx(6.0 - 43.3 - 30 * math.log10(length_m[tx]))
    # while nobody transmits: without the transmitters' noise
    assert list(point.noise_var) == [*NAMES, *SERVING]
    assert point.noise_var["bs2"].value == pytest.approx(thermal_noise(8.0) + LSB**2 / 6, rel=1e-9)


def test_paths_only_are_the_paths_and_the_noise_of_the_whole_truth():
    experiment = at_powers(comp_experiment(), -6.0)

    (alone,) = truth_of_paths(comp_scene(), experiment, {"u2": 37.0}).points
    (whole,) = truth(comp_scene(), experiment, {"u2": 37.0}).points

    assert alone.paths == whole.paths
    assert alone.noise_var == whole.noise_var


def test_delays_of_a_buffer_of_many_frames_are_counted_modulo_the_buffer():
    scene = comp_scene().model_dump()
    scene["nodes"][0]["start_offset_samples"] = 2000.0
    (point,) = truth_of_paths(validate(scene, Scene, "late"), comp_experiment(num_data_frames=5), {}).points

    direct = next(p for p in point.paths if (p.rx, p.tx, p.kind) == ("bs2", "bs1", "direct"))
    assert direct.delay_samples.value == pytest.approx(2000 - 2 + 8.005535 - 3200, abs=1e-6)


@pytest.mark.parametrize(
    ("scene", "fault"),
    [
        (localization(velocity_mps=[0.0, 3.0]), r"^targets\[0\].velocity_mps: t1 moves; .* static scenes"),
        (localization(num_scatterers=2, size_m=[1.0, 1.0]), r"^targets\[0\].num_scatterers: t1 is extended"),
        (comp_scene(self_taps=[{"delay_samples": 3.0, "gain_db": -20.0}]), r"^nodes\[0\]\.self_taps: bs1 has it"),
        (load_scene("solo"), r"^nodes\[0\].name: 'bs1' is no node of the scene; it has radio1"),
    ],
)
def test_paths_are_told_of_static_scenes_with_the_experiments_nodes_only(scene, fault):
    with pytest.raises(ConfigError, match=fault):
        truth_of_paths(scene, comp_experiment(), {})


def test_the_command_writes_paths_only_at_another_isolation(tmp_path, monkeypatch):
    out, options = tmp_path / "truth.json", ("--paths-only", "--self-isolation-db", "55", "--rx-gain-db", "bs1=38")

    status = isac_sim(monkeypatch, "truth", "localization", "comp", *options, "--out", str(out))

    assert status == 0
    expected = truth_of_paths(with_self_isolation(localization(), 55.0), comp_experiment(), {"bs1": 38.0})
    assert load_measurements(out) == expected
    leakage = next(path for path in expected.points[0].paths if path.kind == "self")
    assert db(leakage.power_gain.value) == pytest.approx(-55.0)


def test_powers_and_paths_only_are_not_taken_together(tmp_path, monkeypatch, capsys):
    out = tmp_path / "truth.json"

    options = ("--paths-only", "--power-mw", "1,1,1", "--out", str(out))
    assert isac_sim(monkeypatch, "truth", "localization", "comp", *options) != 0

    assert "--power-mw: paths and noise are the same at all powers" in capsys.readouterr().err
    assert not out.exists()
