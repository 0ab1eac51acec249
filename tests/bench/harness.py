"""Races: contestants take turns in one process, so that whatever slows the machine slows them all.

The figure that is kept is a ratio: CPU time of a contestant over CPU time of the contestant called the limit, formed
within each round and then summarised by the median. Rates in units per second are for the reader only; they change with
the machine, ratios much less.
"""

import importlib
import json
import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import tests.bench

BASELINES = Path(__file__).parent / "baselines"
MIN_SAMPLE_S = 0.02  # a contestant is repeated until one sample lasts this long; shorter ones are mostly timer noise


@dataclass(frozen=True)
class Spent:
    """What a call used up in another process; a contestant returns it, and it counts in place of what was used here.

    For one call's units of work: who did ten times as much divides by ten.
    """

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Race:
    """Ways to compute the same thing."""

    name: str
    limit: str  # the contestant to compare with: what the others could reach at best
    contestants: Mapping[str, Callable[[], object] | None]  # None: what it needs is not installed here
    unit_count: float  # units of work done by one call
    unit: str  # what a unit is, for the rate: "FFT", "sample", "trial"
    goals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # least and largest ratio that is wanted
    remark: Callable[[Mapping[str, "Result"]], str] | None = None  # shown below the table

    def __post_init__(self) -> None:
        if self.contestants.get(self.limit) is None:
            raise ValueError(f"{self.name}: limit '{self.limit}' is not among {sorted(self.contestants)}")
        if unknown := set(self.goals) - set(self.contestants):
            raise ValueError(f"{self.name}: goals of {sorted(unknown)}, who are not among {sorted(self.contestants)}")


@dataclass(frozen=True)
class Result:
    """Medians over the rounds, for one contestant of one race."""

    cpu_s: float  # CPU time per call, all threads, of this process or of the one that `Spent` tells of
    wall_s: float  # wall time per call
    rate: float  # units per second of CPU time
    wall_rate: float  # units per second of wall time
    ratio: float  # CPU time over that of the limit; 1 for the limit, below 1 is faster


def run_race(race: Race, num_rounds: int) -> dict[str, Result]:
    """Warm up, then let every contestant run once per round; who begins changes from round to round.

    CPU time is that of this process, unless the contestant returns `Spent`. One that is not installed is left out.
    """
    calls = {name: call for name, call in race.contestants.items() if call is not None}
    repeats = {name: _calibrate(call) for name, call in calls.items()}  # also the warm-up
    names = list(calls)
    cpu: dict[str, list[float]] = {name: [] for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    for round_idx in range(num_rounds):
        first = round_idx % len(names)
        for name in names[first:] + names[:first]:
            cpu_s, wall_s = _sample(calls[name], repeats[name])
            cpu[name].append(cpu_s)
            wall[name].append(wall_s)
    results = {}
    for name in names:
        cpu_s, wall_s = median(cpu[name]), median(wall[name])
        ratio = median(own / best for own, best in zip(cpu[name], cpu[race.limit], strict=True))
        results[name] = Result(cpu_s, wall_s, race.unit_count / cpu_s, race.unit_count / wall_s, ratio)
    return results


def discover(wanted: Sequence[str] = ()) -> dict[str, list[Race]]:
    """Races by module name, from every bench_*.py here; `wanted` picks modules, with or without "bench_".

    Raises:
        ValueError: a wanted module does not exist, or two races of a module share a name.
    """
    names = sorted(m.name for m in pkgutil.iter_modules(tests.bench.__path__) if m.name.startswith("bench_"))
    chosen = [name if name.startswith("bench_") else f"bench_{name}" for name in wanted] or names
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise ValueError(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(names)}")
    found: dict[str, list[Race]] = {}
    for name in chosen:
        found[name] = importlib.import_module(f"tests.bench.{name}").RACES
        titles = [race.name for race in found[name]]
        if len(set(titles)) < len(titles):
            raise ValueError(f"{name}: two races have the same name; baselines are kept by name")
    return found


def save_baseline(module: str, ratios: dict[str, dict[str, float]], folder: Path = BASELINES) -> Path:
    """Write the ratios {race: {contestant: ratio}} of a module; three digits are more than repeat."""
    rounded = {race: {name: float(f"{ratio:.3g}") for name, ratio in row.items()} for race, row in ratios.items()}
    path = folder / f"{module}.json"
    path.write_text(json.dumps(rounded, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def load_baseline(module: str, folder: Path = BASELINES) -> dict[str, dict[str, float]]:
    """Ratios saved earlier; empty if there are none."""
    path = folder / f"{module}.json"
    if not path.exists():
        return {}
    saved: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    return saved


def _calibrate(call: Callable[[], object]) -> int:
    call()  # caches, plans, imports
    began = time.perf_counter()
    call()
    return max(1, round(MIN_SAMPLE_S / max(time.perf_counter() - began, 1e-9)))


def _sample(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    elsewhere: list[Spent] = []
    cpu_began, wall_began = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        result = call()
        if isinstance(result, Spent):
            elsewhere.append(result)
    cpu_s, wall_s = time.process_time() - cpu_began, time.perf_counter() - wall_began
    if elsewhere:
        cpu_s, wall_s = sum(spent.cpu_s for spent in elsewhere), sum(spent.wall_s for spent in elsewhere)
    # A contestant that only waits uses no CPU time; the timer's step keeps the ratio finite.
    return max(cpu_s, 1e-9) / repeats, max(wall_s, 1e-9) / repeats
