"""The uplink as the command line runs it (see `testbed.experiment.procedure`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.device import Limits
from testbed.experiment.conditions import Ask
from testbed.experiment.progress import Notify
from testbed.experiment.uplink.config import UplinkExperiment

if TYPE_CHECKING:
    from testbed.experiment.sweep_run import Sweep
    from testbed.experiment.uplink.budget import UplinkBudget
    from testbed.experiment.uplink.results import UplinkResults
    from testbed.sweep import SweepRow


def budget(experiment: UplinkExperiment, limits: Mapping[str, Limits] | None = None) -> "UplinkBudget":
    """Link budget at the highest common power."""
    from testbed.experiment.uplink.budget import link_budget

    return link_budget(experiment, limits)


def print_budget(budget: "UplinkBudget", experiment: UplinkExperiment) -> None:
    """As tables."""
    from testbed.experiment.uplink import display

    display.print_budget(budget, experiment)


def run(path: Path, notify: Notify, ask: Ask) -> "UplinkResults":
    """Detect, rate, close the loop, judge."""
    from testbed.experiment.uplink.record import UplinkRun
    from testbed.experiment.uplink.run import run as run_uplink

    return run_uplink(UplinkRun(path), notify, ask)


def load_results(path: Path) -> tuple[UplinkExperiment, "UplinkResults"]:
    """Experiment and results from the files of a run."""
    from testbed.experiment.uplink.record import UplinkRun
    from testbed.experiment.uplink.results import gather
    from testbed.experiment.uplink.run import load_uplink

    directory = UplinkRun(path)
    experiment = load_uplink(directory.experiment)
    return experiment, gather(directory, experiment)


def print_outcome(results: "UplinkResults", experiment: UplinkExperiment) -> None:
    """Verdicts of detector, rates, loop."""
    from testbed.experiment.uplink import display

    display.print_outcome(results, experiment)


def write_report(path: Path, experiment: UplinkExperiment, results: "UplinkResults") -> Path:
    """The HTML report."""
    from testbed.experiment.uplink.record import UplinkRun
    from testbed.experiment.uplink.report import write_report

    return write_report(UplinkRun(path), experiment, results)


def describe_row(result: dict[str, Any]) -> str:
    """Verdict and rise of a point."""
    said = "consistent" if result["consistent"] else "NOT consistent"
    rise = result["rise_bps_hz"]
    gain = "" if rise is None else f"sum rate {rise['value']:+.3f} +- {rise['stderr']:.3f} bit/s/Hz, "
    return f"{gain}{said} with theory"


def conclude_sweep(sweep: "Sweep", rows: "Sequence[SweepRow]") -> dict[str, Any]:
    """Results of every point as they are."""
    from testbed.experiment.uplink.sweep import conclude

    return conclude(sweep, rows)


def print_sweep(sweep: "Sweep", found: dict[str, Any]) -> None:
    """That in words."""
    print(found["sentence"])
