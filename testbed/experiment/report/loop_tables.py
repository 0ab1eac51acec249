"""The tables of a loop: its rounds, what was predicted beside what came, and the gains it ended with."""

import math
from collections.abc import Sequence

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.summary import CellSummary, RoundSummary
from testbed.experiment.report.decibels import (
    NONE,
    db_text,
    difference_db_text,
    estimate_db,
    estimate_db_text,
    power_text,
    value_db,
)
from testbed.experiment.report.table import Entry, Table, yes_no
from testbed.experiment.report.wording import minus
from testbed.measurement import Estimate, Measurement, PowerResponse

MAX_DIFFERENCE_DB = 0.5  # between a prediction and what is measured then
MAX_SHOWN_ROUNDS = 20  # the last ones; figures and their CSV have all


def shown_rounds(rounds: Sequence[RoundSummary]) -> Sequence[RoundSummary]:
    """The rounds that tables show."""
    return rounds[-MAX_SHOWN_ROUNDS:]


def round_table(experiment: CompExperiment, rounds: Sequence[RoundSummary]) -> Table:
    """A column per round: powers, PoD, rates, what is missed, and what the solver said."""
    assert experiment.requirements is not None and experiment.allocation is not None, "a loop has both"
    shown, first = shown_rounds(rounds), rounds[0]
    pod, rate = (f"at least {x:g}" for x in (experiment.requirements.min_pod, experiment.requirements.min_rate_bps_hz))
    budget = f"budget {power_text(experiment.allocation.budget_dbm)} on average"
    groups: list[list[tuple[str | Entry, ...]]] = [
        [
            (
                Entry(f"Power of {name} (dBm)", (budget,)),
                *(_power(r.power_dbm[name], r.realised_dbm[name]) for r in shown),
            )
            for name in first.power_dbm
        ],
        [
            (Entry(f"PoD of {row.cell}", (pod,)), *(_pod(r.cells[i]) for r in shown))
            for i, row in enumerate(first.cells)
        ],
        [
            (
                Entry(f"Rate of {row.user} (bit/s/Hz)", (rate,)),
                *(_rate(r.users[i].rate_bps_hz, r.users[i].is_met) for r in shown),
            )
            for i, row in enumerate(first.users)
        ],
        [("Sum rate (bit/s/Hz)", *(_rate(r.sum_rate_bps_hz) for r in shown))],
        [
            ("Missed", *(_missed(r) for r in shown)),
            ("Solver, for the next round", *(_solver(r) for r in shown)),
        ],
    ]
    rows = tuple(row for group in groups for row in group)
    starts = tuple(sum(len(group) for group in groups[:n]) for n in range(1, len(groups)))
    return Table(("", *(f"Round {r.index}" for r in shown)), rows, starts)


def _power(asked_dbm: float | None, realised_dbm: float | None) -> Entry:
    if asked_dbm is None or realised_dbm is None:
        return Entry("off")
    return Entry(minus(f"{asked_dbm:.2f}"), (minus(f"on air {realised_dbm:.3f}"),))


def _pod(cell: CellSummary) -> Entry:
    interval = f"{cell.pod_low:.4f} – {cell.pod_high:.4f}"
    return Entry(f"{cell.pod:.4f}", (interval,), "" if cell.is_met else "bad")


def _rate(rate: Estimate, is_met: bool = True) -> Entry:
    return Entry(f"{rate.value:.3f}", (f"± {rate.stderr:.3f}",), "" if is_met else "bad")


def _missed(row: RoundSummary) -> str | Entry:
    names = [cell.cell for cell in row.cells if not cell.is_met] + [user.user for user in row.users if not user.is_met]
    return Entry(", ".join(names), grade="bad") if names else "nothing"


def _solver(row: RoundSummary) -> Entry:
    return Entry(row.status, ("settled",) if row.settled else (), "bad" if row.status == "infeasible" else "")


def prediction_table(rounds: Sequence[RoundSummary]) -> Table:
    """Every target and user from the second round on: measured, predicted by the round before, and true."""
    heads: tuple[str, ...] = (
        "Target or user",
        "Round",
        "Measured (dB)",
        "Predicted (dB)",
        "Truth (dB)",
        "Measured − predicted (dB)",
        "Within 0.5 dB",
        "Measured − truth (dB)",
        "Within 0.5 dB",
    )
    shown = [row for row in shown_rounds(rounds) if row.index > 0]
    rows: list[tuple[str | Entry, ...]] = []
    for i in range(len(rounds[0].cells)):
        for row in shown:
            cell = row.cells[i]
            small = (f"PoD {cell.pod:.3f}", None if cell.pod_predicted is None else f"PoD {cell.pod_predicted:.3f}")
            label = f"SNR of {cell.cell} at {cell.node}"
            rows.append(_prediction_row(label, row.index, cell.snr, cell.snr_predicted, cell.snr_truth, small))
    for i in range(len(rounds[0].users)):
        for row in shown:
            user = row.users[i]
            rate = user.rate_predicted_bps_hz
            small = (f"rate {user.rate_bps_hz.value:.3f}", None if rate is None else f"rate {rate:.3f}")
            label = f"SINR of {user.user} of {user.node}"
            rows.append(_prediction_row(label, row.index, user.sinr, user.sinr_predicted, user.sinr_truth, small))
    if all(row.snr_truth is None for r in shown for row in r.cells):
        heads, rows = heads[:4] + heads[5:7], [row[:4] + row[5:7] for row in rows]
    return Table(heads, tuple(rows))


def _prediction_row(
    label: str,
    index: int,
    measured: Estimate,
    predicted: Estimate | None,
    truth: float | None,
    small: tuple[str, str | None],
) -> tuple[str | Entry, ...]:
    differences = [difference_db(measured, other) for other in (predicted, truth)]
    judged = [
        entry
        for d in differences
        for entry in (difference_db_text(d), NONE if math.isnan(d) else yes_no(abs(d) <= MAX_DIFFERENCE_DB))
    ]
    return (
        label,
        str(index),
        Entry(estimate_db_text(measured), (small[0],)),
        Entry(estimate_db_text(predicted), () if small[1] is None else (small[1],)),
        db_text(truth),
        *judged,
    )


def difference_db(measured: Estimate, other: Estimate | float | None) -> float:
    """Measured over another value in dB; NaN where there is none."""
    value = other.value if isinstance(other, Estimate) else other
    return estimate_db(measured)[0] - value_db(value)


def prediction_sentence(rounds: Sequence[RoundSummary]) -> str:
    """How far predictions were off at most, in all rounds."""
    worst: list[tuple[float, str]] = []
    for row in rounds:
        found = [(difference_db(c.snr, c.snr_predicted), f"SNR of {c.cell}, round {row.index}") for c in row.cells]
        found += [(difference_db(u.sinr, u.sinr_predicted), f"SINR of {u.user}, round {row.index}") for u in row.users]
        worst += [(abs(d), where) for d, where in found if not math.isnan(d)]
    if not worst:
        return "No round has a prediction: that takes a second round."
    outside = sum(d > MAX_DIFFERENCE_DB for d, _ in worst)
    largest, where = max(worst)
    within = "all" if not outside else f"all but {outside}"
    return (
        f"Of {len(worst)} predictions {within} came true within {MAX_DIFFERENCE_DB:g} dB; "
        f"the farthest was off by {largest:.2f} dB ({where})."
    )


def gain_tables(measured: Measurement, truth: Measurement | None) -> list[tuple[str, Table]]:
    """Effective gains of a round with their errors, by receiver and transmitter, next to the true ones."""
    names = measured.node_names
    kinds = (
        ("Sensing", "Cell (node)", measured.sensing, truth.sensing if truth else {}),
        ("Communication", "User (node)", measured.communication, truth.communication if truth else {}),
    )
    tables = []
    for title, head, found, exact in kinds:
        rows: list[tuple[str | Entry, ...]] = []
        for name, response in found.items():
            known = exact.get(name)
            entries = [_gain(response, None if known is None else known.gain[tx].value, tx) for tx in names]
            rows.append((f"{name} ({response.serving or response.node})", *entries))
        if rows:
            tables.append((title, Table((head, *(f"from {tx} (dB)" for tx in names)), tuple(rows))))
    return tables


def _gain(response: PowerResponse, truth: float | None, tx: str) -> Entry:
    gain = response.gain[tx]
    known: tuple[str, ...] = () if truth is None else (f"truth {db_text(truth)}",)
    age = response.age_rounds.get(tx, 0)
    if age and gain.count == 0:
        return Entry("unknown", (*known, "never on the air"), "mark")
    if tx in response.floored:
        return Entry("taken as 0", (*known, "measured below 0"), "mark")
    if truth is not None and gain.stderr > 0:
        known += (minus(f"{(gain.value - truth) / gain.stderr:+.1f} std. errors"),)
    if age:
        return Entry(estimate_db_text(gain), (*known, f"{age} round{'s' * (age > 1)} old: silent now"), "mark")
    return Entry(estimate_db_text(gain), known)
