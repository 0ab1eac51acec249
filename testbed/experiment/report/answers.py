"""What a run answers, in the order a reader asks: is everything delivered, and does theory agree? In plain words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from testbed.experiment.comp.config import AllocationTable, CompExperiment
from testbed.experiment.report.wording import level_text, listed, verdict_answer, verdict_sentence

if TYPE_CHECKING:
    from testbed.experiment.comp.gather import RunResults
    from testbed.experiment.comp.results import Results
    from testbed.experiment.comp.rounds import Round
    from testbed.experiment.comp.summary import RoundSummary

Verdict = Literal["yes", "weak", "no"]


@dataclass(frozen=True)
class Answer:
    """A question of the run and how it came out."""

    about: str  # the question; empty where a run has but one
    grade: Verdict  # yes, no, or weak where part of the question is open
    answer: str
    sentences: tuple[str, ...]
    partial: str  # what was asked for and not done; empty where all was


def answers(experiment: CompExperiment, results: "RunResults", rounds: Sequence["Round"]) -> list[Answer]:
    """The loop's answer, then the verdicts."""
    found = [loop_answer(experiment, results.rounds, rounds[-1])] if results.rounds else []
    if results.final is not None:
        found.append(_verdict(results.final, "Theory, at the powers of the last round", ""))
    if results.axis is not None:
        about = "Theory, over the power axis" if found else ""
        found.append(_verdict(results.axis, about, _partial_axis(experiment, results.axis.num_points_run)))
    unfinished = _unfinished(experiment, results)
    return [*found[:-1], _with(found[-1], unfinished)] if unfinished else found


def loop_answer(experiment: CompExperiment, rounds: Sequence["RoundSummary"], made: "Round") -> Answer:
    """Whether the last round delivers what is required, after how many rounds, and why not."""
    assert experiment.requirements is not None and experiment.allocation is not None, "a loop has both"
    last, required, pfa = rounds[-1], experiment.requirements, level_text(experiment.detection.pfa)
    is_infeasible = last.status == "infeasible"
    powers = (
        f"the powers of round {last.index}, the last of {len(rounds)},"
        if len(rounds) > 1
        else "the powers of the loop's only round"
    )
    if last.is_met:
        grade: Verdict = "yes" if last.is_above and not is_infeasible else "weak"
        answer = "Every requirement is met" if last.is_above else "No requirement is missed beyond the errors"
        answer += ", but not with its margin" if is_infeasible else ""
        found = (
            f"Within the errors of measurement {powers} give every target a PoD of at least {required.min_pod:g} at "
            f"PFA = {pfa} and every user at least {required.min_rate_bps_hz:g} bit/s/Hz"
        )
    else:
        grade = "no"
        proven = is_infeasible and bool(made.proposal.certificate.get("rows"))
        answer = "Requirements cannot be met within the budget" if proven else "Requirements are NOT met"
        missed = [f"PoD of {c.cell} ({c.pod:.3g} of {required.min_pod:g})" for c in last.cells if not c.is_met]
        missed += [
            f"rate of {u.user} ({u.rate_bps_hz.value:.3g} of {required.min_rate_bps_hz:g} bit/s/Hz)"
            for u in last.users
            if not u.is_met
        ]
        found = f"{powers} miss {listed(missed)}"
    total = last.sum_rate_bps_hz
    sum_rate = f"the sum rate is {total.value:.3f} ± {total.stderr:.3f} bit/s/Hz"
    sentences = [f"{found[0].upper()}{found[1:]}; {sum_rate}.", _settled(experiment.allocation, rounds)]
    if not (last.is_met or is_infeasible or last.settled):
        sentences.append(
            "From what it measured follow powers that should meet them all; no round has transmitted them."
        )
    if last.note:
        sentences.append(f"{last.note[0].upper()}{last.note[1:]}.")
    return Answer("Requirements", grade, answer, tuple(sentences), _partial_loop(experiment, rounds))


def requirement_rule(experiment: CompExperiment) -> str:
    """What 'met' means."""
    assert experiment.requirements is not None and experiment.allocation is not None, "a loop has both"
    required, table = experiment.requirements, experiment.allocation
    return (
        f"Met: the upper end of a target's 95 % Wilson interval is at or above a PoD of {required.min_pod:g}, and a "
        f"user's rate plus two standard errors at or above {required.min_rate_bps_hz:g} bit/s/Hz. The solver is asked "
        f"for more by a margin, {table.sensing_margin_db:g} dB for targets and {table.rate_margin_db:g} dB for users, "
        f"for an optimum lies on its constraints and measurements scatter around it."
    )


def _settled(table: AllocationTable, rounds: Sequence["RoundSummary"]) -> str:
    if table.method == "equal":
        return "Every node has the same power, whatever is measured."
    if table.method == "random":
        return "The powers were drawn at random and stay, whatever is measured."
    count = f"after {len(rounds)} round{'s' * (len(rounds) > 1)}"
    if rounds[-1].settled:
        return f"The powers have settled {count}: none would move by more than one gain step of its radio."
    if rounds[-1].status == "infeasible":
        return f"The powers have not settled {count}: the last safe ones are kept as long as no others would do."
    return f"The powers have not settled {count}."


def _verdict(results: "Results", about: str, partial: str) -> Answer:
    verdict = results.verdict
    grade: Verdict = "no" if not verdict.consistent else "yes" if verdict.num_tested_points else "weak"
    return Answer(about, grade, verdict_answer(results), (verdict_sentence(results),), partial)


def _partial_axis(experiment: CompExperiment, num_points: int) -> str:
    wanted = len(experiment.axis_dbm)
    if num_points == wanted:
        return ""
    return f"Partial: the run ended after {num_points} of {wanted} powers; this report is about those alone."


def _partial_loop(experiment: CompExperiment, rounds: Sequence["RoundSummary"]) -> str:
    assert experiment.loop is not None, "there are rounds"
    wanted, until_settled = experiment.loop.num_rounds, experiment.loop.until_settled
    if len(rounds) >= wanted or (until_settled and rounds[-1].settled):
        return ""
    at_most = "at most " if until_settled else ""
    before = ", before its powers had settled" if until_settled else ""
    return f"Partial: the run ended after {len(rounds)} of {at_most}{wanted} rounds{before}."


def _unfinished(experiment: CompExperiment, results: "RunResults") -> str:
    """Of a whole part of the run that is missing."""
    if experiment.loop is not None and not results.rounds:
        return "Partial: the run ended before the first round of its loop was finished."
    if experiment.axis_dbm and results.axis is None:
        return "Partial: no power of the axis was finished."
    return ""


def _with(answer: Answer, partial: str) -> Answer:
    both = " ".join(filter(None, (answer.partial, partial)))
    return Answer(answer.about, answer.grade, answer.answer, answer.sentences, both)
