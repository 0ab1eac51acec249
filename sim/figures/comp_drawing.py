"""Figures 2a, 2b and 2c of the CoMP letter: a column of panels per reading, shares of feasible draws below curves."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.figures.comp_pod import SYMBOLS, Detection
from sim.figures.comp_rates import SCHEMES
from sim.figures.comp_readings import Curve, Reading
from sim.figures.comp_scenario import POD, POD_BUDGETS_DB
from sim.figures.drawing import DASHED, Drawn, legend_below, mean_line
from testbed.plots import FAINT, GREY, INK, MARKERS, PALETTE, Columns, house_style, new_figure

TITLES = {
    "S1": "S1: one draw, selected",
    "M": "M: fixed schemes judged on means",
    "Z": "Z: mean, infeasible draw counts 0",
}
_SHARE_LABEL = "Share of draws with\nall requirements met"
_BUDGET_LABEL = "Total power budget (dB)"
_ONLY_ONE = "S1 is one draw: a share is 0 or 1"


@house_style()
def pod_figure(detections: dict[str, Detection]) -> Drawn:
    """2a: PoD of equal power over the budget, theory and trials, and below it how far apart they are.

    Args:
        detections: by title: of scenario S1 with a column per cell, of the ensemble with one.
    """
    fig, axes = _panels(len(detections))
    columns = Columns("channels", "cell", "symbols", "total_power_db", "pod_theory", "pod_simulated", "stderr")
    for (top, bottom), (title, found) in zip(axes.T, detections.items(), strict=True):
        x, num = found.total_power_db, found.theory.shape[1]
        for i in range(num):
            cell = f"cell {i + 1}" if num > 1 else "mean of all cells and draws"
            top.plot(found.axis_db, found.curve[:, i], color=PALETTE[i], label=f"theory, {cell}")
            top.plot(x, found.simulated["orthogonal"][:, i], MARKERS[i], color=PALETTE[i], mfc="white")
            for symbols in SYMBOLS:
                columns.add(
                    channels=title, cell=cell, symbols=symbols, total_power_db=x, pod_theory=found.theory[:, i],
                    pod_simulated=found.simulated[symbols][:, i], stderr=found.stderr[:, i],
                )  # fmt: skip
        top.plot([], [], "o", color=GREY, mfc="white", label=f"{found.trials} trials, orthogonal symbols")
        top.axhline(POD, color=GREY, lw=0.9, ls=":")
        allowed = np.max(found.chance(), axis=1)
        bottom.fill_between(x, -allowed, allowed, color=FAINT, lw=0, label="4 standard errors")
        for k, symbols in enumerate(SYMBOLS):
            off = found.deviation(symbols)
            where = np.repeat(x + 0.2 * (k - 1), num)
            label = {"qpsk": "QPSK symbols"}.get(symbols, f"{symbols.capitalize()} symbols")
            bottom.plot(where, off.ravel(), MARKERS[3 + k], color=PALETTE[3 + k], ms=3.5, label=label)
        bottom.axhline(0, color=GREY, lw=1.0)
        top.set(title=title, ylim=(-0.02, 1.02))
        top.legend(loc="lower right")
        bottom.set(xlabel=_BUDGET_LABEL)
    axes[0, 0].set_ylabel("Probability of detection (equal power)")
    axes[1, 0].set_ylabel("Simulated\n− theory")
    legend_below(fig, axes[1, 0], 4)
    return fig, columns


@house_style()
def budget_figure(readings: Sequence[Reading]) -> Drawn:
    """2b: sum rate over the budget."""
    fig, axes = _panels(len(readings))
    columns = Columns("reading", "scheme", "total_power_db", "sum_rate_bps_hz", "stderr", "feasible_share")
    for (top, bottom), reading in zip(axes.T, readings, strict=True):
        for scheme, curve in reading.over_budget.items():
            _draw(top, bottom, scheme, curve, label=scheme)
            columns.add(reading=reading.name, scheme=scheme, total_power_db=curve.x, **_numbers(curve))
        bottom.set(xlabel=_BUDGET_LABEL)
    _finish(fig, axes, readings)
    return fig, columns


@house_style()
def requirement_figure(readings: Sequence[Reading]) -> Drawn:
    """2c: sum rate over the required PoD, for two budgets."""
    fig, axes = _panels(len(readings))
    columns = Columns(
        "reading", "scheme", "total_power_db", "required_pod", "sum_rate_bps_hz", "stderr", "feasible_share"
    )
    for (top, bottom), reading in zip(axes.T, readings, strict=True):
        for scheme in SCHEMES:
            for budget in reversed(POD_BUDGETS_DB):
                look = DASHED if budget == POD_BUDGETS_DB[0] else {}
                curve = reading.over_pod[budget][scheme]
                _draw(top, bottom, scheme, curve, label=f"{scheme}, {budget:g} dB", **look)
                columns.add(
                    reading=reading.name, scheme=scheme, total_power_db=budget, required_pod=curve.x, **_numbers(curve)
                )
        bottom.set(xlabel="Required probability of detection", xlim=(0.28, 1.01))
    _finish(fig, axes, readings)
    return fig, columns


def _panels(num: int) -> tuple[Any, Any]:
    return new_figure(
        2, num, size_in=(1.2 + 3.7 * num, 5.6), sharex="col", gridspec_kw={"height_ratios": [3, 1.2]}, squeeze=False
    )


def _draw(top: Any, bottom: Any, scheme: str, curve: Curve, label: str, **look: Any) -> None:
    k = SCHEMES.index(scheme)
    mean_line(top, k, curve.x, curve.sum_rate, curve.stderr, label=label, **look)
    arguments = {"color": PALETTE[k], "marker": MARKERS[k], **look, "ms": 3.5}
    x = curve.x
    if np.all(np.isnan(curve.stderr)):  # one draw: 0 or 1 and nothing between, side by side to be seen
        arguments |= {"ls": "none"}
        x = x + 0.22 * (k - 1) * np.min(np.diff(x))
    bottom.plot(x, curve.feasible_share, **arguments)


def _finish(fig: Any, axes: Any, readings: Sequence[Reading]) -> None:
    for (top, bottom), reading in zip(axes.T, readings, strict=True):
        top.set(title=TITLES[reading.name])
        bottom.set(ylim=(-0.05, 1.05))
        if reading.name == "S1":
            bottom.annotate(_ONLY_ONE, (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=8.5, color=INK)
    axes[0, 0].set_ylabel("Sum rate (bit/s/Hz)")
    axes[1, 0].set_ylabel(_SHARE_LABEL)
    legend_below(fig, axes[0, 0], 3)


def _numbers(curve: Curve) -> dict[str, Any]:
    return {"sum_rate_bps_hz": curve.sum_rate, "stderr": curve.stderr, "feasible_share": curve.feasible_share}
