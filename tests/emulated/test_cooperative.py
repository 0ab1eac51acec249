"""The cooperative preset, shortened, through a real emulator: location, users, a loop with a dead node; refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.emulated.test_cli import isac, one_line
from tests.shortened import results_of, shortened

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

SHORT: dict[str, dict[str, Any]] = {
    "sensing": {"shares": [1.0, 0.25], "num_trials": 80, "dead": False},
    "user_rates": {"cluster_sizes": [1, 2, 8], "shares": [0.1, 0.5]},
    "cooperative": {"num_rounds": 1, "num_trials": 60},
}


def experiment(path: Path, *gone: str, **changes: Any) -> Path:
    """The preset with fewer trials."""
    return shortened(path, "cooperative", SHORT, *gone, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cooperative")
    done = isac("run", experiment(folder / "my.toml"), "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_positions_scatter_as_their_bounds_say(finished: Path) -> None:
    rows = results_of(finished)["sensing"]["rows"]
    assert [row["share"] for row in rows] == [1.0, 0.25]
    for row in rows:
        assert row["num_usable"] == 48  # of 64 links: the others hide the echo under the direct path
        found = row["all_nodes"]
        # |e|^2 / bound is near to a mean of two exponentials: a standard error of 0.08 for 80 trials, here 5 of them
        assert found["direct"]["value"] == pytest.approx(found["bound_m2"], rel=0.4, abs=0)
    assert rows[1]["all_nodes"]["bound_m2"] == pytest.approx(4 * rows[0]["all_nodes"]["bound_m2"], rel=0.05, abs=0)


def test_more_nodes_and_the_planner_s_nodes_locate_better_in_the_same_frames(finished: Path) -> None:
    sensing = results_of(finished)["sensing"]
    growth = {len(step["larger"]): step["z"] for step in sensing["growth"]}
    assert growth[4] > 2
    assert growth[5] > 2
    nearest = {len(step["larger"]): step["z"] for step in sensing["against_nearest"]}
    assert all(nearest[size] > 2.5 for size in (3, 4, 5))  # 10 at 400 trials
    assert sensing["random_over_best"] > 2


def test_users_sinrs_are_predicted_within_half_a_decibel(finished: Path) -> None:
    found = results_of(finished)
    assert found["users_consistent"]
    assert found["largest_difference_db"] < 0.5  # 416 elements: a standard error of 0.2 dB
    rows = found["users"]
    assert {row["waveform"] for row in rows} == {"slots", "superposition"}

    def smallest(size: int, share: float, waveform: str = "slots") -> float:
        some = [r for r in rows if (r["cluster_size"], r["share"], r["waveform"]) == (size, share, waveform)]
        return min(r["measured_rate"]["value"] for r in some)

    for size in (1, 2, 8):
        assert smallest(size, 0.1) < smallest(size, 0.5)
    for share in (0.1, 0.5):
        assert smallest(1, share) < smallest(2, share) < smallest(8, share)
    # the scene's reference; phases are of another seed
    assert smallest(2, 0.1) == pytest.approx(0.61, abs=0.08, rel=0)
    assert smallest(2, 0.5, "superposition") == pytest.approx(1.10, abs=0.1, rel=0)


def test_the_loop_meets_the_floor_and_mends_a_dead_node(finished: Path) -> None:
    first, second, broken, mended = results_of(finished)["rounds"]
    plan = first["plan"]
    assert plan["comm_cluster_size"] == 2
    assert plan["sensing_nodes"] == [0, 1, 2, 3, 5, 6, 7]
    assert plan["comm_power_share"] == pytest.approx(0.245, abs=0.01, rel=0)
    assert second["meets"]
    assert abs(second["plan"]["comm_power_share"] / plan["comm_power_share"] - 1) < 0.05
    assert second["located"]["direct"]["value"] == pytest.approx(second["predicted_bound_m2"], rel=0.5, abs=0)
    assert broken["dead"] == mended["dead"] == "n7"
    assert not broken["meets"]
    assert 7 not in mended["sensing_nodes"]
    assert all(7 not in cluster for cluster in mended["clusters"])
    assert mended["meets"]


def test_a_resumed_run_ends_like_one_that_was_not_interrupted(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    for name in ("results.json", "report.html"):
        (again / name).unlink()
    for name, key, kept in (("loop.json", "rounds", 1), ("users.json", "rows", 20)):
        stored = json.loads((again / name).read_text(encoding="utf-8"))
        stored[key] = stored[key][:kept]
        (again / name).write_text(json.dumps(stored), encoding="utf-8")
    done = isac("run", "--resume", again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results_of(again) == results_of(finished)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"waveform__num_stations": 7}, ("waveform.num_stations", "7 for 8 nodes")),
        ({"cooperative__dead_node": "n9"}, ("cooperative.dead_node", "n9")),
        ({"sensing__shares": [0.0]}, ("sensing.shares",)),
        ({"user_rates__cluster_sizes": [9]}, ("user_rates.cluster_sizes", "9", "8 nodes")),
    ],
)
def test_a_mistake_gives_one_line(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    one_line(isac("check", experiment(tmp_path / "bad.toml", **changes), cwd=tmp_path), *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cooperative__min_rate_bps_hz": 4.0}, "R: a rate of 4 bit/s/Hz"),
        ({"cooperative__backhaul_bps_hz": 1.7}, "C:"),
    ],
)
def test_what_cannot_be_had_is_named_and_the_plan_is_kept(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    changes |= {"cooperative__num_trials": 20}
    path = experiment(tmp_path / "greedy.toml", "sensing", "user_rates", **changes)
    text = (
        path.read_text(encoding="utf-8").replace('dead_node = "n7"\n', "").replace("num_rounds = 1", "num_rounds = 0")
    )
    path.write_text(text, encoding="utf-8")
    done = isac("run", path, "--out", "run", "--no-report", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)["rounds"]
    assert not made["feasible"]
    assert words in made["note"]
