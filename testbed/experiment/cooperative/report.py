"""The report of a run of a cooperative network."""

from pathlib import Path
from typing import Any

from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.cooperative.display import loop_sentence, sensing_sentences, sentences
from testbed.experiment.cooperative.figures import prediction_figure, rates_figure, sets_figure, share_figure
from testbed.experiment.cooperative.record import CooperativeRun, SetResult
from testbed.experiment.cooperative.results import CooperativeResults, meets, ratio
from testbed.experiment.report.sectioned import Answer, Figure, Section, write_page
from testbed.experiment.report.survey_map import map_figure
from testbed.experiment.report.table import Entry, Table
from testbed.plots import Columns, SavedFigure, save_figure


def write_report(run: CooperativeRun, experiment: CooperativeExperiment, results: CooperativeResults) -> Path:
    """Draw the figures and write the report; returns its path."""

    def save(name: str, drawn: tuple[Any, Columns]) -> SavedFigure:
        return save_figure(drawn[0], run.path / "figures" / name, drawn[1])

    sections = []
    if results.sensing is not None:
        figures = [Figure("Mean square error over the share of sensing", save("shares", share_figure(results.sensing)))]
        if any(row.planned for row in results.sensing.rows):
            figures.append(Figure("Mean square error over sets of nodes", save("sets", sets_figure(results.sensing))))
        sections.append(
            Section(
                "Location",
                texts=(
                    "Direct maximum likelihood over the delay profiles of all usable links, a position per frame; sets "
                    "of nodes are judged in the same frames. Where single links are weak, ranges of all links have "
                    "outliers that ruin a weighted fit; dropping weak links keeps it right and loses what they know. "
                    "The layout was selected: in most the nearest nodes are nearly as good as the planner's.",
                    *(f"{text[0].upper()}{text[1:]}." for text in sensing_sentences(results)),
                ),
                figures=tuple(figures),
                tables=(_sensing_table(results),),
            )
        )
    if results.users:
        sections.append(
            Section(
                "Users",
                texts=(
                    "L nodes send a user the same symbols under a phase cover, so that powers add; all others disturb. "
                    "Lines: predicted from pilots; full marks: slots, open ones: superposition.",
                ),
                figures=(
                    Figure("Smallest rate over the share of data", save("rates", rates_figure(results.users))),
                    Figure("Measured less predicted SINR", save("prediction", prediction_figure(results.users))),
                ),
            )
        )
    if results.rounds:
        sections.append(Section("Loop", tables=(_loop_table(results),), small="Rates in bit/s/Hz."))
    drawn = save("map", map_figure(experiment))
    sections.append(Section("Survey", figures=(Figure("Map of the survey", drawn),)))
    return write_page(run, experiment, _answers(results), (), sections, simulated=experiment.emulator is not None)


def _answers(results: CooperativeResults) -> list[Answer]:
    title = "Consistent with theory" if results.consistent else "NOT consistent with theory"
    said = tuple(f"{text[0].upper()}{text[1:]}." for text in sentences(results)[:1])
    answers = [Answer(title, said, grade="" if results.consistent else "no")]
    if results.rounds:
        text = loop_sentence(results)
        good = results.loop_consistent
        answers.append(
            Answer(
                "The floor is met" if good else "The floor is not met",
                (f"{text[0].upper()}{text[1:]}.",),
                "Planner",
                "" if good else "weak",
            )
        )
    return answers


def _sensing_table(results: CooperativeResults) -> Table:
    rows: list[tuple[str | Entry, ...]] = []
    assert results.sensing is not None, "the caller has looked"
    for row in results.sensing.rows:
        for name, found in (
            ("all nodes", (row.all_nodes,)),
            ("planner", row.planned),
            ("nearest", row.nearest),
            ("one dead", row.dead),
        ):
            rows += [_set_row(f"p^s = {row.share:g}", name, f) for f in found]
    return Table(("Share", "Set", "Nodes", "Links", "MSE (m²)", "Bound (m²)", "Ratio"), tuple(rows))


def _set_row(share: str, name: str, found: SetResult) -> tuple[str | Entry, ...]:
    value = ratio(found)
    return (
        share,
        name,
        " ".join(str(node) for node in found.nodes),
        str(found.num_links),
        Entry(f"{found.direct.value:.5f}", (f"± {found.direct.stderr:.5f}",)),
        "–" if found.bound_m2 is None else f"{found.bound_m2:.5f}",
        "–" if value is None else f"{value:.3f}",
    )


def _loop_table(results: CooperativeResults) -> Table:
    rows: list[tuple[str | Entry, ...]] = []
    for made in results.rounds:
        good = meets(made, results.min_rate_bps_hz)
        rates = " ".join(f"{u.measured_rate.value:.2f}" for u in made.users)
        value = ratio(made.located)
        bound = "–" if made.predicted_bound_m2 is None else f"{made.predicted_bound_m2:.5f}"
        rows.append(
            (
                f"round {made.index}" + (f", {made.dead} dead" if made.dead else ""),
                str(made.cluster_size),
                f"{made.comm_share:.3f}",
                " ".join(str(node) for node in made.sensing_nodes),
                Entry(rates, grade="" if good else "bad"),
                Entry(f"{made.located.direct.value:.5f}", (f"± {made.located.direct.stderr:.5f}",)),
                bound,
                "–" if value is None else f"{value:.2f}",
            )
        )
    heads = (
        "Round",
        "L",
        "p^c",
        "Sensing nodes",
        "Rates",
        "MSE (m²)",
        "Predicted bound (m²)",
        "MSE over its own bound",
    )
    return Table(heads, tuple(rows))
