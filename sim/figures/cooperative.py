"""Figures 2 to 5 of the cooperative paper with a verdict on each of its claims: draw, compute, judge, write.

Files in the folder asked for: 2_bound, 3_acceptance, 4_rate and 5_region, each as PNG, SVG and CSV, and verdicts.csv.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sim.figures.cooperative_claims import CLAIMS, Evidence, Verdict, judge
from sim.figures.cooperative_drawing import acceptance_figure, bound_figure, rate_figure, region_figure
from sim.figures.cooperative_sweeps import BACKHAULS, FAR_NUM_NODES, LOADS, SHARES, bounds, rates, regions, shared
from testbed.plots import save_figure

Advance = Callable[[int], None]
Progress = Callable[[str, int], Advance]  # what is done and its length -> how to tell how far it is

_LAYOUTS_PER_FIELD = 2500  # draws of figure 2 per torus of figure 3
_LAYOUTS_PER_RATE = 5  # per draw of figure 4


@dataclass(frozen=True, eq=False)
class CooperativeFigures:
    """Everything that figures and verdicts are made of."""

    evidence: Evidence
    verdicts: list[Verdict]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; NaN and infinity become null."""
        e = self.evidence
        return dict(
            _plain(
                {
                    "settings": self.settings,
                    "verdicts": [asdict(verdict) for verdict in self.verdicts],
                    "curves": {
                        "bound": vars(e.bounds) | {"far_num_nodes": FAR_NUM_NODES},
                        "acceptance": vars(e.shared),
                        "rate": {
                            "loads": list(LOADS),
                            "power_shares": list(SHARES),
                            "theorem2": e.rates.theorem2,
                            "exact": e.rates.exact,
                            "drawn": [[*point, *value] for point, value in e.rates.drawn.items()],
                        },
                        "region": {f"{C:g}": vars(region) for C, region in e.regions.items()},
                    },
                }
            )
        )


def compute(draws: int, seed: int, progress: Progress) -> CooperativeFigures:
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
    return CooperativeFigures(evidence, judge(evidence), settings)


def write(figures: CooperativeFigures, folder: Path) -> list[Path]:
    """Draw and write everything; the files that were written."""
    drawn = {
        "2_bound": bound_figure(figures.evidence),
        "3_acceptance": acceptance_figure(figures.evidence),
        "4_rate": rate_figure(figures.evidence),
        "5_region": region_figure(figures.evidence),
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


def verdict_table(figures: CooperativeFigures) -> str:
    """Verdicts as text: a line per claim, then the numbers that decide."""
    width = 2 + max(len(text) for text, _ in CLAIMS.values())
    lines = [f"{v.claim:<5}{v.text:<{width}}{v.verdict}" for v in figures.verdicts]
    for v in figures.verdicts:
        lines += ["", f"{v.claim}: {_numbers_text(v, 5)}" + (f" - {v.note}" if v.note else "")]
    lines += ["", "Bounds are normalised, zeta2 = lambda = 1: the paper gives no bandwidth and no carrier."]
    return "\n".join(lines)


def _numbers_text(verdict: Verdict, digits: int) -> str:
    return "; ".join(f"{name} = {value:.{digits}g}" for name, value in verdict.numbers.items())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
