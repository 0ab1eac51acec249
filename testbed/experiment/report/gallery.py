"""Which figures a report has: each is drawn, saved, and described for those who cannot see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import RunResults
from testbed.experiment.comp.law import STATISTICS
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.results import Results
from testbed.experiment.comp.step import Step
from testbed.experiment.report.constellation import constellation_figure, farthest
from testbed.experiment.report.figures import h0_figure, pod_figure, roc_figure
from testbed.experiment.report.loop_figures import comm_figure, power_figure, sensing_figure
from testbed.experiment.report.survey_map import map_figure
from testbed.experiment.report.wording import STATISTIC_NAMES
from testbed.plots import PALETTE, Columns, SavedFigure, save_figure

SERIES_PER_FIGURE = len(PALETTE)

Save = Callable[[str, str, str, tuple[Any, Columns]], None]


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report."""

    kind: str  # of KINDS
    alt: str  # what it shows, for those who cannot see it
    files: SavedFigure


KINDS = ("map", "powers", "snr", "constellation", "pod", "h0", "roc")


def draw_all(run: CompRun, experiment: CompExperiment, results: RunResults, folder: Path) -> list[ReportFigure]:
    """Draw and save every figure of a report, at most six series in each."""
    figures: list[ReportFigure] = []

    def save(kind: str, name: str, alt: str, drawn: tuple[Any, Columns]) -> None:
        figures.append(ReportFigure(kind, alt, save_figure(drawn[0], folder / name, drawn[1])))

    powers_dbm = results.rounds[-1].power_dbm if results.rounds else None
    places = "nodes, users, cells under test and reflectors" if experiment.users else "nodes, cells and reflectors"
    save("map", "map", f"Map of the surveyed {places}", map_figure(experiment, powers_dbm))
    if results.rounds:
        _draw_loop(run, experiment, results, save)
    _draw_detection(run, experiment, results.judged[0], results.axis is not None, save)
    return figures


def _draw_loop(run: CompRun, experiment: CompExperiment, results: RunResults, save: Save) -> None:
    rounds = results.rounds
    for part, nodes in _parts(experiment.node_names):
        save("powers", f"powers{part}", "Power of every node in every round", power_figure(experiment, rounds, nodes))
    for part, cells in _parts([cell.name for cell in experiment.cells]):
        alt = "Sensing SNR of every target in every round: measured, predicted, required"
        save("snr", f"sensing_snr{part}", alt, sensing_figure(rounds, cells))
    for part, users in _parts([user.name for user in experiment.users]):
        alt = "SINR of every user in every round: measured, predicted, required"
        save("snr", f"comm_sinr{part}", alt, comm_figure(rounds, users))
    links = [run.link(Step("rounds", rounds[-1].index), user.user) for user in rounds[-1].users]
    limit = farthest(links)
    for link in links:
        alt = f"Equalised symbols that {link.user} received in the last round"
        save("constellation", f"constellation_{link.user}", alt, constellation_figure(experiment, link, limit))


def _draw_detection(run: CompRun, experiment: CompExperiment, results: Results, is_axis: bool, save: Save) -> None:
    """Of the power axis; of a run without one, the law without a target in the last round."""
    cells = [cell.name for cell in experiment.cells]
    for statistic in STATISTICS if is_axis else ():
        for part, chosen in _parts(cells):
            alt = f"Probability of detection against power, {STATISTIC_NAMES[statistic]}, measured and theory"
            save("pod", f"pod_{statistic}{part}", alt, pod_figure(experiment, results, run, statistic, chosen))
    for statistic in STATISTICS:
        alt = f"Share of trials without a target above a value, {STATISTIC_NAMES[statistic]}, measured and law"
        save("h0", f"h0_{statistic}", alt, h0_figure(experiment, results, run, statistic))
    for statistic in STATISTICS if is_axis else ():
        for part, chosen in _parts(cells):
            alt = f"Probability of detection against false alarms, {STATISTIC_NAMES[statistic]}, measured and theory"
            save("roc", f"roc_{statistic}{part}", alt, roc_figure(experiment, results, run, statistic, chosen))


def _parts(names: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """Names in groups that fit one figure, and how its file name ends."""
    starts = range(0, len(names), SERIES_PER_FIGURE)
    return [(f"_{n + 1}" if n else "", names[at : at + SERIES_PER_FIGURE]) for n, at in enumerate(starts)]
