"""The run directory: what a run leaves on disk, readable at any moment.

experiment.toml     resolved, overrides included: `isac run` on it repeats the run
scene/              a copy of the scene, where the experiment named a file
captures/*.h5       one per power and condition, and muted.h5
detections.h5       both statistics of every frame: points/<power index>/<condition>/<cell>
measurements.json   one measurement per power
truth.json          emulated runs only, written by isac-sim
results.json        points and verdicts
report.html
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tomli_w
from numpy.typing import NDArray

from testbed.errors import CaptureError, ConfigError
from testbed.experiment.config import Experiment
from testbed.measurement import Estimate
from testbed.sensing.detect import Detection

MARKER = "experiment.toml"


@dataclass(frozen=True)
class StoredDetection:
    """What `detections.h5` keeps of a Detection."""

    cell: str
    node: str
    condition: str
    known_noise: NDArray[np.float64]  # T, shape (num_frames,)
    cfar: NDArray[np.float64]  # F, shape (num_frames,)
    rank: int
    num_observations: int
    num_nuisance: int
    kappa: NDArray[np.float64]
    offset_samples: NDArray[np.float64]
    offset_stderr_samples: NDArray[np.float64]
    noise_var: Estimate
    residual_noise_var: Estimate
    derivative_paths: tuple[str, ...]
    warnings: tuple[str, ...]


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.captures = path / "captures"
        self.detections = path / "detections.h5"
        self.experiment = path / MARKER
        self.truth = path / "truth.json"
        self.measurements = path / "measurements.json"
        self.results = path / "results.json"
        self.report = path / "report.html"

    @classmethod
    def create(cls, path: Path, experiment: Experiment, *, overwrite: bool) -> "RunDirectory":
        """Make a new run directory. `overwrite` sets an earlier run aside as `<path>.old`, and nothing but a run.

        Raises:
            ConfigError: the path is taken or cannot be written.
        """
        run = cls(path)
        scene = _scene_to_copy(experiment)
        try:
            run._make_room(overwrite)
            run.captures.mkdir(parents=True)
            document = experiment.model_dump(mode="json", exclude_none=True)
            if scene is not None:
                # copied unread: the world's business, but the run must be repeatable where it lies
                name, content = scene
                (path / "scene").mkdir()
                (path / "scene" / name).write_bytes(content)
                document["emulator"]["scene"] = f"scene/{name}"
            run.experiment.write_text(tomli_w.dumps(document), encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"{path}: cannot be made a run directory ({exc.strerror or exc})") from exc
        return run

    def _make_room(self, overwrite: bool) -> None:
        path = self.path
        if not path.exists():
            return
        if not path.is_dir():
            raise ConfigError(f"{path}: is a file; give a directory for the run")
        if not any(path.iterdir()):
            path.rmdir()
            return
        is_run = (path / MARKER).is_file()
        if not (overwrite and is_run):
            hint = "pass --overwrite to replace it" if is_run else "it is no run; choose another directory"
            raise ConfigError(f"{path}: exists and is not empty; {hint}")
        if self._aside.exists():
            raise ConfigError(f"{self._aside}: an earlier run set aside; move or remove it first")
        path.rename(self._aside)

    @property
    def _aside(self) -> Path:
        """Where the run that this one replaces waits until this one is finished."""
        return self.path.with_name(self.path.name + ".old")

    def finish(self) -> None:
        """The run is complete: the one it replaces may go."""
        if self._aside.exists():
            shutil.rmtree(self._aside)

    def leave(self) -> str:
        """After a failure: keep a run with captures, else remove it and put back what it was to replace; says which."""
        kept = len(list(self.captures.glob("*.h5")))
        if kept:
            aside = f"; the run it was to replace is in {self._aside}" if self._aside.exists() else ""
            return f"{kept} captures are whole in {self.path}{aside}"
        shutil.rmtree(self.path)
        if self._aside.exists():
            self._aside.rename(self.path)
            return f"nothing was captured; {self.path} is the earlier run again"
        return "nothing was captured"

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run; ConfigError if it is none."""
        if not (path / MARKER).is_file():
            raise ConfigError(f"{path}: no run there ({MARKER} is missing); give the directory of an isac run")
        return cls(path)

    def capture_path(self, point: int, condition: str) -> Path:
        """Capture file of a power index and condition; ':' does not go into file names."""
        return self.captures / f"{point:03d}_{condition.replace(':', '_')}.h5"

    @property
    def muted_path(self) -> Path:
        """Capture with no transmitter on."""
        return self.captures / "muted.h5"

    def add_detection(self, point: int, detection: Detection) -> None:
        """Store the statistics of one capture and cell."""
        write_detection(self.detections, f"points/{point:03d}/{detection.condition}/{detection.cell}", detection)

    def detection(self, point: int, condition: str, cell: str) -> StoredDetection:
        """Read one back."""
        return read_detection(self.detections, f"points/{point:03d}/{condition}/{cell}")

    def num_finished_points(self) -> int:
        """Powers, from the first on, that were captured and judged under every condition."""
        if not self.detections.exists():
            return 0
        try:
            with h5py.File(self.detections, "r") as file:
                index = 0
                while _is_finished(file, f"points/{index:03d}"):
                    index += 1
                return index
        except OSError as exc:
            raise CaptureError(f"{self.detections}: cannot be read ({exc}); did the run end early?") from exc

    def write_results(self, results: dict[str, Any]) -> None:
        """Write results.json."""
        self.results.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _is_finished(file: h5py.File, point: str) -> bool:
    """`all` is captured first and judged for every cell, so its cells are those that need an H0 of their own."""
    cells = list(file[f"{point}/all"]) if f"{point}/all" in file else []
    # the attribute that is written last; a run may be stopped anywhere
    return bool(cells) and all("derivative_paths" in file.get(f"{point}/without:{c}/{c}", file).attrs for c in cells)


def _scene_to_copy(experiment: Experiment) -> tuple[str, bytes] | None:
    """Name and content of the scene file an experiment names; None for a packaged scene."""
    if experiment.emulator is None or not Path(experiment.emulator.scene).is_absolute():
        return None
    path = Path(experiment.emulator.scene)
    try:
        return path.name, path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"emulator.scene: {path.name} cannot be read ({exc.strerror or exc})") from exc


def write_detection(path: Path, key: str, detection: Detection) -> None:
    """Append a detection to a detections file; the file is closed, and whole, after each."""
    if detection.known_noise is None or detection.noise_var is None:
        raise CaptureError(f"{detection.node}: the capture holds no noise variance; capture 'muted' first")
    try:
        file = h5py.File(path, "a")
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be written; is it a detections file, in a directory that exists?") from exc
    with file:
        if key in file:
            del file[key]
        group = file.create_group(key)
        group["known_noise"] = detection.known_noise
        group["cfar"] = detection.cfar
        group["kappa"] = detection.kappa
        group["offset_samples"] = detection.sync.offset_samples
        group["offset_stderr_samples"] = detection.sync.stderr_samples
        for name in ("rank", "num_observations", "num_nuisance", "node", "cell", "condition"):
            group.attrs[name] = getattr(detection, name)
        group.attrs["noise_var"] = detection.noise_var.model_dump_json()
        group.attrs["residual_noise_var"] = detection.residual_noise_var.model_dump_json()
        group.attrs["derivative_paths"] = json.dumps(detection.derivative_paths)
        group.attrs["warnings"] = json.dumps(detection.warnings)


def read_detection(path: Path, key: str) -> StoredDetection:
    """Read a detection; CaptureError where the file does not hold it."""
    try:
        with h5py.File(path, "r") as file:
            group = file[key]
            return StoredDetection(
                cell=str(group.attrs["cell"]),
                node=str(group.attrs["node"]),
                condition=str(group.attrs["condition"]),
                known_noise=group["known_noise"][()],
                cfar=group["cfar"][()],
                rank=int(group.attrs["rank"]),
                num_observations=int(group.attrs["num_observations"]),
                num_nuisance=int(group.attrs["num_nuisance"]),
                kappa=group["kappa"][()],
                offset_samples=group["offset_samples"][()],
                offset_stderr_samples=group["offset_stderr_samples"][()],
                noise_var=Estimate.model_validate_json(group.attrs["noise_var"]),
                residual_noise_var=Estimate.model_validate_json(group.attrs["residual_noise_var"]),
                derivative_paths=tuple(json.loads(group.attrs["derivative_paths"])),
                warnings=tuple(json.loads(group.attrs["warnings"])),
            )
    except (OSError, KeyError, ValueError) as exc:
        raise CaptureError(f"{path}: detections '{key}' cannot be read ({exc}); did the run end early?") from exc
