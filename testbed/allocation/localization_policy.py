"""The best smallest sensing SINR, globally, by policy iteration over closed forms.

    T_k(x; t) = max( t (A x + n)_k, (C x + m)_k )                            shares of the caps, rows as in `Scaled`

Level t can be reached exactly where T has a fixed point x <= 1; the least one grows with t. At the largest t a cap is
met, and every node has one active row. A policy says which: S, the nodes whose sensing row is active.

1. S = all nodes.
2. Eliminate the others, x_N = Q x_S + r, and solve what is left, x_S = t (A' x_S + n'), in closed form: `capped_level`.
3. Give every node whose other row is violated at (t, x) that row, and go to 2; t does not rise. None violated: optimal.
4. Where rounding or a degenerate problem leaves S empty, repeats a policy, or misses the level: bisection over t of
   least fixed points, each by Howard's iteration.

Every policy drops rows, so its t is an upper bound; the optimum has a policy of its own: the answer is global. Two or
three rounds are typical for 3 to 19 nodes.

Source: derived; standard interference functions are Yates', IEEE J. Sel. Areas Commun. 13 (1995). Differs: the paper
calls its own iteration sub-optimal and the problem a non-convex semidefinite program. It has no semidefinite
constraint, is quasi-convex and a geometric program, and both reach the optimum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.localization_feasibility import filled
from testbed.allocation.localization_perron import capped_level, prices
from testbed.allocation.localization_problem import Scaled

_VIOLATED = 1e-12  # relative; rows that hold with equality differ by rounding
_REACHED = 1e-10  # relative, of the level and the users' rows at the point returned
_MAX_HALVINGS = 200


@dataclass(frozen=True)
class Optimum:
    """A level that is reached and cannot be exceeded."""

    x: NDArray[np.float64]  # (K,), shares of the caps; the largest is 1
    y: NDArray[np.float64]  # (2K,), prices on sensing rows, then users' rows, of `Scaled`
    history: tuple[float, ...]  # level of every policy, falling
    bisected: bool  # whether step 4 was needed


def best_level(q: Scaled) -> Optimum:
    """Optimum of a problem in which all echoes are heard and some power serves all users."""
    K = len(q.n)
    S, seen, history = np.ones(K, dtype=bool), set(), []
    while np.any(S) and S.tobytes() not in seen:
        seen.add(S.tobytes())
        t, x, cap = policy_level(q, S)
        history.append(t)
        if not np.all(np.isfinite(x)):
            break
        sensing, users = t * (q.A @ x + q.n), q.C @ x + q.m
        other = np.where(S, users, sensing)
        violated = other > x * (1 + _VIOLATED)
        if not np.any(violated):
            x = filled(x)
            if q.level(x) >= t * (1 - _REACHED) and q.serves(x, _REACHED):
                return Optimum(x, _prices(q, S, t, x, cap), tuple(history), bisected=False)
            break
        S = S ^ violated
    return _bisected(q, tuple(history))


def policy_level(q: Scaled, S: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64], int]:
    """Largest level where the nodes S keep their sensing rows and the others their users' rows, all with equality.

    Returns:
        t, an upper bound of every level; x of shape (K,), not finite where there is none; the node whose cap is met.
    """
    K, N = len(q.n), ~S
    if np.all(S):
        return capped_level(q.A, q.n, np.eye(K), np.ones(K))
    size = int(np.sum(S))
    G, d = np.zeros((K, size)), np.zeros(K)
    G[S] = np.eye(size)
    eliminated = np.linalg.solve(
        np.eye(K - size) - q.C[np.ix_(N, N)], np.append(q.C[np.ix_(N, S)], q.m[N][:, None], axis=1)
    )
    Q, r = np.maximum(eliminated[:, :-1], 0.0), eliminated[:, -1]
    G[N], d[N] = Q, r
    if np.any(d >= 1):  # users alone already fill a cap
        return 0.0, np.full(K, np.nan), int(np.argmax(d))
    A, n = q.A[np.ix_(S, S)] + q.A[np.ix_(S, N)] @ Q, q.n[S] + q.A[np.ix_(S, N)] @ r
    t, x_S, cap = capped_level(A, n, G, 1 - d)
    x = np.empty(K)
    x[S], x[N] = x_S, Q @ x_S + r
    return t, x, cap


def least_fixed_point(q: Scaled, t: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """Least x = T(x; t), (K,), and whose sensing rows are active; None where it does not fit the caps.

    Howard's iteration: solve for the active rows, give every node the row that asks for more there, until none changes.
    """
    K = len(q.n)
    x: Any = np.zeros(K)
    S = t * q.n > q.m
    for _ in range(2 * K + 10):
        R, v = np.where(S[:, None], t * q.A, q.C), np.where(S, t * q.n, q.m)
        try:
            x = np.linalg.solve(np.eye(len(x)) - R, v)
        except np.linalg.LinAlgError:
            return None
        if not np.all((x >= 0) & (x <= 1 + _VIOLATED)):  # it only grows from here
            return None
        sensing, users = t * (q.A @ x + q.n), q.C @ x + q.m
        wanted = np.where(S, users <= sensing * (1 + _VIOLATED), sensing > users * (1 + _VIOLATED))
        if np.array_equal(wanted, S):
            break
        S = wanted
    return x, S


def _bisected(q: Scaled, history: tuple[float, ...]) -> Optimum:
    """Step 4: geometric bisection until the ends differ by rounding."""
    high = float(np.min(1 / (np.diag(q.A) + q.n)))  # nobody else transmits
    low, best = 0.0, None
    step = 0.5
    for _ in range(_MAX_HALVINGS):
        t = np.sqrt(low * high) if low > 0 else high * step
        found = least_fixed_point(q, t)
        if found is not None:
            low, best = t, found
        else:
            high, step = t, step * step  # until something is reached: 1/2, 1/4, 1/16, ...
        if high <= low * (1 + 1e-15) or high < 1e-290:
            break
    assert best is not None  # some power serves all users, and 1e-290 of the highest level is next to nothing
    x, S = filled(np.minimum(best[0], 1.0)), best[1]
    y = _prices(q, S, low, x, int(np.argmax(x)))
    return Optimum(x, y, (*history, q.level(x)), bisected=True)


def _prices(q: Scaled, S: NDArray[np.bool_], t: float, x: NDArray[np.float64], cap: int) -> NDArray[np.float64]:
    """Prices of a policy's rows at its optimum, spread over all 2K rows of `Scaled`."""
    y = prices(np.where(S[:, None], t * q.A, q.C), np.where(S, t * q.n, q.m), x, cap)
    return np.append(np.where(S, y, 0.0), np.where(S, 0.0, y))
