"""From stored detections to points and verdicts: everything a report says, recomputed from the run's files."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.law import STATISTICS, Law, Statistic
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.statistics import StoredDetection
from testbed.experiment.comp.step import Step
from testbed.measurement import Estimate, Measurement, load_measurements, pool
from testbed.theory import consistency

Curve = Literal["truth", "measured"]


@dataclass(frozen=True)
class Point:
    """One (power, cell): what was detected, and what the curves say."""

    step: Step
    power_dbm: float  # asked for, of the node that judges
    cell: str
    node: str
    statistic: Statistic
    num_frames: int
    num_detections: int
    pod: float
    pod_low: float  # 95 % Wilson interval
    pod_high: float
    noncentrality: Estimate  # lam_hat
    pod_measured: float  # theory at lam_hat
    noncentrality_truth: float | None
    pod_truth: float | None


@dataclass(frozen=True)
class Results:
    """Points and verdicts of some steps of a run: its power axis, or one round."""

    points: tuple[Point, ...]
    verdicts: dict[str, consistency.Verdict]  # '<statistic>/<curve>'
    deciding: str  # key of the verdict that counts
    noise: dict[str, dict[str, Estimate]]  # per receiver: muted, and residual pooled over steps
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> consistency.Verdict:
        """The verdict that counts."""
        return self.verdicts[self.deciding]

    @property
    def num_points_run(self) -> int:
        """Powers finished."""
        return len(self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for results.json."""
        return {
            "consistent": self.verdict.consistent,
            "deciding": self.deciding,
            "verdicts": {key: verdict.to_dict() for key, verdict in self.verdicts.items()},
            "noise": {node: {k: e.model_dump() for k, e in row.items()} for node, row in self.noise.items()},
            "points": [_plain_point(p) for p in self.points],
        }


def gather_axis(run: CompRun, experiment: CompExperiment, num_points: int) -> Results:
    """Points and verdicts of the first `num_points` powers of a run."""
    truth = load_measurements(run.truth).points if run.truth.exists() else None
    measured = load_measurements(run.measurements).points if run.measurements.exists() else ()
    steps = [Step("points", index) for index in range(num_points)]
    powers_dbm = [dict.fromkeys(experiment.node_names, power_dbm) for power_dbm in experiment.axis_dbm]
    return judge_steps(run, experiment, steps, powers_dbm, truth, measured[:num_points])


def judge_steps(
    run: CompRun,
    experiment: CompExperiment,
    steps: Sequence[Step],
    powers_dbm: Sequence[dict[str, float]],
    truth: Sequence[Measurement] | None,
    measured: Sequence[Measurement] = (),
) -> Results:
    """Points and verdicts of finished steps.

    Args:
        run: their files.
        experiment: resolved.
        steps: to be judged together.
        powers_dbm: asked for, per step and node.
        truth: per step, if there is one.
        measured: per step, for the noise of users.
    """
    read = [stored_detections(run, experiment, step) for step in steps]
    return judge(experiment, steps, powers_dbm, [h1 for h1, _ in read], [h0 for _, h0 in read], truth, measured)


def stored_detections(
    run: CompRun, experiment: CompExperiment, step: Step
) -> tuple[list[StoredDetection], list[StoredDetection]]:
    """Every cell of a step, with all targets on and without its own."""
    h1 = [run.detection(step, "all", cell.name) for cell in experiment.cells]
    return h1, [run.detection(step, f"without:{cell.name}", cell.name) for cell in experiment.cells]


def judge(
    experiment: CompExperiment,
    steps: Sequence[Step],
    powers_dbm: Sequence[dict[str, float]],
    h1: Sequence[list[StoredDetection]],
    h0: Sequence[list[StoredDetection]],
    truth: Sequence[Measurement] | None,
    measured: Sequence[Measurement] = (),
) -> Results:
    """Points and verdicts of detections, a list per step, of one run or of several of one experiment."""
    pfa = experiment.detection.pfa
    points = tuple(
        point(step, power_dbm[stored.node], stored, statistic, pfa, truth[index] if truth else None)
        for statistic in STATISTICS
        for index, (step, power_dbm, row) in enumerate(zip(steps, powers_dbm, h1, strict=False))
        for stored in row
    )
    verdicts = {}
    for statistic in STATISTICS:
        survival = np.concatenate([Law.of(stored, statistic).survival(stored) for row in h0 for stored in row])
        rows = [p for p in points if p.statistic == statistic]
        pairs = list(zip(rows, (stored for row in h1 for stored in row), strict=True))
        known = [(p, stored) for p, stored in pairs if p.pod_truth is not None]
        curves: list[tuple[Curve, list[tuple[Point, StoredDetection]]]] = [("measured", pairs)]
        if known:
            curves.insert(0, ("truth", known))
        for curve, chosen in curves:
            judged = _pod_points(chosen, statistic, curve, pfa)
            verdict = consistency.judge(judged, survival, experiment.verdict.level)
            if len(chosen) < len(pairs):
                verdict = replace(verdict, notes=(*verdict.notes, _without_truth(len(pairs) - len(chosen))))
            verdicts[f"{statistic}/{curve}"] = verdict
    decides: Curve = "truth" if f"{experiment.statistic}/truth" in verdicts else "measured"
    noise = _noise([*h1, *h0]) | _noise_of_users(experiment, measured)
    return Results(points, verdicts, f"{experiment.statistic}/{decides}", noise, tuple(steps))


def _without_truth(count: int) -> str:
    return (
        f"{count} points are not judged on the truth curve: their captures needed derivative columns, or lost a degree "
        f"of freedom, which the truth file does not know of"
    )


def point(
    step: Step,
    power_dbm: float,
    stored: StoredDetection,
    statistic: Statistic,
    pfa: float,
    truth: Measurement | None,
) -> Point:
    """One row of the PoD table."""
    values: NDArray[np.float64] = getattr(stored, statistic)
    law = Law.of(stored, statistic)
    count = int(np.count_nonzero(values >= law.threshold(pfa)))
    low, high = consistency.wilson_interval(count, values.size)
    lam = law.noncentrality(values)
    # another D or rank than the truth file's has another noncentrality
    comparable = truth is not None and not stored.derivative_paths and truth.rank[stored.cell] == stored.rank
    true_lam = truth.noncentrality[stored.cell].value if truth is not None and comparable else None
    return Point(
        step=step,
        power_dbm=power_dbm,
        cell=stored.cell,
        node=stored.node,
        statistic=statistic,
        num_frames=values.size,
        num_detections=count,
        pod=count / values.size,
        pod_low=float(low),
        pod_high=float(high),
        noncentrality=lam,
        pod_measured=float(law.pod(lam.value, pfa)),
        noncentrality_truth=true_lam,
        pod_truth=None if true_lam is None else float(law.pod(true_lam, pfa)),
    )


def _pod_points(
    pairs: Sequence[tuple[Point, StoredDetection]], statistic: Statistic, curve: Curve, pfa: float
) -> consistency.PodPoints:
    points = [p for p, _ in pairs]
    trials = np.array([p.num_frames for p in points])
    if curve == "truth":
        pod = np.array([p.pod_truth for p in points], dtype=np.float64)
        variance = consistency.pod_variance_truth(pod, trials)
    else:
        pod = np.array([p.pod_measured for p in points])
        variance = np.array(
            [Law.of(s, statistic).pod_variance(p.noncentrality.value, pfa, p.num_frames) for p, s in pairs]
        )
    detections = np.array([p.num_detections for p in points])
    return consistency.PodPoints(detections, trials, np.clip(pod, 0.0, 1.0), variance)


def _noise(steps: Sequence[Sequence[StoredDetection]]) -> dict[str, dict[str, Estimate]]:
    """Muted and residual noise of every judging node; cells that share a capture share its residual."""
    muted: dict[str, Estimate] = {}
    residual: dict[str, list[Estimate]] = {}
    for row in steps:
        captures: dict[tuple[str, str], StoredDetection] = {}
        for stored in row:
            captures.setdefault((stored.node, stored.condition), stored)
        for (node, _), stored in captures.items():
            muted.setdefault(node, stored.noise_var)
            residual.setdefault(node, []).append(stored.residual_noise_var)
    return {node: {"muted": muted[node], "residual": pool(rows)} for node, rows in residual.items()}


def _noise_of_users(experiment: CompExperiment, measured: Sequence[Measurement]) -> dict[str, dict[str, Estimate]]:
    return {
        user.name: {
            "muted": measured[0].noise_var[user.name],
            "residual": pool([m.residual_noise_var[user.name] for m in measured]),
        }
        for user in experiment.users
        if measured
    }


def _plain_point(p: Point) -> dict[str, Any]:
    power_dbm = p.power_dbm if np.isfinite(p.power_dbm) else None  # a silent node may judge, too
    return asdict(p) | {"step": p.step.key, "power_dbm": power_dbm, "noncentrality": p.noncentrality.model_dump()}
