"""The figures of a loop: powers, sensing SNRs and communication SINRs, round by round."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.summary import RoundSummary
from testbed.experiment.report.decibels import estimate_db, value_db
from testbed.experiment.report.loop_tables import MAX_DIFFERENCE_DB
from testbed.experiment.report.wording import legend_text
from testbed.measurement import Estimate
from testbed.plots import FAINT, GREY, INK, MARKERS, PALETTE, Columns, house_style, new_figure

SHOWN_STDERRS = 2.0  # error bars
MIN_SHOWN_DB = 2.0  # of powers: rounding in the converter must not look like a change
SAME_LEVEL_DB = 0.005  # within it, one line shows what is required of all
_BESIDE = 0.4  # rounds; how far series are moved apart at most


@dataclass(frozen=True)
class Ratio:
    """An SNR or SINR of one round, linear."""

    measured: Estimate
    predicted: Estimate | None
    truth: float | None
    required: float


@house_style()
def power_figure(
    experiment: CompExperiment, rounds: Sequence[RoundSummary], nodes: Sequence[str]
) -> tuple[Any, Columns]:
    """Power of every node in every round: asked for, and realised on the air; and the budget they share."""
    assert experiment.allocation is not None, "a loop has an allocation"
    fig, ax = new_figure(size_in=(5.0, 3.9))
    columns = Columns("series", "node", "round", "power_dbm")
    index = [row.index for row in rounds]
    for i, node in enumerate(nodes):
        at = np.array(index) + _aside(i, len(nodes))
        asked, realised = (
            np.array([math.nan if p is None else p for p in (getattr(row, key)[node] for row in rounds)])
            for key in ("power_dbm", "realised_dbm")
        )
        ax.plot(at, asked, color=PALETTE[i], marker=MARKERS[i], lw=1.0, label=legend_text(node))
        ax.plot(at, realised, ls="none", color=PALETTE[i], marker=MARKERS[i], ms=8.5, mfc="none", mew=0.9)
        off = at[np.isnan(asked)]
        if off.size:  # a logarithm has no zero
            ax.plot(off, np.full(off.size, 0.03), "x", color=PALETTE[i], transform=ax.get_xaxis_transform(), ms=7)
        columns.add(series="asked", node=node, round=index, power_dbm=asked)
        columns.add(series="on the air", node=node, round=index, power_dbm=realised)
    ax.plot([], [], ls="none", color=INK, marker="o", ms=8.5, mfc="none", mew=0.9, label="on the air")
    if any(row.power_dbm[node] is None for row in rounds for node in nodes):
        ax.plot([], [], "x", color=INK, ms=7, label="off")
    budget_dbm, cap_dbm = experiment.allocation.budget_dbm, experiment.allocation.max_power_dbm
    ax.axhline(budget_dbm, color=GREY, lw=1.1, ls="--", label="budget, mean per node")
    columns.add(series="budget, mean per node", power_dbm=budget_dbm)
    if cap_dbm is not None:
        ax.axhline(cap_dbm, color=GREY, lw=1.1, ls=":", label="cap of every node")
        columns.add(series="cap of every node", power_dbm=cap_dbm)
    ax.margins(y=0.12)
    middle = float(np.mean(ax.get_ylim()))
    ax.set_ylim(*_at_least(ax.get_ylim(), MIN_SHOWN_DB / 2, middle))
    ax.set(xlabel="Round", ylabel="Transmit power (dBm)")
    _whole_rounds(ax, rounds)
    fig.legend(loc="outside lower center", ncols=3)
    return fig, columns


@house_style()
def sensing_figure(rounds: Sequence[RoundSummary], cells: Sequence[str]) -> tuple[Any, Columns]:
    """Sensing SNR of every target against what is required and what was predicted."""
    series = {
        legend_text(f"{c.cell} at {c.node}"): [Ratio(r.snr, r.snr_predicted, r.snr_truth, r.snr_required) for r in rows]
        for rows in zip(*(row.cells for row in rounds), strict=True)
        for c in rows[:1]
        if c.cell in cells
    }
    return _ratio_figure(rounds, series, "Sensing SNR λ/2N (dB)", "snr")


@house_style()
def comm_figure(rounds: Sequence[RoundSummary], users: Sequence[str]) -> tuple[Any, Columns]:
    """SINR of every user against what is required and what was predicted."""
    series = {
        legend_text(f"{u.user} of {u.node}"): [
            Ratio(r.sinr, r.sinr_predicted, r.sinr_truth, r.sinr_required) for r in rows
        ]
        for rows in zip(*(row.users for row in rounds), strict=True)
        for u in rows[:1]
        if u.user in users
    }
    return _ratio_figure(rounds, series, "Communication SINR (dB)", "sinr")


def _ratio_figure(
    rounds: Sequence[RoundSummary], series: dict[str, list[Ratio]], label: str, quantity: str
) -> tuple[Any, Columns]:
    """Above: measured, predicted, true and required; below: how far the measured lies from the others."""
    fig, (ax, off) = new_figure(
        2, 1, size_in=(5.0, 5.4), sharex=True, gridspec_kw={"height_ratios": [2, 1]}, squeeze=True
    )
    columns = Columns("series", "name", "round", f"{quantity}_db", "stderr_db", quantity, "stderr")
    index = np.array([row.index for row in rounds])
    off.axhspan(-MAX_DIFFERENCE_DB, MAX_DIFFERENCE_DB, color=FAINT, alpha=0.5, lw=0)
    off.axhline(0, color=GREY, lw=1.0)
    has_prediction = any(ratio.predicted for ratios in series.values() for ratio in ratios)
    has_truth = any(ratio.truth is not None for ratios in series.values() for ratio in ratios)
    levels = np.array([[value_db(ratio.required) for ratio in ratios] for ratios in series.values()])
    one_level = bool(np.ptp(levels, axis=0).max() < SAME_LEVEL_DB)
    if one_level:
        _required_line(ax, index, levels[0], INK)
    for i, (name, ratios) in enumerate(series.items()):
        style: dict[str, Any] = {"color": PALETTE[i], "marker": MARKERS[i], "elinewidth": 1.0, "capsize": 2}
        at = index + _aside(i, len(series))
        measured, predicted = ([getattr(r, key) for r in ratios] for key in ("measured", "predicted"))
        (found, error), (expected, spread) = (
            np.transpose([estimate_db(e) for e in es]) for es in (measured, predicted)
        )
        exact, required = (np.array([value_db(getattr(r, key)) for r in ratios]) for key in ("truth", "required"))
        ax.errorbar(at, found, SHOWN_STDERRS * error, lw=1.0, label=name, **style)
        ax.errorbar(at, expected, SHOWN_STDERRS * spread, ls="none", **style | _OPEN)
        ax.plot(at, exact, color=INK, **_TRUTH)
        if not one_level:
            _required_line(ax, index, required, PALETTE[i])
        off.errorbar(at, found - expected, SHOWN_STDERRS * np.hypot(error, spread), ls="none", **style | _OPEN)
        off.plot(at, found - exact, color=PALETTE[i], **_TRUTH)
        for kind, values in (("measured", measured), ("predicted", predicted)):
            columns.add(
                series=kind,
                name=name.strip(),
                round=index,
                stderr_db=[estimate_db(e)[1] for e in values],
                stderr=[None if e is None else e.stderr for e in values],
                **{
                    f"{quantity}_db": [estimate_db(e)[0] for e in values],
                    quantity: [None if e is None else e.value for e in values],
                },
            )
        columns.add(series="truth", name=name.strip(), round=index,
                    **{f"{quantity}_db": exact, quantity: [r.truth for r in ratios]})  # fmt: skip
        columns.add(series="required", name=name.strip(), round=index,
                    **{f"{quantity}_db": required, quantity: [r.required for r in ratios]})  # fmt: skip
    if has_prediction:
        ax.errorbar([], [], [], ls="none", color=INK, marker="o", label="predicted", **_OPEN)
    if has_truth:
        ax.plot([], [], color=INK, label="truth", **_TRUTH)
    if np.any(np.isfinite(levels)):
        ax.plot([], [], color=INK, lw=1.2, ls=":", label="required")
    ax.set(ylabel=label)
    others = ", ".join(name for name, has in (("predicted", has_prediction), ("truth", has_truth)) if has)
    off.set(xlabel="Round", ylabel=f"Measured less\n{others or 'predicted'} (dB)")
    off.set_ylim(*_at_least(off.get_ylim(), 1.3 * MAX_DIFFERENCE_DB))
    _whole_rounds(off, rounds)
    handles, labels = ax.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))  # matplotlib puts plain lines before those with error bars
    ordered = [*series, *(key for key in ("predicted", "truth", "required") if key in shown)]
    fig.legend([shown[key] for key in ordered], ordered, loc="outside lower center", ncols=3)
    return fig, columns


def _required_line(ax: Any, index: Any, required: Any, colour: str) -> None:
    """A level per round, which may change as the rank of a test does."""
    edges = np.append(index - 0.5, index[-1] + 0.5)
    ax.step(edges, np.append(required, required[-1]), where="post", color=colour, lw=1.2, ls=":")


def _aside(i: int, count: int) -> float:
    """How far a series is moved sideways, in rounds, to be seen beside the others."""
    return (i - (count - 1) / 2) * min(0.1, _BESIDE / max(count, 1))


def _at_least(limits: tuple[float, float], half: float, middle: float = 0.0) -> tuple[float, float]:
    """Limits of an axis that reaches `half` to either side of its middle."""
    return min(limits[0], middle - half), max(limits[1], middle + half)


def _whole_rounds(ax: Any, rounds: Sequence[RoundSummary]) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_xlim(rounds[0].index - 0.5, rounds[-1].index + 0.5)


_OPEN: dict[str, Any] = {"ms": 8.5, "mfc": "none", "mew": 0.9}
_TRUTH: dict[str, Any] = {"ls": "none", "marker": "_", "ms": 12, "mew": 1.2}
