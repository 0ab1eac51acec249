"""K+1 captures: gains against the scene's, predicted against measured SINR, and captures that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from sim.propagation import scene_paths
from sim.receiver import transmitter_noise
from testbed.errors import CaptureError
from testbed.measurement import Estimate, RangeIdentification, load_identification, save_identification
from testbed.sensing.identify import gains, identify, predicted_comm_sinr, predicted_sinr
from testbed.sensing.ranging import estimate_ranges
from testbed.units import db
from tests.ranges import (
    CARRIER_HZ,
    NODES,
    RATE_HZ,
    SERVING,
    arrival_gain,
    capture_localization,
    identification_captures,
    localization_experiment,
    localization_scene,
)

NAMES = tuple(NODES)
SCENE = localization_scene(users=True)


@pytest.fixture(scope="module")
def captures():
    return identification_captures(localization_experiment(12, users=True, data_seed=9), SCENE)


@pytest.fixture(scope="module")
def identification(captures):
    return identify(*captures)


def deviations(identification):
    """Of every gain from the scene's, in standard errors."""
    z = {}
    for receiver, row in identification.arrival.items():
        for tx, gain in row.items():
            true = arrival_gain(SCENE, SCENE.node_names.index(receiver), NAMES.index(tx))
            z[tx, receiver] = (gain.value - true) / gain.stderr
    for k, name in enumerate(NAMES):
        echo, residual = identification.echo[name], identification.residual_self[name]
        z["echo", name] = (echo.value - arrival_gain(SCENE, k, k, "echo")) / echo.stderr
        beta = transmitter_noise(SCENE, k, scene_paths(SCENE, k, CARRIER_HZ, RATE_HZ)) ** 2
        z["residual", name] = (residual.value - beta) / residual.stderr
    return z


def test_gains_are_those_of_the_scene_within_their_standard_errors(identification):
    # 21 gains at 5 standard errors, of which preamble and comb, whose power is not that of the data where the channel
    # is selective, take up to 1: 1e-3
    z = deviations(identification)

    assert len(z) == 15 + 3 + 3
    assert max(abs(value) for value in z.values()) < 5
    assert 0.5 < np.sqrt(np.mean(np.square(list(z.values())))) < 1.7
    assert identification.warnings == ()
    for receiver, row in identification.arrival.items():
        assert set(row) == set(NAMES) - {receiver}
        assert all(gain.stderr < 0.01 * gain.value for gain in row.values())
        assert all(gain.count == 12 * 5120 for gain in row.values())  # one whole pass
    assert all(beta.stderr < 0.03 * beta.value for beta in identification.residual_self.values())


@pytest.mark.parametrize("power_dbm", [(10.0, 10.0, 10.0), (2.0, 10.0, 7.0)])
def test_predicted_sinrs_are_those_measured_at_other_powers_and_data(identification, power_dbm):
    # 3 stations at 5 standard errors of the difference, 2e-6
    experiment = localization_experiment(40, users=True, data_seed=10)
    capture = capture_localization(experiment, SCENE, power_dbm=power_dbm, epoch=5000)

    predicted = predicted_sinr(identification, capture.frame.power)

    for name in NAMES:
        measured = estimate_ranges(capture, name).sinr
        stderr = np.hypot(predicted[name].stderr, measured.stderr)
        assert abs(predicted[name].value - measured.value) < 5 * stderr
        assert abs(db(predicted[name].value / measured.value)) < 0.4


def identification_of(**changes):
    """Two stations and a user; all numbers by hand."""

    def at(value, stderr=0.0):
        return Estimate(value=value, stderr=stderr, count=100)

    fields = {
        "node_names": ("a", "b"),
        "user_names": ("u",),
        "power": (10.0, 10.0),
        "noise_var": {"a": at(2.0, 0.05), "b": at(3.0), "u": at(1.0)},
        "arrival": {"a": {"b": at(0.5, 0.02)}, "b": {"a": at(-0.1, 0.2)}, "u": {"a": at(4.0), "b": at(1.0)}},
        "echo": {"a": at(0.7, 0.03), "b": at(0.2)},
        "residual_self": {"a": at(0.1, 0.01), "b": at(-0.01, 0.02)},
    }
    return RangeIdentification(**fields | changes)


def test_predictions_follow_the_equations_and_negative_gains_count_as_none():
    document = identification_of()

    sensing, comm = predicted_sinr(document, (10.0, 5.0)), predicted_comm_sinr(document, (10.0, 5.0), {"u": "a"})

    assert sensing["a"].value == pytest.approx(7.0 / (2.5 + 1.0 + 2.0))
    assert sensing["b"].value == pytest.approx(1.0 / 3.0)
    assert comm["u"].value == pytest.approx(40 / 6)
    found = gains(document)
    np.testing.assert_array_equal(found.arrival, [[0, 0], [0.5, 0]])  # transmitter, receiver
    np.testing.assert_array_equal(found.residual_self, [0.1, 0])
    np.testing.assert_array_equal(found.user_arrival, [[4.0], [1.0]])
    np.testing.assert_array_equal(found.user_noise_var, [1.0])
    assert document.arrival["b"]["a"].value == -0.1  # kept: means of several stay unbiased


def test_the_standard_error_of_a_prediction_is_the_spread_it_has():
    # 20000 draws: the spread to 0.5 %, 10 of them
    rng, num = np.random.default_rng(4), 20000
    echo, arrival, beta, noise = (
        v + s * rng.standard_normal(num) for v, s in ((0.7, 0.03), (0.5, 0.02), (0.1, 0.01), (2.0, 0.05))
    )
    sinr = 10 * echo / (5 * arrival + 10 * beta + noise)

    assert predicted_sinr(identification_of(), (10.0, 5.0))["a"].stderr == pytest.approx(np.std(sinr), rel=0.05)


def test_powers_and_users_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must be 2 finite"):
        predicted_sinr(identification_of(), (1.0, -1.0))
    with pytest.raises(ValueError, match="must be 2 finite"):
        predicted_sinr(identification_of(), (1.0,))
    with pytest.raises(ValueError, match="must name a node"):
        predicted_comm_sinr(identification_of(), (1.0, 1.0), {"u": "c"})


def test_the_document_comes_back_as_it_was_written(identification, tmp_path):
    save_identification(tmp_path / "id.json", identification)

    assert load_identification(tmp_path / "id.json") == identification
    (tmp_path / "id.json").write_text("{}")
    with pytest.raises(CaptureError, match="not an identification file"):
        load_identification(tmp_path / "id.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"power": (1.0, 0.0)}, "power: must be 2"),
        ({"echo": {}}, "echo: must be of a, b"),
        ({"noise_var": {}}, "noise_var: must be of a, b, u"),
        ({"arrival": {"a": {}, "b": {}, "u": {}}}, "arrival.a: must be of b"),
    ],
)
def test_a_document_with_something_missing_is_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        identification_of(**change)


def test_noise_that_fell_between_the_captures_is_told(captures):
    silent, alone = captures
    louder = tuple(replace(node, raw=node.raw * 2) for node in silent.nodes)

    found = identify(replace(silent, nodes=louder), alone)

    assert found.residual_self["bs1"].value < 0
    assert any("residual of bs1: gain negative" in warning for warning in found.warnings)
    assert gains(found).residual_self[0] == 0


def without(capture, name):
    return replace(capture, nodes=tuple(node for node in capture.nodes if node.name != name))


def retuned(capture, name, gain_db):
    nodes = [
        replace(node, settings=replace(node.settings, rx_gain_db=gain_db)) if node.name == name else node
        for node in capture.nodes
    ]
    return replace(capture, nodes=tuple(nodes))


def with_frame(capture, **changes):
    return replace(capture, frame=replace(capture.frame, **changes))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s, a: (a["bs1"], a), "silent: a transmitter is on"),
        (lambda s, a: (s, {"bs1": a["bs1"]}), "captures of bs1; must be one of each of bs1, bs2, bs3"),
        (lambda s, a: (s, a | {"bs1": a["bs2"]}), "alone 'bs1': bs1 is silent"),
        (lambda s, a: (s, a | {"bs1": s}), "alone 'bs1': bs1 is silent"),
        (
            lambda s, a: (s, a | {"bs1": with_frame(a["bs1"], samples=np.ones_like(a["bs1"].frame.samples))}),
            "alone 'bs1': bs2 transmits as well",
        ),
        (
            lambda s, a: (s, a | {"bs1": with_frame(a["bs1"], pilot_power=2 * a["bs1"].frame.pilot_power)}),
            "need one power",
        ),
        (lambda s, a: (without(s, "u2"), a), "silent: does not hold u2"),
        (lambda s, a: (s, a | {"bs3": without(a["bs3"], "bs1")}), "alone 'bs3': does not hold bs1"),
        (lambda s, a: (s, a | {"bs2": retuned(a["bs2"], "u1", 30.0)}), "u1 received with 30 dB"),
        (
            lambda s, a: (s, a | {"bs2": replace(a["bs2"], tx_names=("x", "y", "z"))}),
            "alone 'bs2': of another survey",
        ),
    ],
)
def test_captures_that_do_not_fit_are_refused(captures, spoil, said):
    with pytest.raises(CaptureError, match=said):
        identify(*spoil(*captures))


def test_serving_nodes_are_those_of_the_experiment(identification):
    # what a report takes: every user has its own station's signal above everything else at equal powers
    comm = predicted_comm_sinr(identification, (10.0, 10.0, 10.0), SERVING)
    assert all(estimate.value > 3 for estimate in comm.values())
