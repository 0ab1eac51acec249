"""What a paper's figures are made of, as JSON and as files in one folder.

Modules of a set are named after its paper: one draws its scenario, others compute what its figures show (`_sweeps`),
`_claims` holds the rules and `_drawing` the figures. The head has the paper's name alone and the three functions that
the command line calls: `compute`, `write` and `verdict_table`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sim.figures.claims import Verdict, write_verdicts
from sim.figures.drawing import Drawn
from sim.figures.draws import Advance
from testbed.plots import save_figure

Evidence = TypeVar("Evidence")
Progress = Callable[[str, int], Advance]  # what is done and its length -> how to tell how far it is


@dataclass(frozen=True, eq=False)
class FigureSet(Generic[Evidence]):
    """Everything that figures and verdicts are made of."""

    evidence: Evidence
    verdicts: list[Verdict]
    settings: dict[str, Any]
    numbers: Callable[[Evidence], dict[str, Any]]  # what JSON holds of the evidence

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; NaN and infinity become null."""
        verdicts = [verdict.to_dict() for verdict in self.verdicts]
        found = {"settings": self.settings, "verdicts": verdicts, **self.numbers(self.evidence)}
        return {key: _plain(value) for key, value in found.items()}


def write_files(folder: Path, drawn: Mapping[str, Drawn], verdicts: Sequence[Verdict]) -> list[Path]:
    """Save figures by name, each as PNG, SVG and CSV, and verdicts.csv; the files that were written."""
    files: list[Path] = []
    for name, (fig, columns) in drawn.items():
        saved = save_figure(fig, folder / name, columns)
        files += [saved.png, saved.svg, saved.csv]
    path = folder / "verdicts.csv"
    write_verdicts(path, verdicts)
    return [*files, path]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
