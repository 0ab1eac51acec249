"""What results pool, and what a silent node leaves in them."""

import json
from pathlib import Path

import numpy as np
import pytest

from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import judge_steps
from testbed.experiment.comp.step import Step
from testbed.sensing.detect import detect
from tests.scenes import capture_comp, comp_experiment


@pytest.fixture
def run(tmp_path: Path) -> CompRun:
    """Two steps of t1 and t2, both judged by bs1."""
    directory = CompRun(tmp_path)
    for index in range(2):
        for condition in ("all", "without:t1", "without:t2"):
            capture = capture_comp(num_frames=30, condition=condition, experiment=two_cells(), listening=("bs1",))
            for cell in ("t1", "t2") if condition == "all" else (condition.removeprefix("without:"),):
                directory.add_detection(Step("points", index), detect(capture, cell))
    return directory


def two_cells():
    experiment = comp_experiment()
    cells = tuple(c.model_copy(update={"node": "bs1"}) for c in experiment.cells[:2])
    return experiment.model_copy(update={"cells": cells, "users": (), "loop": None})


def test_cells_that_share_a_capture_share_its_residual_noise(run: CompRun) -> None:
    steps = [Step("points", 0), Step("points", 1)]
    results = judge_steps(run, two_cells(), steps, [{"bs1": -6.0}] * 2, None)
    stored = [run.detection(step, "all", "t1").residual_noise_var for step in steps]
    stored += [run.detection(step, f"without:{c}", c).residual_noise_var for step in steps for c in ("t1", "t2")]
    pooled = results.noise["bs1"]["residual"]
    assert pooled.count == sum(e.count for e in stored)
    assert pooled.stderr == pytest.approx(pooled.value / np.sqrt(pooled.count), rel=0.02)


def test_a_silent_node_that_judges_leaves_no_infinity_in_the_results(run: CompRun) -> None:
    results = judge_steps(run, two_cells(), [Step("points", 0)], [{"bs1": float("-inf")}], None)
    plain = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert {p["power_dbm"] for p in plain["points"]} == {None}
    assert {p["step"] for p in plain["points"]} == {"points/000"}
