"""The figures of a sweep over budgets and schemes: PoD and sum rate against the budget, measured and in theory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from testbed.experiment.comp.results import Results
from testbed.experiment.comp.sweep_results import SchemePoint
from testbed.plots import INK, MARKERS, PALETTE, Columns, SavedFigure, house_style, new_figure, save_figure

SHOWN_STDERRS = 2.0


@house_style()
def pod_figure(results: Results, folder: Path) -> SavedFigure:
    """PoD of every target against the budget under equal power: Fig. 2a of the CoMP letter, from captures."""
    fig, ax = new_figure()
    columns = Columns("cell", "budget_dbm", "pod", "pod_low", "pod_high", "pod_truth")
    statistic = results.deciding.split("/")[0]
    points = [p for p in results.points if p.statistic == statistic]
    for i, cell in enumerate(dict.fromkeys(p.cell for p in points)):
        rows = sorted((p for p in points if p.cell == cell), key=lambda p: p.power_dbm)
        at, pod = [p.power_dbm for p in rows], np.array([p.pod for p in rows])
        interval = np.array([[p.pod_low for p in rows], [p.pod_high for p in rows]])
        truth = [np.nan if p.pod_truth is None else p.pod_truth for p in rows]
        style: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)]}
        ax.plot(at, truth, lw=1.2, **style)
        ax.errorbar(at, pod, np.abs(interval - pod), fmt=MARKERS[i % len(MARKERS)], capsize=2, label=cell, **style)
        columns.add(cell=cell, budget_dbm=at, pod=pod, pod_low=interval[0], pod_high=interval[1], pod_truth=truth)
    ax.plot([], [], color=INK, lw=1.2, label="theory")
    ax.set(xlabel="Budget, mean per node (dBm)", ylabel="Probability of detection", ylim=(-0.02, 1.02))
    ax.set_title("Equal power; bars are 95 % intervals")
    fig.legend(loc="outside lower center", ncols=4)
    return save_figure(fig, folder / "pod_over_budget", columns)


@house_style()
def rate_figure(points: Sequence[SchemePoint], folder: Path) -> SavedFigure:
    """Sum rate of every scheme against the budget: Fig. 2b of the CoMP letter, from captures."""
    fig, ax = new_figure()
    columns = Columns("method", "budget_dbm", "sum_rate_bps_hz", "stderr", "sum_rate_truth_bps_hz", "feasible")
    for i, method in enumerate(dict.fromkeys(p.method for p in points)):
        rows = sorted((p for p in points if p.method == method), key=lambda p: p.budget_dbm)
        style: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
        for feasible in (True, False):
            some = [p for p in rows if p.feasible == feasible]
            at = [p.budget_dbm for p in some]
            errors = [SHOWN_STDERRS * p.sum_rate_stderr for p in some]
            face = {} if feasible else {"mfc": "white"}
            label = method if feasible else None
            ax.errorbar(at, [p.sum_rate for p in some], errors, ls="none", capsize=2, label=label, **style, **face)
        truth = [np.nan if p.sum_rate_truth is None else p.sum_rate_truth for p in rows]
        ax.plot([p.budget_dbm for p in rows], truth, lw=1.1, color=style["color"])
        columns.add(
            method=method,
            budget_dbm=[p.budget_dbm for p in rows],
            sum_rate_bps_hz=[p.sum_rate for p in rows],
            stderr=[p.sum_rate_stderr for p in rows],
            sum_rate_truth_bps_hz=truth,
            feasible=[p.feasible for p in rows],
        )
    ax.plot([], [], color=INK, lw=1.1, label="at the true gains")
    ax.plot([], [], color=INK, marker="o", mfc="white", ls="none", label="requirements not met")
    ax.set(xlabel="Budget, mean per node (dBm)", ylabel="Sum rate (bit/s/Hz)")
    ax.set_title("Bars are ± 2 standard errors")
    fig.legend(loc="outside lower center", ncols=3)
    return save_figure(fig, folder / "sum_rate_over_budget", columns)
