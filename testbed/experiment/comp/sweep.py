"""What a sweep of CoMP experiments leaves: rows, order, verdict, figures."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testbed.experiment.comp.sweep_figures import pod_figure, rate_figure
from testbed.experiment.comp.sweep_results import (
    BUDGET,
    METHOD,
    SchemePoint,
    pooled_verdict,
    scheme_order,
    scheme_points,
)
from testbed.experiment.sweep_run import Sweep
from testbed.sweep import SweepRow


def write_rows(path: Path, rows: Sequence[SweepRow], points: Sequence[SchemePoint]) -> None:
    """A row per point: its values, what it found, or why it failed."""
    by_index = {p.index: p for p in points}
    names = list(rows[0].point.values) if rows else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        kinds = ["feasible", "is_met", "sum_rate_bps_hz", "stderr", "sum_rate_truth_bps_hz", "consistent", "error"]
        writer.writerow(["index", *names, *kinds])
        for row in rows:
            p = by_index.get(row.point.index)
            found = [p.feasible, p.is_met, p.sum_rate, p.sum_rate_stderr, p.sum_rate_truth] if p else [""] * 5
            consistent = row.result["consistent"] if row.result else ""
            writer.writerow([row.point.index, *row.point.values.values(), *found, consistent, row.error])


def plain_point(p: SchemePoint) -> dict[str, Any]:
    """Plain data for sweep.json."""
    return {**{k: v for k, v in asdict(p).items() if k != "summary"}, "summary": p.summary.to_dict()}


def conclude(sweep: Sweep, rows: Sequence[SweepRow]) -> dict[str, Any]:
    """Rows, order, verdict and figures; all of it into the sweep's folder."""
    points = scheme_points(sweep, rows)
    order, verdict = scheme_order(points), pooled_verdict(sweep, points)
    write_rows(sweep.folder / "rows.csv", rows, points)
    figures = []
    if BUDGET in sweep.axes and set(sweep.axes) <= {BUDGET, METHOD} and points:
        figures.append(rate_figure(points, sweep.folder).png)
        if verdict is not None:
            figures.append(pod_figure(verdict, sweep.folder).png)
    return {
        "points": [plain_point(p) for p in points],
        "errors": {row.point.index: row.error for row in rows if row.result is None},
        "order": {
            "num_pairs": order.num_pairs,
            "num_agreeing": order.num_agreeing,
            "disagreeing": list(order.disagreeing),
        },
        "equal_power": None if verdict is None else verdict.to_dict(),
        "figures": [str(path) for path in figures],
    }
