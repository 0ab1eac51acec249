"""What every kind of experiment can do: the command line knows kinds by this alone.

A kind is a package `testbed.experiment.<kind>` with a model of its file (`config`) and a module `procedure` of the
functions below. That module is imported when it is asked for, for it may need HDF5, solvers and figures.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from testbed.device import Limits
from testbed.experiment.conditions import Ask
from testbed.experiment.config import Experiment
from testbed.experiment.progress import Notify


class Budget(Protocol):
    """The link budget of a run; `faults` forbid it."""

    @property
    def faults(self) -> tuple[str, ...]:
        """One line each."""

    @property
    def disk_bytes(self) -> int:
        """Needed while it runs."""

    @property
    def num_samples(self) -> int:
        """Captured in all."""

    def summary(self) -> str:
        """One line: samples, disk, time."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""


class Results(Protocol):
    """What a run found."""

    @property
    def consistent(self) -> bool:
        """Whether every verdict is that measurement and theory are consistent."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for results.json and --json."""


class Procedure(Protocol):
    """A module that runs one kind of experiment; models and results are those of its kind."""

    def budget(self, experiment: Any, limits: Mapping[str, Limits] | None = None) -> Budget:
        """Link budget, of radios by name as they report themselves, else as the experiment assumes them."""

    def print_budget(self, budget: Any, experiment: Any) -> None:
        """As tables."""

    def run(self, path: Path, notify: Notify, ask: Ask) -> Results:
        """Run what a run directory holds, or what an interruption left of it. Every exit path mutes."""

    def load_results(self, path: Path) -> tuple[Any, Any]:
        """Experiment and results of a run from its files."""

    def print_outcome(self, results: Any, experiment: Any) -> None:
        """The verdict in a few lines."""

    def write_report(self, path: Path, experiment: Any, results: Any) -> Path:
        """The HTML report; returns its path."""

    def describe_row(self, result: dict[str, Any]) -> str:
        """A point of a sweep in a few words."""

    def conclude_sweep(self, sweep: Any, rows: Sequence[Any]) -> dict[str, Any]:
        """What the points of a sweep say together; rows, figures and verdicts into its folder."""

    def print_sweep(self, sweep: Any, found: dict[str, Any]) -> None:
        """That in words."""


def procedure(experiment: Experiment) -> Procedure:
    """What runs an experiment of this kind."""
    return cast(Procedure, importlib.import_module(f"testbed.experiment.{experiment.kind}.procedure"))
