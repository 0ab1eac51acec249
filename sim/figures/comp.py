"""Figures 2a, 2b and 2c of the CoMP letter with a verdict on each of its claims: solve, simulate, judge, draw, write.

Files in the folder asked for: 2a_pod, 2b_budget and 2c_requirement, each as PNG, SVG and CSV, and verdicts.csv.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sim.figures.claims import Verdict, reasons
from sim.figures.comp_claims import CLAIMS, judge_reading, overall
from sim.figures.comp_drawing import budget_figure, pod_figure, requirement_figure
from sim.figures.comp_pod import SYMBOLS, Detection, simulate
from sim.figures.comp_readings import FIT_STEPS, READINGS, Curve, Rates, Reading, read, solve_rates
from sim.figures.comp_scenario import BUDGETS_DB, CROSS_VAR, draw_channels, scenario_s1
from sim.figures.figure_set import FigureSet, Progress, write_files

_ALL = "all"  # readings, in the place of one


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the rules look at, and figures show."""

    readings: list[Reading]
    detections: dict[str, Detection]  # by "S1" and "ensemble"


def compute(
    readings: Sequence[str], draws: int, trials: int, seed: int, method: str, progress: Progress
) -> FigureSet[Evidence]:
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
        verdicts += judge_reading(found[-1], detections[key])
    settings = {"draws": draws, "trials": trials, "seed": seed, "method": method, "cross_var": CROSS_VAR}
    return FigureSet(Evidence(found, detections), verdicts, settings, partial(_numbers, verdicts))


def write(figures: FigureSet[Evidence], folder: Path) -> list[Path]:
    """Draw and write everything; the files that were written."""
    e = figures.evidence
    titles = {"S1": "S1: one draw, selected", "ensemble": "Ensemble mean (readings M and Z)"}
    drawn = {
        "2a_pod": pod_figure({titles[name]: found for name, found in e.detections.items()}),
        "2b_budget": budget_figure(e.readings),
        "2c_requirement": requirement_figure(e.readings),
    }
    return write_files(folder, drawn, [*figures.verdicts, *_overall(figures.verdicts)])


def verdict_table(figures: FigureSet[Evidence]) -> str:
    """Verdicts as text: a line per claim with a column per reading, then the numbers that decide."""
    names = [reading.name for reading in figures.evidence.readings]
    whole = _overall(figures.verdicts)
    found = {(v.claim, v.reading): v for v in [*figures.verdicts, *whole]}
    heads = {name: name for name in names} | ({_ALL: "all readings"} if whole else {})
    width = 1 + max(len(text) for text, _ in CLAIMS.values())
    lines = [" " * (5 + width) + "".join(f"{head:<25}" for head in heads.values())]
    for claim, (text, _) in CLAIMS.items():
        lines.append(f"{claim:<5}{text:<{width}}" + "".join(f"{found[claim, name].verdict:<25}" for name in heads))
    lines = [line.rstrip() for line in lines]
    for claim in CLAIMS:
        lines += ["", *(reasons(found[claim, name]) for name in names)]
    if "S1" in names:
        lines += [
            "",
            "S1 was selected so that the claims hold in it: it shows that they can, not that they are typical.",
        ]
    return "\n".join(lines)


def _overall(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """One verdict per claim over all readings; none where there are not all of them."""
    if {v.reading for v in verdicts} != set(READINGS):
        return []
    words = {claim: [v.verdict for v in verdicts if v.claim == claim] for claim in CLAIMS}
    return [Verdict(claim, text, overall(words[claim]), reading=_ALL) for claim, (text, _) in CLAIMS.items()]


def _numbers(verdicts: Sequence[Verdict], e: Evidence) -> dict[str, Any]:
    curves = {
        r.name: {
            "over_budget": _curves(r.over_budget),
            "over_pod": {f"{budget:g} dB": _curves(found) for budget, found in r.over_pod.items()},
        }
        for r in e.readings
    }
    whole = {v.claim: v.verdict for v in _overall(verdicts)}
    return {"overall": whole or None, "curves": curves, "pod": {name: vars(d) for name, d in e.detections.items()}}


def _curves(found: dict[str, Curve]) -> dict[str, Any]:
    return {scheme: vars(curve) for scheme, curve in found.items()}
