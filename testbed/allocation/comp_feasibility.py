"""Can the requirements of a CoMP problem be met, with how much power, and where do they balance?

    P_req = minimise 1'p   subject to   A p >= b, 0 <= p <= max_power          (CoMP letter, (13b)-(13d) as an LP)

A problem is feasible when and only when P_req is within the budget: one number per channel, because more of the same
power raises every SINR and SNR. Its dual prices prove that less does not do; where no power does, a Farkas ray proves
that. Both are turned into certificates by `comp_certificate`.

The balanced point maximises the smallest of reached over required, min_i N_i q / (D_i q + 1), by Dinkelbach's method:
each linear program maximises s with N_i q - g (D_i q + 1) >= s (D_i q' + 1), g the ratio at the previous point q'.
Differs from a single program with fixed row scales: where users interfere beyond remedy, that one shuts them all off to
make their slacks small; this one keeps the shortfalls equal in dB. Requirements that no power of any node helps are
left out of the balance.

Linear programs are HiGHS's, imported inside the function. Numbers are those of `comp_problem.Scaled`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.comp_problem import CompProblem, Scaled, scaled

BUDGET_TOLERANCE = 1e-9  # relative; a budget or cap that is short by no more counts as enough
_LP_TOLERANCE = 1e-10  # of HiGHS, the smallest it takes; rows are scaled to 1
_BALANCE_TOLERANCE = 1e-6  # relative rise of the smallest ratio, 4e-6 dB
_MAX_BALANCE_STEPS = 50  # Dinkelbach is superlinear; 3 to 8 steps are usual


def required_power(problem: CompProblem) -> tuple[float, NDArray[np.float64] | None]:
    """Smallest total power that meets every requirement, and its distribution; `total_power` is ignored.

    Returns:
        (P_req, power of shape (L,)) in the problem's unit; (inf, None) when no power suffices. With nothing required
        (0, zeros).
    """
    least = least_shares(scaled(problem))
    if least is None:
        return float("inf"), None
    power = problem.total_power * least.q
    return float(np.sum(power)), power


@dataclass(frozen=True)
class LeastShares:
    """Vertex of smallest total power, in shares of the budget, and the dual prices that prove it smallest."""

    q: NDArray[np.float64]  # (L,)
    y: NDArray[np.float64]  # (2L,), on the scaled rows (N - D) q >= 1: (N - D)' y <= 1 (+ prices of caps)


def least_shares(problem: Scaled) -> LeastShares | None:
    """Solve the P_req program; None when no power suffices."""
    A, L = (problem.N - problem.D)[problem.asked], problem.H.shape[0]
    q, y = np.zeros(L), np.zeros(2 * L)
    if len(A) == 0:
        return LeastShares(q, y)
    best = np.max(A, axis=1)
    if np.any(best <= 0):
        return None
    # P_req is at least this; as the unit it makes the program independent of the budget
    unit = float(np.max(1 / best))
    bounds = [(0, cap) for cap in problem.caps * ((1 + BUDGET_TOLERANCE) / unit)]
    result = linear_program(np.ones(L), -A * unit, -np.ones(len(A)), bounds)
    if result is None:
        return None
    q = np.clip(unit * result.x, 0, problem.caps)
    y[problem.asked] = unit * np.maximum(-result.ineqlin.marginals, 0)
    return LeastShares(q, y)


def infeasibility_ray(problem: Scaled, *, any_power: bool) -> NDArray[np.float64] | None:
    """Prices y >= 0 (2L,) of sum 1 on the scaled rows that ask for more than can be reached; None when there are none.

    maximise 1'y - caps'z - nu   subject to   (N - D)' y <= z + nu, 1'y = 1, z >= 0, nu >= 0

    z are prices of the caps, nu of the budget. With `any_power` nu is 0: the ray then proves that no budget suffices.
    """
    A, L = (problem.N - problem.D)[problem.asked], problem.H.shape[0]
    m = len(A)
    if m == 0:
        return None
    capped = np.isfinite(problem.caps)
    # every node's inequality may be scaled; its z is then in the same unit
    size = np.max(np.abs(A), axis=0)
    size[size == 0] = 1.0
    caps = np.where(capped, problem.caps * (1 + BUDGET_TOLERANCE), 0.0)
    cost = np.concatenate([-np.ones(m), caps * size, [1.0]])
    matrix = np.hstack([(A / size).T, -np.eye(L), -1 / size[:, None]])
    bounds = [(0, None)] * m + [(0, None if c else 0) for c in capped] + [(0, 0 if any_power else None)]
    result = linear_program(cost, matrix, np.zeros(L), bounds, (np.arange(len(cost)) < m)[None, :], [1.0])
    if result is None or result.fun >= 0:
        return None
    y = np.zeros(2 * L)
    y[problem.asked] = np.maximum(result.x[:m], 0)
    return y / np.sum(y)


def balanced_shares(problem: Scaled) -> NDArray[np.float64]:
    """Shares (L,) with the largest smallest ratio of reached to required, scaled up to the full budget or a cap."""
    L = problem.H.shape[0]
    q = problem.filled(np.minimum(1 / L, problem.caps))
    rows = problem.asked & np.any(problem.N[:, problem.caps > 0] > 0, axis=1)
    if not np.any(rows):
        return q
    N, D = problem.N[rows], problem.D[rows]
    gamma = float(np.min(N @ q / (D @ q + 1)))
    bounds = [(0, min(cap, 1.0)) for cap in problem.caps] + [(None, None)]
    budget = np.append(np.ones(L), 0.0)
    for _ in range(_MAX_BALANCE_STEPS):
        d = D @ q + 1
        matrix = np.column_stack([(gamma * D - N) / d[:, None], np.ones(len(d))])
        result = linear_program(-np.eye(L + 1)[L], np.vstack([matrix, budget]), np.append(-gamma / d, 1.0), bounds)
        if result is None:
            break
        proposed = problem.filled(np.maximum(result.x[:L], 0))
        reached, before = float(np.min(N @ proposed / (D @ proposed + 1))), gamma
        if reached > before:
            q, gamma = proposed, reached
        if reached <= before * (1 + _BALANCE_TOLERANCE):
            break
    return q


def fewest_rows(problem: Scaled, y: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ray for any power on rows of `y` of which none can be spared: one conflict instead of several at once."""
    rows = y > 0
    for row in np.argsort(y):
        if rows[row]:
            without = rows & (np.arange(len(y)) != row)
            ray = infeasibility_ray(replace(problem, asked=without), any_power=True)
            if ray is not None:
                rows, y = without, ray
    return y


def linear_program(cost: Any, A_ub: Any, b_ub: Any, bounds: Any, A_eq: Any = None, b_eq: Any = None) -> Any:
    """Minimise cost'x within bounds, A_ub x <= b_ub, A_eq x = b_eq; SciPy's result at a vertex, None without one."""
    from scipy.optimize import linprog

    tolerances = {"primal_feasibility_tolerance": _LP_TOLERANCE, "dual_feasibility_tolerance": _LP_TOLERANCE}
    for presolve in (True, False):
        options = {**tolerances, "presolve": presolve}
        result = linprog(cost, A_ub, b_ub, A_eq, b_eq, bounds, method="highs-ds", options=options)
        if result.status in (0, 2, 3):  # solved, infeasible, unbounded; anything else is a numerical failure
            break
    return result if result.status == 0 else None
