"""Why a CoMP problem cannot be met: proof by two dot products, the conflicting requirements, and the same in words.

Prices y >= 0 on the rows A p >= b prove infeasibility when b.y exceeds y'A p for every power that may be spent:

    b.y > max y'A p  over  0 <= p <= max_power, sum p <= total_power      (without caps: total_power max(0, max(A'y)))

because a feasible p would have y'A p >= b.y. Where more power would do, y are the dual prices of the P_req program:
without caps A'y <= 1 and b.y = P_req, so they prove P_req too. Where no power would do, y is a Farkas ray, A'y <= 0
without caps, scaled to b.y = total_power.

Source: LP duality; the CoMP letter says nothing about infeasible draws. A conic solver's word "infeasible" is no proof.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.comp_feasibility import (
    BUDGET_TOLERANCE,
    balanced_shares,
    fewest_rows,
    infeasibility_ray,
    least_shares,
    required_power,
)
from testbed.allocation.comp_problem import CompProblem, comm_sinr, scaled, sensing_snr
from testbed.units import db

_NEGLIGIBLE = 1e-9  # a row with a smaller part of b.y does not take part in a conflict
_KINDS = ("rate", "sensing")


def infeasibility_certificate(problem: CompProblem) -> dict[str, Any]:
    """Certificate that no admissible power meets every requirement; empty when one does.

    Returns:
        Plain JSON:
        y: prices on the unscaled rows, rates then sensing, (2L,). demand: b.y. reachable: the maximum of y'A p.
        required_power: P_req under the caps, None when no power suffices. extra_power_db: P_req over the budget.
        caps_block: whether power would suffice, but only without caps. required_power_without_caps: then how much.
        rows: those that conflict, {kind: "rate" or "sensing", index, reached, required}, linear SINR or sensing SNR
        at balanced_power, where the smallest of reached over required is largest.
    """
    q_problem = scaled(problem)
    least = least_shares(q_problem)
    if least is not None and np.sum(least.q) <= 1 + BUDGET_TOLERANCE:
        return {}
    ray = infeasibility_ray(q_problem, any_power=True) if least is None else None
    candidates = (
        None if least is None else least.y,
        None if ray is None else fewest_rows(q_problem, ray),
        infeasibility_ray(q_problem, any_power=False),  # for coefficients too far apart for the others
    )
    A, b = problem.rows
    balanced = problem.total_power * balanced_shares(q_problem)
    for y_scaled in candidates:
        if y_scaled is None:
            continue
        taken = y_scaled > 1e-12 * np.sum(y_scaled)  # the rest is rounding
        y = np.divide(problem.total_power * y_scaled, b, out=np.zeros_like(b), where=taken)
        certificate = {"y": y.tolist(), "demand": float(b @ y), "reachable": reachable(problem, A.T @ y)}
        if verify_certificate(problem, certificate):
            break
    else:
        raise AssertionError("no certificate of an infeasible problem; its coefficients are too far apart")
    needed = None if least is None else problem.total_power * float(np.sum(least.q))
    return certificate | _remedy(problem, needed) | _conflict(problem, y * b, balanced)


def reachable(problem: CompProblem, value: NDArray[np.float64]) -> float:
    """Largest value'p over 0 <= p <= max_power, sum p <= total_power: the most valuable node first, up to its cap."""
    caps, left, total = np.asarray(problem.max_power), problem.total_power, 0.0
    for node in np.argsort(-value):
        if value[node] <= 0:
            break
        spent = min(left, caps[node])
        left, total = left - spent, total + spent * value[node]
    return float(total)


def verify_certificate(problem: CompProblem, certificate: dict[str, Any]) -> bool:
    """Whether the certificate's `y` proves that no admissible power meets every row: b.y against y'A, nothing else."""
    A, b = problem.rows
    try:
        y = np.array(certificate["y"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return False
    if y.shape != b.shape or not np.all((y >= 0) & (y < np.inf)):
        return False
    return bool(b @ y > reachable(problem, A.T @ y))


def explain(
    problem: CompProblem,
    certificate: dict[str, Any],
    user_names: Sequence[str],
    cell_names: Sequence[str],
    node_names: Sequence[str] | None = None,
    describe: Callable[[dict[str, Any]], str] | None = None,
) -> str:
    """A certificate in one line: who conflicts, how far the worst falls short, and what would do.

    Args:
        problem: what the certificate belongs to.
        certificate: of an infeasible allocation.
        user_names: users, in node order.
        cell_names: target cells, in node order.
        node_names: transmitting nodes, for their caps; "node 0", ... when left out.
        describe: says what a row of `certificate["rows"]` reaches, e.g. "PoD of t2 reaches 0.58 of 0.70"; the shortfall
            in dB when left out.

    Raises:
        ValueError: a certificate without rows, or fewer names than nodes.
    """
    L = problem.num_nodes
    nodes = [f"node {l}" for l in range(L)] if node_names is None else node_names
    for name, given in (("user_names", user_names), ("cell_names", cell_names), ("node_names", nodes)):
        if len(given) != L:
            raise ValueError(f"{name}: found {len(given)} names; must be {L}, one per node")
    rows = certificate.get("rows")
    if not rows:
        raise ValueError("certificate: found no conflicting rows; it must be that of an infeasible problem")
    names = [
        f"rate of {user_names[row['index']]}" if row["kind"] == "rate" else f"sensing of {cell_names[row['index']]}"
        for row in rows
    ]
    worst, name = min(reversed(list(zip(rows, names, strict=True))), key=lambda pair: round(_margin_db(pair[0]), 6))
    subject = "it" if len(rows) == 1 else name
    if describe is not None:
        shortfall = f"{describe(worst)} at the full budget"
    elif worst["reached"] <= 0:
        shortfall = f"{subject} stays at zero"
    else:
        shortfall = f"{subject} reaches {_decibels(-_margin_db(worst))} less than required at the full budget"
    verdict = "cannot be met" if len(rows) == 1 else "conflict"
    return f"{_enumerated(names)} {verdict}: {shortfall}; {_remedy_in_words(problem, certificate, nodes)}"


def _remedy(problem: CompProblem, needed: float | None) -> dict[str, Any]:
    without_caps = None
    if needed is None and np.any(np.isfinite(problem.max_power)):
        value = required_power(replace(problem, max_power=np.inf))[0]
        without_caps = value if np.isfinite(value) else None
    return {
        "required_power": needed,
        "extra_power_db": None if needed is None else db(needed / problem.total_power),
        "caps_block": without_caps is not None,
        "required_power_without_caps": without_caps,
    }


def _conflict(problem: CompProblem, part: NDArray[np.float64], power: NDArray[np.float64]) -> dict[str, Any]:
    """The rows that take part in b.y, evaluated at `power`."""
    L, required = problem.num_nodes, problem.required
    reached = np.append(comm_sinr(problem, power), sensing_snr(problem, power))
    taking_part = np.flatnonzero(part > _NEGLIGIBLE * np.sum(part)).tolist()
    rows = [
        {"kind": _KINDS[i // L], "index": i % L, "reached": float(reached[i]), "required": float(required[i])}
        for i in taking_part
    ]
    return {"rows": rows, "balanced_power": power.tolist()}


def _remedy_in_words(problem: CompProblem, certificate: dict[str, Any], nodes: Sequence[str]) -> str:
    if certificate["required_power"] is not None:
        return f"{_decibels(certificate['extra_power_db'])} more total power would do"
    if not certificate["caps_block"]:
        return "no power would do"
    value = problem.rows[0].T @ np.asarray(certificate["y"])
    caps = np.asarray(problem.max_power)
    capped = np.isfinite(caps)
    # of a cap that is worth nothing, lifting would not help
    in_the_way = np.flatnonzero(capped & (value > max(0.0, _NEGLIGIBLE * np.max(value[capped]))))
    if len(in_the_way) == 0:
        in_the_way = np.flatnonzero(capped)
    share = caps / problem.total_power
    listed = _enumerated([f"{nodes[l]} ({100 * share[l]:.3g} % of the total power)" for l in in_the_way.tolist()])
    extra_db = db(certificate["required_power_without_caps"] / problem.total_power)
    lifted = "the budget would do" if extra_db <= 0 else f"{_decibels(extra_db)} more"
    return f"with the cap{'s' * (len(in_the_way) > 1)} of {listed} no total power would do; without caps {lifted}"


def _margin_db(row: dict[str, Any]) -> float:
    return db(row["reached"] / row["required"])


def _decibels(value_db: float) -> str:
    return f"{value_db:.1f} dB" if abs(value_db) >= 0.05 else f"{value_db:.1g} dB"


def _enumerated(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
