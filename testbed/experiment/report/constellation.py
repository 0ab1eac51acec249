"""What users received: their equalised symbols as a picture, and their error vectors in numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.statistics import StoredLink
from testbed.experiment.comp.step import Step
from testbed.experiment.comp.summary import UserSummary
from testbed.experiment.report.decibels import DB_PER_SHARE, estimate_db_text
from testbed.experiment.report.table import Table
from testbed.experiment.report.wording import count_text, minus, p_text, plus_minus
from testbed.measurement import Estimate
from testbed.plots import INK, PALETTE, Columns, house_style, new_figure
from testbed.units import db
from testbed.waveform.sequences import constellation


@house_style()
def constellation_figure(experiment: CompExperiment, link: StoredLink, limit: float) -> tuple[Any, Columns]:
    """Equalised symbols of a user, coloured by what was sent so that neighbours differ, and the ideal points.

    `limit` is the end of both axes, the same for all users.
    """
    points = constellation(experiment.waveform.modulation)
    fig, ax = new_figure(size_in=(3.1, 3.2))
    columns = Columns("sent", "in_phase", "quadrature", "ideal_in_phase", "ideal_quadrature")
    colour = _colours(points)
    for k in range(4):
        received = link.symbols[colour[link.symbol_index] == k]
        # as an image: thousands of vector marks would fill the report
        ax.plot(received.real, received.imag, ".", color=PALETTE[k], ms=2.2, alpha=0.5, mew=0, rasterized=True)
    ax.plot(points.real, points.imag, "+", color=INK, ms=8, mew=1.4, label="ideal")
    sent = points[link.symbol_index]
    columns.add(
        sent=link.symbol_index,
        in_phase=link.symbols.real,
        quadrature=link.symbols.imag,
        ideal_in_phase=sent.real,
        ideal_quadrature=sent.imag,
    )
    ax.set(
        xlim=(-limit, limit),
        ylim=(-limit, limit),
        xlabel="In phase (rms symbol = 1)",
        ylabel="Quadrature",
        title=f"{link.user} of {link.serving}",
    )
    ax.set_aspect("equal")
    return fig, columns


def farthest(links: Sequence[StoredLink]) -> float:
    """An axis end that holds every symbol of several users."""
    rails = [np.abs(part) for link in links for part in (link.symbols.real, link.symbols.imag)]
    return 1.05 * max(1.0, *(float(np.max(part, initial=0.0)) for part in rails))


def _colours(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One of four colours per ideal point: even and odd columns and rows of the grid."""
    column, row = (np.unique(np.round(part, 9), return_inverse=True)[1] for part in (points.real, points.imag))
    return np.asarray(column % 2 + 2 * (row % 2))


def link_table(run: CompRun, step: Step, users: tuple[UserSummary, ...]) -> Table:
    """Error vectors, SINRs and errors of every user."""
    heads = (
        "User (node)",
        "EVM, data-aided (%)",
        "EVM (dB)",
        "SINR, data-aided (dB)",
        "SINR from pilots (dB)",
        "SINR, decision-directed (dB)",
        "Symbol errors",
        "Bit errors",
    )
    rows = []
    for user in users:
        evm2 = _mean(run.link(step, user.user).error_power)
        rms, share = float(np.sqrt(evm2.value)), evm2.stderr / evm2.value if evm2.value > 0 else 0.0
        rows.append(
            (
                f"{user.user} ({user.node})",
                plus_minus(100 * rms, 100 * rms * share / 2),
                minus(f"{db(evm2.value):.2f} ± {DB_PER_SHARE * share:.3f}"),
                estimate_db_text(user.sinr),
                estimate_db_text(user.sinr_pilot),
                estimate_db_text(user.sinr_decision),
                _rate(user.symbol_error_rate),
                _rate(user.bit_error_rate),
            )
        )
    return Table(heads, tuple(rows))


def _mean(values: np.ndarray[Any, Any]) -> Estimate:
    spread = float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else 0.0
    return Estimate(value=float(np.mean(values)), stderr=spread, count=values.size)


def _rate(errors: Estimate) -> str:
    """A share of errors; one that never happened is below what could have been seen."""
    if errors.value == 0:
        return f"none in {count_text(errors.count)}"
    return p_text(errors.value)
