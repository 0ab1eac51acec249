"""The uplink preset, shortened, through real emulators: detector, rates, loop; resumed; planted errors; bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.emulated.test_cli import isac, one_line
from tests.shortened import results_of, shortened

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

SHORT: dict[str, dict[str, Any]] = {
    "detector": {"axis_dbm": [-6.0, -2.0], "num_h0": 1500, "num_h1": 800, "num_muted": 4000},
    "rates": {"axis_dbm": [-2.0], "num_seeds": 4, "num_blocks": 250, "num_h0": 250},
    "loop": {"num_rounds": 2, "num_seeds": 4, "num_blocks": 150},
}


def experiment(path: Path, *gone: str, **changes: Any) -> Path:
    """The preset with fewer blocks."""
    return shortened(path, "uplink", SHORT, *gone, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uplink")
    done = isac("run", experiment(folder / "my.toml"), "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_both_detectors_follow_their_law_and_their_pod(finished: Path) -> None:
    found = results_of(finished)
    assert [d["detector"] for d in found["detectors"]] == ["plain", "guarded"]
    for detector in found["detectors"]:
        assert detector["against"] == "truth"
        assert detector["verdict"]["consistent"]  # level 1e-3, fixed seeds: of a right chain fails once in 1000
        for p in detector["points"]:
            # 5 binomial standard errors of 800 blocks: of 4 points with probability 2e-6
            assert abs(p["pod"] - p["pod_theory"]) < 5 * (p["pod_theory"] * (1 - p["pod_theory"]) / 800) ** 0.5
    plain, guarded = (d["points"][1] for d in found["detectors"])
    assert plain["pod_theory"] > guarded["pod_theory"] > 0.5  # the guard costs a part of the echo


def test_rates_lie_above_their_bounds_in_the_order_of_the_combiners(finished: Path) -> None:
    (p,) = results_of(finished)["rates"]
    assert abs(p["largest_difference_db"]) <= 0.5  # 1000 blocks: a standard error is 0.05 to 0.1 dB
    assert p["above_bound"]
    sums = [p["links"][how]["sum_rate"]["value"] for how in ("mrc", "zf", "optimal")]
    assert sums == sorted(sums)
    assert sums == pytest.approx([6.4, 9.46, 9.96], rel=0.02, abs=0)  # the scene's reference; errors are 0.04
    assert sum(p["bound"]) == pytest.approx(5.26, rel=0.01, abs=0)
    assert 0.001 < max(p["block_error_rate"]) < 0.06


def test_the_paper_s_detector_does_not_hold_its_false_alarm_rate_and_the_model_says_so(finished: Path) -> None:
    (p,) = results_of(finished)["rates"]
    for row, times in zip(p["paper"], (20, 100), strict=True):
        assert abs(row["alarms"] - row["model_alarms"]) < 0.06  # 1000 blocks, 4 standard errors of 0.0145
        assert row["alarms"] > times * row["pfa"]
        assert row["model_pod"] < 0.1 < row["detections"]  # what it promises, and what it does


def test_the_loop_raises_the_sum_rate_and_algorithm_1_does_not_move(finished: Path) -> None:
    found = results_of(finished)
    rise = found["rise_bps_hz"]
    assert rise["value"] > 5 * rise["stderr"]
    first, second = found["rounds"]
    record = first["record"]
    assert record["alternating_sum_rate"] == pytest.approx(record["predicted_sum_rate"], abs=1e-3, rel=0)
    assert record["next_sum_rate"] > record["predicted_sum_rate"] + 0.2
    assert second["record"]["sensing_sinr"] >= record["sensing_sinr"]
    energy = [4 * p + 104 * d for p, d in zip(record["next_pilot_power"], record["next_data_power"], strict=True)]
    assert energy == pytest.approx([108 * 10**-0.2] * 4, rel=1e-6, abs=0)
    for r in found["rounds"]:
        assert abs(r["pod"]["value"] - r["pod_theory"]) < 4.5 * r["pod"]["stderr"]


def test_a_resumed_run_ends_like_one_that_was_not_interrupted(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    for name in ("results.json", "report.html", "loop.json"):
        (again / name).unlink()
    rates = json.loads((again / "rates.json").read_text(encoding="utf-8"))
    rates["rows"] = rates["rows"][:2]
    (again / "rates.json").write_text(json.dumps(rates), encoding="utf-8")
    done = isac("run", "--resume", again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results_of(again) == results_of(finished)


def test_the_report_is_one_page_with_everything(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for words in ("Detector", "Rates", "The paper's detector", "Loop", "SIMULATED", "data:image/svg+xml"):
        assert words.replace("'", "&#39;") in page or words in page
    assert {p.suffix for p in (finished / "figures").glob("pod.*")} == {".png", ".svg", ".csv"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"receiver__name": "u1"}, ("receiver.name", "u1")),
        ({"waveform__num_users": 3}, ("waveform.num_users", "3 for 4 nodes")),
        ({"receiver__rx_gain_db": "auto"}, ("rx_gain_db", "auto")),
        ({"detector__pfa": 2.0}, ("detector.pfa",)),
        ({"waveform__num_pilots": 3}, ("num_pilots", "at least num_users")),
    ],
)
def test_a_mistake_gives_one_line(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    one_line(isac("check", experiment(tmp_path / "bad.toml", **changes), cwd=tmp_path), *words)


def test_parts_can_be_left_out(tmp_path: Path) -> None:
    path = experiment(tmp_path / "rates.toml", "detector", "loop", rates__num_blocks=20, rates__num_h0=20)
    done = isac("run", path, "--out", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["detectors"] == found["rounds"] == []
    assert len(found["rates"]) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--only", "loop"), ("--only loop", "kind uplink")),
        (("--frames", "9"), ("--frames 9", "kind uplink", "its own tables")),
        (("--power-dbm", "3"), ("--power-dbm", "kind uplink")),
    ],
)
def test_options_of_another_kind_are_refused(tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]) -> None:
    one_line(isac("run", "uplink", "--out", "run", *options, cwd=tmp_path), *words)
    assert not (tmp_path / "run").exists()
