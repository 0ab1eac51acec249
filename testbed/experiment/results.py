"""From stored detections to points and verdicts: everything a report says, recomputed from the run's files."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.experiment.config import Experiment
from testbed.experiment.record import RunDirectory, StoredDetection
from testbed.measurement import Estimate, Measurement, MeasurementFile, load_measurements, pool
from testbed.theory import consistency, detection

Statistic = Literal["known_noise", "cfar"]
Curve = Literal["truth", "measured"]
STATISTICS: tuple[Statistic, ...] = ("known_noise", "cfar")


@dataclass(frozen=True)
class Point:
    """One (power, cell): what was detected, and what the curves say."""

    point: int
    power_dbm: float  # asked for, per node
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
    """All points and verdicts of a run."""

    points: tuple[Point, ...]
    verdicts: dict[str, consistency.Verdict]  # '<statistic>/<curve>'
    deciding: str  # key of the verdict that counts
    noise: dict[str, dict[str, Estimate]]  # per node: muted, and residual pooled over powers
    num_points_run: int  # powers finished

    @property
    def verdict(self) -> consistency.Verdict:
        """The verdict that counts."""
        return self.verdicts[self.deciding]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for results.json."""
        return {
            "consistent": self.verdict.consistent,
            "deciding": self.deciding,
            "verdicts": {key: verdict.to_dict() for key, verdict in self.verdicts.items()},
            "noise": {node: {k: e.model_dump() for k, e in row.items()} for node, row in self.noise.items()},
            "points": [asdict(p) | {"noncentrality": p.noncentrality.model_dump()} for p in self.points],
        }


def gather(run: RunDirectory, experiment: Experiment, num_points: int) -> Results:
    """Points and verdicts of the first `num_points` powers of a run."""
    truth = load_measurements(run.truth) if run.truth.exists() else None
    h1, h0 = [], []
    for index in range(num_points):
        h1.append([run.detection(index, "all", cell.name) for cell in experiment.cells])
        h0.append([run.detection(index, f"without:{cell.name}", cell.name) for cell in experiment.cells])
    pfa = experiment.detection.pfa
    points = tuple(
        point(index, power_dbm, stored, statistic, pfa, truth.points[index] if truth else None)
        for statistic in STATISTICS
        for index, (power_dbm, row) in enumerate(zip(experiment.power.axis_dbm, h1, strict=False))
        for stored in row
    )
    verdicts = {}
    for statistic in STATISTICS:
        survival = np.concatenate([h0_survival(stored, statistic) for row in h0 for stored in row])
        chosen = [p for p in points if p.statistic == statistic]
        flat = [stored for row in h1 for stored in row]
        for curve in ("truth", "measured") if truth else ("measured",):
            judged = _pod_points(chosen, flat, statistic, curve, pfa)
            verdicts[f"{statistic}/{curve}"] = consistency.judge(judged, survival, experiment.verdict.level)
    deciding = f"{experiment.detection.statistic}/{'truth' if truth else 'measured'}"
    return Results(points, verdicts, deciding, _noise([*h1, *h0]), num_points)


def threshold(stored: StoredDetection, statistic: Statistic, pfa: float) -> float:
    """Detection threshold of a statistic as stored."""
    if statistic == "known_noise":
        return float(detection.glrt_threshold(pfa, stored.rank))
    return float(detection.cfar_threshold(pfa, stored.rank, stored.num_observations, stored.num_nuisance))


def h0_survival(stored: StoredDetection, statistic: Statistic) -> NDArray[np.float64]:
    """Survival function of each H0 statistic under its own law: uniform if the law holds."""
    law = (
        detection.h0_law(stored.rank)
        if statistic == "known_noise"
        else detection.cfar_h0_law(stored.rank, stored.num_observations, stored.num_nuisance)
    )
    survival: NDArray[np.float64] = law.sf(getattr(stored, statistic))
    return survival


def point(
    index: int,
    power_dbm: float,
    stored: StoredDetection,
    statistic: Statistic,
    pfa: float,
    truth: Measurement | None,
) -> Point:
    """One row of the PoD table."""
    values: NDArray[np.float64] = getattr(stored, statistic)
    count = int(np.count_nonzero(values >= threshold(stored, statistic, pfa)))
    low, high = consistency.wilson_interval(count, values.size)
    if statistic == "known_noise":
        lam, stderr = consistency.noncentrality_estimate(values, stored.rank)
    else:
        lam, stderr = consistency.cfar_noncentrality_estimate(
            values, stored.rank, stored.num_observations, stored.num_nuisance
        )
    curve = _curve(stored, statistic, pfa)
    true_lam = truth.noncentrality[stored.cell].value if truth else None
    return Point(
        point=index,
        power_dbm=power_dbm,
        cell=stored.cell,
        node=stored.node,
        statistic=statistic,
        num_frames=values.size,
        num_detections=count,
        pod=count / values.size,
        pod_low=float(low),
        pod_high=float(high),
        noncentrality=Estimate(value=float(lam), stderr=float(stderr), count=values.size),
        pod_measured=curve(max(float(lam), 0.0)),
        noncentrality_truth=true_lam,
        pod_truth=None if true_lam is None else curve(true_lam),
    )


def measurement(experiment: Experiment, power: Sequence[float], detections: Sequence[StoredDetection]) -> Measurement:
    """What the H1 captures of one power say of the network."""
    lam = {d.cell: consistency.noncentrality_estimate(d.known_noise, d.rank) for d in detections}
    return Measurement(
        origin="measured",
        node_names=experiment.node_names,
        power=tuple(power),
        noise_var={d.node: d.noise_var for d in detections},
        residual_noise_var={d.node: d.residual_noise_var for d in detections},
        noncentrality={
            d.cell: Estimate(value=float(lam[d.cell][0]), stderr=float(lam[d.cell][1]), count=d.known_noise.size)
            for d in detections
        },
        rank={d.cell: d.rank for d in detections},
    )


def measurements(experiment: Experiment, points: Sequence[Measurement]) -> MeasurementFile:
    """All powers of a run."""
    return MeasurementFile(experiment_sha256=experiment.sha256, points=tuple(points))


def _curve(stored: StoredDetection, statistic: Statistic, pfa: float) -> Callable[[float], float]:
    if statistic == "known_noise":
        return lambda lam: float(detection.detection_probability(lam, stored.rank, pfa=pfa))
    dof = (stored.rank, stored.num_observations, stored.num_nuisance)
    return lambda lam: float(detection.cfar_detection_probability(lam, *dof, pfa=pfa))


def _pod_points(
    points: Sequence[Point], stored: Sequence[StoredDetection], statistic: Statistic, curve: str, pfa: float
) -> consistency.PodPoints:
    trials = np.array([p.num_frames for p in points])
    if curve == "truth":
        pod = np.array([p.pod_truth for p in points], dtype=np.float64)
        variance = consistency.pod_variance_truth(pod, trials)
    else:
        pod = np.array([p.pod_measured for p in points])
        variance = np.array(
            [_measured_variance(p, s, statistic, pfa) for p, s in zip(points, stored, strict=True)], dtype=np.float64
        )
    detections = np.array([p.num_detections for p in points])
    return consistency.PodPoints(detections, trials, np.clip(pod, 0.0, 1.0), variance)


def _measured_variance(point: Point, stored: StoredDetection, statistic: Statistic, pfa: float) -> float:
    lam = max(point.noncentrality.value, 0.0)
    limit = threshold(stored, statistic, pfa)
    if statistic == "known_noise":
        return float(consistency.pod_variance_measured(lam, stored.rank, limit, point.num_frames))
    dof = (stored.rank, stored.num_observations, stored.num_nuisance)
    return float(consistency.cfar_pod_variance_measured(lam, *dof, limit, point.num_frames))


def _noise(rows: Sequence[Sequence[StoredDetection]]) -> dict[str, dict[str, Estimate]]:
    per_node: dict[str, list[StoredDetection]] = {}
    for row in rows:
        for stored in row:
            per_node.setdefault(stored.node, []).append(stored)
    return {
        node: {"muted": stored[0].noise_var, "residual": pool([s.residual_noise_var for s in stored])}
        for node, stored in per_node.items()
    }
