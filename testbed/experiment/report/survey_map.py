"""The map of a survey: nodes, cells under test, reflectors, and which node judges which cell."""

from typing import Any

import numpy as np

from testbed.experiment.config import Experiment
from testbed.plots import GREY, PALETTE, Columns, house_style, new_figure

_LABEL_POINTS = 16.0  # distance of a name from its symbol


@house_style()
def map_figure(experiment: Experiment) -> tuple[Any, Columns]:
    """Where the survey puts everything, seen from above; a line joins a cell and the node that judges it."""
    fig, ax = new_figure(size_in=(5.0, 3.9))
    survey = experiment.survey
    columns = Columns("kind", "name", "x_m", "y_m", "z_m", "judged_by")
    where = {node.name: np.array(node.position_m[:2]) for node in survey.nodes}
    lines: dict[str, Any] = {name: np.zeros(2) for name in where}  # sum of the directions in which lines leave
    for cell in survey.cells:
        line = np.array(cell.position_m[:2]) - where[cell.node]
        unit = line / max(float(np.linalg.norm(line)), 1e-9)
        lines[cell.node] += unit
        lines[f"cell {cell.name}"] = -unit
        ax.plot(*np.transpose([where[cell.node], cell.position_m[:2]]), color=GREY, lw=0.9, ls="--", zorder=1)
    tables: tuple[tuple[str, str, Any], ...] = (
        ("node", "^", survey.nodes),
        ("cell under test", "o", survey.cells),
        ("reflector", "s", survey.reflectors),
    )
    for i, (kind, marker, rows) in enumerate(tables):
        for k, row in enumerate(rows):
            x, y, *z = row.position_m
            ax.plot(x, y, marker, color=PALETTE[i], ms=7, ls="none", label="_" if k else kind)
            away = -lines.get(row.name if kind == "node" else f"cell {row.name}", np.array([0.0, -1.0]))
            away = _LABEL_POINTS * away / max(float(np.linalg.norm(away)), 1e-9)
            ax.annotate(row.name, (x, y), xytext=away, textcoords="offset points", ha="center", va="center", fontsize=9)
            height = z[0] if z else None
            columns.add(kind=kind, name=row.name, x_m=x, y_m=y, z_m=height, judged_by=getattr(row, "node", None))
    ax.margins(0.2)
    ax.set(xlabel="x (m)", ylabel="y (m)")
    ax.set_aspect("equal", adjustable="datalim")
    fig.legend(loc="outside upper center", ncols=3)
    return fig, columns
