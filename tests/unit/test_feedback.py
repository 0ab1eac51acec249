"""From a measurement to the CoMP problem and back into words, on the exact values of the reference scene."""

import json
from typing import Any

import numpy as np
import pytest

from sim.truth import truth
from testbed.allocation.comp import comm_sinr as problem_sinr
from testbed.allocation.comp import sensing_snr as problem_snr
from testbed.errors import ConfigError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.feedback import allocate, feedback, first_allocation, in_words, required_snr, total_power
from testbed.experiment.comp.law import Law
from testbed.experiment.comp.prediction import comm_sinr, predict, sensing_snr
from testbed.measurement import Estimate, Measurement, PowerResponse
from testbed.theory.detection import cfar_detection_probability, required_noncentrality
from testbed.units import db, undb
from tests.scenes import comp_experiment, comp_scene

GAINS_DB = {"bs1": 40.0, "bs2": 40.0, "bs3": 40.0, "u1": 43.0, "u2": 43.0, "u3": 43.0}


def changed(**tables: dict[str, Any]) -> CompExperiment:
    data = comp_experiment().model_dump(mode="json")
    for table, keys in tables.items():
        data[table] = {**data[table], **keys}
    return CompExperiment.model_validate_json(json.dumps(data))


@pytest.fixture(scope="module")
def exact() -> Measurement:
    return truth(comp_scene(), comp_experiment(), GAINS_DB, [[float(undb(p)) for p in (-4.5, -6.0, -5.0)]]).points[0]


def test_the_rows_of_the_problem_say_what_was_measured_at_the_powers_on_the_air(exact: Measurement) -> None:
    given = feedback(exact, comp_experiment())
    power = np.array(exact.power)
    assert given.users == ("u1", "u2", "u3")
    assert given.cells == ("t1", "t2", "t3")
    for i, (user, cell) in enumerate(zip(given.users, given.cells, strict=True)):
        sensed, heard = exact.sensing[cell], exact.communication[user]
        snr = sensing_snr(sensed, power, exact.noise_var[sensed.node]).value
        sinr = comm_sinr(heard, power, exact.noise_var[user], exact.node_names).value
        assert problem_snr(given.problem, power)[i] == pytest.approx(snr, rel=1e-9)
        assert problem_sinr(given.problem, power)[i] == pytest.approx(sinr, rel=1e-9)


def test_margins_stand_on_the_requirements_and_nowhere_else(exact: Measurement) -> None:
    bare = feedback(exact, changed(allocation={"sensing_margin_db": 0.0, "rate_margin_db": 0.0})).problem
    given = feedback(exact, changed(allocation={"sensing_margin_db": 0.5, "rate_margin_db": 1.0})).problem
    lam = required_noncentrality(0.7, 1e-6, 3)
    assert np.broadcast_to(bare.min_sensing_snr, 3) == pytest.approx([lam / 208] * 3)
    assert np.broadcast_to(bare.min_comm_sinr, 3) == pytest.approx([1.0] * 3)
    assert db(np.asarray(given.min_sensing_snr) / bare.min_sensing_snr) == pytest.approx(np.full(3, 0.5))
    assert db(np.asarray(given.min_comm_sinr) / bare.min_comm_sinr) == pytest.approx(np.full(3, 1.0))
    assert np.array_equal(given.sensing_gain, bare.sensing_gain)
    assert given.total_power == pytest.approx(3 * 10**-0.5)


def test_the_f_test_asks_for_more_power_than_the_test_of_known_noise(exact: Measurement) -> None:
    # truth does not say Q; the detector counts 12 columns
    counted = exact.model_copy(update={"num_nuisance": {"t1": 12, "t2": 12, "t3": 12}})
    cfar = changed(detection={"statistic": "cfar"})
    known, unknown = required_snr(exact, "t1", comp_experiment()), required_snr(counted, "t1", cfar)
    assert 0.3 < db(unknown / known) < 1.5
    pod = cfar_detection_probability(2 * 104 * unknown, 3, 104, 12, pfa=1e-6)
    assert float(pod) == pytest.approx(0.7, abs=1e-6)
    law = Law.measured(counted, "t1", "cfar")
    assert float(law.pod(law.required_noncentrality(0.99, 1e-6), 1e-6)) == pytest.approx(0.99, abs=1e-6)
    assert (
        predict(counted, np.array(exact.power), "cfar", 1e-6).pod["t1"]
        < predict(exact, np.array(exact.power), "known_noise", 1e-6).pod["t1"]
    )


def test_powers_of_the_true_problem_meet_it_and_come_near_the_reference(exact: Measurement) -> None:
    allocation = allocate(feedback(exact, comp_experiment()), comp_experiment().allocation)
    assert allocation.status == "stationary"
    assert db(allocation.power) == pytest.approx([-5.1, -6.5, -3.8], abs=0.3)
    again = predict(exact, allocation.power, "known_noise", 1e-6)
    assert min(again.pod.values()) > 0.69
    assert min(again.rate_bps_hz.values()) > 1.0


def test_a_cap_is_the_least_of_the_experiment_s_and_the_radio_s(exact: Measurement) -> None:
    measured = exact.model_copy(update={"max_power": (0.5, 2.0, 0.1)})
    capped = feedback(measured, changed(allocation={"max_power_dbm": 0.0})).problem
    assert np.asarray(capped.max_power) == pytest.approx([0.5, 1.0, 0.1])
    assert np.all(np.isinf(np.broadcast_to(feedback(exact, comp_experiment()).problem.max_power, 3)))


def test_without_a_rate_to_keep_every_node_still_stays_audible(exact: Measurement) -> None:
    experiment = changed(
        allocation={"budget_dbm": 0.0, "rate_margin_db": 0.0}, requirements={"min_rate_bps_hz": 0.0, "min_pod": 1e-5}
    )
    given = feedback(exact, experiment)
    assert np.broadcast_to(given.problem.min_comm_sinr, 3) == pytest.approx([10**-1.5] * 3)
    allocation = allocate(given, experiment.allocation)
    assert np.all(allocation.power > 0)
    assert min(predict(exact, allocation.power, "known_noise", 1e-6).rate_bps_hz.values()) > 0.04


def test_a_measurement_that_makes_no_problem_is_refused_in_one_line(exact: Measurement) -> None:
    cfar = changed(detection={"statistic": "cfar"})
    with pytest.raises(ConfigError, match="num_nuisance of t1 is missing"):
        feedback(exact, cfar)


def test_users_and_cells_are_taken_in_the_order_of_the_nodes_they_belong_to(exact: Measurement) -> None:
    data = comp_experiment().model_dump(mode="json")
    data["users"], data["cells"] = data["users"][::-1], [data["cells"][i] for i in (1, 2, 0)]
    given = feedback(exact, CompExperiment.model_validate_json(json.dumps(data)))
    assert given.users == ("u1", "u2", "u3")
    assert given.cells == ("t1", "t2", "t3")


def test_an_infeasible_problem_is_explained_with_the_pod_and_rate_that_people_asked_for(exact: Measurement) -> None:
    experiment = changed(allocation={"budget_dbm": -8.0})
    given = feedback(exact, experiment)
    words = in_words(given, allocate(given, experiment.allocation))
    assert "PoD of t3 reaches 0." in words
    assert "of 0.7 at the full budget" in words
    assert "dB more total power would do" in words
    impossible = changed(requirements={"min_rate_bps_hz": 6.0})
    given = feedback(exact, impossible)
    words = in_words(given, allocate(given, impossible.allocation))
    assert "of 6 bit/s/Hz" in words
    assert words.endswith("no power would do")


def test_a_fixed_scheme_that_misses_says_by_how_much(exact: Measurement) -> None:
    experiment = changed(allocation={"method": "equal"})
    given = feedback(exact, experiment)
    allocation = allocate(given, experiment.allocation)
    assert allocation.status == "infeasible"
    assert allocation.power == pytest.approx([10**-0.5] * 3)
    words = in_words(given, allocation)
    assert words.startswith("these powers miss PoD of t3 by ")
    assert words.endswith(" dB")
    capped = changed(allocation={"method": "equal", "max_power_dbm": -6.0})
    given = feedback(exact, capped)
    assert "the cap" in in_words(given, allocate(given, capped.allocation))


def test_the_first_round_transmits_equal_powers_or_the_shares_of_a_random_scheme() -> None:
    assert first_allocation(comp_experiment()).power == pytest.approx([10**-0.5] * 3)
    random = first_allocation(changed(allocation={"method": "random"})).power
    assert random / random.sum() == pytest.approx([0.4310023383, 0.0256293514, 0.5433683103])
    assert random.sum() == pytest.approx(total_power(changed().allocation, 3))


def test_a_measurement_of_another_network_and_an_experiment_without_requirements_are_refused(
    exact: Measurement,
) -> None:
    less = exact.model_copy(update={"communication": {"u1": exact.communication["u1"]}})
    with pytest.raises(ConfigError, match="users: the measurement has none for bs2, bs3"):
        feedback(less, comp_experiment())
    bare = comp_experiment().model_copy(update={"requirements": None})
    with pytest.raises(ConfigError, match=r"no \[requirements\] and \[allocation\]"):
        feedback(exact, bare)


def response(gram: list[list[float]], stderr: float = 0.0, serving: str | None = None) -> PowerResponse:
    names = [f"n{i}" for i in range(len(gram))]
    gain = {name: Estimate(value=gram[i][i], stderr=stderr, count=100) for i, name in enumerate(names)}
    return PowerResponse(
        node="r", serving=serving, num_observations=50, gain=gain, gram=tuple(tuple(row) for row in gram)
    )


def test_cross_terms_of_correlated_frames_count_with_the_roots_of_both_powers() -> None:
    noise = Estimate.exact(2.0)
    correlated = response([[4.0, 1.0], [1.0, 9.0]])
    # 4 * 1 + 9 * 4 + 2 * 1 * sqrt(1 * 4), over 2
    assert sensing_snr(correlated, np.array([1.0, 4.0]), noise).value == pytest.approx(22.0)
    served = response([[4.0, 1.0, 0.5], [1.0, 9.0, 0.2], [0.5, 0.2, 1.0]], serving="n0")
    # own 4 * 1; interference 9 * 4 + 1 * 1 + 2 * 0.2 * 2 = 37.8, noise 2; cross terms with the own signal do not count
    assert comm_sinr(served, np.array([1.0, 4.0, 1.0]), noise, ("n0", "n1", "n2")).value == pytest.approx(4 / 39.8)


def test_the_error_of_a_prediction_is_that_of_its_gains() -> None:
    rng = np.random.default_rng(5)
    amplitude, spread, power = np.array([2.0, 3.0]), 0.02, np.array([1.0, 4.0])
    drawn = amplitude + spread * rng.standard_normal((20_000, 2))
    grams = drawn[:, :, None] * drawn[:, None, :] * np.array([[1.0, 0.3], [0.3, 1.0]])
    s = np.sqrt(power)
    observed = np.std(np.einsum("l,nlm,m->n", s, grams, s))
    gram = (np.outer(amplitude, amplitude) * np.array([[1.0, 0.3], [0.3, 1.0]])).tolist()
    names = ["n0", "n1"]
    gain = {n: Estimate(value=a**2, stderr=2 * a * spread, count=1) for n, a in zip(names, amplitude, strict=True)}
    one = response(gram).model_copy(update={"gain": gain})
    predicted = sensing_snr(one, power, Estimate.exact(1.0)).stderr
    assert predicted == pytest.approx(observed, rel=0.03)  # 0.5 % for 20,000 draws


def without(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of plain data with one entry replaced, or removed by None."""
    copy = json.loads(json.dumps(data))
    *parents, last = path.split("/")
    inner = copy
    for key in parents:
        inner = inner[int(key) if isinstance(inner, list) else key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("noise_var/u1", None, "noise_var of u1 is missing"),
        ("noise_var/bs2", {"value": 0.0, "stderr": 0.0, "count": 1}, "not positive"),
        ("rank/t1", None, "rank: missing for t1"),
        ("communication/u2/gain/bs3", None, "must be 2 x 2"),
        ("communication/u2/gram", [[1.0]], "must be 3 x 3"),
        ("communication/u2/serving", "bs9", "serving: 'bs9' has no gain"),
        ("sensing/t1/gain/bs1/value", -1.0, "must not be negative"),
        ("power", [1.0, 1.0], "power: must be 3 numbers"),
        ("power", [1.0, 1.0, -1.0], "power: must be 3 numbers"),
        ("max_power", [1.0], "max_power: must be 3 numbers"),
    ],
)
def test_a_measurement_that_contradicts_itself_is_refused(
    exact: Measurement, path: str, value: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Measurement.model_validate_json(json.dumps(without(exact.model_dump(mode="json"), path, value)))
