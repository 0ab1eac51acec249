"""The house style of figures, and saving one: PNG and SVG, with the plotted numbers as CSV beside them.

matplotlib is imported when the first figure is drawn, not before. Figures are made without pyplot: no window, no
global state, nothing to close.
"""

import contextlib
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision; the order is that of contrast with white paper
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA4A85", "#B87800", "#3A8FC0")
MARKERS = ("o", "s", "^", "D", "v", "P")  # one per colour, for print without colour
INK, GREY, FAINT = "#1a1a1a", "#6b6b6b", "#dcdcdc"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures look the same everywhere
    "font.size": 10.0,
    "axes.labelsize": 10.0,
    "axes.titlesize": 10.5,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "savefig.dpi": 160.0,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # letters as shapes: no font needed where the file is read
    "svg.hashsalt": "isac",  # the same numbers give the same file
}


@dataclass(frozen=True)
class SavedFigure:
    """Files of one figure."""

    png: Path
    svg: Path
    csv: Path


class Columns(dict[str, list[Any]]):
    """Plotted numbers in long form: a row per point, None where a column does not apply."""

    def __init__(self, *names: str) -> None:
        super().__init__((name, []) for name in names)

    def add(self, **values: Any) -> None:
        """Append rows; a single value stands for all of them."""
        length = max(np.size(value) for value in values.values())
        for name, column in self.items():
            value: Any = values.get(name)
            column.extend(np.ravel(value) if np.ndim(value) else [value] * length)


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Within it, or in a function it decorates, matplotlib draws in the house style; outside nothing changes."""
    import matplotlib

    rc: Any = STYLE  # its type is the set of all settings there are
    with matplotlib.rc_context(rc):
        yield


def new_figure(
    num_rows: int = 1, num_columns: int = 1, *, size_in: tuple[float, float] = (5.0, 3.7), **subplots: Any
) -> tuple["Figure", Any]:
    """An empty figure in the house style and its axes, an array where there are several.

    Args:
        num_rows: of axes.
        num_columns: of axes.
        size_in: width and height in inch.
        subplots: passed on to matplotlib's `Figure.subplots`.
    """
    with house_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size_in, layout="constrained")
        return figure, figure.subplots(num_rows, num_columns, **subplots)


def save_figure(fig: "Figure", path_stem: Path, columns: Mapping[str, Sequence[Any]]) -> SavedFigure:
    """Save a figure as PNG and SVG and its numbers as CSV, all under one name.

    Args:
        fig: drawn within `house_style`.
        path_stem: path without suffix; missing folders are made.
        columns: plotted numbers, one equally long column each; names carry the unit (`power_dbm`), None and NaN are
            left empty.

    Raises:
        ValueError: no column, or columns of different lengths.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns of lengths {lengths} - at least one is needed, and all must be equally long")
    path_stem.parent.mkdir(parents=True, exist_ok=True)
    # not with_suffix, which would cut a name such as 'pod_2.5'
    files = SavedFigure(*(path_stem.with_name(f"{path_stem.name}.{kind}") for kind in ("png", "svg", "csv")))
    with house_style():
        fig.savefig(files.png, metadata={"Software": None})
        fig.set_layout_engine("none")  # what the first saving laid out holds for the second
        fig.savefig(files.svg, metadata={"Date": None, "Creator": None})
    with files.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_plain(value) for value in row] for row in zip(*columns.values(), strict=True))
    return files


def _plain(value: Any) -> Any:
    """A value as CSV keeps it: every digit of a float, nothing for what is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
