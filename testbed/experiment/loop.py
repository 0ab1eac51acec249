"""The run: for every power transmit, capture under every condition, detect, record; then judge."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from testbed.allocation.base import equal_power
from testbed.capture import Capture
from testbed.experiment import children
from testbed.experiment.acquire import Transmission, acquire, transmit
from testbed.experiment.conditions import Ask
from testbed.experiment.config import Experiment, load_experiment
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.record import RunDirectory
from testbed.experiment.results import Results, gather, measurement, measurements, point
from testbed.experiment.session import Session, capture_noise, open_session
from testbed.measurement import Estimate, Measurement, load_measurements, save_measurements
from testbed.sensing.detect import detect
from testbed.units import undb


def run(directory: RunDirectory, notify: Notify, ask: Ask) -> Results:
    """Run the experiment of a run directory. Every exit path mutes; captures on disk stay whole.

    Raises:
        ConfigError: the link budget forbids the run, with every fault.
        RadioError: a radio or the emulator failed; what was captured before stays readable.
    """
    # as written there: what is run is what can be run again
    experiment = load_experiment(str(directory.experiment))
    notify(Progress("opening radios"))
    power_dbm = max(experiment.power.axis_dbm)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_session(experiment, power_dbm, directory.path / "emulator.log", ask))
        truth_written = _start_truth(stack, experiment, directory, session.rx_gain_db)
        noise_var, warnings = capture_noise(session, experiment, directory.muted_path)
        notify(Progress("muted", len(session.radios) * experiment.muted_samples, warnings=warnings))
        truth_written()
        truth = load_measurements(directory.truth).points if directory.truth.exists() else None
        points: list[Measurement] = []
        for index in range(len(experiment.power.axis_dbm)):
            points.append(_run_power(session, experiment, directory, index, noise_var, truth, notify))
            save_measurements(directory.measurements, measurements(experiment, points))
    results = gather(directory, experiment, len(points))
    directory.write_results(results.to_dict())
    return results


def capture_once(experiment: Experiment, path: Path, condition: str, power_dbm: float, ask: Ask) -> Capture:
    """One capture of all nodes at one power under one condition, with the noise variance of a muted capture.

    `condition` is one of the experiment's, 'empty' or 'muted'.
    """
    length = experiment.samples_per_capture
    with tempfile.TemporaryDirectory(prefix="isac-") as folder:
        workspace = Path(folder)
        with open_session(experiment, power_dbm, workspace / "emulator.log", ask) as session:
            if condition == "muted":
                return acquire(path, session.radios, experiment, session.quiet, condition, length, {}, session.info)
            noise_var, _ = capture_noise(session, experiment, workspace / "muted.h5")
            transmission = _transmit(session, experiment, power_dbm)
            session.conditions.set(condition)
            info = {"power_dbm": power_dbm, **session.info}
            return acquire(path, session.radios, experiment, transmission, condition, length, noise_var, info)


def _run_power(
    session: Session,
    experiment: Experiment,
    directory: RunDirectory,
    index: int,
    noise_var: dict[str, Estimate],
    truth: tuple[Measurement, ...] | None,
    notify: Notify,
) -> Measurement:
    """Everything at one power of the axis; returns what was measured."""
    power_dbm = experiment.power.axis_dbm[index]
    transmission = _transmit(session, experiment, power_dbm)
    info = {"point": index, "power_dbm": power_dbm, **session.info}
    warnings: dict[str, None] = {}
    for condition in experiment.conditions:
        session.conditions.set(condition)
        judged = [c for c in experiment.cells if condition in ("all", f"without:{c.name}")]
        listening = [r for r in session.radios if condition == "all" or r.name in {c.node for c in judged}]
        path, length = directory.capture_path(index, condition), experiment.samples_per_capture
        capture = acquire(path, listening, experiment, transmission, condition, length, noise_var, info)
        for cell in judged:
            detection = detect(capture, cell.name)
            warnings |= dict.fromkeys(detection.warnings)
            directory.add_detection(index, detection)
        notify(Progress(f"{power_dbm:g} dBm, {condition}", len(listening) * length))
    stored = [directory.detection(index, "all", cell.name) for cell in experiment.cells]
    exact = truth[index] if truth else None
    rows = [point(index, power_dbm, s, experiment.statistic, experiment.detection.pfa, exact) for s in stored]
    notify(Progress(f"{power_dbm:g} dBm", points=tuple(rows), warnings=tuple(warnings)))
    assert transmission.frame is not None, "a power of the axis is never zero"
    return measurement(experiment, [float(p) for p in transmission.frame.power], stored)


def _transmit(session: Session, experiment: Experiment, power_dbm: float) -> Transmission:
    """Equal powers on all nodes."""
    num_nodes = len(session.radios)
    allocation = equal_power(undb(power_dbm) * num_nodes, num_nodes)
    wanted = experiment.waveform.frame(allocation.pilot_power, allocation.data_power)
    return transmit(session.radios, wanted, experiment, session.rx_gain_db)


def _start_truth(
    stack: contextlib.ExitStack, experiment: Experiment, directory: RunDirectory, rx_gain_db: dict[str, float]
) -> Callable[[], None]:
    """Begin writing the truth file of an emulated run; returns what waits for it."""
    if experiment.emulator is None:
        return lambda: None
    scene, log = experiment.emulator.scene, directory.path / "truth.log"
    return stack.enter_context(children.truth(scene, directory.experiment, rx_gain_db, directory.truth, log))
