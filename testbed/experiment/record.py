"""The run directory: what a run leaves on disk, readable at any moment.

experiment.toml     resolved, overrides included: `isac run` on it repeats the run
scene/              a copy of the scene, where the experiment named a file
devices/NODE/       copies of the device configurations it names, with their calibrations
session.json        receive gains and noise variances: what a resumed run takes over
captures/*.h5       what was received; muted.h5 with no transmitter on
truth.json          emulated runs only, written by isac-sim
results.json        what was found
report.html

Every kind of experiment adds files of its own.
"""

import shutil
from pathlib import Path
from typing import Any, Self

import tomli_w

from testbed.config import StrictModel
from testbed.documents import read_document, write_document
from testbed.errors import ConfigError
from testbed.experiment.config import Experiment
from testbed.experiment.devices import device_copies
from testbed.measurement import Estimate

MARKER = "experiment.toml"


class SessionRecord(StrictModel):
    """How a run began; one that is resumed goes on with it."""

    experiment_sha256: str
    created: str  # UTC, ISO 8601
    simulated: bool
    emulator_seed: int | list[int | None] | None = None  # of the noise, as the emulator reports it
    versions: dict[str, str]  # of Python and libraries
    rx_gain_db: dict[str, float]  # realised, per receiver
    noise_var: dict[str, Estimate]  # from the muted capture, milliwatt


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.captures = path / "captures"
        self.experiment = path / MARKER
        self.truth = path / "truth.json"
        self.session = path / "session.json"
        self.results = path / "results.json"
        self.report = path / "report.html"
        self._is_new = self._replaces = False

    @classmethod
    def create(cls, path: Path, experiment: Experiment, *, overwrite: bool) -> Self:
        """Make a new run directory. `overwrite` sets an earlier run aside as `<path>.old`, and nothing but a run.

        Raises:
            ConfigError: the path is taken or cannot be written.
        """
        run = cls(path)
        run._is_new = True
        scene = _scene_to_copy(experiment)
        document = experiment.model_dump(mode="json", exclude_none=True)
        devices = device_copies(document, "devices")
        try:
            run._make_room(overwrite)
            run.captures.mkdir(parents=True)
            if scene is not None:
                # copied unread: the world's business, but the run must be repeatable where it lies
                name, content = scene
                (path / "scene").mkdir()
                (path / "scene" / name).write_bytes(content)
                document["emulator"]["scene"] = f"scene/{name}"
            for name, content in devices.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
            if run._replaces:
                run._replaced.touch()
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
        self._replaces = True

    @property
    def _replaced(self) -> Path:
        """Says that `_aside` is a run which this one replaces; nothing else of that name is ever touched."""
        return self.path / ".replaces"

    @property
    def _aside(self) -> Path:
        """Where the run that this one replaces waits until this one is finished."""
        return self.path.with_name(self.path.name + ".old")

    def finish(self) -> None:
        """The run is complete: the one it replaces may go."""
        if self._replaced.exists():
            shutil.rmtree(self._aside, ignore_errors=True)
            self._replaced.unlink()

    def leave(self) -> str:
        """After a failure: keep a run that has begun, else remove it and put back what it was to replace; says which.

        Only a directory that this object made is ever removed, and only while nothing was measured in it.
        """
        captures = len(list(self.captures.glob("*.h5")))
        if captures or not self._is_new or self.session.exists():
            aside = f"; the run it was to replace is in {self._aside}" if self._replaced.exists() else ""
            found = f"{captures} captures are whole" if captures else "what was measured is whole"
            return f"{found} in {self.path}{aside}; to go on: isac run --resume {self.path}"
        replaces = self._replaced.exists()
        shutil.rmtree(self.path)
        if replaces:
            self._aside.rename(self.path)
            return f"nothing was captured; {self.path} is the earlier run again"
        return "nothing was captured"

    @classmethod
    def open(cls, path: Path) -> Self:
        """An existing run; ConfigError if it is none."""
        if not (path / MARKER).is_file():
            raise ConfigError(f"{path}: no run there ({MARKER} is missing); give the directory of an isac run")
        return cls(path)

    @property
    def muted_path(self) -> Path:
        """Capture with no transmitter on."""
        return self.captures / "muted.h5"

    def save_session(self, session: SessionRecord) -> None:
        """Write session.json."""
        write_document(self.session, session.model_dump(mode="json"))

    def load_session(self) -> SessionRecord | None:
        """Read session.json; None where the run has not come so far."""
        if not self.session.exists():
            return None
        return read_document(self.session, SessionRecord, "the session of a run", "run the experiment again")

    def write_results(self, results: dict[str, Any]) -> None:
        """Write results.json."""
        write_document(self.results, results)


def _scene_to_copy(experiment: Experiment) -> tuple[str, bytes] | None:
    """Name and content of the scene file an experiment names; None for a packaged scene."""
    if experiment.emulator is None or not Path(experiment.emulator.scene).is_absolute():
        return None
    path = Path(experiment.emulator.scene)
    try:
        return path.name, path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"emulator.scene: {path.name} cannot be read ({exc.strerror or exc})") from exc
