"""One step of a run: a power vector on the air, captured under every condition, judged and measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.allocation.base import Allocation
from testbed.capture import Capture, load, truncate
from testbed.experiment.acquire import Transmission, acquire, transmit
from testbed.experiment.config import Experiment
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.record import RunDirectory
from testbed.experiment.session import Session
from testbed.experiment.step import Step
from testbed.measurement import Estimate, Measurement
from testbed.sensing.detect import detect
from testbed.sensing.measure import measure

# Simulated noise is a function of the epoch. Every condition of every step has an epoch of its own, far enough apart
# that what comes between (muting, gains, transmitting) never reaches the next one.
FIRST_EPOCH = 4096
EPOCHS_PER_STEP = 4096
TRANSMIT_EPOCHS = 1024


@dataclass(frozen=True)
class Outcome:
    """What a step leaves besides its files."""

    transmission: Transmission
    measurement: Measurement
    gain_steps_db: tuple[float, ...]  # of the transmitting radios, in node order
    warnings: tuple[str, ...]


def perform(
    session: Session,
    experiment: Experiment,
    directory: RunDirectory,
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
        session.conditions.set(condition, epoch_of(step, index))
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


def epoch_of(step: Step, condition_idx: int) -> int:
    """The epoch of a condition of a step."""
    return FIRST_EPOCH + step.serial * EPOCHS_PER_STEP + TRANSMIT_EPOCHS + condition_idx


def keep_samples(path: Path, experiment: Experiment, capture: Capture | None = None) -> None:
    """Leave so much of a capture that has been used on disk as the experiment asks for."""
    frames = experiment.capture.keep_frames
    if frames == "all":
        return
    if frames == 0:
        path.unlink()
    else:
        truncate(path, capture or load(path), (frames + 1) * experiment.waveform.frame_len)


def _judges(experiment: Experiment, cells: Sequence[str]) -> set[str]:
    return {cell.node for cell in experiment.cells if cell.name in cells}
