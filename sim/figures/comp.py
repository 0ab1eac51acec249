"""Figures 2a, 2b and 2c of the CoMP letter with a verdict on each of its claims: solve, simulate, judge, draw, write.

Files in the folder asked for: 2a_pod, 2b_budget and 2c_requirement, each as PNG, SVG and CSV, and verdicts.csv.
"""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sim.figures.comp_claims import CLAIMS, Verdict, judge, overall
from sim.figures.comp_drawing import budget_figure, pod_figure, requirement_figure
from sim.figures.comp_pod import SYMBOLS, Detection, simulate
from sim.figures.comp_readings import FIT_STEPS, READINGS, Rates, Reading, read, solve_rates
from sim.figures.comp_scenario import BUDGETS_DB, CROSS_VAR, draw_channels, scenario_s1
from testbed.plots import save_figure

Advance = Callable[[int], None]
Progress = Callable[[str, int], Advance]  # what is done and its length -> how to tell how far it is


@dataclass(frozen=True, eq=False)
class CompFigures:
    """Everything that figures and verdicts are made of."""

    readings: list[Reading]
    detections: dict[str, Detection]  # by "S1" and "ensemble"
    verdicts: list[Verdict]
    settings: dict[str, Any]

    def overall(self) -> dict[str, str]:
        """One verdict per claim, over the readings there are."""
        return {c: overall([v.verdict for v in self.verdicts if v.claim == c]) for c in CLAIMS}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; NaN and infinity become null."""
        return _plain(
            {
                "settings": self.settings,
                "verdicts": [asdict(verdict) for verdict in self.verdicts],
                "overall": self.overall() if len(self.readings) == len(READINGS) else None,
                "curves": {
                    r.name: {
                        "over_budget": {scheme: vars(curve) for scheme, curve in r.over_budget.items()},
                        "over_pod": {
                            f"{budget:g} dB": {scheme: vars(curve) for scheme, curve in found.items()}
                            for budget, found in r.over_pod.items()
                        },
                    }
                    for r in self.readings
                },
                "pod": {name: vars(found) for name, found in self.detections.items()},
            }
        )


def compute(
    readings: Sequence[str], draws: int, trials: int, seed: int, method: str, progress: Progress
) -> CompFigures:
    """Solve, simulate and judge.

    Args:
        readings: some of READINGS, in that order.
        draws: of the ensemble's channels.
        trials: of the PoD, at every budget; in the ensemble each with a channel of its own.
        seed: of channels, symbols and noise.
        method: of the ensemble's solver, see `comp_rates.largest_sum_rates`. S1 is always solved by the letter's.
        progress: called when a step begins.
    """
    detections: dict[str, Detection] = {}
    solved: dict[str, Rates] = {}
    if "S1" in readings:
        one = scenario_s1()
        solved["S1"] = solve_rates(one, "ppa", progress("S1: sum rates", 1))
        detections["S1"] = simulate(one, BUDGETS_DB, trials, seed, progress("S1: detection", len(SYMBOLS) * trials))
    if set(readings) - {"S1"}:
        advance = progress("ensemble: sum rates", draws)
        solved["ensemble"] = solve_rates(draw_channels(seed, 0, draws), method, advance)
        advance = progress("ensemble: detection", len(SYMBOLS) * trials)
        detections["ensemble"] = simulate(draw_channels(seed, 0, trials), BUDGETS_DB, trials, seed, advance)
    found, verdicts = [], []
    for name in readings:
        key = "S1" if name == "S1" else "ensemble"
        advance = progress(f"{name}: claims", 0 if name == "S1" else FIT_STEPS)
        found.append(read(name, solved[key], advance))
        verdicts += judge(found[-1], detections[key])
    settings = {"draws": draws, "trials": trials, "seed": seed, "method": method, "cross_var": CROSS_VAR}
    return CompFigures(found, detections, verdicts, settings)


def write(figures: CompFigures, folder: Path) -> list[Path]:
    """Draw and write everything; the files that were written."""
    titles = {"S1": "S1: one draw, selected", "ensemble": "Ensemble mean (readings M and Z)"}
    drawn = {
        "2a_pod": pod_figure({titles[name]: found for name, found in figures.detections.items()}),
        "2b_budget": budget_figure(figures.readings),
        "2c_requirement": requirement_figure(figures.readings),
    }
    files: list[Path] = []
    for name, (fig, columns) in drawn.items():
        saved = save_figure(fig, folder / name, columns)
        files += [saved.png, saved.svg, saved.csv]
    path = folder / "verdicts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["claim", "text", "reading", "verdict", "numbers", "note"])
        for v in figures.verdicts:
            rows.writerow([v.claim, v.text, v.reading, v.verdict, _numbers_text(v, 6), v.note])
        if len(figures.readings) == len(READINGS):
            rows.writerows([c, CLAIMS[c][0], "all", verdict, "", ""] for c, verdict in figures.overall().items())
    return [*files, path]


def verdict_table(figures: CompFigures) -> str:
    """Verdicts as text: a line per claim, then the numbers that decide."""
    names = [reading.name for reading in figures.readings]
    found = {(v.claim, v.reading): v for v in figures.verdicts}
    whole = len(names) == len(READINGS)
    heads = [*names, *(["all readings"] if whole else [])]
    width = 1 + max(len(text) for text, _ in CLAIMS.values())
    lines = [" " * (5 + width) + "".join(f"{head:<25}" for head in heads)]
    for claim, (text, _) in CLAIMS.items():
        words = [found[claim, name].verdict for name in names] + ([figures.overall()[claim]] if whole else [])
        lines.append(f"{claim:<5}{text:<{width}}" + "".join(f"{word:<25}" for word in words))
    lines = [line.rstrip() for line in lines]
    for claim in CLAIMS:
        lines.append("")
        for name in names:
            verdict = found[claim, name]
            lines.append(
                f"{claim} {name}: {_numbers_text(verdict, 5)}" + (f" - {verdict.note}" if verdict.note else "")
            )
    if "S1" in names:
        lines += [
            "",
            "S1 was selected so that the claims hold in it: it shows that they can, not that they are typical.",
        ]
    return "\n".join(lines)


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
