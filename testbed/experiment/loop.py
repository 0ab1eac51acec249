"""The run: for every power transmit, capture under every condition, detect, record; then judge."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from testbed.allocation.base import equal_power
from testbed.capture import Capture
from testbed.errors import ConfigError
from testbed.experiment import children
from testbed.experiment.acquire import acquire, mute, noise_estimate, open_radios, plan_receivers, transmit
from testbed.experiment.budget import link_budget
from testbed.experiment.conditions import Ask, EmulatorConditions, OperatorConditions
from testbed.experiment.config import Experiment
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.record import RunDirectory
from testbed.experiment.results import Results, gather, measurement, measurements, point
from testbed.measurement import Estimate, load_measurements, save_measurements
from testbed.radio.base import Radio
from testbed.sensing.detect import detect
from testbed.units import undb

MIN_NOISE_LSB = 0.9  # rms per rail; the preset sits at 1


def run(experiment: Experiment, directory: RunDirectory, notify: Notify, ask: Ask) -> Results:
    """Run an experiment into its directory. Transmitters are muted on every exit path; captures on disk stay whole.

    Raises:
        ConfigError: the link budget forbids the run, with every fault.
        RadioError: a radio or the emulator failed; what was captured before stays readable.
    """
    with contextlib.ExitStack() as stack:
        notify(Progress("opening radios"))
        radios, conditions = _open(stack, experiment, directory.path / "emulator.log", ask)
        rx_gain_db = _plan(radios, conditions, experiment, max(experiment.power.axis_dbm))
        truth_written = _start_truth(stack, experiment, directory, rx_gain_db)
        noise_var = _muted_capture(experiment, directory, radios, rx_gain_db, notify)
        truth_written()
        truth = load_measurements(directory.truth) if directory.truth.exists() else None

        points = []
        for index, power_dbm in enumerate(experiment.power.axis_dbm):
            allocation = equal_power(undb(power_dbm) * len(radios), len(radios))
            wanted = experiment.waveform.frame(allocation.pilot_power, allocation.data_power)
            transmission = transmit(radios, wanted, experiment, rx_gain_db)
            warnings: dict[str, None] = {}
            for condition in experiment.conditions:
                conditions.set(condition)
                judged = [c for c in experiment.cells if condition in ("all", f"without:{c.name}")]
                listening = [r for r in radios if condition == "all" or r.name in {c.node for c in judged}]
                info = {"point": index, "power_dbm": power_dbm}
                path = directory.capture_path(index, condition)
                length = experiment.samples_per_capture
                capture = acquire(path, listening, experiment, transmission, condition, length, noise_var, info)
                for cell in judged:
                    detection = detect(capture, cell.name)
                    warnings |= dict.fromkeys(detection.warnings)
                    directory.add_detection(index, detection)
                notify(Progress(f"{power_dbm:g} dBm, {condition}", len(listening) * length))
            stored = [directory.detection(index, "all", cell.name) for cell in experiment.cells]
            assert transmission.frame is not None
            points.append(measurement(experiment, [float(p) for p in transmission.frame.power], stored))
            save_measurements(directory.measurements, measurements(experiment, points))
            exact = truth.points[index] if truth else None
            rows = tuple(
                point(index, power_dbm, s, experiment.detection.statistic, experiment.detection.pfa, exact)
                for s in stored
            )
            notify(Progress(f"{power_dbm:g} dBm", points=rows, warnings=tuple(warnings)))
    results = gather(directory, experiment, len(points))
    directory.write_results(results.to_dict())
    return results


def capture_once(experiment: Experiment, path: Path, condition: str, power_dbm: float, ask: Ask) -> Capture:
    """One capture of all nodes at one power under one condition, with the noise variance of a muted capture.

    `condition` is one of the experiment's, 'empty' or 'muted'. The emulator's log stands beside the capture while it
    runs.
    """
    with contextlib.ExitStack() as stack:
        workspace = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isac-")))
        radios, conditions = _open(stack, experiment, workspace / "emulator.log", ask)
        rx_gain_db = _plan(radios, conditions, experiment, power_dbm)
        quiet = mute(radios, experiment, rx_gain_db)
        length = experiment.samples_per_capture
        if condition == "muted":
            return acquire(path, radios, experiment, quiet, condition, length, {}, {})
        muted = workspace / "muted.h5"
        noise = acquire(muted, radios, experiment, quiet, "muted", experiment.muted_samples, {}, {})
        noise_var = {node.name: noise_estimate(node.raw, node.lsb) for node in noise.nodes}
        power = np.full(len(radios), undb(power_dbm))
        transmission = transmit(radios, experiment.waveform.frame(power), experiment, rx_gain_db)
        conditions.set(condition)
        info = {"power_dbm": power_dbm}
        return acquire(path, radios, experiment, transmission, condition, length, noise_var, info)


def _open(
    stack: contextlib.ExitStack, experiment: Experiment, log: Path, ask: Ask
) -> tuple[list[Radio], EmulatorConditions | OperatorConditions]:
    """Start the emulator if there is one, open the radios, and refuse what the link budget forbids."""
    endpoint = None
    if experiment.emulator is not None:
        table = experiment.emulator
        endpoint = stack.enter_context(children.emulator(table.scene, table.seed, log))
    radios = stack.enter_context(open_radios(experiment, endpoint))
    conditions = EmulatorConditions(endpoint) if endpoint else OperatorConditions(ask)
    stack.callback(conditions.close)
    for limits in dict.fromkeys(radio.limits for radio in radios):
        faults = link_budget(experiment, limits).faults
        if faults:
            raise ConfigError(f"link budget ({limits.model}): " + "; ".join(faults))
    return radios, conditions


def _plan(
    radios: list[Radio], conditions: EmulatorConditions | OperatorConditions, experiment: Experiment, power_dbm: float
) -> dict[str, float]:
    """Receive gains for the highest power of the session, with every target on."""
    conditions.set("all")
    loudest = experiment.waveform.frame(np.full(len(radios), undb(power_dbm)))
    return plan_receivers(radios, experiment, loudest)


def _start_truth(
    stack: contextlib.ExitStack, experiment: Experiment, directory: RunDirectory, rx_gain_db: dict[str, float]
) -> Callable[[], None]:
    """Begin writing the truth file of an emulated run; returns what waits for it."""
    if experiment.emulator is None:
        return lambda: None
    scene, log = experiment.emulator.scene, directory.path / "truth.log"
    return stack.enter_context(children.truth(scene, directory.experiment, rx_gain_db, directory.truth, log))


def _muted_capture(
    experiment: Experiment,
    directory: RunDirectory,
    radios: list[Radio],
    rx_gain_db: dict[str, float],
    notify: Notify,
) -> dict[str, Estimate]:
    """Capture with no transmitter on, and the noise variance of every node."""
    transmission = mute(radios, experiment, rx_gain_db)
    length = experiment.muted_samples
    capture = acquire(directory.muted_path, radios, experiment, transmission, "muted", length, {}, {})
    notify(Progress("muted", len(radios) * length, warnings=tuple(_coarse_noise(capture))))
    return {node.name: noise_estimate(node.raw, node.lsb) for node in capture.nodes}


def _coarse_noise(capture: Capture) -> list[str]:
    """Nodes whose noise is too small for the converter: its rounding error is then no longer noise."""
    rms = {node.name: float(np.sqrt(np.mean(np.square(node.raw, dtype=np.float64)))) for node in capture.nodes}
    return [
        f"{name}: noise is {value:.2f} LSB rms per rail, at least {MIN_NOISE_LSB:g} wanted; raise rx_gain_db"
        for name, value in rms.items()
        if value < MIN_NOISE_LSB
    ]
