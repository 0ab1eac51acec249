"""What a run of the uplink found: the detector against its law, rates against bounds, rounds, and the verdicts."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import CaptureError
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.experiment.uplink.detecting import DETECTORS
from testbed.experiment.uplink.rating import COMBININGS, pooled
from testbed.experiment.uplink.record import CombinerRates, DetectorStatistics, LoopRound, RatesRow, UplinkRun
from testbed.measurement import Estimate
from testbed.theory import consistency
from testbed.theory.consistency import PodPoints, Verdict, wilson_interval
from testbed.theory.hypoexponential import hypoexponential_tail, hypoexponential_threshold
from testbed.units import db

FORMULA_DB = 0.5  # a measured SINR that is farther from (40) is called wrong
NUM_STDERRS = 3.0
PFA_SHOWN = (1e-2, 1e-3)


@dataclass(frozen=True)
class DetectorPoint:
    """One power of one detector."""

    detector: str  # plain, guarded
    power_dbm: float
    pod: float  # counted at the experiment's probability of false alarm
    pod_low: float  # 95 % Wilson interval
    pod_high: float
    pod_theory: float
    alarms: dict[str, float]  # share at 1e-2 and 1e-3, by the receiver's own thresholds
    erased: float  # share of blocks with a wrong word, H0 and H1
    decoded_alarms: dict[str, float]  # at 1e-2 and 1e-3, of blocks whose words all pass
    decoded_pod: float | None


@dataclass(frozen=True)
class DetectorResult:
    """One detector over its axis."""

    detector: str
    points: tuple[DetectorPoint, ...]
    verdict: Verdict
    against: str  # truth, or measured echo


@dataclass(frozen=True)
class RatesPoint:
    """One power, seeds pooled."""

    power_dbm: float
    links: dict[str, CombinerRates]
    bound: tuple[float, ...]  # mean over seeds
    largest_difference_db: float  # measured SINR less (40), over users and combiners
    above_bound: bool  # every user's rate with every combiner
    ordered: bool  # mrc < zf < optimal
    bit_error_rate: tuple[float, ...]
    block_error_rate: tuple[float, ...]
    erased: float
    paper: tuple[dict[str, float], ...]  # per nominal level: alarms, stderr, model_alarms, detections, model_pod


@dataclass(frozen=True)
class RoundPoint:
    """One round, seeds pooled."""

    record: LoopRound
    sum_rate: Estimate  # optimal combiner
    mrc_sum_rate: Estimate
    block_error_rate: float  # worst user
    pod: Estimate | None  # guarded detector at the experiment's level
    pod_theory: float | None


@dataclass(frozen=True)
class UplinkResults:
    """Everything of a run."""

    detectors: tuple[DetectorResult, ...]
    rates: tuple[RatesPoint, ...]
    rounds: tuple[RoundPoint, ...]
    level: float

    @property
    def rates_consistent(self) -> bool:
        """Whether SINRs, bounds and order are what theory says, at every power."""
        return all(abs(p.largest_difference_db) <= FORMULA_DB and p.above_bound and p.ordered for p in self.rates)

    @property
    def loop_consistent(self) -> bool:
        """Whether every round's PoD is within three standard errors of theory."""
        return all(
            abs(r.pod.value - r.pod_theory) <= NUM_STDERRS * max(r.pod.stderr, 1e-9)
            for r in self.rounds
            if r.pod is not None and r.pod_theory is not None
        )

    @property
    def consistent(self) -> bool:
        """All of it."""
        return all(d.verdict.consistent for d in self.detectors) and self.rates_consistent and self.loop_consistent

    @property
    def rise(self) -> Estimate | None:
        """Sum rate of the last round less that of equal powers."""
        if len(self.rounds) < 2:
            return None
        first, last = self.rounds[0].sum_rate, self.rounds[-1].sum_rate
        stderr = float(np.hypot(first.stderr, last.stderr))
        return Estimate(value=last.value - first.value, stderr=stderr, count=last.count)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        rise = self.rise
        return {
            "consistent": self.consistent,
            "rates_consistent": self.rates_consistent,
            "loop_consistent": self.loop_consistent,
            "detectors": [
                {
                    "detector": d.detector,
                    "against": d.against,
                    "verdict": d.verdict.to_dict(),
                    "points": [dataclasses.asdict(p) for p in d.points],
                }
                for d in self.detectors
            ],
            "rates": [_plain(p) for p in self.rates],
            "rounds": [_plain(r) for r in self.rounds],
            "rise_bps_hz": None if rise is None else rise.model_dump(),
        }


def gather(run: UplinkRun, experiment: UplinkExperiment) -> UplinkResults:
    """Results of what a run has finished.

    Raises:
        CaptureError: nothing was finished, or a file cannot be read.
    """
    axis = [] if experiment.detector is None else range(len(experiment.detector.axis_dbm))
    stored = [found for index in axis if (found := run.read_detector(f"axis/{index:03d}")) is not None]
    rows, rounds = run.load_rates().rows, run.load_loop().rounds
    if not (stored or rows or rounds):
        raise CaptureError(f"{run.path}: nothing was finished; there is nothing to report, run the experiment again")
    level = experiment.verdict.level
    detectors: tuple[DetectorResult, ...] = ()
    if stored and experiment.detector is not None:
        pfa = experiment.detector.pfa
        detectors = tuple(judge_detector(kind, stored, pfa, level) for kind in DETECTORS)
    powers = list(dict.fromkeys(row.power_dbm for row in rows))
    return UplinkResults(
        detectors=detectors,
        rates=tuple(rates_point([row for row in rows if row.power_dbm == power]) for power in powers),
        rounds=tuple(_round_point(run, experiment, made) for made in rounds),
        level=level,
    )


def judge_detector(
    kind: str,
    stored: Sequence[tuple[DetectorStatistics, dict[str, NDArray[np.float64]]]],
    pfa: float,
    level: float,
) -> DetectorResult:
    """Points of a detector, and the verdict over all of them (SIGNAL_CHAIN section 5)."""
    points, survival, counts = [], [], []
    for about, arrays in stored:
        h0, h1 = arrays[f"{kind}/h0"], arrays[f"{kind}/h1"]
        law, echo_law = arrays[f"{kind}/h0_weights"], arrays[f"{kind}/h1_weights"]
        own = arrays[f"{kind}/receiver_h0_weights"]
        threshold = float(hypoexponential_threshold(pfa, law))
        theory = float(hypoexponential_tail(threshold, echo_law))
        hits = int(np.count_nonzero(h1 >= threshold))
        low, high = wilson_interval(hits, h1.size)
        right0, right1 = (arrays[f"decoded/{name}_right"].astype(bool) for name in ("h0", "h1"))
        points.append(
            DetectorPoint(
                detector=kind,
                power_dbm=about.power_dbm,
                pod=hits / h1.size,
                pod_low=float(low),
                pod_high=float(high),
                pod_theory=theory,
                alarms=_alarms(h0, own),
                erased=float(1 - np.mean(np.concatenate([right0, right1]))),
                decoded_alarms=_alarms(h0[right0], own),
                decoded_pod=float(np.mean(h1[right1] >= threshold)) if np.any(right1) else None,
            )
        )
        survival.append(hypoexponential_tail(h0, law))
        counts.append((hits, h1.size, theory))
    hit, trials, pod = (np.array(column, dtype=np.float64) for column in zip(*counts, strict=True))
    verdict = consistency.judge(
        PodPoints(hit, trials, pod, pod * (1 - pod) / trials), np.clip(np.concatenate(survival), 0, 1), level
    )
    against = "truth" if stored[0][0].true_gain is not None else "measured echo"
    return DetectorResult(kind, tuple(points), verdict, against)


def rates_point(rows: Sequence[RatesRow]) -> RatesPoint:
    """All seeds of one power."""
    links = {how: pooled(rows, how) for how in COMBININGS}
    differences = [
        db(measured.value / formula.value) if measured.value > 0 and formula.value > 0 else float("inf")
        for link in links.values()
        for measured, formula in zip(link.sinr, link.formula, strict=True)
    ]
    bound = np.mean([row.bound for row in rows], axis=0)
    above = all(r.value >= b for link in links.values() for r, b in zip(link.rate, bound, strict=True))
    sums = [links[how].sum_rate.value for how in COMBININGS]
    paper = []
    for i, counted in enumerate(rows[0].paper):
        alarms = [row.paper[i].alarms for row in rows]
        mean = float(np.mean([a.value for a in alarms]))
        paper.append(
            {
                "pfa": counted.pfa,
                "alarms": mean,
                "stderr": float(np.sqrt(mean * (1 - mean) / sum(a.count for a in alarms))),
                "model_alarms": float(np.mean([row.paper[i].model_alarms for row in rows])),
                "detections": float(np.mean([row.paper[i].detections.value for row in rows])),
                "model_pod": float(np.mean([row.paper[i].model_pod for row in rows])),
            }
        )
    return RatesPoint(
        power_dbm=rows[0].power_dbm,
        links=links,
        bound=tuple(float(b) for b in bound),
        largest_difference_db=max(differences, key=abs),
        above_bound=above,
        ordered=sums[0] < sums[1] < sums[2],
        bit_error_rate=_user_means([row.bit_error_rate for row in rows]),
        block_error_rate=_user_means([row.block_error_rate for row in rows]),
        erased=float(np.mean([row.erased.value for row in rows])),
        paper=tuple(paper),
    )


def _round_point(run: UplinkRun, experiment: UplinkExperiment, made: LoopRound) -> RoundPoint:
    pod, theory = None, None
    stored = run.read_detector(f"loop/{made.index:03d}")
    if stored is not None and experiment.detector is not None:
        point = judge_detector("guarded", [stored], experiment.detector.pfa, experiment.verdict.level).points[0]
        n = stored[1]["guarded/h1"].size
        stderr = float(np.sqrt(point.pod_theory * (1 - point.pod_theory) / n))
        pod, theory = Estimate(value=point.pod, stderr=stderr, count=n), point.pod_theory
    return RoundPoint(
        record=made,
        sum_rate=pooled(made.rows, "optimal").sum_rate,
        mrc_sum_rate=pooled(made.rows, "mrc").sum_rate,
        block_error_rate=max(_user_means([row.block_error_rate for row in made.rows])),
        pod=pod,
        pod_theory=theory,
    )


def _alarms(h0: NDArray[np.float64], weights: NDArray[np.float64]) -> dict[str, float]:
    """Shares beyond the receiver's own thresholds."""
    if h0.size == 0:
        return {}
    return {f"{pfa:g}": float(np.mean(h0 >= float(hypoexponential_threshold(pfa, weights)))) for pfa in PFA_SHOWN}


def _user_means(rows: Sequence[Sequence[Estimate]]) -> tuple[float, ...]:
    return tuple(float(np.mean([row[k].value for row in rows])) for k in range(len(rows[0])))


def _plain(point: Any) -> dict[str, Any]:
    plain = {}
    for entry in dataclasses.fields(point):
        value = getattr(point, entry.name)
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        elif isinstance(value, dict):
            value = {k: v.model_dump(mode="json") if hasattr(v, "model_dump") else v for k, v in value.items()}
        plain[entry.name] = None if isinstance(value, float) and not np.isfinite(value) else value
    return plain
