"""A report as a list of sections, for experiments whose page is answers, figures and tables in a row."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from testbed.experiment.config import Experiment
from testbed.experiment.record import RunDirectory
from testbed.experiment.report.table import Grade, Table
from testbed.plots import SavedFigure


@dataclass(frozen=True)
class Answer:
    """What the run says first."""

    answer: str
    sentences: tuple[str, ...]
    about: str = ""
    grade: Grade | str = ""  # 'no' or 'weak' stand out
    partial: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure, described for those who cannot see it."""

    alt: str
    files: SavedFigure


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    title: str
    texts: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    small: str = ""  # what the columns are


def write_page(
    run: RunDirectory,
    experiment: Experiment,
    answers: Sequence[Answer],
    notes: Sequence[str],
    sections: Sequence[Section],
    *,
    simulated: bool,
) -> Path:
    """Write a run's report; returns its path."""
    import jinja2

    from testbed.capture import load
    from testbed.errors import CaptureError
    from testbed.experiment.report import provenance

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        captures = [load(run.muted_path)]
    except CaptureError:  # not kept
        captures = []
    page = environment.get_template("sections.html.j2").render(
        title=experiment.title,
        answers=answers,
        notes=notes,
        simulated=simulated,
        sections=[
            {
                "title": section.title,
                "texts": section.texts,
                "tables": section.tables,
                "small": section.small,
                "figures": [_embedded(figure) for figure in section.figures],
            }
            for section in sections
        ],
        provenance=provenance.provenance_rows(run, experiment, captures),
        files=provenance.file_table(run),
        command=provenance.repeat_command(run),
        resolved=provenance.resolved_toml(experiment),
    )
    run.report.write_text(page, encoding="utf-8")
    return run.report


def _embedded(figure: Figure) -> dict[str, str]:
    data = base64.b64encode(figure.files.svg.read_bytes()).decode()
    return {"alt": figure.alt, "name": figure.files.svg.stem, "svg": data}


def _template(name: str) -> str:
    return (resources.files("testbed.experiment.report") / name).read_text(encoding="utf-8")
