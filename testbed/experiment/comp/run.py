"""A run: open the network, measure its noise, walk the power axis, close the loop, judge."""

import contextlib
from collections.abc import Callable

from testbed.experiment import children
from testbed.experiment.begin import begun, measured_noise
from testbed.experiment.comp.axis import run_axis
from testbed.experiment.comp.config import CompExperiment, load_comp
from testbed.experiment.comp.gather import RunResults, gather
from testbed.experiment.comp.loop import run_loop
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.rounds import load_rounds
from testbed.experiment.conditions import Ask
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.session import open_session
from testbed.measurement import load_measurements


def run(directory: CompRun, notify: Notify, ask: Ask) -> RunResults:
    """Run the experiment of a run directory, or what an interruption left of it. Every exit path mutes; captures on
    disk stay whole.

    Raises:
        ConfigError: the link budget forbids the run, with every fault.
        RadioError: a radio or the emulator failed; what was captured before stays readable.
    """
    # as written there: what is run is what can be run again
    experiment = load_comp(str(directory.experiment))
    notify(Progress("opening radios"))
    before = begun(directory, experiment)
    with contextlib.ExitStack() as stack:
        gains = None if before is None else before.rx_gain_db
        session = stack.enter_context(open_session(experiment, directory.path / "emulator.log", ask, gains))
        truth_written = _start_truth(stack, experiment, directory, session.rx_gain_db)
        noise_var = measured_noise(session, experiment, directory, before, notify)
        truth_written()
        truth = load_measurements(directory.truth).points if directory.truth.exists() else None
        run_axis(session, experiment, directory, noise_var, truth, notify)
        if experiment.loop is not None:
            run_loop(session, experiment, directory, noise_var, notify)
    _write_truth_of_rounds(experiment, directory, session.rx_gain_db)
    results = gather(directory, experiment)
    directory.write_results(results.to_dict())
    return results


def _start_truth(
    stack: contextlib.ExitStack, experiment: CompExperiment, directory: CompRun, rx_gain_db: dict[str, float]
) -> Callable[[], None]:
    """Begin writing the truth file of an emulated run; returns what waits for it."""
    if experiment.emulator is None or not experiment.axis_dbm or directory.truth.exists():
        return lambda: None
    scene, log = experiment.emulator.scene, directory.path / "truth.log"
    return stack.enter_context(children.truth(scene, directory.experiment, rx_gain_db, directory.truth, log))


def _write_truth_of_rounds(experiment: CompExperiment, directory: CompRun, rx_gain_db: dict[str, float]) -> None:
    """The truth at the powers of every round; they are known only now."""
    if experiment.emulator is None or experiment.loop is None:
        return
    powers = [made.record.wanted_power for made in load_rounds(directory.rounds)]
    scene, log, out = experiment.emulator.scene, directory.path / "truth.log", directory.truth_rounds
    with children.truth(scene, directory.experiment, rx_gain_db, out, log, powers) as written:
        written()
