"""The benchmark harness, on a clock that the contestants themselves move."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from tests.bench import harness
from tests.bench.__main__ import table, verdict
from tests.bench.elsewhere import process_cpu_s
from tests.bench.harness import Race, Spent


class Clock:
    """Replaces both clocks; `work` is what a contestant of a given cost does."""

    def __init__(self):
        self.now_s = 0.0
        self.slows_down = False
        self.order = []

    def work(self, name, cost_s):
        def call():
            num_rounds = len(self.order) // 2  # two contestants, one call each per round
            self.order.append(name)
            self.now_s += cost_s * (1 + num_rounds if self.slows_down else 1)

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(harness.time, "process_time", lambda: clock.now_s)
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock.now_s)
    return clock


def two_contestants(clock):
    calls = {"bare": clock.work("bare", 0.1), "ours": clock.work("ours", 0.3)}
    return Race("a race", limit="bare", contestants=calls, unit_count=60, unit="trial")


def test_ratio_is_cpu_time_over_that_of_the_limit(clock):
    results = harness.run_race(two_contestants(clock), num_rounds=5)
    assert results["bare"].ratio == pytest.approx(1.0)
    assert results["ours"].ratio == pytest.approx(3.0)
    assert results["ours"].rate == pytest.approx(60 / 0.3)


def test_ratio_survives_a_machine_that_slows_down_between_rounds(clock):
    clock.slows_down = True
    results = harness.run_race(two_contestants(clock), num_rounds=7)
    assert results["ours"].ratio == pytest.approx(3.0)
    assert results["ours"].wall_s > 3 * 0.3  # the machine did slow down


def test_contestants_take_turns_and_the_first_place_rotates(clock):
    harness.run_race(two_contestants(clock), num_rounds=4)
    rounds = clock.order[-8:]
    assert rounds == ["bare", "ours", "ours", "bare", "bare", "ours", "ours", "bare"]


def test_a_short_call_is_repeated_until_the_sample_is_long_enough(clock):
    calls = {"short": clock.work("short", harness.MIN_SAMPLE_S / 100)}
    results = harness.run_race(Race("short", "short", calls, 1, "call"), num_rounds=5)
    assert len(clock.order) == pytest.approx(2 + 5 * 100, abs=5)
    assert results["short"].cpu_s == pytest.approx(harness.MIN_SAMPLE_S / 100)


def test_what_was_spent_in_another_process_counts_in_place_of_what_was_used_here(clock):
    def elsewhere():
        clock.now_s += 0.7  # of waiting for the other process, in this one
        return Spent(cpu_s=0.2, wall_s=0.5)

    calls = {"bare": clock.work("bare", 0.1), "elsewhere": elsewhere}
    results = harness.run_race(Race("a race", "bare", calls, 60, "trial"), num_rounds=5)

    assert results["elsewhere"].cpu_s == pytest.approx(0.2)
    assert results["elsewhere"].wall_s == pytest.approx(0.5)
    assert results["elsewhere"].ratio == pytest.approx(2.0)


def test_a_call_that_tells_of_little_work_elsewhere_is_not_repeated_for_it(clock):
    # it waits 0.1 s for a cost of 1 us per unit; repeating it until 20 ms of told time had passed would take hours
    def elsewhere():
        clock.order.append("elsewhere")
        clock.now_s += 0.1
        return Spent(cpu_s=1e-6, wall_s=1e-6)

    harness.run_race(Race("a race", "elsewhere", {"elsewhere": elsewhere}, 1, "call"), num_rounds=5)

    assert len(clock.order) == 2 + 5


def test_the_clock_of_another_process_is_its_cpu_time():
    command = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        used_s = process_cpu_s(child.pid)
        child.communicate(b"\n")

    assert 0.3 <= used_s < 0.35


def test_a_contestant_that_is_not_installed_is_shown_and_left_out(clock):
    race = Race("a race", "bare", {"bare": clock.work("bare", 0.1), "absent": None}, 60, "trial")

    results = harness.run_race(race, num_rounds=5)

    assert set(results) == {"bare"}
    shown = io.StringIO()
    Console(file=shown, width=120).print(table(race, results, {}))
    assert "not installed" in shown.getvalue()
    with pytest.raises(ValueError, match="limit 'absent'"):
        Race("a race", "absent", {"absent": None}, 60, "trial")


def test_a_goal_is_a_range_of_ratios():
    assert verdict(3.1, 3, float("inf")) == ">= 3: met"
    assert verdict(2.6, 0, 2.5) == "<= 2.5: missed"
    assert verdict(0.9, 0.7, 1.3) == "0.7..1.3: met"
    with pytest.raises(ValueError, match="goals of \\['fast'\\]"):
        Race("a race", "slow", {"slow": list}, 1, "call", goals={"fast": (0, 1)})


def test_a_saved_baseline_is_read_back_in_three_digits(tmp_path):
    harness.save_baseline("bench_x", {"a race": {"bare": 1.0, "ours": 3.14159}}, tmp_path)
    assert harness.load_baseline("bench_x", tmp_path) == {"a race": {"bare": 1.0, "ours": 3.14}}
    assert harness.load_baseline("bench_y", tmp_path) == {}


def test_a_limit_that_is_no_contestant_is_refused():
    with pytest.raises(ValueError, match="limit 'fast'"):
        Race("a race", "fast", {"slow": list}, 1, "call")


def test_every_baseline_belongs_to_races_that_exist():
    races = {module: {race.name: race for race in found} for module, found in harness.discover().items()}
    for path in harness.BASELINES.glob("*.json"):
        for name, ratios in harness.load_baseline(path.stem).items():
            assert set(ratios) <= set(races[path.stem][name].contestants)


def test_an_unknown_benchmark_is_named():
    with pytest.raises(ValueError, match="bench_nonsense"):
        harness.discover(["nonsense"])
