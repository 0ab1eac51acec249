"""A sweep of an experiment: every point a run of its own, with its own emulator and its own noise.

A sweep's folder holds sweep.toml (the experiment, the axes, the seed), points/NNNN (a run each), rows.csv, sweep.json
and the figures. A sweep that was interrupted goes on with the points, and within them the rounds, that are missing.
"""

import functools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from testbed.errors import ConfigError
from testbed.experiment.config import Experiment, load_experiment, validate_experiment
from testbed.experiment.procedure import procedure
from testbed.experiment.record import RunDirectory
from testbed.sweep import SweepPoint, SweepRow, grid, point_seed, run_points

MARKER = "sweep.toml"


@dataclass(frozen=True)
class Sweep:
    """What is swept."""

    folder: Path
    experiment: dict[str, Any]  # plain data, before the axes are put in
    axes: dict[str, list[Any]]  # dotted key of the experiment file: its values
    seed: int

    @property
    def points(self) -> list[SweepPoint]:
        """The grid."""
        return grid(self.axes)

    def run_directory(self, index: int) -> RunDirectory:
        """Of one point."""
        return RunDirectory(self.folder / "points" / f"{index:04d}")


def new_sweep(folder: Path, experiment: Experiment, axes: Mapping[str, Sequence[Any]], seed: int) -> Sweep:
    """Begin a sweep; every point is checked before the first one runs.

    Raises:
        ConfigError: the folder is taken, an axis is no key of the experiment, or a point is no valid experiment.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists; give another directory, or --resume {folder}")
    data = experiment.model_dump(mode="json", exclude_none=True)
    sweep = Sweep(folder, data, {key: list(values) for key, values in axes.items()}, seed)
    for point in sweep.points:
        point_experiment(sweep, point)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        document = {"seed": seed, "axes": sweep.axes, "experiment": data}
        (folder / MARKER).write_text(tomli_w.dumps(document), encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot be made a sweep's directory ({exc.strerror or exc})") from exc
    return sweep


def open_sweep(folder: Path) -> Sweep:
    """An existing sweep; ConfigError if it is none."""
    try:
        data = tomllib.loads((folder / MARKER).read_text(encoding="utf-8"))
        return Sweep(folder, data["experiment"], data["axes"], data["seed"])
    except (OSError, ValueError, KeyError) as exc:
        raise ConfigError(f"{folder}: no sweep there ({MARKER} cannot be read); give the directory of a sweep") from exc


def point_experiment(sweep: Sweep, point: SweepPoint) -> Experiment:
    """The experiment of a point: its values put in, and a seed of the noise that no other point has.

    Where interference of other nodes is part of a trial (localisation), points that share data are no independent
    tests: each has data of its own, unless the data seed is an axis.
    """
    data = tomllib.loads(tomli_w.dumps(sweep.experiment))
    for key, value in point.values.items():
        _put(data, key, value)
    if data.get("emulator") is not None:
        data["emulator"]["seed"] = point_seed(sweep.seed, point.index)
    if data.get("kind") == "localization" and "waveform.data_seed" not in point.values:
        data["waveform"]["data_seed"] += point.index
    return validate_experiment(data, f"point {point.index}")


def run_sweep(sweep: Sweep, executor: Executor | None, notify: Callable[[SweepRow, int], None]) -> list[SweepRow]:
    """Run what is missing; `notify` gets every row and the number of points. Rows come back in order."""
    points, rows = sweep.points, []
    for row in run_points(functools.partial(run_point, sweep), points, executor):
        rows.append(row)
        notify(row, len(points))
    return sorted(rows, key=lambda row: row.point.index)


def run_point(sweep: Sweep, point: SweepPoint) -> dict[str, Any]:
    """One run; one that is there and complete is not run again."""
    directory = sweep.run_directory(point.index)
    experiment = point_experiment(sweep, point)
    if not directory.experiment.exists():
        directory = RunDirectory.create(directory.path, experiment, overwrite=False)
    elif load_experiment(str(directory.experiment)).sha256 != experiment.sha256:
        raise ConfigError(f"{directory.path}: is not the run of this point; remove it")
    results = procedure(experiment).run(directory.path, lambda progress: None, lambda question: False)
    directory.finish()
    return results.to_dict()


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    inner = data
    for part in tables:
        if not isinstance(inner.get(part), dict):
            raise ConfigError(f"--set {key}: the experiment has no [{'.'.join(tables)}] table")
        inner = inner[part]
    inner[last] = value
