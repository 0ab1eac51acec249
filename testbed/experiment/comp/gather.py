"""Everything a run found, recomputed from its files: the power axis, every round, and the verdicts."""

from dataclasses import dataclass
from typing import Any

from testbed.errors import CaptureError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Results, gather_axis, judge_steps
from testbed.experiment.comp.rounds import load_rounds
from testbed.experiment.comp.step import Step
from testbed.experiment.comp.summary import RoundSummary, summarise
from testbed.measurement import load_measurements


@dataclass(frozen=True)
class RunResults:
    """What a run found."""

    axis: Results | None  # none where the experiment has no power axis, or no power was finished
    rounds: tuple[RoundSummary, ...]
    final: Results | None  # the verdict at the powers of the last round

    @property
    def judged(self) -> tuple[Results, ...]:
        """Every part that has a verdict, the axis first."""
        return tuple(part for part in (self.axis, self.final) if part is not None)

    @property
    def consistent(self) -> bool:
        """Whether every verdict is that measurement and theory are consistent."""
        return all(part.verdict.consistent for part in self.judged)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for results.json: the axis (or, without one, the last round) and, with a loop, its rounds."""
        plain = self.judged[0].to_dict() | {"consistent": self.consistent}
        if self.rounds:
            assert self.final is not None, "a round was judged"
            plain["loop"] = {
                "rounds": [row.to_dict() for row in self.rounds],
                "settled": self.rounds[-1].settled,
                "is_met": self.rounds[-1].is_met,
                "final": self.final.to_dict(),
            }
        return plain


def gather(run: CompRun, experiment: CompExperiment) -> RunResults:
    """Results of what a run has finished.

    Raises:
        CaptureError: nothing was finished, or a file cannot be read.
    """
    num_points = min(run.num_finished_points(), len(experiment.axis_dbm))
    axis = gather_axis(run, experiment, num_points) if num_points else None
    made = load_rounds(run.rounds) if experiment.loop is not None else []
    if axis is None and not made:
        raise CaptureError(f"{run.path}: nothing was finished; there is nothing to report, run the experiment again")
    truth = load_measurements(run.truth_rounds).points if run.truth_rounds.exists() else ()
    exact = [truth[i] if i < len(truth) else None for i in range(len(made))]
    rounds = tuple(summarise(run, experiment, row, known) for row, known in zip(made, exact, strict=True))
    final = None
    if made:
        powers_dbm = {name: p if p is not None else float("-inf") for name, p in rounds[-1].power_dbm.items()}
        known = exact[-1]
        step = Step("rounds", made[-1].record.index)
        final = judge_steps(run, experiment, [step], [powers_dbm], [known] if known else None, [made[-1].measurement])
    return RunResults(axis, rounds, final)
