"""The report of a run of localisation."""

from pathlib import Path
from typing import Any

import numpy as np

from testbed.experiment.localization.config import LocalizationExperiment
from testbed.experiment.localization.display import gain_sentence, verdict_sentence
from testbed.experiment.localization.figures import error_figure, position_figure, sinr_figure, spread_figure
from testbed.experiment.localization.record import LocalizationRun
from testbed.experiment.localization.results import LocalizationResults, stored_ranges, true_ranges_m
from testbed.experiment.report.sectioned import Answer, Figure, Section, write_page
from testbed.experiment.report.survey_map import map_figure
from testbed.experiment.report.table import Entry, Table
from testbed.measurement import Estimate
from testbed.plots import Columns, SavedFigure, save_figure
from testbed.sensing.positions import positions
from testbed.units import db


def write_report(run: LocalizationRun, experiment: LocalizationExperiment, results: LocalizationResults) -> Path:
    """Draw the figures and write the report; returns its path."""

    def save(name: str, drawn: tuple[Any, Columns]) -> SavedFigure:
        return save_figure(drawn[0], run.path / "figures" / name, drawn[1])

    done = [row.powers for row in results.worst]
    ranges = {(p, node): r for p in done for node, r in stored_ranges(run, experiment, p).items()}
    true = None if results.truth is None else true_ranges_m(results.truth, experiment)
    spread = save("spread", spread_figure(results.ranges))
    sinr = save("sinr", sinr_figure(results.ranges))
    errors = save("errors", error_figure(ranges, true))
    powers_dbm = {row.node: row.power_dbm for row in results.ranges if row.powers == done[-1]}
    survey = save("map", map_figure(experiment, powers_dbm))
    sections = [
        Section(
            "Ranges",
            texts=(
                "Spread of the range of every frame about its mean, with 95 % intervals, and the Cramér-Rao bound of "
                "the whitened frames. The paper's measure (12) is drawn as its known multiple: it takes one sample "
                "where a frame has thousands, and a rule of thumb for the bandwidth.",
            ),
            figures=(
                Figure("Standard deviation of ranges at every base station, measured and bound", spread),
                Figure("Range errors over their bounds against a normal law", errors),
            ),
            tables=(_range_table(results),),
            small="rms/bound: root of the mean squared error over its bound; p: of the sum of squares against the "
            "chi-squared law, two-sided, of errors and of their spread about the mean, where the integrated SINR is at "
            "least 20 dB.",
        ),
        Section(
            "SINRs",
            texts=(
                "Sensing SINR (11) per used resource element, predicted from gains that were identified with nobody on "
                "the air and every base station alone, and measured with all of them on.",
            ),
            figures=(Figure("Predicted and measured sensing SINR", sinr),),
            tables=tuple(table for table in (_sinr_table(results), _user_table(results)) if table.rows),
        ),
    ]
    if results.positions:
        places = {node.name: node.position_m for node in experiment.nodes}
        height = experiment.localization.target_height_m
        found = {p: positions({n: ranges[p, n] for n in experiment.node_names}, places, height) for p in done}
        drawn = save("positions", position_figure(found, experiment.target.position_m))
        sections.append(
            Section(
                "Positions",
                texts=(
                    "Weighted maximum likelihood from one range of every base station, each of another frame: errors "
                    "of one frame are correlated, both containing the product of the same data. The ellipse holds 95 % "
                    "by the bound.",
                ),
                figures=(Figure("Positions about the target at both power vectors, with their 95 % ellipse", drawn),),
                tables=(_position_table(results),),
                small="NEES: normalised estimation error squared, over its degrees of freedom; 1 is expected.",
            )
        )
    sections += [_gain_section(results), Section("Survey", figures=(Figure("Map of the survey", survey),))]
    return write_page(
        run, experiment, _answers(results), results.verdict.notes, sections, simulated=experiment.emulator is not None
    )


def _answers(results: LocalizationResults) -> list[Answer]:
    verdict = results.verdict
    first = Answer(
        "Consistent with theory" if verdict.consistent else "NOT consistent with theory",
        (_sentence(verdict_sentence(results)),),
        grade="" if verdict.consistent else "no",
    )
    better = results.is_better
    answer = {True: "The worst range is better", False: "No clear gain", None: "No optimum"}[better]
    return [first, Answer(answer, (_sentence(gain_sentence(results)),), "Power allocation", "" if better else "weak")]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _range_table(results: LocalizationResults) -> Table:
    rows = []
    for row in results.ranges:
        error = "–" if row.true_range_m is None else f"{row.range_m.value - row.true_range_m:+.4f}"
        rows.append(
            (
                f"{row.powers} powers",
                row.node,
                _dbm(row.power_dbm),
                Entry(f"{row.range_m.value:.3f}", (f"± {row.range_m.stderr:.3f}",)),
                error,
                Entry(f"{row.std_m:.3f}", (f"{row.std_low_m:.3f} – {row.std_high_m:.3f}",)),
                f"{row.bound_m:.3f}",
                f"{row.ratio:.3f}",
                Entry(f"{row.p_value:.3f}", (f"spread {row.spread_p_value:.3f}",)) if row.is_judged else "–",
                f"{row.integrated_sinr_db:.1f}",
                Entry(f"{row.outliers.value:.4f}", (f"{row.outliers_predicted:.1e} predicted",)),
            )
        )
    heads = ("Powers", "Node", "Power (dBm)", "Range (m)", "Error of the mean (m)", "Std (m)", "Bound (m)", "rms/bound")
    return Table((*heads, "p", "Integrated SINR (dB)", "Outliers"), tuple(rows))


def _sinr_table(results: LocalizationResults) -> Table:
    rows = []
    for row in results.ranges:
        agrees = abs(row.difference_db) <= 0.5
        difference = Entry(f"{row.difference_db:+.2f}", grade="" if agrees else "bad")
        rows.append((f"{row.powers} powers", row.node, _level(row.predicted), _level(row.sinr), difference))
    return Table(("Powers", "Node", "Predicted (dB)", "Measured (dB)", "Difference (dB)"), tuple(rows))


def _user_table(results: LocalizationResults) -> Table:
    rows = []
    for row in results.users:
        required = "–" if row.required is None else f"{db(row.required):.1f}"
        met = Entry("yes" if row.is_met else "no", grade="" if row.is_met else "bad")
        rows.append(
            (f"{row.powers} powers", row.user, row.node, _level(row.predicted), _level(row.sinr), required, met)
        )
    heads = ("Powers", "User", "Served by", "Predicted (dB)", "Data-aided (dB)", "Required (dB)", "Met")
    return Table(heads, tuple(rows))


def _position_table(results: LocalizationResults) -> Table:
    rows = tuple(
        (
            f"{row.powers} powers",
            str(row.num_trials),
            f"{row.rms_error_m:.3f}",
            f"{row.bound_m:.3f}",
            f"{row.ratio:.3f}",
            f"{row.p_value:.3f}",
            f"{row.same_slot_ratio:.3f}",
        )
        for row in results.positions
    )
    heads = ("Powers", "Trials", "Rms error (m)", "Bound (m)", "NEES", "p", "NEES of ranges of one frame (not judged)")
    return Table(heads, rows)


def _gain_section(results: LocalizationResults) -> Section:
    given = results.identified
    names = given.node_names
    rows = []
    for receiver in (*names, *given.user_names):
        arrivals = [_gain(given.arrival[receiver].get(name)) for name in names]
        own = [_gain(given.echo[receiver]), _gain(given.residual_self[receiver])] if receiver in names else ["–", "–"]
        noise = f"{db(given.noise_var[receiver].value):.2f}"
        rows.append((receiver, *arrivals, *own, noise))
    heads = ("Receiver", *(f"From {name} (dB)" for name in names), "Own echo (dB)", "Residual self (dB)", "Noise (dBm)")
    return Section(
        "Identified gains",
        texts=(
            "Per used resource element over mean power, from the muted capture and one of every base station alone.",
        ),
        tables=(Table(heads, tuple(rows)),),
    )


def _gain(estimate: Estimate | None) -> str | Entry:
    if estimate is None:
        return "–"
    if estimate.value <= 0:
        return Entry("≤ 0", (f"s.e. {db(max(estimate.stderr, 1e-300)):.0f} dB",))
    error = 10 / np.log(10) * estimate.stderr / estimate.value
    return Entry(f"{db(estimate.value):.2f}", (f"± {error:.2f}",))


def _level(estimate: Estimate) -> str | Entry:
    if estimate.value <= 0:
        return "–"
    return Entry(f"{db(estimate.value):.2f}", (f"± {10 / np.log(10) * estimate.stderr / estimate.value:.2f}",))


def _dbm(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "off"
