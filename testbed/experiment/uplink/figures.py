"""Figures of a run of the uplink: PoD against power, alarms, rates, SINRs, rounds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.experiment.uplink.results import DetectorResult, RatesPoint, RoundPoint
from testbed.plots import GREY, INK, MARKERS, PALETTE, Columns, house_style, new_figure
from testbed.theory.hypoexponential import hypoexponential_tail
from testbed.units import db


@house_style()
def pod_figure(detectors: Sequence[DetectorResult]) -> tuple[Any, Columns]:
    """Probability of detection of both detectors over power, counted and in theory."""
    fig, ax = new_figure()
    columns = Columns("detector", "power_dbm", "pod", "pod_low", "pod_high", "pod_theory")
    for i, result in enumerate(detectors):
        at, pod = [p.power_dbm for p in result.points], np.array([p.pod for p in result.points])
        low, high = [p.pod_low for p in result.points], [p.pod_high for p in result.points]
        theory = [p.pod_theory for p in result.points]
        style: dict[str, Any] = {"color": PALETTE[i]}
        ax.plot(at, theory, lw=1.2, **style)
        ends = np.abs(np.array([low, high]) - pod)
        ax.errorbar(at, pod, ends, fmt=MARKERS[i], capsize=2, label=result.detector, **style)
        columns.add(detector=result.detector, power_dbm=at, pod=pod, pod_low=low, pod_high=high, pod_theory=theory)
    ax.plot([], [], color=INK, lw=1.2, label="theory")
    ax.set(xlabel="Power per resource element (dBm)", ylabel="Probability of detection", ylim=(-0.02, 1.02))
    fig.legend(loc="outside upper center", ncols=3)
    return fig, columns


@house_style()
def law_figure(
    laws: Sequence[tuple[str, Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]]],
) -> tuple[Any, Columns]:
    """Survival of the statistic of all blocks without the target, by its own law: the diagonal if the law holds.

    Every entry is a detector's name and, per power, statistics and weights of their law.
    """
    fig, ax = new_figure()
    columns = Columns("detector", "nominal", "counted")
    for i, (name, rows) in enumerate(laws):
        survival = np.sort(np.concatenate([hypoexponential_tail(h0, weights) for h0, weights in rows]))
        counted = np.arange(1, survival.size + 1) / survival.size
        shown = np.unique(np.geomspace(1, survival.size, 400).astype(int)) - 1
        ax.loglog(survival[shown], counted[shown], color=PALETTE[i], label=name)
        columns.add(detector=name, nominal=survival[shown], counted=counted[shown])
    ax.plot([1e-4, 1], [1e-4, 1], color=INK, lw=0.9)
    ax.set(xlabel="Nominal probability of false alarm", ylabel="Counted", xlim=(1e-4, 1), ylim=(1e-4, 1))
    fig.legend(loc="outside upper center", ncols=2)
    return fig, columns


@house_style()
def rates_figure(points: Sequence[RatesPoint]) -> tuple[Any, Columns]:
    """Sum rates of every combiner over power, and the bound."""
    fig, ax = new_figure()
    columns = Columns("combiner", "power_dbm", "sum_rate_bps_hz", "stderr")
    at = [p.power_dbm for p in points]
    for i, how in enumerate(("optimal", "zf", "mrc")):
        rates = [p.links[how].sum_rate for p in points]
        values, errors = [r.value for r in rates], [2 * r.stderr for r in rates]
        ax.errorbar(at, values, errors, fmt=MARKERS[i], ls="-", color=PALETTE[i], capsize=2, label=how)
        columns.add(combiner=how, power_dbm=at, sum_rate_bps_hz=values, stderr=[r.stderr for r in rates])
    bound = [sum(p.bound) for p in points]
    ax.plot(at, bound, color=GREY, ls="--", label="bound (8)")
    columns.add(combiner="bound", power_dbm=at, sum_rate_bps_hz=bound, stderr=None)
    ax.set(xlabel="Power per resource element (dBm)", ylabel="Sum rate (bit/s/Hz)")
    ax.set_ylim(bottom=0)
    fig.legend(loc="outside upper center", ncols=4)
    return fig, columns


@house_style()
def sinr_figure(points: Sequence[RatesPoint]) -> tuple[Any, Columns]:
    """Measured SINR less that of (40), every user, combiner and power."""
    fig, ax = new_figure()
    columns = Columns("combiner", "power_dbm", "user", "formula_db", "difference_db")
    for i, how in enumerate(("mrc", "zf", "optimal")):
        for p in points:
            link = p.links[how]
            x = [db(f.value) for f in link.formula]
            y = [db(m.value / f.value) for m, f in zip(link.sinr, link.formula, strict=True)]
            label = how if p is points[0] else None
            ax.plot(x, y, MARKERS[i], color=PALETTE[i], ls="none", label=label)
            columns.add(combiner=how, power_dbm=p.power_dbm, user=range(1, len(x) + 1), formula_db=x, difference_db=y)
    ax.axhspan(-0.5, 0.5, color=GREY, alpha=0.2, lw=0)
    ax.axhline(0, color=INK, lw=0.9)
    ax.set(xlabel="SINR by (40) (dB)", ylabel="Measured less formula (dB)", ylim=(-0.8, 0.8))
    fig.legend(loc="outside upper center", ncols=3)
    return fig, columns


@house_style()
def loop_figure(rounds: Sequence[RoundPoint]) -> tuple[Any, Columns]:
    """Sum rate of every round, and the bound that the solver works with."""
    fig, ax = new_figure()
    columns = Columns("round", "sum_rate_bps_hz", "stderr", "mrc_bps_hz", "bound_bps_hz")
    at = [r.record.index for r in rounds]
    for i, (name, key) in enumerate((("optimal combiner", "sum_rate"), ("mrc", "mrc_sum_rate"))):
        rates = [getattr(r, key) for r in rounds]
        style: dict[str, Any] = {"color": PALETTE[i], "capsize": 3, "label": name}
        ax.errorbar(at, [r.value for r in rates], [2 * r.stderr for r in rates], fmt=MARKERS[i], ls="-", **style)
    bound = [r.record.predicted_sum_rate for r in rounds]
    ax.plot(at, bound, color=GREY, ls="--", label="bound (8)")
    columns.add(
        round=at,
        sum_rate_bps_hz=[r.sum_rate.value for r in rounds],
        stderr=[r.sum_rate.stderr for r in rounds],
        mrc_bps_hz=[r.mrc_sum_rate.value for r in rounds],
        bound_bps_hz=bound,
    )
    ax.set(xlabel="Round", ylabel="Sum rate (bit/s/Hz)", xticks=at)
    ax.set_ylim(bottom=0)
    fig.legend(loc="outside upper center", ncols=3)
    return fig, columns
