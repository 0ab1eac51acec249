"""The localisation experiment without radios: its file, its seeds, its stored ranges, the solver's problem in words."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import CaptureError, ConfigError
from testbed.experiment.load import preset_text, validate_experiment
from testbed.experiment.localization.budget import link_budget, total_samples
from testbed.experiment.localization.config import LocalizationExperiment
from testbed.experiment.localization.problem import allocate, in_words, range_problem
from testbed.experiment.localization.record import LocalizationRun
from testbed.experiment.localization.results import StationRange, judge
from testbed.experiment.sweep_run import Sweep, point_experiment
from testbed.measurement import Estimate, RangeIdentification
from testbed.sensing.ranging import Ranging, estimate_ranges
from testbed.units import undb
from tests.ranges import capture_localization, localization_experiment


def preset(**changes: Any) -> LocalizationExperiment:
    """The preset; keywords replace keys, TABLE__KEY or KEY."""
    data = tomllib.loads(preset_text("localization"))
    for name, value in changes.items():
        table, _, key = name.rpartition("__")
        (data[table] if table else data)[key] = value
    experiment = validate_experiment(data, "mine")
    assert isinstance(experiment, LocalizationExperiment)
    return experiment


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "localisation"}, "kind: found 'localisation'; must be one of comp, localization"),
        ({"shared_reference": "nodes"}, "shared_reference: localisation needs true"),
        ({"localization__method": "equal"}, "localization.method"),
        ({"localization__max_power_dbm": 200.0}, "localization.max_power_dbm"),
        ({"localization__identification_frames": 2}, "localization.identification_frames"),
    ],
)
def test_a_mistake_gives_one_line_with_the_key(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        preset(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_target_and_one_user_for_a_node() -> None:
    data = tomllib.loads(preset_text("localization"))
    data["users"][1]["node"] = "bs1"
    with pytest.raises(ConfigError, match="2 are served by bs1"):
        validate_experiment(data, "mine")
    data = tomllib.loads(preset_text("localization"))
    data["cells"].append({"name": "t2", "node": "bs2", "position_m": [9.0, 9.0]})
    with pytest.raises(ConfigError, match="one target is localised"):
        validate_experiment(data, "mine")


def test_identification_contrast_and_ranges_have_data_of_their_own() -> None:
    experiment = preset()
    assert experiment.contrast is not None
    seeds = {e.waveform.data_seed for e in (experiment, experiment.identification, experiment.contrast)}
    assert len(seeds) == 3
    assert experiment.identification.waveform.num_data_frames == 20
    assert experiment.identification.samples_per_capture == 21 * 5120
    assert preset(localization__known="all").contrast is None
    assert preset(localization__contrast_frames=0).contrast is None


def test_points_of_a_sweep_have_data_of_their_own_unless_that_is_the_axis(tmp_path: Path) -> None:
    data = preset().model_dump(mode="json", exclude_none=True)
    sweep = Sweep(tmp_path, data, {"emulator.self_isolation_db": [55.0, 65.0]}, seed=1)
    points = [point_experiment(sweep, point) for point in sweep.points]
    assert [p.waveform.data_seed for p in points] == [1, 2]
    assert [p.emulator.self_isolation_db for p in points if p.emulator is not None] == [55.0, 65.0]
    given = Sweep(tmp_path, data, {"waveform.data_seed": [5, 5]}, seed=1)
    assert [point_experiment(given, point).waveform.data_seed for point in given.points] == [5, 5]


def test_the_budget_counts_every_capture_and_refuses_clipping() -> None:
    experiment = preset()
    assert total_samples(experiment) == 6 * (20 * 5120 + 3 * 21 * 5120 + 2 * 401 * 5120 + 2 * 41 * 5120)
    budget = link_budget(experiment)
    assert budget.faults == ()
    # the reference: 427 LSB at 65 dB and 1293 at 55, 2313 at 50, of 2048; free space adds to it here
    assert budget.stations[0].peak_dbfs == pytest.approx(20 * np.log10(427 / 2048), abs=0.8)
    assert "clipping" in link_budget(preset(emulator__self_isolation_db=50.0)).faults[0]
    assert "num_data_frames = 1" in link_budget(preset(waveform__num_data_frames=1)).notes[0]


def identification(**changes: Any) -> RangeIdentification:
    """Three nodes and users, gains as in the reference scene, rounded."""

    def table(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, Estimate]]:
        return {k: {n: Estimate(value=undb(v), stderr=0.0, count=1) for n, v in row.items()} for k, row in rows.items()}

    nodes, users = ("bs1", "bs2", "bs3"), ("u1", "u2", "u3")
    arrival = {n: {m: -93.0 for m in nodes if m != n} for n in nodes}
    arrival |= {u: {m: -76.0 if m[-1] == u[-1] else -97.0 for m in nodes} for u in users}
    given: dict[str, Any] = {
        "node_names": nodes,
        "user_names": users,
        "power": (10.0, 10.0, 10.0),
        "noise_var": {n: Estimate.exact(undb(-92.6)) for n in (*nodes, *users)},
        "arrival": table(arrival),
        "echo": table({"": {"bs1": -92.0, "bs2": -101.0, "bs3": -100.0}})[""],
        "residual_self": table({"": dict.fromkeys(nodes, -100.0)})[""],
    }
    return RangeIdentification(**(given | changes))


def test_the_problem_is_what_was_identified() -> None:
    experiment = preset()
    problem = range_problem(identification(), experiment, np.full(3, np.inf))
    assert np.allclose(np.asarray(problem.max_power), undb(10.0))
    assert np.allclose(np.diag(problem.echo_gain), [undb(-92.0), undb(-101.0), undb(-100.0)])
    assert np.allclose(problem.comm_gain[1], [undb(-97.0), undb(-76.0), undb(-97.0)])
    assert problem.bandwidth_hz == pytest.approx(16.25e6)
    allocation = allocate(problem, experiment)
    assert allocation.status == "optimal"
    assert in_words(problem, allocation, experiment) == ""
    limited = range_problem(identification(), experiment, np.array([1.0, 20.0, 20.0]))  # a radio that goes no further
    assert list(np.asarray(limited.max_power)) == [1.0, undb(10.0), undb(10.0)]


def test_a_gain_below_its_own_error_counts_as_none_and_a_deaf_station_is_named() -> None:
    low = Estimate(value=-1e-12, stderr=2e-12, count=1)
    given = identification()
    deaf = identification(echo=given.echo | {"bs2": low}, residual_self=given.residual_self | {"bs1": low})
    problem = range_problem(deaf, preset(), np.full(3, np.inf))
    assert np.asarray(problem.self_gain)[0] == 0.0
    allocation = allocate(problem, preset())
    assert allocation.status == "zero_gain"
    assert in_words(problem, allocation, preset()).startswith("bs2: hears no echo")


def test_what_users_lack_is_said_in_decibel() -> None:
    experiment = preset(localization__min_user_sinr_db=30.0)
    problem = range_problem(identification(), experiment, np.full(3, np.inf))
    allocation = allocate(problem, experiment)
    words = in_words(problem, allocation, experiment)
    assert "no powers within the caps give u1, u2, u3 30 dB each" in words
    less = float(words.split("; ")[1].split(" dB less")[0])
    relaxed = preset(localization__min_user_sinr_db=30.0 - less - 0.02)
    assert allocate(range_problem(identification(), relaxed, np.full(3, np.inf)), relaxed).status == "optimal"
    strict = preset(localization__min_user_sinr_db=30.0 - less + 0.02)
    assert allocate(range_problem(identification(), strict, np.full(3, np.inf)), strict).status == "infeasible"


@pytest.fixture(scope="module")
def ranging() -> Ranging:
    experiment = localization_experiment(num_data_frames=6, num_data_symbols=12)
    return estimate_ranges(capture_localization(experiment), "bs1")


def test_stored_ranges_come_back_bit_for_bit(ranging: Ranging, tmp_path: Path) -> None:
    run = LocalizationRun(tmp_path)
    run.write_ranging("equal/own/bs1", ranging)
    assert run.has_ranging("equal/own/bs1")
    assert not run.has_ranging("equal/own/bs2")
    back = run.read_ranging("equal/own/bs1")
    for entry in dataclasses.fields(Ranging):
        before, after = getattr(ranging, entry.name), getattr(back, entry.name)
        if entry.name == "map":
            continue  # a picture
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype
            assert np.array_equal(before, after)
        else:
            assert type(before) is type(after) or before == after
            assert before == after
    with pytest.raises(CaptureError, match="equal/own/bs3 cannot be read"):
        run.read_ranging("equal/own/bs3")


def station(p: float = 0.5, spread: float = 0.5, difference_db: float = 0.1, is_judged: bool = True) -> StationRange:
    nothing = Estimate.exact(1.0)
    return StationRange(
        "equal", "bs1", 10.0, nothing, 1.0, 0.1, 0.09, 0.11, 0.1, 1.0, p, spread, is_judged, 25.0, nothing, nothing,
        difference_db, 10.0, nothing, 0.0
    )  # fmt: skip


def test_the_verdict_counts_every_test_once() -> None:
    good = [station() for _ in range(5)]
    assert judge(good, [], 1e-3).consistent
    assert judge(good, [], 1e-3).num_range_tests == 10
    for bad in (station(p=0.9e-4), station(spread=0.9e-4)):
        assert judge([*good[1:], bad], [], 1e-3).ranges_consistent is False  # 1e-3 / 10 tests
    assert judge([*good, station(p=1e-9, is_judged=False)], [], 1e-3).consistent
    assert not judge([*good, station(difference_db=-0.6)], [], 1e-3).consistent
