"""The map of a survey: nodes, users, cells under test, reflectors; who serves and who judges; what nodes transmit."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from testbed.experiment.config import Experiment
from testbed.experiment.report.decibels import power_text
from testbed.plots import GREY, INK, PALETTE, Columns, house_style, new_figure

_LABEL_POINTS = 15.0  # distance of a name from its symbol
_WIDTH_POINTS = 260.0  # of the map on paper, about
_DIRECTIONS = np.exp(2j * np.pi * (np.arange(16) + 0.5) / 16)
_Line = dict[str, Any]
_JUDGES: _Line = {"color": GREY, "lw": 0.9, "ls": "--"}
_SERVES: _Line = {"color": INK, "lw": 0.9, "ls": "-"}


@house_style()
def map_figure(experiment: Experiment, power_dbm: Mapping[str, float | None] | None = None) -> tuple[Any, Columns]:
    """Where the survey puts everything, seen from above; lines join nodes and what they serve or judge.

    `power_dbm` per node, None where silent, is written to it.
    """
    survey = experiment.survey
    fig, ax = new_figure(size_in=(5.0, 4.2 if survey.users else 3.9))
    columns = Columns("kind", "name", "x_m", "y_m", "z_m", "judged_by", "served_by", "power_dbm")
    where = {node.name: complex(*node.position_m[:2]) for node in survey.nodes}
    tables: tuple[tuple[str, str, str, _Line, Any], ...] = (
        ("node", "^", "", {}, survey.nodes),
        ("cell under test", "o", "judged_by", _JUDGES, survey.cells),
        ("reflector", "s", "", {}, survey.reflectors),
        ("user", "D", "served_by", _SERVES, survey.users),
    )
    names: list[tuple[str, complex]] = []
    taken: list[complex] = []  # symbols and lines, where no name should be
    for i, (kind, marker, owner, line, rows) in enumerate(tables):
        for k, row in enumerate(rows):
            x, y, *z = row.position_m
            ax.plot(x, y, marker, color=PALETTE[i], ms=7, ls="none", label="_" if k else kind)
            taken.append(complex(x, y))
            if owner:
                ends = where[row.node], complex(x, y)
                ax.plot([end.real for end in ends], [end.imag for end in ends], zorder=1, **line)
                taken += [ends[0] + share * (ends[1] - ends[0]) for share in np.linspace(0.05, 0.95, 19)]
            name, power = row.name, None
            if kind == "node" and power_dbm is not None:
                power = power_dbm[row.name]
                name += "\noff" if power is None else f"\n{power_text(power)} dBm"
            names.append((name, complex(x, y)))
            columns.add(
                kind=kind,
                name=row.name,
                x_m=x,
                y_m=y,
                z_m=z[0] if z else None,
                power_dbm=power,
                **({owner: row.node} if owner else {}),
            )
    _write_names(ax, names, taken)
    if survey.users:
        ax.plot([], [], label="serves", **_SERVES)
    ax.plot([], [], label="judges", **_JUDGES)
    ax.margins(0.2)
    ax.set(xlabel="x (m)", ylabel="y (m)")
    ax.set_aspect("equal", adjustable="datalim")
    fig.legend(loc="outside upper center", ncols=3)
    return fig, columns


def _write_names(ax: Any, names: list[tuple[str, complex]], taken: list[complex]) -> None:
    """Every name beside its symbol, in the direction that is farthest from everything drawn so far."""
    points = np.array([at for _, at in names])
    span_m = max(float(np.ptp(points.real)), float(np.ptp(points.imag)), 1e-3)
    points_per_m = _WIDTH_POINTS / span_m
    occupied = list(np.array(taken) * points_per_m)
    for name, at in names:
        lines = name.split("\n")
        half_width, reach = 2.8 * max(map(len, lines)), _LABEL_POINTS + 9.0 * (len(lines) - 1)
        # a name is wider than high
        centres = _DIRECTIONS.real * (reach + 0.7 * half_width) + 1j * _DIRECTIONS.imag * reach
        parts = np.linspace(-half_width, half_width, 5)
        text = at * points_per_m + centres[:, None] + parts
        gaps = np.abs(text[:, :, None] - np.array(occupied))
        best = int(np.argmin(np.sum(1 / (gaps**2 + 16.0), axis=(1, 2))))
        offset = (float(centres[best].real), float(centres[best].imag))
        x, y = at.real, at.imag
        ax.annotate(name, (x, y), xytext=offset, textcoords="offset points", ha="center", va="center", fontsize=9)
        occupied += list(text[best])
