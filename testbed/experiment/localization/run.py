"""A run of localisation: identify gains from K + 1 captures, solve, range at equal powers and at the solver's."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation, load_allocation, save_allocation
from testbed.capture import Capture, load
from testbed.documents import write_document
from testbed.experiment import children
from testbed.experiment.acquire import acquire, transmit
from testbed.experiment.begin import begun, keep_samples, measured_noise
from testbed.experiment.conditions import Ask, step_epoch
from testbed.experiment.load import load_experiment
from testbed.experiment.localization.config import LocalizationExperiment
from testbed.experiment.localization.display import power_line, range_lines
from testbed.experiment.localization.problem import allocate, in_words, range_problem
from testbed.experiment.localization.record import POWERS, LocalizationRun
from testbed.experiment.localization.results import LocalizationResults, gather
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.session import Session, open_session
from testbed.measurement import Estimate, RangeIdentification, load_identification, save_identification
from testbed.sensing.heard import Known
from testbed.sensing.identify import identify
from testbed.sensing.ranging import RangeOptions, estimate_ranges
from testbed.sensing.user_sinr import data_aided_sinr
from testbed.units import undb


def run(directory: LocalizationRun, notify: Notify, ask: Ask) -> LocalizationResults:
    """Run the experiment of a run directory, or what an interruption left of it. Every exit path mutes; captures on
    disk stay whole.

    Raises:
        ConfigError: the link budget forbids the run, with every fault.
        RadioError: a radio or the emulator failed; what was captured before stays readable.
    """
    experiment = load_localization(directory.experiment)
    notify(Progress("opening radios"))
    before = begun(directory, experiment)
    with contextlib.ExitStack() as stack:
        gains = None if before is None else before.rx_gain_db
        session = stack.enter_context(open_session(experiment, directory.path / "emulator.log", ask, gains))
        truth_written = _start_truth(stack, experiment, directory, session.rx_gain_db)
        noise_var = measured_noise(session, experiment, directory, before, notify, keep=True)
        identified = _identified(session, experiment, directory, noise_var, notify)
        truth_written()
        caps = _caps(session, experiment)
        _step(session, experiment, directory, "equal", caps, noise_var, notify)
        problem = range_problem(identified, experiment, caps)
        allocation = _allocated(directory, experiment, lambda: allocate(problem, experiment))
        note = in_words(problem, allocation, experiment)
        notify(Progress("solving", lines=(note or power_line(experiment, allocation),)))
        if not note:
            _step(session, experiment, directory, "optimum", allocation.power, noise_var, notify)
    results = gather(directory, experiment)
    directory.write_results(results.to_dict())
    return results


def load_localization(path: Path) -> LocalizationExperiment:
    """Read an experiment of this kind."""
    experiment = load_experiment(str(path))
    assert isinstance(experiment, LocalizationExperiment), "the caller has looked at its kind"
    return experiment


def _identified(
    session: Session,
    experiment: LocalizationExperiment,
    directory: LocalizationRun,
    noise_var: dict[str, Estimate],
    notify: Notify,
) -> RangeIdentification:
    """Gains from the muted capture and one of every node alone, at its cap."""
    if directory.identification.exists():
        return load_identification(directory.identification)
    shorter, caps = experiment.identification, _caps(session, experiment)
    alone: dict[str, Capture] = {}
    for index, node in enumerate(experiment.node_names):
        path = directory.alone_path(node)
        if not path.exists():
            only = np.where(np.arange(caps.size) == index, caps, 0.0)
            _captured(session, shorter, path, only, index, noise_var, {"alone": node})
        alone[node] = load(path)
        notify(Progress(f"{node} alone", len(session.radios) * shorter.samples_per_capture))
    identified = identify(load(directory.muted_path), alone, experiment.target.name)
    save_identification(directory.identification, identified)
    for path, capture in ((directory.alone_path(node), capture) for node, capture in alone.items()):
        keep_samples(path, shorter, capture)
    keep_samples(directory.muted_path, experiment)
    notify(Progress("identified", warnings=identified.warnings))
    return identified


def _step(
    session: Session,
    experiment: LocalizationExperiment,
    directory: LocalizationRun,
    powers: str,
    power: NDArray[np.float64],
    noise_var: dict[str, Estimate],
    notify: Notify,
) -> None:
    """Transmit, capture, range at every base station, measure users' SINRs."""
    stored = directory.load_users()
    if powers in stored.power:  # written last
        return
    path, serial = directory.powers_path(powers), _serial(experiment, powers)
    if not path.exists():
        _captured(session, experiment, path, power, serial, noise_var, {"powers": powers})
    notify(Progress(f"ranging at {powers} powers", len(session.radios) * experiment.samples_per_capture))
    capture = load(path)
    warnings = [note for node in capture.nodes for note in node.notes()]
    warnings += _ranged(experiment, directory, capture, powers, experiment.localization.known, notify)
    if (shorter := experiment.contrast) is not None:
        _contrast(session, shorter, directory, powers, power, noise_var, notify)
    assert capture.frame is not None, "something was transmitted"
    sinr = {user.name: data_aided_sinr(capture, user.name, user.node) for user in experiment.users}
    found = stored.model_copy(
        update={
            "power": stored.power | {powers: tuple(float(p) for p in capture.frame.power)},
            "sinr": stored.sinr | {powers: sinr},
        }
    )
    write_document(directory.users, found.model_dump(mode="json"))
    keep_samples(path, experiment, capture)
    notify(Progress(f"ranged at {powers} powers", warnings=tuple(warnings)))


def _ranged(
    experiment: LocalizationExperiment,
    directory: LocalizationRun,
    capture: Capture,
    powers: str,
    known: Known,
    notify: Notify,
) -> list[str]:
    """Range at every base station; returns warnings."""
    warnings = []
    options = RangeOptions(known=known, whiten=experiment.localization.whiten)
    for node in experiment.node_names:
        key = f"{powers}/{known}/{node}"
        if directory.has_ranging(key):  # an interrupted run came so far
            continue
        ranging = estimate_ranges(capture, node, options, cell=experiment.target.name)
        directory.write_ranging(key, ranging)
        shown = range_lines(powers, ranging) if known == experiment.localization.known else ()
        notify(Progress(f"ranging at {powers} powers", lines=shown))
        warnings += [f"{node}: {text}" for text in ranging.warnings]
    return warnings


def _contrast(
    session: Session,
    shorter: LocalizationExperiment,
    directory: LocalizationRun,
    powers: str,
    power: NDArray[np.float64],
    noise_var: dict[str, Estimate],
    notify: Notify,
) -> None:
    """A shorter capture at the same powers, ranged with every node's frames taken out."""
    path, serial = directory.contrast_path(powers), _serial(shorter, powers) + 1
    if not path.exists():
        _captured(session, shorter, path, power, serial, noise_var, {"powers": powers, "contrast": True})
    capture = load(path)
    notify(Progress(f"contrast at {powers} powers", len(session.radios) * shorter.samples_per_capture))
    _ranged(shorter, directory, capture, powers, "all", notify)
    keep_samples(path, shorter, capture)


def _serial(experiment: LocalizationExperiment, powers: str) -> int:
    """Of the capture at a power vector; that of its contrast follows. Epochs only go forward, in the order of a run."""
    return len(experiment.nodes) + 2 * POWERS.index(powers)


def _captured(
    session: Session,
    experiment: LocalizationExperiment,
    path: Path,
    power: NDArray[np.float64],
    serial: int,
    noise_var: dict[str, Estimate],
    info: dict[str, Any],
) -> None:
    transmission = transmit(session.radios, experiment.waveform.frame(power), experiment, session.rx_gain_db)
    session.conditions.set("all", step_epoch(serial))
    length, about = experiment.samples_per_capture, {**info, **session.info}
    acquire(path, session.radios, experiment, transmission, "all", length, noise_var, about)


def _caps(session: Session, experiment: LocalizationExperiment) -> NDArray[np.float64]:
    """Largest mean power of every base station, milliwatt: its cap, and what its radio can do with these frames."""
    unit = experiment.waveform.frame(np.ones(len(experiment.nodes)))
    largest = [
        radio.limits.largest_power(float(ratio))
        for radio, ratio in zip(session.radios, unit.peak_to_average, strict=False)
    ]
    return np.minimum(undb(experiment.localization.max_power_dbm), largest)


def _allocated(
    directory: LocalizationRun, experiment: LocalizationExperiment, make: Callable[[], Allocation]
) -> Allocation:
    if directory.allocation.exists():
        return load_allocation(directory.allocation)[0]
    allocation = make()
    save_allocation(directory.allocation, allocation, experiment.node_names)
    return allocation


def _start_truth(
    stack: contextlib.ExitStack,
    experiment: LocalizationExperiment,
    directory: LocalizationRun,
    rx_gain_db: dict[str, float],
) -> Callable[[], None]:
    """Begin writing the truth file of an emulated run; returns what waits for it."""
    if experiment.emulator is None or directory.truth.exists():
        return lambda: None
    table, log = experiment.emulator, directory.path / "truth.log"
    written = children.truth(
        table.scene,
        directory.experiment,
        rx_gain_db,
        directory.truth,
        log,
        self_isolation_db=table.self_isolation_db,
        paths_only=True,
    )
    return stack.enter_context(written)
