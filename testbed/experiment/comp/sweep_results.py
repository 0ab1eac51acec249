"""What a sweep over budgets and schemes found: rates and PoD, their order, and one verdict over all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.experiment.comp.config import as_comp
from testbed.experiment.comp.gather import gather
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Results, judge, stored_detections
from testbed.experiment.comp.rounds import load_rounds
from testbed.experiment.comp.step import Step
from testbed.experiment.comp.summary import RoundSummary
from testbed.experiment.sweep_run import Sweep, point_experiment
from testbed.measurement import load_measurements
from testbed.sweep import SweepPoint, SweepRow

BUDGET, METHOD = "allocation.budget_dbm", "allocation.method"
ORDERED_STDERRS = 3.0  # a theoretical difference beyond so many standard errors has to be seen in the measured order


@dataclass(frozen=True)
class SchemePoint:
    """The last round of one point."""

    index: int
    values: dict[str, Any]
    budget_dbm: float  # mean per node
    method: str
    feasible: bool  # the scheme meets its requirements, margins included, by the problem as measured
    is_met: bool
    sum_rate: float  # bit/s/Hz, measured
    sum_rate_stderr: float
    sum_rate_truth: float | None  # at the true gains and the same powers
    summary: RoundSummary


@dataclass(frozen=True)
class Order:
    """Pairs of schemes at one budget, as theory and measurement order them."""

    num_pairs: int  # whose theoretical difference exceeds three standard errors
    num_agreeing: int
    disagreeing: tuple[str, ...]


def scheme_points(sweep: Sweep, rows: Sequence[SweepRow]) -> list[SchemePoint]:
    """Last rounds of all points that ran a loop."""
    found = []
    for row in rows:
        if row.result is None or "loop" not in row.result:
            continue
        experiment = as_comp(point_experiment(sweep, row.point), str(sweep.folder))
        assert experiment.allocation is not None, "a loop has an allocation"
        last = gather(CompRun(sweep.run_directory(row.point.index).path), experiment).rounds[-1]
        truths = [user.sinr_truth for user in last.users]
        found.append(
            SchemePoint(
                index=row.point.index,
                values=row.point.values,
                budget_dbm=experiment.allocation.budget_dbm,
                method=experiment.allocation.method,
                feasible=last.status != "infeasible",
                is_met=last.is_met,
                sum_rate=last.sum_rate_bps_hz.value,
                sum_rate_stderr=last.sum_rate_bps_hz.stderr,
                sum_rate_truth=float(sum(np.log2(1 + t) for t in truths if t is not None)) if all(truths) else None,
                summary=last,
            )
        )
    return found


def scheme_order(points: Sequence[SchemePoint]) -> Order:
    """Compare every pair of feasible schemes at equal other values."""
    pairs, agreeing, disagreeing = 0, 0, []
    for i, a in enumerate(points):
        for b in points[i + 1 :]:
            others = [{k: v for k, v in p.values.items() if k != METHOD} for p in (a, b)]
            if others[0] != others[1] or a.method == b.method or a.sum_rate_truth is None or b.sum_rate_truth is None:
                continue
            difference, error = a.sum_rate - b.sum_rate, float(np.hypot(a.sum_rate_stderr, b.sum_rate_stderr))
            expected = a.sum_rate_truth - b.sum_rate_truth
            if abs(expected) <= ORDERED_STDERRS * error:
                continue
            pairs += 1
            if np.sign(difference) == np.sign(expected):
                agreeing += 1
            else:
                disagreeing.append(f"{a.method} and {b.method} at {a.budget_dbm:g} dBm")
    return Order(pairs, agreeing, tuple(disagreeing))


def pooled_verdict(sweep: Sweep, points: Sequence[SchemePoint], method: str = "equal") -> Results | None:
    """One verdict over the last rounds of all points of a scheme: PoD against the budget, measured and in theory."""
    chosen = [p for p in points if p.method == method]
    if not chosen:
        return None
    steps, powers, h1, h0, truth = [], [], [], [], []
    for p in chosen:
        run = CompRun(sweep.run_directory(p.index).path)
        experiment = as_comp(point_experiment(sweep, SweepPoint(p.index, p.values)), str(sweep.folder))
        made = load_rounds(run.rounds)[-1]
        step = Step("rounds", made.record.index)
        detections = stored_detections(run, experiment, step)
        steps.append(step)
        h1.append(detections[0])
        h0.append(detections[1])
        powers.append({name: db if db is not None else float("-inf") for name, db in p.summary.power_dbm.items()})
        if run.truth_rounds.exists():
            truth.append(load_measurements(run.truth_rounds).points[made.record.index])
    return judge(experiment, steps, powers, h1, h0, truth if len(truth) == len(chosen) else None)
