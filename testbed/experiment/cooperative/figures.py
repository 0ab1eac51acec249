"""Figures of a run of a cooperative network: MSE against its bound, sets of nodes, users' rates and SINRs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.experiment.cooperative.record import UserRow
from testbed.experiment.cooperative.results import Sensing
from testbed.measurement import Estimate
from testbed.plots import GREY, INK, MARKERS, PALETTE, Columns, house_style, new_figure
from testbed.units import db


@house_style()
def share_figure(sensing: Sensing) -> tuple[Any, Columns]:
    """MSE of the position over the power share of sensing: direct, by weighted ranges, and the bound."""
    fig, ax = new_figure()
    columns = Columns("method", "share", "mse_m2", "stderr_m2", "bound_m2")
    rows = sorted(sensing.rows, key=lambda row: row.share)
    share, bound = [row.share for row in rows], [row.all_nodes.bound_m2 or np.nan for row in rows]
    ax.loglog(share, bound, color=INK, lw=1.2, label="bound, all nodes")
    direct = [row.all_nodes.direct for row in rows]
    shown: tuple[tuple[str, Sequence[Estimate | None]], ...] = (
        ("direct", direct),
        ("ranges of strong links", [row.weighted for row in rows]),
        ("ranges of all links", [row.weighted_all for row in rows]),
    )
    for i, (name, found) in enumerate(shown):
        value = [np.nan if e is None else e.value for e in found]
        error = [np.nan if e is None else 2 * e.stderr for e in found]
        ax.errorbar(share, value, error, fmt=MARKERS[i], color=PALETTE[i], capsize=2, label=name)
        columns.add(method=name, share=share, mse_m2=value, stderr_m2=np.array(error) / 2, bound_m2=bound)
    ax.set(xlabel="Power share of sensing", ylabel="Mean square error of the position (m²)")
    fig.legend(loc="outside upper center", ncols=2)
    return fig, columns


@house_style()
def sets_figure(sensing: Sensing) -> tuple[Any, Columns]:
    """MSE over the number of nodes: the planner's sets, the nearest, every set of four."""
    fig, ax = new_figure()
    columns = Columns("choice", "num_nodes", "mse_m2", "stderr_m2", "bound_m2")
    row = max(sensing.rows, key=lambda r: r.share)
    for i, (name, found) in enumerate((("planner", row.planned), ("nearest", row.nearest), ("every set", row.random))):
        if not found:
            continue
        size = np.array([len(f.nodes) for f in found], dtype=float)
        value, error = [f.direct.value for f in found], [2 * f.direct.stderr for f in found]
        bound = [f.bound_m2 or np.nan for f in found]
        if name == "every set":
            spread = np.linspace(-0.12, 0.12, size.size)
            ax.semilogy(size + spread, value, ".", color=GREY, ms=3, label=name, zorder=1)
        else:
            ax.errorbar(size, value, error, fmt=MARKERS[i], color=PALETTE[i], capsize=2, label=name)
            ax.semilogy(size, bound, color=PALETTE[i], lw=1.0)
        columns.add(choice=name, num_nodes=size, mse_m2=value, stderr_m2=np.array(error) / 2, bound_m2=bound)
    ax.plot([], [], color=INK, lw=1.0, label="bound")
    ax.set(xlabel="Sensing nodes", ylabel="Mean square error of the position (m²)")
    fig.legend(loc="outside upper center", ncols=4)
    return fig, columns


@house_style()
def rates_figure(rows: Sequence[UserRow]) -> tuple[Any, Columns]:
    """Smallest measured rate over the share of the users' data, a curve per cluster size; solid slots."""
    fig, ax = new_figure()
    columns = Columns("waveform", "cluster_size", "share", "smallest_rate_bps_hz", "predicted_bps_hz")
    sizes = sorted({row.cluster_size for row in rows})
    for waveform, style in (("slots", "-"), ("superposition", ":")):
        for i, size in enumerate(sizes):
            some = [row for row in rows if row.waveform == waveform and row.cluster_size == size]
            shares = sorted({row.share for row in some})
            if not shares:
                continue
            smallest = [min(r.measured_rate.value for r in some if r.share == p) for p in shares]
            told = [min(r.predicted_rate for r in some if r.share == p) for p in shares]
            label = f"L = {size}" if waveform == "slots" else None
            colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
            ax.semilogx(shares, told, style, color=colour, lw=1.0)
            ax.plot(shares, smallest, marker, color=colour, label=label, mfc=colour if style == "-" else "white")
            columns.add(
                waveform=waveform,
                cluster_size=size,
                share=shares,
                smallest_rate_bps_hz=smallest,
                predicted_bps_hz=told,
            )
    ax.set(xlabel="Power share of the users' data", ylabel="Smallest rate of a user (bit/s/Hz)")
    ax.set_ylim(bottom=0)
    fig.legend(loc="outside upper center", ncols=4)
    return fig, columns


@house_style()
def prediction_figure(rows: Sequence[UserRow]) -> tuple[Any, Columns]:
    """Measured SINR less the predicted one, every user, cluster and share."""
    fig, ax = new_figure()
    columns = Columns("waveform", "user", "cluster_size", "share", "predicted_db", "difference_db")
    for i, waveform in enumerate(("slots", "superposition")):
        some = [r for r in rows if r.waveform == waveform and r.measured_sinr.value > 0 and r.predicted_sinr > 0]
        x = [db(r.predicted_sinr) for r in some]
        y = [db(r.measured_sinr.value / r.predicted_sinr) for r in some]
        if some:
            ax.plot(x, y, MARKERS[i], color=PALETTE[i], ls="none", label=waveform)
        for r, at, off in zip(some, x, y, strict=True):
            columns.add(
                waveform=waveform, user=r.user, cluster_size=r.cluster_size, share=r.share, predicted_db=at,
                difference_db=off,
            )  # fmt: skip
    ax.axhspan(-0.5, 0.5, color=GREY, alpha=0.2, lw=0)
    ax.axhline(0, color=INK, lw=0.9)
    ax.set(xlabel="Predicted SINR (dB)", ylabel="Measured less predicted (dB)", ylim=(-0.8, 0.8))
    fig.legend(loc="outside upper center", ncols=2)
    return fig, columns
