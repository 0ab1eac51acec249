"""The closed loop: transmit, capture, measure, allocate, and transmit with the powers that came out.

    plan -> transmit -> capture -> detect, measure -> allocate -> transmit -> ...

It ends on a count, or when no power would move by more than one gain step of its radio. A problem without a solution
keeps the last safe powers, says what is missing, and goes on.
"""

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation
from testbed.experiment.comp.config import AllocationTable, CompExperiment
from testbed.experiment.comp.feedback import allocate, feedback, first_allocation, in_words
from testbed.experiment.comp.loop_display import round_lines
from testbed.experiment.comp.perform import Outcome, perform
from testbed.experiment.comp.prediction import Prediction, predict
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.rounds import Round, RoundRecord, load_rounds, save_round
from testbed.experiment.comp.step import Step
from testbed.experiment.comp.summary import summarise
from testbed.experiment.progress import Notify, Progress
from testbed.experiment.session import Session
from testbed.measurement import Estimate, Measurement
from testbed.units import db


def run_loop(
    session: Session,
    experiment: CompExperiment,
    directory: CompRun,
    noise_var: dict[str, Estimate],
    notify: Notify,
) -> None:
    """Every round that the directory does not hold yet, from the powers of the last one that it holds."""
    assert experiment.loop is not None and experiment.allocation is not None, "the caller has looked"
    rounds = load_rounds(directory.rounds)
    allocation, previous = first_allocation(experiment), None
    if rounds:
        allocation, previous = _given(rounds[-1].record.next_power), rounds[-1].measurement
    while not _is_over(rounds, experiment):
        step = Step("rounds", len(rounds))
        info = {"round": step.index, "power_dbm": [db(float(p)) if p > 0 else None for p in allocation.power]}
        outcome = perform(
            session, experiment, directory, step, allocation, noise_var, notify, info=info, previous=previous
        )
        predicted = _prediction(previous, outcome, experiment)
        made, allocation = close(experiment, step.index, allocation, outcome, predicted)
        save_round(directory.round_path(step.index), made, experiment.sha256)
        rounds.append(made)
        previous = made.measurement
        lines = tuple(round_lines(summarise(directory, experiment, made)))
        notify(Progress(step.title, lines=lines, warnings=made.record.warnings))


def close(
    experiment: CompExperiment, index: int, used: Allocation, outcome: Outcome, predicted: Prediction | None
) -> tuple[Round, Allocation]:
    """Feed a round's measurement to the solver; returns the round, and the powers of the next."""
    assert experiment.allocation is not None and outcome.transmission.frame is not None, "the caller has looked"
    given = feedback(outcome.measurement, experiment)
    proposal = allocate(given, experiment.allocation)
    note, following = "", proposal
    if proposal.status == "infeasible":
        note, following = f"{_what_is_kept(experiment.allocation, index)}: {in_words(given, proposal)}", used
    record = RoundRecord(
        index=index,
        wanted_power=_numbers(used.power),
        realised_power=_numbers(outcome.transmission.frame.power),
        tx_gain_db={name: outcome.transmission.settings[name].tx_gain_db for name in experiment.node_names},
        predicted=predicted,
        status=proposal.status,
        note=note,
        next_power=_numbers(following.power),
        settled=_is_settled(used, following, outcome) and not (note and not experiment.allocation.is_fixed),
        warnings=(*outcome.warnings, *([f"allocation: {proposal.note}"] if proposal.note else [])),
    )
    return Round(record, outcome.measurement, proposal), following


def _is_over(rounds: list[Round], experiment: CompExperiment) -> bool:
    assert experiment.loop is not None, "the caller has looked"
    settled = bool(rounds) and rounds[-1].record.settled and experiment.loop.until_settled
    return settled or len(rounds) >= experiment.loop.num_rounds


def _is_settled(used: Allocation, following: Allocation, outcome: Outcome) -> bool:
    """No power moves by more than one gain step of its radio."""
    for step_db, before, after in zip(outcome.gain_steps_db, used.power, following.power, strict=True):
        if (before > 0) != (after > 0):
            return False
        if before > 0 and abs(db(float(after / before))) > step_db:
            return False
    return True


def _prediction(previous: Measurement | None, outcome: Outcome, experiment: CompExperiment) -> Prediction | None:
    """What the round before says of the realised powers; it has not seen this round's samples."""
    if previous is None:
        return None
    return predict(previous, np.array(outcome.measurement.power), experiment.statistic, experiment.detection.pfa)


def _what_is_kept(table: AllocationTable, index: int) -> str:
    """The beginning of a note."""
    if not table.is_fixed:
        return f"infeasible; keeping round {index} powers"
    return f"{table.method} power is infeasible"


def _given(power: tuple[float, ...]) -> Allocation:
    """Powers of a round before, to be transmitted."""
    array: NDArray[np.float64] = np.array(power)
    return Allocation(array, array, float("nan"), "stationary")


def _numbers(power: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(p) for p in power)
