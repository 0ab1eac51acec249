"""Figures 3 to 9 of the uplink paper with a verdict on each of its claims: draw, solve, judge, write.

Files in the folder asked for: 3_convergence, 4_power, 5_load, 6_antennas, 7_distance, 8_pilots and 9_detection, each as
PNG, SVG and CSV, and verdicts.csv.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sim.figures import uplink_drawing as drawing
from sim.figures.claims import judge, table
from sim.figures.figure_set import FigureSet, Progress, write_files
from sim.figures.uplink_claims import CLAIMS, Evidence
from sim.figures.uplink_pod import TOTAL_POWERS_DBM, USERS, Detection, detection
from sim.figures.uplink_scenario import Setting
from sim.figures.uplink_sweeps import (
    CALIBRATION_PILOTS,
    LOAD_POWERS_DBM,
    Sweep,
    convergence,
    over_antennas,
    over_calibration,
    over_distance,
    over_echo_antennas,
    over_load,
    over_near_far_power,
    over_pilots,
    over_power,
)

CONVERGENCE_BLOCKS = 20


def compute(drops: int, blocks: int, trials: int, seed: int, progress: Progress) -> FigureSet[Evidence]:
    """Draw, solve and judge.

    Args:
        drops: of the users; the same ones at every point.
        blocks: of channels per drop, for combiners.
        trials: of the detector per point and hypothesis.
        seed: of drops, channels and trials.
        progress: called when a step begins.
    """
    power = over_power(seed, drops, blocks, progress("power", drops))
    near_far = over_near_far_power(seed, drops, progress("power, near-far", drops))
    echo = over_echo_antennas(seed, drops, blocks, progress("cost of sensing", drops))
    loads = {p: over_load(p, seed, drops, blocks, progress(f"users, {p:g} dBm", drops)) for p in LOAD_POWERS_DBM}
    calibration = {
        tau: over_calibration(tau, seed, drops, blocks, progress(f"five antennas, {tau} pilots", drops))
        for tau in CALIBRATION_PILOTS
    }
    evidence = Evidence(
        convergence(seed, CONVERGENCE_BLOCKS),
        power,
        near_far,
        echo,
        loads,
        calibration,
        over_antennas(seed, drops, blocks, progress("antennas", drops)),
        over_distance(seed, drops, blocks, progress("distance", drops)),
        over_pilots(seed, drops, blocks, progress("pilot length", drops)),
        detection(trials, seed, progress("detection", len(USERS) * len(TOTAL_POWERS_DBM))),
    )
    settings = {"drops": drops, "blocks": blocks, "trials": trials, "seed": seed, **asdict(Setting())}
    return FigureSet(evidence, judge(CLAIMS, evidence), settings, _numbers)


def write(figures: FigureSet[Evidence], folder: Path) -> list[Path]:
    """Draw and write everything; the files that were written."""
    e = figures.evidence
    drawn = {
        "3_convergence": drawing.convergence_figure(e),
        "4_power": drawing.power_figure(e),
        "5_load": drawing.load_figure(e),
        "6_antennas": drawing.antennas_figure(e),
        "7_distance": drawing.distance_figure(e),
        "8_pilots": drawing.pilots_figure(e),
        "9_detection": drawing.detection_figure(e),
    }
    return write_files(folder, drawn, figures.verdicts)


def verdict_table(figures: FigureSet[Evidence]) -> str:
    """Verdicts as text: a line per claim, then the numbers that decide."""
    remark = "The paper's parameters are lost; all here are choices, so effects are judged, not values."
    return table(figures.verdicts, remark, digits=4)


def _numbers(e: Evidence) -> dict[str, Any]:
    sweeps = {"power": e.power, "near_far_power": e.near_far, "echo_antennas": e.echo, "antennas": e.antennas}
    sweeps |= {"distance": e.distance, "pilots": e.pilots}
    sweeps |= {f"load_{power:g}_dbm": sweep for power, sweep in e.load.items()}
    sweeps |= {f"calibration_{tau}_pilots": sweep for tau, sweep in e.calibration.items()}
    curves = {name: _curves(sweep) for name, sweep in sweeps.items()}
    return {"curves": curves, "convergence": asdict(e.convergence), "detection": _detection(e.detection)}


def _curves(sweep: Sweep) -> dict[str, Any]:
    found: dict[str, Any] = {"x": sweep.x}
    for name in sweep.values:
        found[name], found[f"{name}_stderr"] = sweep.mean(name), sweep.stderr(name)
    return found


def _detection(d: Detection) -> dict[str, Any]:
    names = "theory", "approximate", "simulated", "simulated_pfa", "world_pfa", "world_pod"
    found = {name: {str(K): values for K, values in getattr(d, name).items()} for name in names}
    return {"total_power_dbm": d.x, "pfa": d.pfa, "trials": d.trials, **found}
