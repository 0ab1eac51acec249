"""Two runs side by side: the last round of each, and differences in standard errors."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import ConfigError
from testbed.experiment.comp.config import CompExperiment, load_comp
from testbed.experiment.comp.gather import gather
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.summary import RoundSummary
from testbed.experiment.report.wording import legend_text
from testbed.measurement import Estimate
from testbed.plots import FAINT, GREY, MARKERS, PALETTE, Columns, SavedFigure, house_style, new_figure, save_figure

SIGNIFICANT_STDERRS = 3.0


@dataclass(frozen=True)
class ComparedRow:
    """One quantity of both runs."""

    label: str
    values: tuple[float, float]
    stderrs: tuple[float, float]  # 0 where the quantity is set, not measured
    shown: tuple[str, str]
    difference: str  # second less first, in words
    difference_stderrs: float | None  # the same in standard errors; None where nothing was measured


@dataclass(frozen=True)
class Comparison:
    """The last rounds of two runs."""

    names: tuple[str, str]
    rows: tuple[ComparedRow, ...]
    is_met: tuple[bool, bool]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json; null where a node is off."""
        plain = asdict(self)
        for row in plain["rows"]:
            row["values"] = [value if np.isfinite(value) else None for value in row["values"]]
        return plain


def compare_runs(first: CompRun, second: CompRun) -> Comparison:
    """Compare the last rounds of two runs of one network.

    Captures of two runs are independent unless they share seed, round and emulator, which makes the difference's error
    smaller than the one given here.

    Raises:
        ConfigError: a run without a loop, or networks that differ.
        CaptureError: nothing was finished.
    """
    runs = (first, second)
    experiments = [load_comp(str(run.experiment)) for run in runs]
    for what in ("survey", "requirements", "detection", "statistic"):
        if getattr(experiments[0], what) != getattr(experiments[1], what):
            raise ConfigError(f"{second.path}: its {what} is not that of {first.path}; compare like with like")
    a, b = (_last_round(run, experiment) for run, experiment in zip(runs, experiments, strict=True))
    rows = [_power_row(name, a.power_dbm[name], b.power_dbm[name]) for name in a.power_dbm]
    rows += [
        _measured_row(f"PoD of {x.cell}", _pod(x.pod, x.num_frames), _pod(y.pod, y.num_frames), 4)
        for x, y in zip(a.cells, b.cells, strict=True)
    ]
    rows += [
        _measured_row(f"rate of {x.user}, bit/s/Hz", x.rate_bps_hz, y.rate_bps_hz, 3)
        for x, y in zip(a.users, b.users, strict=True)
    ]
    total = _measured_row("sum rate, bit/s/Hz", a.sum_rate_bps_hz, b.sum_rate_bps_hz, 3)
    names = (first.path.name, second.path.name)
    if not all(names) or names[0] == names[1]:
        names = (str(first.path), str(second.path))
    return Comparison(names, (*rows, total), (a.is_met, b.is_met), _sentence(names, (a, b), total))


@house_style()
def draw_comparison(comparison: Comparison, path: Path) -> SavedFigure:
    """Powers, PoD and rates of both runs, with error bars of two standard errors; PNG, SVG and CSV."""
    rows = {kind: [r for r in comparison.rows if r.label.startswith(kind)] for kind in ("power", "PoD", "rate", "sum")}
    panels = (
        ("Transmit power (dBm)", rows["power"]),
        ("Probability of detection", rows["PoD"]),
        ("Rate (bit/s/Hz)", rows["rate"] + rows["sum"]),
    )
    shares = [max(len(shown), 2) for _, shown in panels]
    fig, axes = new_figure(1, 3, size_in=(9.0, 3.7), squeeze=True, gridspec_kw={"width_ratios": shares})
    columns = Columns("run", "quantity", "value", "stderr")
    for ax, (title, shown) in zip(axes, panels, strict=True):
        names = [r.label.split(",")[0].split(" of ")[-1] for r in shown]
        for run, name in enumerate(comparison.names):
            at, colour = np.arange(len(shown)) + 0.14 * (2 * run - 1), PALETTE[run]
            values, errors = (np.array([getattr(r, key)[run] for r in shown]) for key in ("values", "stderrs"))
            bars = np.where(errors > 0, 2 * errors, np.nan)  # a power is set, not measured
            ax.errorbar(at, values, bars, fmt=MARKERS[run], color=colour, ms=4, elinewidth=1.2, capsize=4)
            for x, value, row in zip(at, values, shown, strict=True):
                if np.isnan(value):
                    ax.text(x, 0.02, "off", color=colour, ha="center", transform=ax.get_xaxis_transform(), fontsize=9)
                columns.add(run=name, quantity=row.label, value=value, stderr=row.stderrs[run])
        if "sum rate" in names:  # apart from the users it is the sum of
            ax.axvline(names.index("sum rate") - 0.5, color=FAINT, lw=2.0)
        ax.set(title=title, xticks=range(len(names)), xticklabels=names, xlim=(-0.5, len(names) - 0.5))
        ax.grid(visible=False, axis="x")
        ax.margins(y=0.1)
    axes[1].set_ylim(-0.02, 1.04)
    axes[2].set_ylim(bottom=0.0)
    for run, (name, met) in enumerate(zip(comparison.names, comparison.is_met, strict=True)):
        label = f"{legend_text(name)}: {'meets' if met else 'does NOT meet'} every requirement"
        axes[0].plot([], [], MARKERS[run], color=PALETTE[run], ms=5, label=label)
    fig.legend(loc="outside lower center", ncols=2 if max(map(len, comparison.names)) < 24 else 1)
    fig.text(0.995, 0.01, "bars: ± 2 std. errors", ha="right", va="bottom", fontsize=8, color=GREY)
    return save_figure(fig, path.with_suffix(""), columns)


def _last_round(run: CompRun, experiment: CompExperiment) -> RoundSummary:
    rounds = gather(run, experiment).rounds
    if not rounds:
        raise ConfigError(f"{run.path}: no round of a loop there; compare runs of an experiment with a [loop]")
    return rounds[-1]


def _pod(share: float, count: int) -> Estimate:
    # the error of a share that was never or always seen is that of one trial in the other direction
    kept = min(max(share, 1 / (count + 2)), 1 - 1 / (count + 2))
    return Estimate(value=share, stderr=float(np.sqrt(kept * (1 - kept) / count)), count=count)


def _power_row(name: str, a: float | None, b: float | None) -> ComparedRow:
    shown = tuple("off" if p is None else f"{p:.2f}" for p in (a, b))
    difference = "-" if a is None or b is None else f"{b - a:+.2f} dB"
    values = (np.nan if a is None else a, np.nan if b is None else b)
    return ComparedRow(f"power of {name}, dBm", values, (0.0, 0.0), (shown[0], shown[1]), difference, None)


def _measured_row(label: str, a: Estimate, b: Estimate, digits: int) -> ComparedRow:
    difference, error = b.value - a.value, float(np.hypot(a.stderr, b.stderr))
    stderrs = difference / error if error > 0 else 0.0
    shown = [f"{e.value:.{digits}f} +- {e.stderr:.{digits}f}" for e in (a, b)]
    return ComparedRow(
        label=label,
        values=(a.value, b.value),
        stderrs=(a.stderr, b.stderr),
        shown=(shown[0], shown[1]),
        difference=f"{difference:+.{digits}f} ({stderrs:+.1f} standard errors)",
        difference_stderrs=stderrs,
    )


def _sentence(names: tuple[str, str], rounds: tuple[RoundSummary, RoundSummary], total: ComparedRow) -> str:
    meets = [f"the powers of {name} {row.outcome}" for name, row in zip(names, rounds, strict=True)]
    stderrs = total.difference_stderrs or 0.0
    better = names[stderrs > 0]
    gain = f"{abs(total.values[1] - total.values[0]):.3f} bit/s/Hz ({abs(stderrs):.1f} standard errors)"
    rate = (
        f"{better} has the larger sum rate, by {gain}"
        if abs(stderrs) > SIGNIFICANT_STDERRS
        else f"their sum rates differ by {gain}, which may be chance"
    )
    return f"{'; '.join(meets)}; {rate}"
