"""The truth file: noncentrality, delays, gains and noise, against computations that share no code with it."""

import math

import numpy as np
import pytest

from sim.channel import convert
from sim.noise import unit_noise
from sim.scene import Scene
from sim.truth import effective_noise_var, truth
from testbed.config import validate
from testbed.errors import ConfigError
from testbed.experiment.config import Experiment
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


# An independent computation of lam: geometry, gains and columns written out, explicit projector by pinv

POSITIONS_M = {
    "bs1": (0.0, 69.282),
    "bs2": (-60.0, -34.641),
    "bs3": (60.0, -34.641),
    "t1": (33.0, 82.0),
    "t2": (-87.0, -17.0),
    "t3": (92.0, -66.0),
    "mast": (5.0, -60.0),
}
RCS_M2 = {"t1": 10.0, "t2": 7.0, "t3": 15.0, "mast": 3.0}
START_SAMPLES = {node.name: node.start_offset_samples for node in comp_scene().nodes}
LIGHT_MPS, RATE_HZ, WAVELENGTH_M = 299_792_458.0, 20e6, 299_792_458.0 / 3.5e9


def column(frame, delay_samples):
    """Symbols 2 and 3 of a delayed frame: DFT of all 640 samples with a phase ramp, then of 64 without prefix."""
    k = (np.arange(640) + 320) % 640 - 320
    time = np.fft.ifft(np.fft.fft(frame) * np.exp(-2j * np.pi * k * delay_samples / 640))
    used = [*range(-26, 0), *range(1, 27)]
    return np.concatenate([np.fft.fft(time[80 * s + 16 : 80 * s + 80])[used] / 8 for s in (2, 3)])


def independent_noncentrality(rx, cell, power_dbm, unlisted=()):
    wanted = comp_experiment().waveform.frame(np.full(3, 10 ** (power_dbm / 10))).samples
    echo, others = 0, []
    for row, tx in enumerate(NAMES):
        frame = realise(wanted[row], comp_scene().limits(row))[2]
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
    noise_var = 1.380649e-23 * 290 * RATE_HZ * 10**0.8 * 1e3 + LSB**2 / 6  # 8 dB noise figure, in milliwatt
    return 2 * np.sum(np.abs(visible) ** 2) / noise_var


@pytest.mark.parametrize(("rx", "cell"), list(zip(NAMES, CELLS, strict=True)))
def test_noncentrality_is_that_of_an_independent_computation(rx, cell):
    points = truth(comp_scene(), at_powers(comp_experiment(), -9.5, -2.5), GAINS_DB).points

    for point, power_dbm in zip(points, (-9.5, -2.5), strict=True):
        expected = independent_noncentrality(rx, cell, power_dbm)
        assert point.noncentrality[cell].value == pytest.approx(expected, rel=1e-9)
        assert point.rank[cell] == 3


@pytest.mark.parametrize(("rx", "cell"), list(zip(NAMES, CELLS, strict=True)))
def test_a_reflector_the_experiment_does_not_list_has_no_column(rx, cell):
    # the detector that is judged by the truth does not know it either
    data = comp_text()
    data["reflectors"] = []
    experiment = at_powers(validate(data, Experiment, "no mast"), -6.0)

    (point,) = truth(comp_scene(), experiment, GAINS_DB).points
    (listed,) = truth(comp_scene(), at_powers(comp_experiment(), -6.0), GAINS_DB).points

    expected = independent_noncentrality(rx, cell, -6.0, unlisted=("mast",))
    assert point.noncentrality[cell].value == pytest.approx(expected, rel=1e-9)
    assert point.noncentrality[cell].value > listed.noncentrality[cell].value * 1.001
    assert point.paths == listed.paths  # it is there all the same


def test_a_target_the_experiment_does_not_list_has_no_column():
    data = comp_text()
    data["cells"] = data["cells"][:2]
    experiment = at_powers(validate(data, Experiment, "two cells"), -6.0)

    (point,) = truth(comp_scene(), experiment, GAINS_DB).points

    assert set(point.noncentrality) == {"t1", "t2"}
    expected = independent_noncentrality("bs2", "t2", -6.0, unlisted=("t3",))
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


# Noise


def test_effective_noise_is_thermal_noise_and_a_sixth_of_the_squared_lsb():
    thermal = undb(-92.965)

    assert effective_noise_var(comp_scene(), 0, 20e6, 40.0) == pytest.approx(thermal + LSB**2 / 6, rel=2e-4)
    # 10 dB less gain: 10 times LSB^2
    assert effective_noise_var(comp_scene(), 0, 20e6, 30.0) == pytest.approx(thermal + 10 * LSB**2 / 6, rel=2e-4)


@pytest.mark.parametrize("rx_gain_db", [40.0, 46.0])
def test_noise_through_the_converter_has_the_effective_variance(rx_gain_db):
    # 2e6 samples: standard error 7e-4; LSB^2/6 is 8 % at 1 LSB per rail, 2 % at 2; 4 standard errors
    scene = comp_scene()
    limits = scene.limits(0)
    analogue = unit_noise(1, 0, 0, 2_000_000) * np.float32(np.sqrt(undb(-92.9648)))

    codes, _ = convert(analogue, limits.rx_amplitude(rx_gain_db), limits.rx_full_scale)

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

    assert len(paths) == 3 * 15  # per receiver 1 self, 2 direct, 9 echoes, 3 clutter
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
    data = comp_text()
    data["nodes"], data["cells"] = data["nodes"][:2], data["cells"][:2]
    data["waveform"]["preamble_roots"] = [5, 7]
    experiment = at_powers(validate(data, Experiment, "two"), -6.0)

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
    data = comp_text()
    data[table][-1 if table == "reflectors" else 1]["name"] = name
    data["cells"][1]["node"] = data["nodes"][1]["name"]

    with pytest.raises(ConfigError, match=fault):
        truth(comp_scene(), validate(data, Experiment, "other"), GAINS_DB | {"bs9": 40.0})


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
