"""The power axis: every node transmits with each power in turn."""

from collections.abc import Sequence

from testbed.allocation.base import equal_power
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.display import point_lines
from testbed.experiment.comp.perform import perform
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import point
from testbed.experiment.comp.step import Step
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.session import Session
from testbed.measurement import Estimate, Measurement, MeasurementFile, load_measurements, save_measurements
from testbed.units import undb


def run_axis(
    session: Session,
    experiment: CompExperiment,
    directory: CompRun,
    noise_var: dict[str, Estimate],
    truth: Sequence[Measurement] | None,
    notify: Notify,
) -> None:
    """Every power that the directory does not hold yet."""
    measured = _finished(directory)
    first = len(measured)
    for index in range(first, len(experiment.axis_dbm)):
        is_first = index == first
        measured.append(_run_power(session, experiment, directory, index, noise_var, truth, notify, is_first))
        save_measurements(
            directory.measurements, MeasurementFile(experiment_sha256=experiment.sha256, points=tuple(measured))
        )


def _finished(directory: CompRun) -> list[Measurement]:
    """Measurements of the powers that were captured and judged under every condition."""
    if not directory.measurements.exists():
        return []
    return list(load_measurements(directory.measurements).points[: directory.num_finished_points()])


def _run_power(
    session: Session,
    experiment: CompExperiment,
    directory: CompRun,
    index: int,
    noise_var: dict[str, Estimate],
    truth: Sequence[Measurement] | None,
    notify: Notify,
    is_first: bool,
) -> Measurement:
    step, power_dbm, num_nodes = Step("points", index), experiment.axis_dbm[index], len(experiment.nodes)
    allocation = equal_power(undb(power_dbm) * num_nodes, num_nodes)
    outcome = perform(
        session,
        experiment,
        directory,
        step,
        allocation,
        noise_var,
        notify,
        info={"point": index, "power_dbm": power_dbm},
    )
    stored = [directory.detection(step, "all", cell.name) for cell in experiment.cells]
    exact = truth[index] if truth else None
    rows = [point(step, power_dbm, s, experiment.statistic, experiment.detection.pfa, exact) for s in stored]
    notify(
        Progress(
            f"{power_dbm:g} dBm", lines=point_lines(rows, experiment.statistic, is_first), warnings=outcome.warnings
        )
    )
    return outcome.measurement
