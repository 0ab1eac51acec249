"""A sweep of an experiment: every point a run of its own, with its own emulator and its own noise.

A sweep's folder holds sweep.toml (the experiment, the axes, the seed), points/NNNN (a run each), rows.csv, sweep.json
and the figures. A sweep that was interrupted goes on with the points, and within them the rounds, that are missing.

Workers write into that folder themselves: those on other hosts have to see it under the same path. Of two that are at
the same point, after an interrupt or where a cluster took a slow worker for a lost one, the second waits for the first.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import logging
import os
import platform
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from testbed.errors import ConfigError
from testbed.experiment.config import Experiment
from testbed.experiment.load import load_experiment, validate_experiment
from testbed.experiment.procedure import procedure
from testbed.experiment.record import RunDirectory
from testbed.sweep import SweepPoint, SweepRow, grid, point_seed, run_points

MARKER = "sweep.toml"

logger = logging.getLogger(__name__)


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
    """Run what is missing; `notify` gets every row and the number of points. Rows come back in order.

    Raises:
        ClusterLost: nobody is left to run points; what is finished is kept.
    """
    points, rows = sweep.points, []
    work = functools.partial(run_point, dataclasses.replace(sweep, folder=sweep.folder.absolute()))
    for row in run_points(work, points, executor):
        rows.append(row)
        notify(row, len(points))
    return sorted(rows, key=lambda row: row.point.index)


def run_point(sweep: Sweep, point: SweepPoint) -> dict[str, Any]:
    """One run; one that is there and complete is not run again."""
    if not (sweep.folder / MARKER).is_file():
        raise ConfigError(_unseen(sweep.folder))
    experiment = point_experiment(sweep, point)
    with _alone(sweep, point.index):
        directory = sweep.run_directory(point.index)
        if not directory.path.exists():
            _begin(sweep, point.index, experiment)
        elif (
            not directory.experiment.exists() or load_experiment(str(directory.experiment)).sha256 != experiment.sha256
        ):
            raise ConfigError(f"{directory.path}: is not the run of this point; remove it")
        results = procedure(experiment).run(directory.path, lambda progress: None, lambda question: False)
        directory.finish()
        return results.to_dict()


def fault_of_worker(sweep: Sweep) -> "functools.partial[str]":
    """A function for every worker of a cluster to call: says why it cannot take part, or nothing."""
    folder = sweep.folder.absolute()
    scene = sweep.experiment.get("emulator", {}).get("scene", "")
    return functools.partial(_fault, folder, _digest(folder), Path(scene) if Path(scene).is_absolute() else None)


def _fault(folder: Path, digest: str, scene: Path | None) -> str:
    if not (folder / MARKER).is_file() or _digest(folder) != digest:
        return _unseen(folder)
    if scene is not None and not scene.is_file():
        return f"cannot read the scene {scene} on {platform.node()}; move it to where all hosts see it"
    if not os.access(folder, os.W_OK):
        return f"cannot write into {folder} on {platform.node()}; run workers as the user whose folder it is"
    return ""


def _unseen(folder: Path) -> str:
    return (
        f"{platform.node()} does not see this sweep in {folder}; workers write there: choose a folder that all hosts "
        "share under the same path"
    )


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / MARKER).read_bytes()).hexdigest()


def _begin(sweep: Sweep, index: int, experiment: Experiment) -> None:
    """Make the run's directory, whole or not at all, for a worker may be killed at any moment."""
    path = sweep.run_directory(index).path
    unfinished = sweep.folder / "locks" / f"{index:04d}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    RunDirectory.create(unfinished, experiment, overwrite=False)
    path.parent.mkdir(exist_ok=True)
    unfinished.rename(path)


@contextlib.contextmanager
def _alone(sweep: Sweep, index: int) -> Iterator[None]:
    """Hold a point, as no other process can at the same time; the system lets go of it when this process ends."""
    path = sweep.folder / "locks" / f"{index:04d}"
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            logger.warning("point %d: waiting for %s, which is at it", index, file.read().strip() or "a process")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: those who resume a sweep see to it that the earlier one has ended
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    inner = data
    for part in tables:
        if not isinstance(inner.get(part), dict):
            raise ConfigError(f"--set {key}: the experiment has no [{'.'.join(tables)}] table")
        inner = inner[part]
    inner[last] = value
