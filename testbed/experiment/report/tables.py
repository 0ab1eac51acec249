"""The tables of a report, as text: points, verdicts, noise, detector; and what a reader must be warned of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from testbed.capture import Capture
from testbed.experiment.config import Experiment
from testbed.experiment.law import STATISTICS, Law, Statistic
from testbed.experiment.record import RunDirectory
from testbed.experiment.report.wording import (
    CURVE_NAMES,
    STATISTIC_NAMES,
    count_text,
    hochberg_bounds,
    level_text,
    minus,
    p_text,
    plus_minus,
    turning_points,
)
from testbed.experiment.results import Point, Results
from testbed.measurement import load_measurements
from testbed.theory.consistency import FALSE_ALARM_LEVELS
from testbed.units import db

MAX_NOISE_SHARE = 0.005  # by which the two noise estimates may differ, or by
_DB_PER_SHARE = 10 / math.log(10)  # a small relative change in decibels
MAX_NOISE_STDERRS = 3.0  # so many standard errors, whichever is more (SIGNAL_CHAIN section 4)


@dataclass(frozen=True)
class Table:
    """Rows of text: words in the first column, numbers in the others."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def is_grouped(self) -> bool:
        """Whether rows share their first word, so that a line may part the groups."""
        return len({row[0] for row in self.rows}) < len(self.rows)


@dataclass(frozen=True)
class VerdictColumn:
    """One verdict: every test's p-value, its bound and what it rests on."""

    name: str
    decides: bool
    consistent: bool
    cells: tuple[tuple[str, tuple[str, ...], bool], ...]  # p-value, bound and basis, whether it turned the verdict
    covered: str  # points whose 95 % Wilson interval holds the curve; not deciding
    expected: str


def verdict_columns(results: Results) -> tuple[VerdictColumn, ...]:
    """The deciding verdict first, then the others."""
    columns = []
    for key in sorted(results.verdicts, key=lambda key: key != results.deciding):
        verdict, (statistic, curve) = results.verdicts[key], key.split("/")
        bounds, turned = hochberg_bounds(verdict), {name for name, *_ in turning_points(verdict)}
        chi2 = (
            "no point to test" if verdict.chi2 is None else f"χ² {verdict.chi2:.1f}, {verdict.num_tested_points} points"
        )
        basis = [chi2, f"{count_text(verdict.num_h0_trials)} trials"]
        basis += [f"{count_text(a.counted)} counted, {a.expected:.4g} expected" for a in verdict.false_alarms]
        cells = []
        for (name, p), rests_on in zip(verdict.p_values.items(), basis, strict=True):
            small = (rests_on,) if p is None else (f"bound {p_text(bounds[name])}", rests_on)
            cells.append(("–" if p is None else p_text(p), small, name in turned))
        columns.append(
            VerdictColumn(
                name=f"{STATISTIC_NAMES[statistic]}, {CURVE_NAMES[curve]}",
                decides=key == results.deciding,
                consistent=verdict.consistent,
                cells=tuple(cells),
                covered=f"{verdict.num_covered_points} of {verdict.num_points}",
                expected=f"expected {verdict.expected_covered_points:.1f}",
            )
        )
    return tuple(columns)


def point_tables(experiment: Experiment, results: Results) -> list[tuple[Statistic, Table]]:
    """Every point of either test, that of the experiment first; by cell, then by power."""
    order = sorted(STATISTICS, key=lambda statistic: statistic != experiment.statistic)
    return [(statistic, _point_table(experiment, results, statistic)) for statistic in order]


def _point_table(experiment: Experiment, results: Results, statistic: Statistic) -> Table:
    points = [p for cell in experiment.cells for p in results.points if (p.cell, p.statistic) == (cell.name, statistic)]
    heads = ("Cell (node)", "Power (dBm)", "Detections", "PoD", "95 % interval", "Theory at λ̂", "λ̂")
    truth: tuple[str, ...] = ()
    if any(p.pod_truth is not None for p in points):
        truth = ("λ truth", "λ̂ − λ (std. errors)", "Theory, truth", "Inside interval")
    rows = [_point_row(p) + (_truth_row(p) if truth else ()) for p in points]
    return Table(heads + truth, tuple(rows))


def _point_row(p: Point) -> tuple[str, ...]:
    digits = _digits(p.num_frames)
    return (
        f"{p.cell} ({p.node})",
        minus(f"{p.power_dbm:g}"),
        f"{count_text(p.num_detections)} of {count_text(p.num_frames)}",
        f"{p.pod:.{digits}f}",
        f"{p.pod_low:.{digits}f} – {p.pod_high:.{digits}f}",
        f"{p.pod_measured:.{digits}f}",
        plus_minus(p.noncentrality.value, p.noncentrality.stderr),
    )


def _truth_row(p: Point) -> tuple[str, ...]:
    if p.pod_truth is None or p.noncentrality_truth is None:
        return ("–",) * 4
    inside = p.pod_low <= p.pod_truth <= p.pod_high
    deviation = (p.noncentrality.value - p.noncentrality_truth) / p.noncentrality.stderr
    return (
        minus(f"{p.noncentrality_truth:.2f}"),
        minus(f"{deviation:+.1f}"),
        f"{p.pod_truth:.{_digits(p.num_frames)}f}",
        "yes" if inside else "no",
    )


def _digits(num_frames: int) -> int:
    """Decimals that show single detections."""
    return max(2, math.ceil(math.log10(num_frames)))


@dataclass(frozen=True)
class NoiseComparison:
    """The two noise estimates of a node."""

    node: str
    share: float  # residual over muted, less 1
    stderrs: float  # that difference in standard errors of both
    row: tuple[str, ...]

    @property
    def warning(self) -> str | None:
        """A leak where the residual holds more than noise, a changed noise floor where it holds less."""
        if abs(self.share) <= MAX_NOISE_SHARE or abs(self.stderrs) <= MAX_NOISE_STDERRS:
            return None
        found = (
            f"{self.node}: residual noise differs from the muted one by {self.row[3]} ({self.row[4]} standard errors)"
        )
        if self.share > 0:
            return f"{found}: a leak, some path or interference is not in the model; survey it or list the reflector."
        return f"{found}: the noise floor fell while transmitting; check the receive gain and the muted capture."


def noise_comparisons(results: Results) -> list[NoiseComparison]:
    """Noise variance of every node, muted against residual."""
    compared = []
    for node, row in results.noise.items():
        muted, residual = row["muted"], row["residual"]
        share = residual.value / muted.value - 1
        stderrs = (residual.value - muted.value) / math.hypot(muted.stderr, residual.stderr)
        texts = [minus(f"{db(e.value):.3f} ± {_DB_PER_SHARE * e.stderr / e.value:.3f}") for e in (muted, residual)]
        numbers = (minus(f"{share * 100:+.2f} %"), minus(f"{stderrs:+.1f}"))
        compared.append(NoiseComparison(node, share, stderrs, (node, *texts, *numbers)))
    return compared


def noise_table(comparisons: Sequence[NoiseComparison]) -> Table:
    """Both estimates in dBm over the sampled band, and how they differ."""
    heads = ("Node", "Muted capture (dBm)", "Residual of the fit (dBm)", "Difference", "In std. errors", "Remark")
    rows = tuple((*c.row, "–" if c.warning is None else "LEAK" if c.share > 0 else "CHECK") for c in comparisons)
    return Table(heads, rows)


def detector_table(run: RunDirectory, experiment: Experiment, results: Results) -> Table:
    """Rank, visibility and synchronisation of every H1 capture."""
    nodes = experiment.node_names
    heads = ("Cell (node)", "Power (dBm)", "Rank r", "N", "Q", *(f"κ {name}" for name in nodes))
    heads += (*(f"start of {name} (samples)" for name in nodes), "Derivative columns")
    rows = []
    for cell in experiment.cells:
        for index in range(results.num_points_run):
            d = run.detection(index, "all", cell.name)
            offsets = zip(d.offset_samples, d.offset_stderr_samples, strict=True)
            rows.append(
                (
                    *(f"{cell.name} ({cell.node})", minus(f"{experiment.power.axis_dbm[index]:g}")),
                    *(str(d.rank), str(d.num_observations), str(d.num_nuisance)),
                    *("–" if math.isnan(kappa) else f"{kappa:.3f}" for kappa in d.kappa),
                    *(plus_minus(offset, stderr) for offset, stderr in offsets),
                    ", ".join(d.derivative_paths) or "–",
                )
            )
    return Table(heads, tuple(rows))


def level_note(experiment: Experiment, results: Results, counted: int) -> str:
    """What the nominal false-alarm probability rests on."""
    pfa, verdict = experiment.detection.pfa, results.verdict
    if pfa in FALSE_ALARM_LEVELS:
        return f"PFA = {level_text(pfa)} is itself among the levels tested by counting."
    expected, law = pfa * verdict.num_h0_trials, verdict.p_values["h0_law"]
    part = "the tail" if expected < 1 else "a part"
    passed = "passed" if law is not None and law > verdict.level else "did NOT pass"
    return (
        f"PFA = {level_text(pfa)} is {part} of the law that {passed} above; it is not itself tested "
        f"({count_text(counted)} counted, {expected:.2g} expected in {count_text(verdict.num_h0_trials)} trials)."
    )


def recorded_sha256(run: RunDirectory, experiment: Experiment) -> str:
    """Hash of the experiment as the run wrote it; one computed now would change with every default added since."""
    return load_measurements(run.measurements).experiment_sha256 if run.measurements.exists() else experiment.sha256


def nominal_false_alarms(run: RunDirectory, experiment: Experiment, results: Results) -> int:
    """H0 trials of the deciding statistic that reached the threshold of the experiment itself."""
    statistic, pfa = experiment.statistic, experiment.detection.pfa
    stored = [
        run.detection(index, f"without:{cell.name}", cell.name)
        for index in range(results.num_points_run)
        for cell in experiment.cells
    ]
    return sum(int(np.count_nonzero(getattr(s, statistic) >= Law.of(s, statistic).threshold(pfa))) for s in stored)


def warnings(run: RunDirectory, experiment: Experiment, results: Results, captures: Sequence[Capture]) -> list[str]:
    """What a reader must know of files, detector and captures: a foreign truth, hidden echoes, clipping, losses."""
    found: dict[str, None] = {}
    if run.truth.exists() and load_measurements(run.truth).experiment_sha256 != recorded_sha256(run, experiment):
        found["truth.json was written for another experiment: the truth curve does not belong to this run."] = None
    for p in results.points:
        for condition in ("all", f"without:{p.cell}"):
            found |= dict.fromkeys(run.detection(p.point, condition, p.cell).warnings)
    for capture in captures:
        for node in capture.nodes:
            for key, what in (("clip_count", "clipped"), ("lost_before", "lost")):
                if count := int(node.chunks[key].sum()):
                    found[f"{node.name}: {count_text(count)} samples {what} in the '{capture.condition}' capture."] = (
                        None
                    )
    gains = [{node.name: node.settings.rx_gain_db for node in capture.nodes} for capture in captures]
    for name in gains[0] if gains else ():
        if gains[0][name] != gains[1].get(name, gains[0][name]):
            found[f"{name}: the muted capture was taken at another receive gain; its noise variance does not hold."] = (
                None
            )
    return list(found)
