"""Proofs that a reader can check with two matrix products: no power serves all users, or none reaches a level.

Prices y >= 0 on rows M p >= v prove that no 0 <= p <= max_power keeps them when

    v.y > max(M'y, 0).max_power

because such a p would have v.y <= y'M p <= max(M'y, 0).max_power.

    y of shape (K,)     on the users' rows, `RangeProblem.rows`: nobody can be served as required
    y of shape (2K,)    on `RangeProblem.rows_at(level)`: no power that serves all users reaches `level`

Source: linear-programming duality; the prices are the left Perron vectors of `localization_perron`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.localization_feasibility import Balanced
from testbed.allocation.localization_problem import RangeProblem, sinrs

BEYOND = 1e-6  # relative: the certificate of an optimum speaks of this much more
_TAKES_PART = 1e-9  # a row with a smaller part of v.y does not take part in a conflict


def verify_certificate(problem: RangeProblem, certificate: dict[str, Any]) -> bool:
    """Whether the certificate's `y` proves what it claims: v.y against max(M'y, 0).max_power, nothing else."""
    K = problem.num_nodes
    try:
        y = np.array(certificate["y"], dtype=np.float64)
        level = float(certificate["level"]) if y.shape == (2 * K,) else 0.0
    except (KeyError, TypeError, ValueError):
        return False
    if y.shape not in ((K,), (2 * K,)) or not np.all((y >= 0) & (y < np.inf)) or not 0 <= level < np.inf:
        return False
    demand, reachable = _sides(problem, y, level)
    return bool(demand > reachable)


def bound_certificate(problem: RangeProblem, y_scaled: NDArray[np.float64], level: float) -> dict[str, Any]:
    """Certificate that no power which serves all users has a smallest weighted sensing SINR of `level`; {} if it fails.

    Args:
        problem: gains, noise and requirements.
        y_scaled: prices on the rows of `Scaled`, sensing then users, (2K,).
        level: linear.

    Returns:
        Plain JSON: y (2K,) on the rows of `rows_at(level)`, scaled to demand 1; level; demand v.y; reachable.
    """
    P = np.asarray(problem.max_power)
    signal = np.append(problem.sensing_rows[0], problem.comm_rows[0]) * np.append(P, P)
    return _certificate(problem, y_scaled, signal, level) or {}


def infeasibility_certificate(problem: RangeProblem, found: Balanced) -> dict[str, Any]:
    """Certificate that no admissible power serves all users; {} if it fails, as where one does.

    Returns:
        Plain JSON: y (K,) on `problem.rows`, scaled to demand 1; demand v.y; reachable; factor: what every user can
        have over what it needs, at best; rows: those that conflict, {index, reached, required}, SINRs at
        balanced_power, where that best is reached.
    """
    P = np.asarray(problem.max_power)
    certificate = _certificate(problem, found.y, problem.comm_rows[0] * P, None)
    if certificate is None:
        return {}
    power = found.x * P
    reached, b = sinrs(problem, power)[0], problem.rows[1]
    part = b * np.array(certificate["y"])
    rows = [
        {"index": k, "reached": float(reached[k]), "required": float(np.asarray(problem.min_comm_sinr)[k])}
        for k in np.flatnonzero(part > _TAKES_PART * np.sum(part)).tolist()
    ]
    return certificate | {"factor": found.factor, "rows": rows, "balanced_power": power.tolist()}


def _certificate(
    problem: RangeProblem, y_scaled: NDArray[np.float64], signal: NDArray[np.float64], level: float | None
) -> dict[str, Any] | None:
    y = np.divide(y_scaled, signal, out=np.where(y_scaled > 0, 1.0, 0.0), where=signal > 0)
    demand, _ = _sides(problem, y, level)
    if not 0 < demand < np.inf:
        return None
    y = y / demand
    demand, reachable = _sides(problem, y, level)
    certificate = {"y": y.tolist(), "demand": demand, "reachable": reachable}
    if level is not None:
        certificate["level"] = level
    return certificate if verify_certificate(problem, certificate) else None


def _sides(problem: RangeProblem, y: NDArray[np.float64], level: float | None) -> tuple[float, float]:
    M, v = problem.rows if len(y) == problem.num_nodes or level is None else problem.rows_at(level)
    return float(v @ y), float(np.maximum(M.T @ y, 0.0) @ np.asarray(problem.max_power))
