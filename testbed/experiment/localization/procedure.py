"""Localisation as the command line runs it (see `testbed.experiment.procedure`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.device import Limits
from testbed.experiment.conditions import Ask
from testbed.experiment.localization.config import LocalizationExperiment
from testbed.experiment.progress import Notify

if TYPE_CHECKING:
    from testbed.experiment.localization.budget import LocalizationBudget
    from testbed.experiment.localization.results import LocalizationResults
    from testbed.experiment.sweep_run import Sweep
    from testbed.sweep import SweepRow


def budget(experiment: LocalizationExperiment, limits: Mapping[str, Limits] | None = None) -> "LocalizationBudget":
    """Link budget at the cap."""
    from testbed.experiment.localization.budget import link_budget

    return link_budget(experiment, limits)


def print_budget(budget: "LocalizationBudget", experiment: LocalizationExperiment) -> None:
    """As tables."""
    from testbed.experiment.localization import display

    display.print_budget(budget, experiment)


def run(path: Path, notify: Notify, ask: Ask) -> "LocalizationResults":
    """Identify, solve, range at equal powers and at the solver's, judge."""
    from testbed.experiment.localization.record import LocalizationRun
    from testbed.experiment.localization.run import run as run_localization

    return run_localization(LocalizationRun(path), notify, ask)


def load_results(path: Path) -> tuple[LocalizationExperiment, "LocalizationResults"]:
    """Experiment and results from the files of a run."""
    from testbed.experiment.localization.record import LocalizationRun
    from testbed.experiment.localization.results import gather
    from testbed.experiment.localization.run import load_localization

    directory = LocalizationRun(path)
    experiment = load_localization(directory.experiment)
    return experiment, gather(directory, experiment)


def print_outcome(results: "LocalizationResults", experiment: LocalizationExperiment) -> None:
    """Ranges, SINRs, positions, verdict."""
    from testbed.experiment.localization import display

    display.print_outcome(results, experiment)


def write_report(path: Path, experiment: LocalizationExperiment, results: "LocalizationResults") -> Path:
    """The HTML report."""
    from testbed.experiment.localization.record import LocalizationRun
    from testbed.experiment.localization.report import write_report

    return write_report(LocalizationRun(path), experiment, results)


def describe_row(result: dict[str, Any]) -> str:
    """Worst ranges and verdict of a point."""
    worst = "; ".join(f"{row['powers']} {row['std_m']:.3f} m" for row in result["worst"])
    return f"worst range {worst}, {'consistent' if result['consistent'] else 'NOT consistent'} with theory"


def conclude_sweep(sweep: "Sweep", rows: "Sequence[SweepRow]") -> dict[str, Any]:
    """One verdict over all points, and the worst range along the sweep."""
    from testbed.experiment.localization.sweep import conclude

    return conclude(sweep, rows)


def print_sweep(sweep: "Sweep", found: dict[str, Any]) -> None:
    """That in words."""
    print(found["sentence"])
