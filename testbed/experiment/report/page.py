"""The report of a run: one HTML file that needs nothing else, the verdict first.

Figures are embedded; they also lie, with their numbers as CSV, in `figures/` beside the report. Everything said comes
from the run's files, so a report can be written again at any time, and of a run that was cut short.
"""

import base64
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.errors import CaptureError
from testbed.experiment.config import Experiment, load_experiment
from testbed.experiment.report.wording import (
    STATISTIC_NAMES,
    TEST_NAMES,
    level_text,
    minus,
    verdict_answer,
    verdict_name,
    verdict_sentence,
)

if TYPE_CHECKING:
    from testbed.experiment.record import RunDirectory
    from testbed.experiment.report.figures import ReportFigure
    from testbed.experiment.results import Results

MAX_EMBEDDED_BYTES = 1_400_000  # of figures; with more cells than fit, the others stay in figures/ only


def load_results(run: "RunDirectory") -> tuple[Experiment, "Results"]:
    """Experiment and results of a run from its files; of a run cut short, the powers it finished.

    Raises:
        CaptureError: no power was finished, or a file cannot be read.
    """
    from testbed.experiment.results import gather

    experiment = load_experiment(str(run.experiment))
    num_points = run.num_finished_points()
    if num_points == 0:
        raise CaptureError(f"{run.path}: no power was finished; there is nothing to report, run the experiment again")
    return experiment, gather(run, experiment, num_points)


def write_report(run: "RunDirectory", experiment: Experiment, results: "Results") -> Path:
    """Draw the figures and write the report; returns its path."""
    import jinja2

    from testbed.experiment.report.figures import draw_all

    figures = draw_all(run, experiment, results, run.path / "figures")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = (resources.files("testbed.experiment.report") / "report.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(text).render(_context(run, experiment, results, figures))
    run.report.write_text(page, encoding="utf-8")
    return run.report


def _context(
    run: "RunDirectory", experiment: Experiment, results: "Results", figures: list["ReportFigure"]
) -> dict[str, Any]:
    """Everything the template shows."""
    from testbed.experiment.report import provenance, tables

    captures, fault = provenance.shown_captures(run, experiment, results)
    noise = tables.noise_comparisons(results)
    alarms = tables.nominal_false_alarms(run, experiment, results)
    return {
        "experiment": experiment,
        "simulated": experiment.emulator is not None or run.truth.exists() or any(c.simulated for c in captures),
        "answer": verdict_answer(results),
        "grade": _grade(results),
        "sentence": verdict_sentence(results),
        "partial": _partial(experiment, results),
        "notes": [
            *_notes(results),
            *(c.warning for c in noise if c.warning),
            *tables.warnings(run, experiment, results, captures),
        ],
        "has_truth": results.deciding.endswith("/truth"),
        "deciding": verdict_name(results.deciding),
        "tests": tuple(TEST_NAMES.values()),
        "verdicts": tables.verdict_columns(results),
        "level_note": tables.level_note(experiment, results, alarms),
        "embedded": _embedded(figures),
        "points": [
            (STATISTIC_NAMES[statistic], table) for statistic, table in tables.point_tables(experiment, results)
        ],
        "noise": tables.noise_table(noise),
        "detector": tables.detector_table(run, experiment, results),
        "settings": provenance.settings_table(*captures) if captures else None,
        "settings_fault": fault,
        "loudest": minus(f"{provenance.loudest(experiment, results)[1]:g}"),
        "waveform": provenance.waveform_text(experiment),
        "provenance": provenance.provenance_rows(run, experiment, captures),
        "files": provenance.file_table(run),
        "command": provenance.repeat_command(run),
        "resolved": provenance.resolved_toml(experiment),
        "pfa": level_text(experiment.detection.pfa),
        "statistic": STATISTIC_NAMES[experiment.statistic],
    }


def _grade(results: "Results") -> str:
    """How the answer is shown: yes, no, or weak where part of the question is open."""
    if not results.verdict.consistent:
        return "no"
    return "yes" if results.verdict.num_tested_points else "weak"


def _partial(experiment: Experiment, results: "Results") -> str | None:
    wanted = len(experiment.power.axis_dbm)
    if results.num_points_run == wanted:
        return None
    return (
        f"Partial: the run ended after {results.num_points_run} of {wanted} powers; this report is about those alone."
    )


def _notes(results: "Results") -> list[str]:
    """What qualifies the verdict."""
    others = [verdict_name(key) for key, v in results.verdicts.items() if not v.consistent and key != results.deciding]
    notes = [note[0].upper() + note[1:] + "." for note in results.verdict.notes]
    if others and results.verdict.consistent:
        notes.append(f"Not deciding, but not consistent: {'; '.join(others)}.")
    return notes


def _embedded(figures: list["ReportFigure"]) -> dict[str, list[dict[str, str]]]:
    """Figures by kind: description, name, and the SVG as base64; empty beyond the size of a report."""
    embedded: dict[str, list[dict[str, str]]] = {"pod": [], "h0": [], "roc": [], "map": []}
    total = 0
    for figure in sorted(figures, key=lambda figure: figure.kind != "map"):  # the map is always there
        data = base64.b64encode(figure.files.svg.read_bytes()).decode()
        total += len(data)
        row = {"alt": figure.alt, "name": figure.files.svg.stem, "svg": data if total <= MAX_EMBEDDED_BYTES else ""}
        embedded[figure.kind].append(row)
    return embedded
