"""A sweep of the CoMP preset over budgets and schemes, through real emulators."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.emulated.test_loop import cli, command

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

AXES = ("--set", "allocation.budget_dbm=-5,-2", "--set", "allocation.method=ppa,equal")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "s"
    cli("sweep", "comp", *AXES, "--frames", "600", "--out", out, "--workers", "2")
    return out


def found(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    del data["figures"]
    return data


def test_schemes_are_measured_in_the_order_of_theory_and_pod_is_consistent(swept: Path) -> None:
    data = found(swept)
    assert [(p["budget_dbm"], p["method"]) for p in data["points"]] == [
        (-5.0, "ppa"), (-5.0, "equal"), (-2.0, "ppa"), (-2.0, "equal")
    ]  # fmt: skip
    assert data["errors"] == {}
    assert data["order"] == {"num_pairs": 2, "num_agreeing": 2, "disagreeing": []}
    assert [p["feasible"] for p in data["points"]] == [True, False, True, True]
    for p in data["points"]:
        # truth at the same powers; 5 standard errors and 0.02 for the interferers' symbols
        assert abs(p["sum_rate"] - p["sum_rate_truth"]) < 5 * p["sum_rate_stderr"] + 0.02
    verdict = data["equal_power"]
    assert verdict["deciding"] == "known_noise/truth"
    p_values = [p for p in verdict["verdicts"]["known_noise/truth"]["p_values"].values() if p is not None]
    assert min(p_values) > 1e-4  # fixed seeds; of a right chain with probability 4e-4
    for name in ("sum_rate_over_budget", "pod_over_budget"):
        assert {p.suffix for p in swept.glob(f"{name}.*")} == {".png", ".svg", ".csv"}
    rows = (swept / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 5
    assert rows[0].startswith("index,allocation.budget_dbm,allocation.method,feasible")
    assert not list(swept.glob("points/*/captures/*.h5"))  # statistics only, unless asked


def test_a_sweep_goes_on_where_it_stopped_and_one_process_gives_what_two_did(swept: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(swept, out)
    shutil.rmtree(out / "points" / "0001")
    shutil.rmtree(out / "points" / "0002" / "rounds" / "001")
    before = (out / "points" / "0003" / "detections.h5").stat().st_mtime_ns
    cli("sweep", "--resume", out)
    assert found(out) == found(swept)
    assert (out / "points" / "0003" / "detections.h5").stat().st_mtime_ns == before


def test_every_point_has_noise_of_its_own(swept: Path) -> None:
    seeds = {json.loads((p / "session.json").read_text())["emulator_seed"] for p in swept.glob("points/*")}
    assert len(seeds) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("comp", "--set", "allocation.budgt_dbm=-5", "--out", "x"), "did you mean 'budget_dbm'?"),
        (("comp", "--set", "gone.key=1", "--out", "x"), "no [gone] table"),
        (("comp", "--set", "allocation.budget_dbm", "--out", "x"), "must read KEY=V1,V2"),
        (("comp", "--set", "allocation.method=ppa,magic", "--out", "x"), "point 1: allocation.method: found 'magic'"),
        (("comp", "--out", "x"), "are needed to begin a sweep"),
        (("--resume", "nowhere"), "no sweep there"),
        (("comp", *AXES, "--only", "both", "--out", "x"), "must be loop or axis"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_line_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = command("sweep", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_point_that_cannot_run_is_a_row_and_the_exit_status_says_so(tmp_path: Path) -> None:
    out = tmp_path / "s"
    done = command(
        "sweep", "comp", "--set", "allocation.budget_dbm=-5,40", "--frames", "20", "--out", out, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "1 of 2 points failed" in done.stderr
    data = found(out)
    assert len(data["points"]) == 1
    assert "needs tx_gain_db" in data["errors"]["1"]
