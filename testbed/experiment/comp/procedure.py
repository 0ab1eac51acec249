"""CoMP as the command line runs it (see `testbed.experiment.procedure`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.device import Limits
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.conditions import Ask
from testbed.experiment.progress import Notify

if TYPE_CHECKING:
    from testbed.experiment.comp.budget import Budget
    from testbed.experiment.comp.gather import RunResults
    from testbed.experiment.sweep_run import Sweep
    from testbed.sweep import SweepRow


def budget(experiment: CompExperiment, limits: Mapping[str, Limits] | None = None) -> "Budget":
    """Link budget with the predicted PoD at every power."""
    from testbed.experiment.comp.budget import link_budget

    return link_budget(experiment, limits)


def print_budget(budget: "Budget", experiment: CompExperiment) -> None:
    """As tables."""
    from testbed.experiment.comp import display

    display.print_budget(budget, experiment)


def run(path: Path, notify: Notify, ask: Ask) -> "RunResults":
    """Walk the power axis, close the loop, judge."""
    from testbed.experiment.comp.record import CompRun
    from testbed.experiment.comp.run import run as run_comp

    return run_comp(CompRun(path), notify, ask)


def load_results(path: Path) -> tuple[CompExperiment, "RunResults"]:
    """Experiment and results from the files of a run."""
    from testbed.experiment.comp.record import CompRun
    from testbed.experiment.report.page import load_results

    return load_results(CompRun(path))


def print_outcome(results: "RunResults", experiment: CompExperiment) -> None:
    """Every verdict, and what the last round delivered."""
    from testbed.experiment.comp import display

    display.print_outcome(results, experiment)


def write_report(path: Path, experiment: CompExperiment, results: "RunResults") -> Path:
    """The HTML report."""
    from testbed.experiment.comp.record import CompRun
    from testbed.experiment.report.page import write_report

    return write_report(CompRun(path), experiment, results)


def describe_row(result: dict[str, Any]) -> str:
    """Sum rate, requirements and verdict of a point."""
    said = "consistent with theory" if result["consistent"] else "NOT consistent with theory"
    if "loop" not in result:
        return said
    last = result["loop"]["rounds"][-1]
    rate = last["sum_rate_bps_hz"]
    met = "met" if last["is_met"] else "NOT met"
    return f"{rate['value']:.3f} +- {rate['stderr']:.3f} bit/s/Hz, requirements {met}, {said}"


def conclude_sweep(sweep: "Sweep", rows: "Sequence[SweepRow]") -> dict[str, Any]:
    """Order of the schemes, a verdict over all points, figures."""
    from testbed.experiment.comp.sweep import conclude

    return conclude(sweep, rows)


def print_sweep(sweep: "Sweep", found: dict[str, Any]) -> None:
    """That in words."""
    order = found["order"]
    if order["num_pairs"]:
        differ = f"; not: {', '.join(order['disagreeing'])}" if order["disagreeing"] else ""
        print(
            f"order of schemes: {order['num_agreeing']} of {order['num_pairs']} pairs that theory sets apart by more "
            f"than 3 standard errors are measured in that order{differ}"
        )
    if found["equal_power"] is not None:
        answer = "consistent" if found["equal_power"]["consistent"] else "NOT consistent"
        print(f"PoD over the budget, equal power: {answer} with theory ({found['equal_power']['deciding']})")
