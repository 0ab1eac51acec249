"""Figures 3, 4 and 5 of the localisation paper; both metrics, and shares of feasible drops, beside what it shows."""

from typing import Any

import numpy as np

from sim.figures.drawing import DASHED, Drawn, legend_below, mean_line
from sim.figures.localization_claims import Evidence
from sim.figures.localization_sweeps import CDF_SELF_GAINS_DB, COMMON_DB, METRICS, SCHEMES, Curve, Sweep
from testbed.plots import FAINT, GREY, MARKERS, PALETTE, Columns, house_style, new_figure
from testbed.units import db

_NAMES = {"avg": "mean of three", "max": "worst of three"}
_STD_LABEL = "Range standard deviation (m)"
_SELF_LABEL = "Self-interference over own power (dB)"


@house_style()
def cdf_figure(evidence: Evidence) -> Drawn:
    """3: empirical distribution of a drop's mean and worst standard deviation, at some levels of self-interference."""
    sweep = evidence.self_gain
    fig, axes = new_figure(1, 2, size_in=(8.6, 4.4), sharey=True)
    columns = Columns("metric", "scheme", "self_gain_db", "std_m", "share_of_drops")
    served = sweep.feasible[:, 0]
    for ax, metric in zip(axes, METRICS, strict=True):
        for k, x in enumerate(CDF_SELF_GAINS_DB):
            j = sweep.at(x)
            drawn = {scheme: sweep.metric(scheme, metric)[served, j] for scheme in SCHEMES}
            least = evidence.least_mean[served, k]
            drawn["least mean"] = np.mean(least, axis=1) if metric == "avg" else np.max(least, axis=1)
            for scheme, look in zip(drawn, ("--", "-", ":"), strict=True):
                std = np.sort(drawn[scheme])
                share = np.arange(1, len(std) + 1) / len(std)
                ax.step(std, share, where="post", color=PALETTE[k], ls=look, lw=1.2)
                columns.add(metric=metric, scheme=scheme, self_gain_db=x, std_m=std, share_of_drops=share)
        ax.set(title=f"{_NAMES[metric].capitalize()} base stations", xscale="log", xlabel=_STD_LABEL, ylim=(0, 1.02))
        _plain_ticks(ax.xaxis)
    axes[0].set_ylabel("Share of drops")
    for k, x in enumerate(CDF_SELF_GAINS_DB):
        axes[0].plot([], [], color=PALETTE[k], label=f"{x:g} dB self-interference")
    for scheme, look in (("IC, all at their caps", "--"), ("optimum", "-"), ("least mean", ":")):
        axes[0].plot([], [], color=GREY, ls=look, label=scheme)
    legend_below(fig, axes[0], 4)
    return fig, columns


@house_style()
def self_gain_figure(evidence: Evidence) -> Drawn:
    """4: per base station, standard deviation and power over self-interference; beside it the means of figure 3."""
    sweep = evidence.self_gain
    fig, (left, right) = new_figure(1, 2, size_in=(9.6, 4.4))
    columns = Columns("quantity", "scheme", "station", "static_paths", "self_gain_db", "value", "stderr")
    for m, metric in enumerate(METRICS):
        for k, scheme in enumerate(SCHEMES):
            curve = sweep.curve(scheme, metric)
            _line(left, curve, k, m, f"{scheme}, {_NAMES[metric]}")
            quantity = f"std_{metric}_m"
            for paths, found in (("all", curve), ("cancelled", evidence.cancelled.curve(scheme, metric))):
                columns.add(
                    quantity=quantity, scheme=scheme, static_paths=paths, self_gain_db=found.x, value=found.mean,
                    stderr=found.stderr,
                )  # fmt: skip
    at = sweep.crossing("avg").at
    if np.isfinite(at):
        left.axvline(at, color=GREY, lw=0.9, ls=":")
        left.annotate(f"means cross at {at:.1f} dB", (at, 0.96), xycoords=("data", "axes fraction"), ha="right")
    left.set(title="Means over drops", xlabel=_SELF_LABEL, ylabel=_STD_LABEL, yscale="log")
    left.legend(loc="center left")
    _plain_ticks(left.yaxis)
    served = sweep.feasible[:, 0]
    twin = right.twinx()
    for k in range(3):
        std, power = sweep.std_m["optimum"][served, :, k], sweep.power_w[served, :, k]
        stderr = (np.std(values, axis=0, ddof=1) / np.sqrt(len(values)) for values in (std, power))
        for quantity, values, error in zip(("std_m", "power_w"), (std, power), stderr, strict=True):
            columns.add(
                quantity=quantity, scheme="optimum", station=k + 1, static_paths="all", self_gain_db=sweep.x,
                value=np.mean(values, axis=0), stderr=error,
            )  # fmt: skip
        right.plot(sweep.x, np.mean(std, axis=0), color=PALETTE[k], marker=MARKERS[k], label=f"base station {k + 1}")
        twin.plot(sweep.x, 30 + db(np.mean(power, axis=0)), color=PALETTE[k], marker=MARKERS[k], **DASHED)
    right.set(title="Optimum: STD (solid), power (dashed)", xlabel=_SELF_LABEL, ylabel=_STD_LABEL, yscale="log")
    _plain_ticks(right.yaxis)
    twin.set_ylabel("Mean transmit power (dBm)")
    twin.grid(visible=False)
    twin.spines["right"].set_visible(True)
    right.legend(loc="center left")
    return fig, columns


@house_style()
def threshold_figure(evidence: Evidence) -> Drawn:
    """5: mean and worst over the users' threshold, each point over its own feasible drops, and over a common set."""
    sweep, common = evidence.threshold, evidence.common
    fig, axes = new_figure(
        2, 2, size_in=(8.6, 5.6), sharex="col", sharey="row", gridspec_kw={"height_ratios": [3, 1.2]}
    )
    columns = Columns("drops", "metric", "scheme", "min_comm_sinr_db", "std_m", "stderr", "feasible_share", "ic_serves")
    share, ic_serves = np.mean(sweep.feasible, axis=0), np.mean(sweep.ic_serves, axis=0)
    titles = {
        "own": "Each threshold over its own drops",
        "common": f"{np.sum(common)} drops feasible to {COMMON_DB:g} dB",
    }
    for (top, bottom), (name, title) in zip(axes.T, titles.items(), strict=True):
        for m, metric in enumerate(METRICS):
            for k, scheme in enumerate(SCHEMES):
                curve = sweep.curve(scheme, metric, None if name == "own" else common)
                if name == "common":
                    kept = curve.x <= COMMON_DB
                    curve = Curve(curve.x[kept], curve.mean[kept], curve.stderr[kept])
                _line(top, curve, k, m, f"{scheme}, {_NAMES[metric]}")
                columns.add(
                    drops=name, metric=metric, scheme=scheme, min_comm_sinr_db=curve.x, std_m=curve.mean,
                    stderr=curve.stderr, feasible_share=share[: len(curve.x)], ic_serves=ic_serves[: len(curve.x)],
                )  # fmt: skip
        top.set(title=title)
        _shares(bottom, sweep, share, ic_serves)
    axes[0, 0].set_ylabel(_STD_LABEL)
    axes[1, 0].set_ylabel("Share of drops")
    axes[1, 0].legend(loc="lower left")
    legend_below(fig, axes[0, 0], 4)
    return fig, columns


def _plain_ticks(axis: Any) -> None:
    """20, 50, 100 on a logarithmic axis instead of powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _line(ax: Any, curve: Curve, k: int, m: int, label: str) -> None:
    """Colour and marker say the scheme; a dashed line with open markers is the worst of three."""
    mean_line(ax, k, curve.x, curve.mean, curve.stderr, label=label, ms=3.5, **(DASHED if m else {}))


def _shares(ax: Any, sweep: Sweep, share: Any, ic_serves: Any) -> None:
    ax.fill_between(sweep.x, 0, share, color=FAINT, lw=0, label="some power serves all users")
    ax.plot(sweep.x, ic_serves, color=PALETTE[0], ls="--", lw=1.0, label="IC does")
    ax.set(xlabel="SINR that every user needs (dB)", ylim=(0, 1.05))
