"""One step of a run: a power vector on the air, captured under every condition, judged and measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.allocation.base import Allocation
from testbed.experiment.acquire import Transmission, acquire, transmit
from testbed.experiment.begin import keep_samples
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.step import Step
from testbed.experiment.conditions import step_epoch
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.session import Session
from testbed.measurement import Estimate, Measurement
from testbed.sensing.detect import detect
from testbed.sensing.measure import measure


@dataclass(frozen=True)
class Outcome:
    """What a step leaves besides its files."""

    transmission: Transmission
    measurement: Measurement
    gain_steps_db: tuple[float, ...]  # of the transmitting radios, in node order
    warnings: tuple[str, ...]


def perform(
    session: Session,
    experiment: CompExperiment,
    directory: CompRun,
    step: Step,
    allocation: Allocation,
    noise_var: dict[str, Estimate],
    notify: Notify,
    *,
    info: Mapping[str, Any],
    previous: Measurement | None = None,
) -> Outcome:
    """Transmit, capture under every condition, detect and measure; statistics and samples go into the directory.

    Args:
        session: open radios.
        experiment: resolved.
        directory: of the run.
        step: names the files.
        allocation: powers wanted.
        noise_var: per receiver, from the muted capture.
        notify: told of every capture.
        info: further plain data for the captures.
        previous: measurement of the step before; stands in for transmitters that are silent now.
    """
    wanted = experiment.waveform.frame(allocation.pilot_power, allocation.data_power)
    transmission = transmit(session.radios, wanted, experiment, session.rx_gain_db)
    about = {"step": step.key, **info, **session.info}
    measurement = None
    warnings: dict[str, None] = {}
    length = experiment.samples_per_capture
    for index, condition in enumerate(experiment.conditions):
        session.conditions.set(condition, step_epoch(step.serial, index))
        judged = [c.name for c in experiment.cells if condition in ("all", f"without:{c.name}")]
        listening = [r for r in session.radios if condition == "all" or r.name in _judges(experiment, judged)]
        path = directory.capture_path(step, condition)
        capture = acquire(path, listening, experiment, transmission, condition, length, noise_var, about)
        warnings |= dict.fromkeys(note for node in capture.nodes for note in node.notes())
        if condition == "all":
            measured = measure(capture, previous)
            measurement, detections = measured.measurement, measured.detections
            warnings |= dict.fromkeys(measured.warnings)
            for link in measured.links:
                directory.add_link(step, link)
        else:
            detections = tuple(detect(capture, name) for name in judged)
        for detection in detections:
            warnings |= dict.fromkeys(detection.warnings)
            directory.add_detection(step, detection)
        keep_samples(path, experiment, capture)
        notify(Progress(f"{step.title}, {condition}", len(listening) * length))
    assert measurement is not None, "'all' is a condition of every experiment"
    steps_db = tuple(r.limits.tx_gain_step_db for r in session.radios[: len(experiment.nodes)])
    return Outcome(transmission, measurement, steps_db, tuple(warnings))


def _judges(experiment: CompExperiment, cells: Sequence[str]) -> set[str]:
    return {cell.node for cell in experiment.cells if cell.name in cells}
