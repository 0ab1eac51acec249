"""Figures 2 to 5 of the cooperative paper with a verdict on each of its claims: draw, compute, judge, write.

Files in the folder asked for: 2_bound, 3_acceptance, 4_rate and 5_region, each as PNG, SVG and CSV, and verdicts.csv.
"""

from pathlib import Path
from typing import Any

from sim.figures.claims import judge, table
from sim.figures.cooperative_claims import CLAIMS, Evidence
from sim.figures.cooperative_drawing import acceptance_figure, bound_figure, rate_figure, region_figure
from sim.figures.cooperative_sweeps import BACKHAULS, FAR_NUM_NODES, LOADS, SHARES, bounds, rates, regions, shared
from sim.figures.figure_set import FigureSet, Progress, write_files

_LAYOUTS_PER_FIELD = 2500  # draws of figure 2 per torus of figure 3
_LAYOUTS_PER_RATE = 5  # per draw of figure 4


def compute(draws: int, seed: int, progress: Progress) -> FigureSet[Evidence]:
    """Draw, compute and judge.

    Args:
        draws: layouts of figure 2; a fifth of them per point of figure 4, one torus of figure 3 for every 2500.
        seed: of all of them.
        progress: called when a step begins.
    """
    fields, per_rate = max(2, draws // _LAYOUTS_PER_FIELD), max(2, draws // _LAYOUTS_PER_RATE)
    evidence = Evidence(
        bounds(seed, draws, progress("bounds", draws)),
        shared(seed, fields, progress("shared base stations", fields)),
        rates(seed, per_rate, progress("rates", len(LOADS))),
        regions(progress("regions", len(BACKHAULS))),
    )
    settings = {"draws": draws, "seed": seed, "tori": fields, "draws_per_rate": per_rate}
    return FigureSet(evidence, judge(CLAIMS, evidence), settings, _numbers)


def write(figures: FigureSet[Evidence], folder: Path) -> list[Path]:
    """Draw and write everything; the files that were written."""
    drawn = {
        "2_bound": bound_figure(figures.evidence),
        "3_acceptance": acceptance_figure(figures.evidence),
        "4_rate": rate_figure(figures.evidence),
        "5_region": region_figure(figures.evidence),
    }
    return write_files(folder, drawn, figures.verdicts)


def verdict_table(figures: FigureSet[Evidence]) -> str:
    """Verdicts as text: a line per claim, then the numbers that decide."""
    remark = "Bounds are normalised, zeta2 = lambda = 1: the paper gives no bandwidth and no carrier."
    return table(figures.verdicts, remark)


def _numbers(e: Evidence) -> dict[str, Any]:
    rate = {
        "loads": LOADS,
        "power_shares": SHARES,
        "theorem2": e.rates.theorem2,
        "exact": e.rates.exact,
        "drawn": [[*point, *value] for point, value in e.rates.drawn.items()],
    }
    curves = {
        "bound": vars(e.bounds) | {"far_num_nodes": FAR_NUM_NODES},
        "acceptance": vars(e.shared),
        "rate": rate,
        "region": {f"{C:g}": vars(region) for C, region in e.regions.items()},
    }
    return {"curves": curves}
