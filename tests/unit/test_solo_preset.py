"""The solo preset: one radio, one target, and what its owner is told before and finds after."""

import tomllib

import numpy as np
import pytest

from sim.scene import load_scene
from sim.truth import truth
from sim.world import World
from testbed.config import validate
from testbed.device import Settings
from testbed.experiment.comp.budget import link_budget
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.load import load_experiment, preset_text
from testbed.places import distance_m
from testbed.radio.gains import realise
from testbed.sensing.model import cell_paths, nuisance_paths, time_columns, visibility
from testbed.theory import detection
from testbed.units import undb


@pytest.fixture(scope="module")
def experiment():
    return load_experiment("solo")


@pytest.fixture(scope="module")
def budget(experiment):
    return link_budget(experiment)


def test_it_is_one_radio_that_judges_one_target_by_its_own_echo(experiment):
    assert experiment.node_names == ("radio1",)
    assert experiment.users == ()
    assert experiment.loop is None
    assert experiment.conditions == ("all", "without:t1")
    assert experiment.statistic == "known_noise"
    rate = experiment.waveform.numerology.sample_rate_hz
    (cell,) = experiment.survey.cells
    assert [p.kind for p in cell_paths(experiment.survey, cell, rate)] == ["echo"]
    assert [p.kind for p in nuisance_paths(experiment.survey, cell, rate)] == ["self", "clutter"]


def test_the_pilots_of_a_single_node_fill_every_subcarrier(experiment):
    grid = experiment.waveform.grid()

    np.testing.assert_allclose(np.abs(grid[0, 1]), 1.0)


def test_the_survey_is_where_the_scene_puts_things(experiment):
    survey, scene = experiment.survey, load_scene("solo")

    for surveyed, real in (
        (survey.nodes, scene.nodes),
        (survey.cells, scene.targets),
        (survey.reflectors, scene.clutter),
    ):
        assert [(a.name, a.position_m) for a in surveyed] == [(b.name, b.position_m) for b in real]
    assert [row.rcs_m2 for row in experiment.cells] == [row.rcs_m2 for row in scene.targets]
    assert [row.rcs_m2 for row in experiment.reflectors] == [row.rcs_m2 for row in scene.clutter]


def test_the_ranges_of_its_comments_are_those_of_its_places(experiment):
    (node,) = experiment.nodes

    assert distance_m(node, experiment.cells[0]) == pytest.approx(28.6, abs=0.05)
    assert distance_m(node, experiment.reflectors[0]) == pytest.approx(61.7, abs=0.05)
    resolution_m = 299_792_458 / (2 * 52 * 20e6 / 64)  # c / 2B, 52 subcarriers of 312.5 kHz
    assert resolution_m == pytest.approx(9.2, abs=0.05)
    # a trihedral of 43 cm
    wavelength_m = 299_792_458 / experiment.waveform.numerology.carrier_hz
    assert 4 * np.pi * 0.43**4 / (3 * wavelength_m**2) == pytest.approx(experiment.cells[0].rcs_m2, rel=0.06)


def test_a_stock_pluto_tunes_and_samples_it(experiment):
    assert 325e6 <= experiment.waveform.numerology.carrier_hz <= 3800e6
    assert experiment.waveform.numerology.sample_rate_hz <= 20e6


def test_the_budget_has_neither_faults_nor_notes(budget):
    assert budget.faults == ()
    assert budget.notes == ()
    (cell,) = budget.cells
    assert cell.noise_lsb == pytest.approx(1.0, abs=0.02)  # rms per rail
    assert cell.peak_dbfs < -20


def test_predicted_pod_runs_from_hardly_ever_to_always(budget):
    pod = budget.cells[0].pod

    assert len(pod) == 8
    assert np.all(np.diff(pod) > 0)
    assert 0.03 < pod[0] < 0.08
    assert pod[-1] > 0.99
    assert sum(0.1 < p < 0.9 for p in pod) >= 4


def test_false_alarms_are_counted_over_twenty_thousand_trials(experiment):
    # SIGNAL_CHAIN section 5
    assert len(experiment.axis_dbm) * experiment.capture.num_frames >= 20_000


def test_the_echo_is_hidden_by_nothing(experiment):
    rate, survey = experiment.waveform.numerology.sample_rate_hz, experiment.survey
    (cell,) = survey.cells
    frames = experiment.waveform.frame(np.ones(1)).samples

    X, D = (
        experiment.detection.observations.extract(
            time_columns(paths, frames, np.zeros(1)), experiment.waveform.numerology
        ).T
        for paths in (cell_paths(survey, cell, rate), nuisance_paths(survey, cell, rate))
    )

    assert visibility(X, D)[0] > 0.8


def test_truth_agrees_with_the_budget(experiment, budget):
    # The budget knows neither the fraction of the frame's start nor rounding to codes: 1 % of PoD at most
    points = truth(load_scene("solo"), experiment, {}).points

    assert {point.rank["t1"] for point in points} == {1}
    lam = [point.noncentrality["t1"].value for point in points]
    pod = detection.detection_probability(np.array(lam), 1, pfa=experiment.detection.pfa)
    np.testing.assert_allclose(pod, budget.cells[0].pod, atol=0.01)
    assert all(list(point.sensing["t1"].gain) == ["radio1"] for point in points)


def test_nothing_clips_at_the_highest_power(experiment):
    world = World(load_scene("solo"))
    numerology = experiment.waveform.numerology
    (wanted,) = experiment.waveform.frame(np.array([undb(experiment.highest_power_dbm)])).samples
    plan, sent, _ = realise(wanted, world.limits("radio1"))
    gain_db = experiment.rx_gain_db("radio1")
    world.configure("radio1", Settings(numerology.carrier_hz, numerology.sample_rate_hz, plan.tx_gain_db, gain_db))
    world.transmit("radio1", sent[None])

    assert world.receive("radio1", 1_000_000).clip_count == 0


def test_the_way_to_a_real_radio_that_its_comments_describe_is_open():
    data = tomllib.loads(preset_text("solo"))
    del data["emulator"]
    data["nodes"][0]["radio"] = "tcp://192.168.2.10:5555"
    data["capture"]["rx_gain_db"] = "auto"

    experiment = validate(data, CompExperiment, "on air")

    assert experiment.statistic == "cfar"
    assert link_budget(experiment).faults == ()
