"""Figures 3, 4 and 5 of the localisation paper with a verdict on each of its claims: draw, solve, judge, write.

Files in the folder asked for: 3_cdf, 4_self_interference and 5_threshold, each as PNG, SVG and CSV, and verdicts.csv.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.figures.localization_claims import CLAIMS, Evidence, Verdict, judge
from sim.figures.localization_drawing import cdf_figure, self_gain_figure, threshold_figure
from sim.figures.localization_scenario import Setting, draw
from sim.figures.localization_sweeps import (
    CANCELLED_DB,
    CDF_SELF_GAINS_DB,
    METRICS,
    SCHEMES,
    Sweep,
    least_mean_std,
    over_self_gain,
    over_threshold,
)
from testbed.plots import save_figure

Advance = Callable[[int], None]
Progress = Callable[[str, int], Advance]  # what is done and its length -> how to tell how far it is


@dataclass(frozen=True, eq=False)
class LocalizationFigures:
    """Everything that figures and verdicts are made of."""

    evidence: Evidence
    verdicts: list[Verdict]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; NaN and infinity become null."""
        sweeps = {
            "self_gain": self.evidence.self_gain,
            "self_gain_without_static_paths": self.evidence.cancelled,
            "threshold": self.evidence.threshold,
        }
        return _plain(
            {
                "settings": self.settings,
                "verdicts": [asdict(verdict) for verdict in self.verdicts],
                "curves": {name: _curves(sweep) for name, sweep in sweeps.items()},
            }
        )


def compute(draws: int, seed: int, progress: Progress, setting: Setting | None = None) -> LocalizationFigures:
    """Draw, solve and judge.

    Args:
        draws: of users, target and fading; the same ones at every point.
        seed: of the drops.
        progress: called when a step begins.
        setting: of the scene; the specification's where it is left out.
    """
    setting = Setting() if setting is None else setting
    drops = draw(seed, 0, draws, setting)
    evidence = Evidence(
        over_self_gain(drops, progress("self-interference", draws)),
        over_threshold(drops, progress("users' threshold", draws)),
        over_self_gain(drops.with_direct_gain_db(CANCELLED_DB), progress("static paths cancelled", draws)),
        least_mean_std(drops, CDF_SELF_GAINS_DB, progress("least mean", draws)),
    )
    return LocalizationFigures(evidence, judge(evidence), {"draws": draws, "seed": seed, **asdict(setting)})


def write(figures: LocalizationFigures, folder: Path) -> list[Path]:
    """Draw and write everything; the files that were written."""
    drawn = {
        "3_cdf": cdf_figure(figures.evidence),
        "4_self_interference": self_gain_figure(figures.evidence),
        "5_threshold": threshold_figure(figures.evidence),
    }
    files: list[Path] = []
    for name, (fig, columns) in drawn.items():
        saved = save_figure(fig, folder / name, columns)
        files += [saved.png, saved.svg, saved.csv]
    path = folder / "verdicts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["claim", "text", "verdict", "numbers", "note"])
        rows.writerows([v.claim, v.text, v.verdict, _numbers_text(v, 6), v.note] for v in figures.verdicts)
    return [*files, path]


def verdict_table(figures: LocalizationFigures) -> str:
    """Verdicts as text: a line per claim, then the numbers that decide."""
    width = 2 + max(len(text) for text, _ in CLAIMS.values())
    lines = [f"{v.claim:<6}{v.text:<{width}}{v.verdict}" for v in figures.verdicts]
    for v in figures.verdicts:
        lines += ["", f"{v.claim}: {_numbers_text(v, 5)}" + (f" - {v.note}" if v.note else "")]
    lines += ["", "The paper's numbers are lost; most parameters are choices, so effects are judged, not values."]
    return "\n".join(lines)


def _curves(sweep: Sweep) -> dict[str, Any]:
    found: dict[str, Any] = {"x_db": sweep.x, "feasible_share": np.mean(sweep.feasible, axis=0)}
    found["ic_serves_share"] = np.mean(sweep.ic_serves, axis=0)
    for scheme in SCHEMES:
        for metric in METRICS:
            curve = sweep.curve(scheme, metric)
            found[f"{scheme.lower()}_{metric}_m"] = curve.mean
            found[f"{scheme.lower()}_{metric}_stderr_m"] = curve.stderr
    return found


def _numbers_text(verdict: Verdict, digits: int) -> str:
    return "; ".join(f"{name} = {value:.{digits}g}" for name, value in verdict.numbers.items())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
