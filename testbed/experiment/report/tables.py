"""The tables of detection in a report, as text: verdicts, points, and what the detector found of the signals."""

import math
from dataclasses import dataclass

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.law import STATISTICS, Statistic
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Point, Results
from testbed.experiment.report.decibels import power_text
from testbed.experiment.report.table import Entry, Table, yes_no
from testbed.experiment.report.wording import (
    CURVE_NAMES,
    STATISTIC_NAMES,
    count_text,
    hochberg_bounds,
    minus,
    p_text,
    plus_minus,
    turning_points,
)


@dataclass(frozen=True)
class VerdictColumn:
    """One verdict: every test's p-value, its bound and what it rests on."""

    name: str
    decides: bool
    consistent: bool
    cells: tuple[Entry, ...]  # p-value, its bound and basis; bad where it turned the verdict
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
            cells.append(Entry("–" if p is None else p_text(p), small, "bad" if name in turned else ""))
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


def point_tables(experiment: CompExperiment, results: Results) -> list[tuple[Statistic, Table]]:
    """Every point of either test, that of the experiment first; by cell, then by power."""
    order = sorted(STATISTICS, key=lambda statistic: statistic != experiment.statistic)
    return [(statistic, _point_table(experiment, results, statistic)) for statistic in order]


def _point_table(experiment: CompExperiment, results: Results, statistic: Statistic) -> Table:
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
        power_text(p.power_dbm),
        f"{count_text(p.num_detections)} of {count_text(p.num_frames)}",
        f"{p.pod:.{digits}f}",
        f"{p.pod_low:.{digits}f} – {p.pod_high:.{digits}f}",
        f"{p.pod_measured:.{digits}f}",
        plus_minus(p.noncentrality.value, p.noncentrality.stderr),
    )


def _truth_row(p: Point) -> tuple[str | Entry, ...]:
    if p.pod_truth is None or p.noncentrality_truth is None:
        return ("–",) * 4
    inside = p.pod_low <= p.pod_truth <= p.pod_high
    deviation = (p.noncentrality.value - p.noncentrality_truth) / p.noncentrality.stderr
    return (
        minus(f"{p.noncentrality_truth:.2f}"),
        minus(f"{deviation:+.1f}"),
        f"{p.pod_truth:.{_digits(p.num_frames)}f}",
        yes_no(inside),
    )


def _digits(num_frames: int) -> int:
    """Decimals that show single detections."""
    return max(2, math.ceil(math.log10(num_frames)))


def detector_table(run: CompRun, experiment: CompExperiment, results: Results) -> Table:
    """Rank, visibility and synchronisation of every H1 capture."""
    nodes = experiment.node_names
    heads = ("Cell (node)", "Power (dBm)", "Rank r", "N", "Q", *(f"κ {name}" for name in nodes))
    heads += (*(f"start of {name} (samples)" for name in nodes), "Derivative columns")
    rows = []
    powers_dbm = {(p.step, p.cell): p.power_dbm for p in results.points}
    for cell in experiment.cells:
        for step in results.steps:
            d = run.detection(step, "all", cell.name)
            offsets = zip(d.offset_samples, d.offset_stderr_samples, strict=True)
            rows.append(
                (
                    *(f"{cell.name} ({cell.node})", power_text(powers_dbm[step, cell.name])),
                    *(str(d.rank), str(d.num_observations), str(d.num_nuisance)),
                    *("–" if math.isnan(kappa) else f"{kappa:.3f}" for kappa in d.kappa),
                    *(plus_minus(offset, stderr) for offset, stderr in offsets),
                    ", ".join(d.derivative_paths) or "–",
                )
            )
    return Table(heads, tuple(rows))
