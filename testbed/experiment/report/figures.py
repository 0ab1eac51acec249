"""The figures of detection: PoD against power, the law without a target, ROC."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.law import Law, Statistic
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Point, Results
from testbed.experiment.report.curves import h0_fit, measured_roc, nearest_half, noncentrality_over_power
from testbed.experiment.report.wording import STATISTIC_NAMES, count_text, legend_text, level_text
from testbed.plots import FAINT, GREY, INK, MARKERS, PALETTE, Columns, house_style, new_figure
from testbed.theory.consistency import FALSE_ALARM_LEVELS, wilson_interval

SYMBOLS: dict[str, str] = {"known_noise": "T", "cfar": "F"}
_BESIDE_DB = 0.5  # theory is drawn this far beyond the lowest and highest power


@house_style()
def pod_figure(
    experiment: CompExperiment, results: Results, run: CompRun, statistic: Statistic, cells: Sequence[str]
) -> tuple[Any, Columns]:
    """PoD against power, and below it how far every measured point lies from the curve that is judged."""
    fig, (ax, off) = new_figure(
        2, 1, size_in=(5.0, 5.2), sharex=True, gridspec_kw={"height_ratios": [3, 1]}, squeeze=True
    )
    columns = Columns("series", "cell", "power_dbm", "pod", "pod_low", "pod_high", "noncentrality")
    powers = [p.power_dbm for p in results.points]
    axis = np.linspace(min(powers) - _BESIDE_DB, max(powers) + _BESIDE_DB, 161)
    for i, cell in enumerate(cells):
        points = _points(results, statistic, cell)
        power, pod = [p.power_dbm for p in points], np.array([p.pod for p in points])
        interval = np.array([[p.pod_low for p in points], [p.pod_high for p in points]])
        law = Law.of(run.detection(points[0].step, "all", cell), statistic)
        for curve, lams in _noncentralities(points).items():
            through = [p.power_dbm for p in points if curve == "measured" or p.pod_truth is not None]
            lam = noncentrality_over_power(axis, through, lams)
            theory = law.pod(lam, experiment.detection.pfa)
            ax.plot(axis, theory, color=PALETTE[i], **_LINES[curve])
            columns.add(series=f"{curve} curve", cell=cell, power_dbm=axis, pod=theory, noncentrality=lam)
            if curve == _judged(points):
                fluctuating = law.fluctuating_pod(lam, experiment.detection.pfa)
                ax.plot(axis, fluctuating, color=PALETTE[i], **_FLUCTUATING)
                columns.add(
                    series=f"{curve} curve, Swerling 1", cell=cell, power_dbm=axis, pod=fluctuating, noncentrality=lam
                )
        bars = np.abs(interval - pod)
        label = legend_text(f"{cell} at {points[0].node}")
        ax.errorbar(power, pod, bars, color=PALETTE[i], fmt=MARKERS[i], elinewidth=1.0, capsize=2, label=label)
        columns.add(series="measured", cell=cell, power_dbm=power, pod=pod, pod_low=interval[0], pod_high=interval[1])
        expected = np.array([p.pod_measured if p.pod_truth is None else p.pod_truth for p in points])
        beside = np.array(power) + 0.07 * (i - (len(cells) - 1) / 2) * _spacing(power)
        off.errorbar(beside, pod - expected, bars, color=PALETTE[i], fmt=MARKERS[i], ms=3.5, elinewidth=1.0)
    for curve in _noncentralities(results.points):
        ax.plot([], [], color=INK, label=f"theory, {curve} curve", **_LINES[curve])
    ax.plot([], [], color=INK, label=_FLUCTUATING_LABEL, **_FLUCTUATING)
    ax.set(ylabel="Probability of detection", ylim=(-0.02, 1.02), title=_title(statistic))
    fig.legend(loc="outside lower center", ncols=3)
    off.axhline(0, color=GREY, lw=1.0)
    off.set(xlabel="Transmit power per node (dBm)", ylabel="Measured\n− theory", xlim=(axis[0], axis[-1]))
    return fig, columns


@house_style()
def h0_figure(experiment: CompExperiment, results: Results, run: CompRun, statistic: Statistic) -> tuple[Any, Columns]:
    """Empirical survival function of the pooled statistic without a target, its law, and the thresholds."""
    fit = h0_fit([row for cell in experiment.cells for row in _h0(run, results, cell.name)], statistic)
    pfa, law, symbol = experiment.detection.pfa, fit.law, SYMBOLS[statistic]
    levels = sorted({*FALSE_ALARM_LEVELS, pfa}, reverse=True)
    bottom = min(levels[-1], 1 / fit.num_trials)
    largest = float(np.max(fit.value, where=np.isfinite(fit.value), initial=0.0))
    axis = np.linspace(0.0, max(law.threshold(bottom), largest), 401)
    expected, (low, high) = law.h0.sf(axis), fit.band(axis)
    columns = Columns("series", "statistic", "survival", "survival_low", "survival_high")
    columns.add(series="law", statistic=axis, survival=expected, survival_low=low, survival_high=high)
    columns.add(series="measured", statistic=fit.value, survival=fit.survival)
    fig, ax = new_figure(size_in=(5.0, 3.9))
    floor = bottom / 10  # below the axis; a logarithm has no zero
    label = "95 % of experiments, if the law holds"
    ax.fill_between(axis, np.maximum(low, floor), np.maximum(high, floor), color=FAINT, lw=0, label=label)
    ax.plot(axis, expected, color=INK, lw=1.1, label="law without a target")
    label = f"measured, {count_text(fit.num_trials)} trials"
    ax.step(fit.value, fit.survival, where="post", color=PALETTE[0], label=label)
    for level in levels:
        threshold = law.threshold(level)
        ax.plot([threshold, threshold], [floor, level], color=PALETTE[1], lw=0.9, ls=":")
        counted = level in FALSE_ALARM_LEVELS
        ax.plot(threshold, level, "o", color=PALETTE[1], ms=4.5, mfc=None if counted else "white")
        text = f"{level_text(level)}: {symbol} = {threshold:.2f}"
        if level == levels[-1]:  # too low for a text beside its line
            ax.annotate(text, (threshold, level), xytext=(6, 4), textcoords="offset points", fontsize=8.5)
        else:
            at = {"xytext": (-2, 4), "textcoords": "offset points", "rotation": 90, "ha": "right", "va": "bottom"}
            ax.annotate(text, (threshold, bottom / 2), fontsize=8.5, **at)
        columns.add(series="threshold", statistic=threshold, survival=level)
    ax.set(
        yscale="log",
        ylim=(bottom / 2, 1.5),
        xlim=(0, axis[-1] * 1.3),
        xlabel=f"Statistic {symbol} without a target",
        ylabel="Share of trials above",
        title=_title(statistic),
    )
    ax.legend(loc="upper right")
    return fig, columns


@house_style()
def roc_figure(
    experiment: CompExperiment, results: Results, run: CompRun, statistic: Statistic, cells: Sequence[str]
) -> tuple[Any, Columns]:
    """ROC of every cell at the power whose PoD is nearest 0.5."""
    fig, ax = new_figure(size_in=(5.0, 4.5))
    pfa = experiment.detection.pfa
    axis = np.geomspace(min(pfa, 1e-4) / 10, 1.0 - 1e-9, 161)
    columns = Columns("series", "cell", "power_dbm", "pfa", "pod", "pod_low", "pod_high", "threshold")
    for i, cell in enumerate(cells):
        points = _points(results, statistic, cell)
        point = points[nearest_half([p.pod for p in points])]
        power, h1 = point.power_dbm, run.detection(point.step, "all", cell)
        law = Law.of(h1, statistic)
        for curve, lams in _noncentralities([point]).items():
            theory = law.pod(lams[0], axis)
            ax.plot(axis, theory, color=PALETTE[i], **_LINES[curve])
            columns.add(series=f"{curve} curve", cell=cell, power_dbm=power, pfa=axis, pod=theory)
            if curve == _judged([point]):
                fluctuating = law.fluctuating_pod(lams[0], axis)
                ax.plot(axis, fluctuating, color=PALETTE[i], **_FLUCTUATING)
                columns.add(series=f"{curve} curve, Swerling 1", cell=cell, power_dbm=power, pfa=axis, pod=fluctuating)
        roc = measured_roc(h1, _h0(run, results, cell), statistic)
        low, high = wilson_interval(roc.pod * roc.num_h1, np.full(roc.pod.size, roc.num_h1))
        ax.step(roc.pfa, roc.pod, where="post", color=PALETTE[i], **_COUNTED)
        bars = [[point.pod - point.pod_low], [point.pod_high - point.pod]]
        label = legend_text(f"{cell} at {point.node}, {power:g} dBm")
        ax.errorbar(pfa, point.pod, bars, color=PALETTE[i], fmt=MARKERS[i], elinewidth=1.0, capsize=2, label=label)
        columns.add(
            series="measured",
            cell=cell,
            power_dbm=power,
            pfa=roc.pfa,
            pod=roc.pod,
            pod_low=low,
            pod_high=high,
            threshold=roc.threshold,
        )
        columns.add(
            series="measured at the nominal false-alarm probability", cell=cell, power_dbm=power,
            pfa=pfa, pod=point.pod, pod_low=point.pod_low, pod_high=point.pod_high, threshold=law.threshold(pfa),
        )  # fmt: skip
    ax.plot([], [], color=INK, label="measured, both axes counted", **_COUNTED)
    for curve in _noncentralities(results.points):
        ax.plot([], [], color=INK, label=f"theory, {curve} curve", **_LINES[curve])
    ax.plot([], [], color=INK, label=_FLUCTUATING_LABEL, **_FLUCTUATING)
    ax.axvline(pfa, color=GREY, lw=0.9, ls=":")
    ax.set(
        xscale="log",
        xlim=(axis[0], 1.0),
        ylim=(0.0, 1.02),
        xlabel="Probability of false alarm",
        ylabel="Probability of detection",
        title=_title(statistic),
    )
    fig.legend(loc="outside lower center", ncols=2)
    return fig, columns


_COUNTED: dict[str, Any] = {"lw": 4.0, "alpha": 0.35, "solid_joinstyle": "round", "solid_capstyle": "butt"}
_LINES: dict[str, dict[str, Any]] = {"truth": {"lw": 1.4, "ls": "-"}, "measured": {"lw": 1.1, "ls": "--"}}
_FLUCTUATING: dict[str, Any] = {"lw": 0.8, "ls": ":"}
_FLUCTUATING_LABEL = "Swerling 1, same mean"


def _title(statistic: Statistic) -> str:
    name = STATISTIC_NAMES[statistic]
    return name[0].upper() + name[1:]


def _points(results: Results, statistic: Statistic, cell: str) -> list[Point]:
    return [p for p in results.points if p.statistic == statistic and p.cell == cell]


def _noncentralities(points: Sequence[Point]) -> dict[str, list[float]]:
    """Noncentralities of every theory curve there is; a negative estimate counts as 0, as in its PoD."""
    curves = {"measured": [max(p.noncentrality.value, 0.0) for p in points]}
    truth = [p.noncentrality_truth for p in points if p.noncentrality_truth is not None]
    return {"truth": truth, **curves} if truth else curves


def _judged(points: Sequence[Point]) -> str:
    """The curve whose noncentrality a fluctuating target has as its mean: one is enough where two nearly coincide."""
    return next(iter(_noncentralities(points)))


def _h0(run: CompRun, results: Results, cell: str) -> list[Any]:
    return [run.detection(step, f"without:{cell}", cell) for step in results.steps]


def _spacing(power: Sequence[float]) -> float:
    steps = np.diff(np.unique(power))
    return float(steps.min()) if steps.size else 1.0
