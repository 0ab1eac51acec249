"""Figures of a run of localisation: spreads against bounds, predictions, positions, errors over their bounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.experiment.localization.results import Powers, StationRange
from testbed.plots import GREY, INK, MARKERS, PALETTE, Columns, house_style, new_figure
from testbed.sensing.positions import Positions
from testbed.sensing.ranging import Ranging
from testbed.units import db

STYLES: dict[str, dict[str, Any]] = {
    "equal": {"color": PALETTE[0], "marker": MARKERS[0]},
    "optimum": {"color": PALETTE[1], "marker": MARKERS[1]},
}


@house_style()
def spread_figure(rows: Sequence[StationRange]) -> tuple[Any, Columns]:
    """Standard deviation of the ranges of every base station, measured and by the bound; (12) as its known multiple."""
    fig, ax = new_figure()
    columns = Columns("powers", "node", "std_m", "low_m", "high_m", "bound_m", "curry_std_m")
    nodes = list(dict.fromkeys(row.node for row in rows))
    multiple = float(np.median([row.curry_std_m / row.bound_m for row in rows]))
    for i, powers in enumerate(dict.fromkeys(row.powers for row in rows)):
        some = [row for row in rows if row.powers == powers]
        x = np.array([nodes.index(row.node) for row in some]) + 0.2 * (i - 0.5)
        std = np.array([row.std_m for row in some])
        ends = np.abs(np.array([[row.std_low_m for row in some], [row.std_high_m for row in some]]) - std)
        ax.errorbar(x, std, ends, ls="none", capsize=3, label=f"{powers} powers", **STYLES[powers])
        for at, row in zip(x, some, strict=True):
            ax.plot([at - 0.08, at + 0.08], [row.bound_m] * 2, color=INK, lw=1.3)
            ax.plot([at - 0.08, at + 0.08], [row.curry_std_m / multiple] * 2, color=GREY, lw=1.0, ls=":")
            columns.add(
                powers=powers,
                node=row.node,
                std_m=row.std_m,
                low_m=row.std_low_m,
                high_m=row.std_high_m,
                bound_m=row.bound_m,
                curry_std_m=row.curry_std_m,
            )
    ax.plot([], [], color=INK, lw=1.3, label="Cramér-Rao bound")
    ax.plot([], [], color=GREY, lw=1.0, ls=":", label=f"(12) / {multiple:.0f}")
    ax.set_xticks(range(len(nodes)), nodes)
    ax.set(ylabel="Standard deviation of the range (m)", xlim=(-0.6, len(nodes) - 0.4))
    ax.set_ylim(bottom=0)
    fig.legend(loc="outside upper center", ncols=2)
    return fig, columns


@house_style()
def sinr_figure(rows: Sequence[StationRange]) -> tuple[Any, Columns]:
    """Sensing SINR (11): predicted from the K + 1 captures, and measured."""
    fig, ax = new_figure()
    columns = Columns("powers", "node", "predicted_db", "measured_db")
    levels = []
    for powers in dict.fromkeys(row.powers for row in rows):
        some = [row for row in rows if row.powers == powers and row.sinr.value > 0 and row.predicted.value > 0]
        x, y = ([db(getattr(row, key).value) for row in some] for key in ("predicted", "sinr"))
        levels += [*x, *y]
        ax.plot(x, y, ls="none", label=f"{powers} powers", ms=6, **STYLES[powers])
        for row, at, level in zip(some, x, y, strict=True):
            ax.annotate(row.node, (at, level), xytext=(6, -10), textcoords="offset points", fontsize=8.5)
            columns.add(powers=powers, node=row.node, predicted_db=at, measured_db=level)
    if levels:
        ends = np.array([min(levels) - 1, max(levels) + 1])
        ax.plot(ends, ends, color=INK, lw=1.0)
        ax.fill_between(ends, ends - 0.5, ends + 0.5, color=GREY, alpha=0.25, lw=0, label="±0.5 dB")
    ax.set(xlabel="Predicted SINR (dB)", ylabel="Measured SINR (dB)")
    fig.legend(loc="outside upper center", ncols=3)
    return fig, columns


@house_style()
def position_figure(found: Mapping[Powers, Positions], target_m: Sequence[float]) -> tuple[Any, Columns]:
    """Positions of all trials about the target, with the 95 % ellipse of their mean covariance."""
    fig, axes = new_figure(
        1, len(found), size_in=(3.4 * len(found) + 0.4, 3.6), squeeze=False, sharex=True, sharey=True
    )
    columns = Columns("powers", "trial", "x_m", "y_m", "is_outlier")
    for ax, (powers, rows) in zip(axes[0], found.items(), strict=True):
        good = rows.judged
        at = rows.position_m[:, :2] - np.asarray(target_m)[:2]
        ax.plot(*at[good].T, ".", ms=3, color=STYLES[powers]["color"], alpha=0.6)
        ax.plot(0, 0, "+", color=INK, ms=10)
        if np.any(good):
            mean = np.mean(rows.covariance_m2[good], axis=0)[:2, :2]
            angle = np.linspace(0, 2 * np.pi, 181)
            radius = np.sqrt(-2 * np.log(0.05))  # 95 % of a normal law in the plane
            ring = radius * np.linalg.cholesky(mean) @ np.array([np.cos(angle), np.sin(angle)])
            ax.plot(*ring, color=INK, lw=1.1)
        ax.set(title=f"{powers} powers", xlabel="x − target (m)")
        ax.set_aspect("equal")
        trial = np.arange(len(at))
        columns.add(powers=powers, trial=trial, x_m=rows.position_m[:, 0], y_m=rows.position_m[:, 1], is_outlier=~good)
    axes[0, 0].set_ylabel("y − target (m)")
    return fig, columns


@house_style()
def error_figure(
    ranges: Mapping[tuple[Powers, str], Ranging], true_m: Mapping[str, float] | None
) -> tuple[Any, Columns]:
    """Range errors over their bounds, sorted, against a normal law."""
    from scipy.stats import norm

    fig, ax = new_figure()
    columns = Columns("powers", "node", "normal_quantile", "error_over_bound")
    for i, ((powers, node), ranging) in enumerate(ranges.items()):
        values = (ranging.range_m - ranging.drift_m)[~ranging.outlier]
        centre = float(np.mean(values)) if true_m is None else true_m[node]
        errors = np.sort((values - centre) / ranging.crlb_m[~ranging.outlier])
        x = norm.ppf((np.arange(errors.size) + 0.5) / errors.size)
        ax.plot(x, errors, ".", ms=3, color=PALETTE[i % len(PALETTE)], label=f"{node}, {powers}")
        columns.add(powers=powers, node=node, normal_quantile=x, error_over_bound=errors)
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends, color=INK, lw=1.0)
    ax.set(xlabel="Quantile of the normal law", ylabel="Range error over its bound")
    fig.legend(loc="outside upper center", ncols=3)
    return fig, columns
