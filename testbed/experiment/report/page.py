"""The report of a run: one HTML file that needs nothing else, the answers first.

Figures are embedded; they also lie, with their numbers as CSV, in `figures/` beside the report. Everything said comes
from the run's files, so a report can be written again at any time, and of a run that was cut short.
"""

import base64
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.experiment.comp.config import CompExperiment, load_comp
from testbed.experiment.report.wording import STATISTIC_NAMES, TEST_NAMES, level_text

if TYPE_CHECKING:
    from testbed.experiment.comp.gather import RunResults
    from testbed.experiment.comp.record import CompRun
    from testbed.experiment.report.gallery import ReportFigure

MAX_EMBEDDED_BYTES = 1_500_000  # of figures; with more cells than fit, the others stay in figures/ only


def load_results(run: "CompRun") -> tuple[CompExperiment, "RunResults"]:
    """Experiment and results of a run from its files; of a run cut short, what it finished.

    Raises:
        CaptureError: nothing was finished, or a file cannot be read.
    """
    from testbed.experiment.comp.gather import gather

    experiment = load_comp(str(run.experiment))
    return experiment, gather(run, experiment)


def write_report(run: "CompRun", experiment: CompExperiment, results: "RunResults") -> Path:
    """Draw the figures and write the report; returns its path."""
    import jinja2

    from testbed.experiment.report.gallery import draw_all

    figures = draw_all(run, experiment, results, run.path / "figures")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(_context(run, experiment, results, figures))
    run.report.write_text(page, encoding="utf-8")
    return run.report


def _template(name: str) -> str:
    return (resources.files("testbed.experiment.report") / name).read_text(encoding="utf-8")


def _context(
    run: "CompRun", experiment: CompExperiment, results: "RunResults", figures: list["ReportFigure"]
) -> dict[str, Any]:
    """Everything the templates show."""
    from testbed.experiment.comp.rounds import load_rounds
    from testbed.experiment.report import caveats, provenance
    from testbed.experiment.report.answers import answers
    from testbed.experiment.report.clocks import clock_table
    from testbed.experiment.report.sections import loop_section, part_sections

    captures = provenance.shown_captures(run, experiment, results.judged[0])
    rounds = load_rounds(run.rounds) if results.rounds else []
    parts = part_sections(run, experiment, results)
    both = captures.muted is not None and captures.loud is not None
    return {
        "experiment": experiment,
        "origin": _origin(run, experiment, [c.simulated for c in captures.found]),
        "answers": answers(experiment, results, rounds),
        "notes": [
            *(note for part in parts for note in part["notes"]),
            *caveats.warnings(run, experiment, results.judged, captures.found),
        ],
        "tests": tuple(TEST_NAMES.values()),
        "closed_loop": loop_section(run, experiment, results, rounds[-1]) if rounds else None,
        "has_axis": results.axis is not None,
        "parts": parts,
        "clocks": clock_table(run),
        "embedded": _embedded(figures),
        "settings": provenance.settings_table(captures.muted, captures.loud)
        if captures.muted is not None and captures.loud is not None
        else None,
        "settings_fault": captures.fault,
        "settings_of": captures.title,
        "kept": provenance.kept_text(captures.found) if both else "",
        "waveform": provenance.waveform_text(experiment),
        "provenance": provenance.provenance_rows(run, experiment, captures.found),
        "files": provenance.file_table(run),
        "command": provenance.repeat_command(run),
        "resolved": provenance.resolved_toml(experiment),
        "pfa": level_text(experiment.detection.pfa),
        "statistic": STATISTIC_NAMES[experiment.statistic],
    }


def _origin(run: "CompRun", experiment: CompExperiment, simulated: list[bool]) -> str:
    """Where samples came from: 'simulated', 'air', or 'unknown' where no file says so."""
    if experiment.emulator is not None or run.truth.exists() or run.truth_rounds.exists() or any(simulated):
        return "simulated"
    return "air" if simulated else "unknown"


def _embedded(figures: list["ReportFigure"]) -> dict[str, list[dict[str, str]]]:
    """Figures by kind: description, name, and the SVG as base64; empty beyond the size of a report."""
    from testbed.experiment.report.gallery import KINDS

    embedded: dict[str, list[dict[str, str]]] = {kind: [] for kind in KINDS}
    total = 0
    for figure in sorted(figures, key=lambda figure: figure.kind != "map"):  # the map is always there
        data = base64.b64encode(figure.files.svg.read_bytes()).decode()
        fits = figure.kind == "map" or total + len(data) <= MAX_EMBEDDED_BYTES
        total += len(data) if fits else 0
        row = {"alt": figure.alt, "name": figure.files.svg.stem, "svg": data if fits else ""}
        embedded[figure.kind].append(row)
    return embedded
