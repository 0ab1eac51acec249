"""Figures 3, 4 and 5 of the localisation paper with a verdict on each of its claims: draw, solve, judge, write.

Files in the folder asked for: 3_cdf, 4_self_interference and 5_threshold, each as PNG, SVG and CSV, and verdicts.csv.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sim.figures.claims import judge, table
from sim.figures.figure_set import FigureSet, Progress, write_files
from sim.figures.localization_claims import CLAIMS, Evidence
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


def compute(draws: int, seed: int, progress: Progress, setting: Setting | None = None) -> FigureSet[Evidence]:
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
    settings = {"draws": draws, "seed": seed, **asdict(setting)}
    return FigureSet(evidence, judge(CLAIMS, evidence), settings, _numbers)


def write(figures: FigureSet[Evidence], folder: Path) -> list[Path]:
    """Draw and write everything; the files that were written."""
    drawn = {
        "3_cdf": cdf_figure(figures.evidence),
        "4_self_interference": self_gain_figure(figures.evidence),
        "5_threshold": threshold_figure(figures.evidence),
    }
    return write_files(folder, drawn, figures.verdicts)


def verdict_table(figures: FigureSet[Evidence]) -> str:
    """Verdicts as text: a line per claim, then the numbers that decide."""
    remark = "The paper's numbers are lost; most parameters are choices, so effects are judged, not values."
    return table(figures.verdicts, remark)


def _numbers(e: Evidence) -> dict[str, Any]:
    sweeps = {"self_gain": e.self_gain, "self_gain_without_static_paths": e.cancelled, "threshold": e.threshold}
    return {"curves": {name: _curves(sweep) for name, sweep in sweeps.items()}}


def _curves(sweep: Sweep) -> dict[str, Any]:
    found: dict[str, Any] = {"x_db": sweep.x, "feasible_share": np.mean(sweep.feasible, axis=0)}
    found["ic_serves_share"] = np.mean(sweep.ic_serves, axis=0)
    for scheme in SCHEMES:
        for metric in METRICS:
            curve = sweep.curve(scheme, metric)
            found[f"{scheme.lower()}_{metric}_m"] = curve.mean
            found[f"{scheme.lower()}_{metric}_stderr_m"] = curve.stderr
    return found
