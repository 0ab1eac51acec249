"""A run: open the network, measure its noise, walk the power axis, close the loop, judge."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed.allocation.base import Allocation
from testbed.capture import Capture, now, versions
from testbed.errors import ConfigError
from testbed.experiment import children
from testbed.experiment.acquire import acquire, transmit
from testbed.experiment.axis import run_axis
from testbed.experiment.conditions import Ask
from testbed.experiment.config import Experiment, load_experiment
from testbed.experiment.gather import RunResults, gather
from testbed.experiment.loop import run_loop
from testbed.experiment.perform import keep_samples
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.record import RunDirectory, SessionRecord
from testbed.experiment.rounds import load_rounds
from testbed.experiment.session import Session, capture_noise, open_session
from testbed.measurement import Estimate, load_measurements


def run(directory: RunDirectory, notify: Notify, ask: Ask) -> RunResults:
    """Run the experiment of a run directory, or what an interruption left of it. Every exit path mutes; captures on
    disk stay whole.

    Raises:
        ConfigError: the link budget forbids the run, with every fault.
        RadioError: a radio or the emulator failed; what was captured before stays readable.
    """
    # as written there: what is run is what can be run again
    experiment = load_experiment(str(directory.experiment))
    notify(Progress("opening radios"))
    before = directory.load_session()
    if before is not None and before.experiment_sha256 != experiment.sha256:
        raise ConfigError(
            f"{directory.experiment}: differs from the experiment that the run began with; undo the change, or start "
            f"another run"
        )
    with contextlib.ExitStack() as stack:
        gains = None if before is None else before.rx_gain_db
        session = stack.enter_context(open_session(experiment, directory.path / "emulator.log", ask, gains))
        truth_written = _start_truth(stack, experiment, directory, session.rx_gain_db)
        noise_var = _noise(session, experiment, directory, before, notify)
        truth_written()
        truth = load_measurements(directory.truth).points if directory.truth.exists() else None
        run_axis(session, experiment, directory, noise_var, truth, notify)
        if experiment.loop is not None:
            run_loop(session, experiment, directory, noise_var, notify)
    _write_truth_of_rounds(experiment, directory, session.rx_gain_db)
    results = gather(directory, experiment)
    directory.write_results(results.to_dict())
    return results


def capture_once(
    experiment: Experiment, path: Path, condition: str, allocation: Allocation, ask: Ask, info: dict[str, Any]
) -> Capture:
    """One capture of all nodes at one power vector under one condition, with the noise variance of a muted capture.

    `condition` is one of the experiment's, 'empty' or 'muted'; `info` is further plain data for the file.
    """
    length = experiment.samples_per_capture
    with tempfile.TemporaryDirectory(prefix="isac-") as folder:
        workspace = Path(folder)
        with open_session(experiment, workspace / "emulator.log", ask) as session:
            if condition == "muted":
                return acquire(path, session.radios, experiment, session.quiet, condition, length, {}, session.info)
            noise_var, _ = capture_noise(session, experiment, workspace / "muted.h5")
            wanted = experiment.waveform.frame(allocation.pilot_power, allocation.data_power)
            transmission = transmit(session.radios, wanted, experiment, session.rx_gain_db)
            session.conditions.set(condition)
            about = {**info, **session.info}
            return acquire(path, session.radios, experiment, transmission, condition, length, noise_var, about)


def _noise(
    session: Session, experiment: Experiment, directory: RunDirectory, before: SessionRecord | None, notify: Notify
) -> dict[str, Estimate]:
    """Noise variances, as the run began with them or from a capture with no transmitter on."""
    if before is not None:
        if directory.muted_path.exists():  # an interruption may have left it whole
            keep_samples(directory.muted_path, experiment)
        return before.noise_var
    noise_var, warnings = capture_noise(session, experiment, directory.muted_path)
    directory.save_session(
        SessionRecord(
            experiment_sha256=experiment.sha256,
            created=now("seconds"),
            simulated=any(radio.limits.simulated for radio in session.radios),
            emulator_seed=session.info.get("emulator_seed"),
            versions=versions(),
            rx_gain_db=session.rx_gain_db,
            noise_var=noise_var,
        )
    )
    keep_samples(directory.muted_path, experiment)
    notify(Progress("muted", len(session.radios) * experiment.muted_samples, warnings=warnings))
    return noise_var


def _start_truth(
    stack: contextlib.ExitStack, experiment: Experiment, directory: RunDirectory, rx_gain_db: dict[str, float]
) -> Callable[[], None]:
    """Begin writing the truth file of an emulated run; returns what waits for it."""
    if experiment.emulator is None or not experiment.axis_dbm or directory.truth.exists():
        return lambda: None
    scene, log = experiment.emulator.scene, directory.path / "truth.log"
    return stack.enter_context(children.truth(scene, directory.experiment, rx_gain_db, directory.truth, log))


def _write_truth_of_rounds(experiment: Experiment, directory: RunDirectory, rx_gain_db: dict[str, float]) -> None:
    """The truth at the powers of every round; they are known only now."""
    if experiment.emulator is None or experiment.loop is None:
        return
    powers = [made.record.wanted_power for made in load_rounds(directory.rounds)]
    scene, log, out = experiment.emulator.scene, directory.path / "truth.log", directory.truth_rounds
    with children.truth(scene, directory.experiment, rx_gain_db, out, log, powers) as written:
        written()
