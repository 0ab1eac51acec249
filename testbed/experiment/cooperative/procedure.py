"""A cooperative network as the command line runs it (see `testbed.experiment.procedure`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.device import Limits
from testbed.experiment.conditions import Ask
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.progress import Notify

if TYPE_CHECKING:
    from testbed.experiment.cooperative.budget import CooperativeBudget
    from testbed.experiment.cooperative.results import CooperativeResults
    from testbed.experiment.sweep_run import Sweep
    from testbed.sweep import SweepRow


def budget(experiment: CooperativeExperiment, limits: Mapping[str, Limits] | None = None) -> "CooperativeBudget":
    """Link budget at full power."""
    from testbed.experiment.cooperative.budget import link_budget

    return link_budget(experiment, limits)


def print_budget(budget: "CooperativeBudget", experiment: CooperativeExperiment) -> None:
    """As tables."""
    from testbed.experiment.cooperative import display

    display.print_budget(budget, experiment)


def run(path: Path, notify: Notify, ask: Ask) -> "CooperativeResults":
    """Locate, rate, close the loop, judge."""
    from testbed.experiment.cooperative.record import CooperativeRun
    from testbed.experiment.cooperative.run import run as run_cooperative

    return run_cooperative(CooperativeRun(path), notify, ask)


def load_results(path: Path) -> tuple[CooperativeExperiment, "CooperativeResults"]:
    """Experiment and results from the files of a run."""
    from testbed.experiment.cooperative.record import CooperativeRun
    from testbed.experiment.cooperative.results import gather
    from testbed.experiment.cooperative.run import load_cooperative

    directory = CooperativeRun(path)
    experiment = load_cooperative(directory.experiment)
    return experiment, gather(directory, experiment)


def print_outcome(results: "CooperativeResults", experiment: CooperativeExperiment) -> None:
    """Verdicts of location, users, loop."""
    from testbed.experiment.cooperative import display

    display.print_outcome(results, experiment)


def write_report(path: Path, experiment: CooperativeExperiment, results: "CooperativeResults") -> Path:
    """The HTML report."""
    from testbed.experiment.cooperative.record import CooperativeRun
    from testbed.experiment.cooperative.report import write_report

    return write_report(CooperativeRun(path), experiment, results)


def describe_row(result: dict[str, Any]) -> str:
    """Verdict of a point."""
    return f"{'consistent' if result['consistent'] else 'NOT consistent'} with theory"


def conclude_sweep(sweep: "Sweep", rows: "Sequence[SweepRow]") -> dict[str, Any]:
    """Results of every point as they are."""
    from testbed.experiment.cooperative.sweep import conclude

    return conclude(sweep, rows)


def print_sweep(sweep: "Sweep", found: dict[str, Any]) -> None:
    """That in words."""
    print(found["sentence"])
