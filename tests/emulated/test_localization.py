"""The localisation preset, shortened, through a real emulator: identify, solve, range, judge; planted errors."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from testbed.experiment.load import preset_text
from tests.emulated.test_cli import isac, one_line

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

FRAMES = 80


def experiment(path: Path, **changes: Any) -> Path:
    """The preset with fewer frames; keywords replace keys, TABLE__KEY."""
    import tomllib

    data = tomllib.loads(preset_text("localization"))
    data["waveform"]["num_data_frames"] = data["capture"]["num_frames"] = FRAMES
    data["localization"]["contrast_frames"] = 12
    for name, value in changes.items():
        table, key = name.split("__")
        data[table][key] = value
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path


def results_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("localization")
    done = isac("run", experiment(folder / "my.toml"), "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "verdict: consistent" in done.stdout
    return folder / "run"


def test_a_run_predicts_its_sinrs_and_its_errors_are_what_their_bounds_say(finished: Path) -> None:
    found = results_of(finished)
    # fixed seeds; the verdict of a right chain errs with probability 1e-3 for ranges and 1e-3 for positions
    assert found["consistent"]
    assert found["verdict"]["against"] == "truth"
    assert found["verdict"]["num_range_tests"] == 12
    assert len(found["ranges"]) == 6
    for row in found["ranges"]:
        assert abs(row["difference_db"]) <= 0.5  # the criterion; T = 80 leaves a standard error of 0.05
        assert row["is_judged"]
        assert 85 < row["curry_std_m"] / row["bound_m"] < 115  # (12) as its known multiple, 101 where all is white
    for row in found["users"]:
        errors = 5 * (row["sinr"]["stderr"] + row["predicted"]["stderr"])  # 10 dB of SINR err by a few percent
        assert abs(row["sinr"]["value"] - row["predicted"]["value"]) < errors + 0.02 * row["predicted"]["value"]
        assert row["is_met"]


def test_the_optimum_makes_all_sinrs_equal_and_the_worst_range_better(finished: Path) -> None:
    found = results_of(finished)
    assert found["status"] == "optimal"
    levels = found["smallest_sinr_db"]
    assert levels["optimum"] > levels["equal"] + 2.0  # 3.1 dB by the scene
    best = [row["sinr"]["value"] for row in found["ranges"] if row["powers"] == "optimum"]
    assert max(best) / min(best) < 1.12  # each within its standard error of 1 to 3 percent
    equal, optimum = found["worst"]
    assert optimum["bound_m"] < 0.85 * equal["bound_m"]  # 0.70 by the scene, errors of the bounds below 3 percent
    # with every node's frames known, power buys nothing
    assert abs(optimum["all_known_bound_m"] / equal["all_known_bound_m"] - 1) < 0.15


def test_residual_self_interference_is_what_the_transmitters_leak(finished: Path) -> None:
    for beta in results_of(finished)["identified"]["residual_self"].values():
        assert beta["value"] == pytest.approx(1e-10, abs=5 * beta["stderr"], rel=0)  # 65 dB and -35 dBc


def test_a_resumed_run_ends_like_one_that_was_not_interrupted(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    for name in ("results.json", "report.html", "captures/optimum.h5", "captures/contrast_optimum.h5"):
        (again / name).unlink()
    (again / "ranges.h5").unlink()  # those at equal powers come back from the captures that are there
    (again / "users.json").unlink()
    done = isac("run", "--resume", again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results_of(again) == results_of(finished)


def test_stages_alone_give_what_the_run_found(finished: Path, tmp_path: Path) -> None:
    captures = sorted((finished / "captures").glob("alone_*.h5"))
    done = isac("measure", finished / "captures" / "muted.h5", *captures, "--out", "id.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "id.json").read_text()) == json.loads((finished / "identification.json").read_text())
    done = isac("allocate", finished / "experiment.toml", "id.json", "--out", "next.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "next.json").read_text()) == json.loads((finished / "allocation.json").read_text())


def test_one_frame_repeated_and_counted_as_trials_turns_the_verdict(tmp_path: Path) -> None:
    path = experiment(tmp_path / "repeated.toml", waveform__num_data_frames=1, localization__contrast_frames=0)
    done = isac("run", path, "--out", "run", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verdict: NOT consistent" in done.stdout
    assert not results_of(tmp_path / "run")["verdict"]["ranges_consistent"]


def test_what_users_cannot_have_is_said_and_equal_powers_are_kept(tmp_path: Path) -> None:
    path = experiment(tmp_path / "greedy.toml", localization__min_user_sinr_db=20.0, localization__contrast_frames=0)
    done = isac("run", path, "--frames", "8", "--out", "run", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no powers within the caps give u1, u2, u3 20 dB each" in done.stdout
    found = results_of(tmp_path / "run")
    assert found["status"] == "infeasible"
    assert {row["powers"] for row in found["ranges"]} == {"equal"}


def test_an_isolation_at_which_the_receiver_clips_is_refused_by_the_check(tmp_path: Path) -> None:
    path = experiment(tmp_path / "near.toml", emulator__self_isolation_db=50.0)
    line = one_line(isac("check", path, cwd=tmp_path), "bs1: clipping", "raise the isolation")
    assert "rx_gain_db 40" in line
    assert isac("check", experiment(path, emulator__self_isolation_db=55.0), cwd=tmp_path).returncode == 0


def test_verbs_of_another_kind_say_so(finished: Path, tmp_path: Path) -> None:
    one_line(isac("compare", finished, finished, cwd=tmp_path), "kind localization", "kind comp")
    one_line(isac("run", "localization", "--budget-dbm", "3", cwd=tmp_path), "--budget-dbm", "no [allocation] table")
    one_line(isac("run", "localization", "--power-dbm", "3", cwd=tmp_path), "--power-dbm", "kind localization")
    one_line(isac("run", "localization", "--only", "loop", cwd=tmp_path), "--only loop")
    one_line(isac("detect", finished / "captures" / "equal.h5", cwd=tmp_path), "no [detection]", "--pfa")
    one_line(isac("sweep", "localization", "--set", "capture.num_frames=5,6", "--only", "axis", "--out", "s",
                  cwd=tmp_path), "--only axis", "kind localization")  # fmt: skip
