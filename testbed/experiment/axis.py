"""The power axis: every node transmits with each power in turn."""

from collections.abc import Sequence

from testbed.allocation.base import equal_power
from testbed.experiment.config import Experiment
from testbed.experiment.perform import perform
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.record import RunDirectory
from testbed.experiment.results import point
from testbed.experiment.session import Session
from testbed.experiment.step import Step
from testbed.measurement import Estimate, Measurement, MeasurementFile, load_measurements, save_measurements
from testbed.units import undb


def run_axis(
    session: Session,
    experiment: Experiment,
    directory: RunDirectory,
    noise_var: dict[str, Estimate],
    truth: Sequence[Measurement] | None,
    notify: Notify,
) -> None:
    """Every power that the directory does not hold yet."""
    measured = _finished(directory)
    for index in range(len(measured), len(experiment.axis_dbm)):
        measured.append(_run_power(session, experiment, directory, index, noise_var, truth, notify))
        save_measurements(
            directory.measurements, MeasurementFile(experiment_sha256=experiment.sha256, points=tuple(measured))
        )


def _finished(directory: RunDirectory) -> list[Measurement]:
    """Measurements of the powers that were captured and judged under every condition."""
    if not directory.measurements.exists():
        return []
    return list(load_measurements(directory.measurements).points[: directory.num_finished_points()])


def _run_power(
    session: Session,
    experiment: Experiment,
    directory: RunDirectory,
    index: int,
    noise_var: dict[str, Estimate],
    truth: Sequence[Measurement] | None,
    notify: Notify,
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
    notify(Progress(f"{power_dbm:g} dBm", points=tuple(rows), warnings=outcome.warnings))
    return outcome.measurement
