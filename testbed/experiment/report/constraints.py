"""How a round's requirements were met, row by row, and what the solver made of its measurement."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.allocation.base import Allocation
from testbed.allocation.comp import row_margins_db
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.feedback import Feedback, feedback
from testbed.experiment.comp.rounds import Round
from testbed.experiment.comp.summary import CellSummary, RoundSummary, UserSummary
from testbed.experiment.report.decibels import NONE, db_text, difference_db_text, estimate_db_text, value_db
from testbed.experiment.report.table import Entry, Table
from testbed.experiment.report.wording import minus
from testbed.measurement import Estimate
from testbed.units import db, undb

BINDING_DB = 1e-4  # above its requirement, a row binds; solvers stop short of exactly 0


@dataclass(frozen=True)
class Constraints:
    """What a report says of a round's requirements."""

    rows: Table
    solver: tuple[tuple[str, str], ...]
    conflict: Table | None  # where no powers meet every requirement
    remedy: str  # what would


def constraints(experiment: CompExperiment, made: Round, row: RoundSummary) -> Constraints:
    """Requirements of a round, and the proposal made from its measurement."""
    given = feedback(made.measurement, experiment)
    conflict = made.proposal.certificate if made.proposal.certificate.get("rows") else None
    return Constraints(
        rows=_rows(experiment, given, made.proposal, row),
        solver=tuple(_solver(made.proposal, given.measurement.node_names)),
        conflict=None if conflict is None else _conflict(given, conflict),
        remedy="" if conflict is None else _remedy(experiment, given, conflict),
    )


def row_labels(given: Feedback) -> tuple[str, ...]:
    """Names of the problem's rows, in its order."""
    return (*(f"rate of {user}" for user in given.users), *(f"PoD of {cell}" for cell in given.cells))


def _rows(experiment: CompExperiment, given: Feedback, proposal: Allocation, row: RoundSummary) -> Table:
    """Measured against required, with and without margin; then the same row at the powers proposed next."""
    assert experiment.allocation is not None, "a loop has an allocation"
    users, cells = {u.user: u for u in row.users}, {c.cell: c for c in row.cells}
    margins = (experiment.allocation.rate_margin_db, experiment.allocation.sensing_margin_db)
    ordered: list[tuple[UserSummary | CellSummary, float]] = [(users[name], margins[0]) for name in given.users]
    ordered += [(cells[name], margins[1]) for name in given.cells]
    proposed_db = row_margins_db(given.problem, proposal.power)
    slack = np.full(len(ordered), math.nan) if proposal.slack is None else proposal.slack
    heads = (
        "Requirement",
        "Measured SINR or SNR (dB)",
        "Required (dB)",
        "Above required (dB)",
        "Above required with margin (dB)",
        "At the proposed powers, above required with margin (dB)",
        "Solver's slack (mW)",
    )
    rows = []
    for label, (item, margin_db), next_db, left in zip(row_labels(given), ordered, proposed_db, slack, strict=True):
        measured, required = _measured(item)
        above = value_db(measured.value) - value_db(required)
        rows.append(
            (
                label,
                estimate_db_text(measured),
                Entry(db_text(required), (f"with margin {db_text(required * undb(margin_db))}",))
                if required
                else "none",
                Entry(difference_db_text(above), grade="" if item.is_met else "bad"),
                difference_db_text(above - margin_db),
                difference_db_text(float(next_db)) if math.isfinite(next_db) else NONE,
                _slack(float(left), binds=abs(next_db) < BINDING_DB),
            )
        )
    return Table(heads, tuple(rows))


def _slack(left: float, *, binds: bool) -> str | Entry:
    if math.isnan(left):
        return NONE
    return Entry(minus(f"{left:.2e}"), ("binds",) if binds else ())


def _measured(item: UserSummary | CellSummary) -> tuple[Estimate, float]:
    if isinstance(item, UserSummary):
        return item.sinr, item.sinr_required
    return item.snr, item.snr_required


def _solver(proposal: Allocation, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """What the solver says of its proposal."""
    powers = ", ".join(f"{name} {_dbm(p)}" for name, p in zip(names, proposal.power, strict=True))
    closest = " (the smallest shortfall; not used)" if proposal.certificate.get("rows") else ""
    found = [("Status", proposal.status), ("Powers (dBm)", powers + closest)]
    if math.isfinite(proposal.objective):
        found.append(("Sum rate expected (bit/s/Hz)", f"{proposal.objective:.4f}"))
    if proposal.upper_bound is not None:
        found.append(("No powers give more than (bit/s/Hz)", f"{proposal.upper_bound:.4f}"))
    if proposal.history:
        shown = [f"{value:.4f}" for value in proposal.history]
        if len(shown) > 8:
            shown = [*shown[:4], "…", *shown[-3:]]
        found.append((f"Sum rate at the start and after each of {len(proposal.history) - 1} steps", " → ".join(shown)))
    if proposal.kkt_residual is not None:
        found.append(("Distance from a stationary point", f"{proposal.kkt_residual:.1e} of the gradient"))
    if proposal.note:
        found.append(("Note", proposal.note))
    return found


def _conflict(given: Feedback, certificate: dict[str, Any]) -> Table:
    """The rows that cannot be met together, at the powers where the worst falls short least."""
    names, num_rates = row_labels(given), len(given.users)
    heads = ("Conflicting requirement", "Reached at best (dB)", "Required with margin (dB)", "Short by (dB)")
    rows = []
    for row in certificate["rows"]:
        label = names[row["index"] + (0 if row["kind"] == "rate" else num_rates)]
        short = value_db(row["required"]) - value_db(row["reached"])
        rows.append((label, db_text(row["reached"]), db_text(row["required"]), minus(f"{short:.2f}")))
    return Table(heads, tuple(rows))


def _remedy(experiment: CompExperiment, given: Feedback, certificate: dict[str, Any]) -> str:
    """How much more power would do, or that none would."""
    total_dbm, mean_db = db(given.problem.total_power), db(len(given.measurement.node_names))
    asked = f"the budget of {minus(f'{total_dbm - mean_db:.2f}')} dBm per node"
    extra = certificate["extra_power_db"]
    if extra is not None:
        needed = minus(f"{total_dbm - mean_db + extra:.2f}")
        return f"{extra:.2f} dB more total power would do: {needed} dBm per node on average, in place of {asked}."
    if certificate["caps_block"]:
        without_db = db(certificate["required_power_without_caps"]) - mean_db
        return (
            f"No total power would do as long as single nodes are capped; without caps "
            f"{minus(f'{without_db:.2f}')} dBm per node on average would, against {asked}."
        )
    return "No power would do: these requirements exclude each other at any budget."


def _dbm(power: float) -> str:
    return minus(f"{db(float(power)):.2f}") if power > 0 else "off"
