"""A sweep of localisation: one verdict over all its points, and the worst range along its axis."""

import csv
from collections.abc import Sequence
from typing import Any

from testbed.experiment.localization.config import LocalizationExperiment
from testbed.experiment.localization.figures import STYLES
from testbed.experiment.localization.record import LocalizationRun
from testbed.experiment.localization.results import LocalizationResults, StationRange, gather, judge
from testbed.experiment.sweep_run import Sweep, point_experiment
from testbed.plots import GREY, INK, Columns, SavedFigure, house_style, new_figure, save_figure
from testbed.sweep import SweepRow
from testbed.units import db


def conclude(sweep: Sweep, rows: Sequence[SweepRow]) -> dict[str, Any]:
    """Rows, verdict and figure; all of it into the sweep's folder."""
    points: list[tuple[SweepRow, LocalizationResults]] = []
    level = 1e-3
    for row in rows:
        if row.result is None:
            continue
        experiment = point_experiment(sweep, row.point)
        assert isinstance(experiment, LocalizationExperiment), "the caller has looked at its kind"
        level = experiment.verdict.level
        points.append((row, gather(LocalizationRun(sweep.run_directory(row.point.index).path), experiment)))
    _write_rows(sweep, points)
    verdict = judge([r for _, p in points for r in p.ranges], [r for _, p in points for r in p.positions], level)
    figures = []
    numeric = [key for key, values in sweep.axes.items() if all(isinstance(v, int | float) for v in values)]
    if points and len(sweep.axes) == 1 and numeric:
        figures.append(worst_figure(numeric[0], points, sweep).png)
    differences = [abs(r.difference_db) for _, p in points for r in p.ranges]
    answer = "consistent" if verdict.consistent else "NOT consistent"
    said = [
        f"{len(points)} points: {answer} with theory, level {level:g} over all tests",
        f"ranges: smallest p {_text(verdict.smallest_range_p)} of {verdict.num_range_tests}",
        f"positions: smallest p {_text(verdict.smallest_position_p)} of {verdict.num_position_tests}",
        f"SINRs predicted to {max(differences, default=float('nan')):.2f} dB",
        f"worst range clearly better at {sum(p.is_better is True for _, p in points)} points",
    ]
    return {
        "consistent": verdict.consistent,
        "sentence": "; ".join(said),
        "smallest_range_p": verdict.smallest_range_p,
        "smallest_position_p": verdict.smallest_position_p,
        "num_range_tests": verdict.num_range_tests,
        "num_position_tests": verdict.num_position_tests,
        "largest_difference_db": max(differences, default=None),
        "points": [{"index": row.point.index, **row.point.values, **p.to_dict()} for row, p in points],
        "errors": {row.point.index: row.error for row in rows if row.result is None},
        "figures": [str(path) for path in figures],
    }


@house_style()
def worst_figure(key: str, points: Sequence[tuple[SweepRow, LocalizationResults]], sweep: Sweep) -> SavedFigure:
    """Worst spread at equal powers and at the optimum, measured and by the bound, and the SINRs behind it."""
    fig, (ax, below) = new_figure(2, 1, size_in=(5.2, 6.0), sharex=True)
    columns = Columns("powers", key, "std_m", "low_m", "high_m", "bound_m", "all_known_bound_m")
    for powers, style in STYLES.items():
        rows = [(row.point.values[key], w) for row, p in points for w in p.worst if w.powers == powers]
        rows.sort(key=lambda pair: pair[0])
        at = [value for value, _ in rows]
        std = [w.std_m for _, w in rows]
        ends = [[w.std_m - w.low_m for _, w in rows], [w.high_m - w.std_m for _, w in rows]]
        ax.errorbar(at, std, ends, ls="none", capsize=3, label=f"{powers} powers, measured", **style)
        ax.plot(at, [w.bound_m for _, w in rows], color=style["color"], lw=1.1)
        known = [float("nan") if w.all_known_bound_m is None else w.all_known_bound_m for _, w in rows]
        ax.plot(at, known, color=style["color"], lw=1.0, ls=":")
        columns.add(
            powers=powers,
            **{key: at},
            std_m=std,
            low_m=[w.low_m for _, w in rows],
            high_m=[w.high_m for _, w in rows],
            bound_m=[w.bound_m for _, w in rows],
            all_known_bound_m=known,
        )
    ax.plot([], [], color=INK, lw=1.1, label="bound")
    ax.plot([], [], color=INK, lw=1.0, ls=":", label="bound, every frame known")
    ax.set(ylabel="Worst std of a range (m)")
    ax.set_ylim(bottom=0)
    stations: list[tuple[Any, StationRange]] = [(row.point.values[key], r) for row, p in points for r in p.ranges]
    for powers, style in STYLES.items():
        some = [(value, r) for value, r in stations if r.powers == powers and r.sinr.value > 0]
        below.plot([v for v, _ in some], [db(r.sinr.value) for _, r in some], ls="none", **style)
        for node in dict.fromkeys(r.node for _, r in some):
            line = sorted((v, db(r.predicted.value)) for v, r in some if r.node == node and r.predicted.value > 0)
            below.plot([v for v, _ in line], [y for _, y in line], color=style["color"], lw=0.9)
    below.plot([], [], color=GREY, lw=0.9, label="predicted")
    below.set(xlabel=_label(key), ylabel="Sensing SINR (dB)")
    fig.legend(loc="outside upper center", ncols=2)
    return save_figure(fig, sweep.folder / "worst_range", columns)


def _label(key: str) -> str:
    return {"emulator.self_isolation_db": "Self-interference isolation (dB)"}.get(key, key)


def _write_rows(sweep: Sweep, points: Sequence[tuple[SweepRow, LocalizationResults]]) -> None:
    """A row per point, power vector and base station."""
    kinds = ["powers", "node", "power_dbm", "std_m", "bound_m", "rms_over_bound", "p", "sinr_db", "predicted_db"]
    with (sweep.folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", *sweep.axes, *kinds])
        for row, results in points:
            for r in results.ranges:
                levels = [db(e.value) if e.value > 0 else "" for e in (r.sinr, r.predicted)]
                found = [r.powers, r.node, r.power_dbm, r.std_m, r.bound_m, r.ratio, r.p_value, *levels]
                writer.writerow([row.point.index, *row.point.values.values(), *found])


def _text(p: float | None) -> str:
    return "-" if p is None else f"{p:.2g}"
