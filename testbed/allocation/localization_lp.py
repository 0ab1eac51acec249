"""The best smallest sensing SINR by linear programs: an independent check of the closed forms, slower and simple.

    theta(t) = max theta  subject to  x >= t (A x + n) + theta x0,  x >= C x + m,  0 <= x <= 1

Level t can be reached exactly where theta(t) >= 0, and theta falls with t.

1. [low, high] holds the optimum: low is what a point reaches, high what nobody could exceed if all others were silent.
2. Solve at t. Its point lifts low to what it reaches; its prices y bring high down to the least level they disprove.
3. Next t is low where that halves the bracket, in decibels, else the middle. Stop when low and high differ by rounding.

At t = low point and prices make Newton's steps (Dinkelbach's method), so some six programs do, where plain bisection
takes 35.

Source: the specification's baseline is bisection of min u, x <= u. Differs: maximises a slack, which is feasible at
every t and always has prices; cuts by point and prices; x0, the best point so far, keeps rows and columns near 1, and
where the bracket is narrow the program is about what is left of it, so that the solver's tolerances shrink with it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.localization_feasibility import Balanced, drawn_inside, filled, start
from testbed.allocation.localization_problem import Scaled

_CLOSED = 1e-12  # relative width of a bracket that is closed
_ROUNDING = 1e-11  # relative, of the users' rows
_MAX_PROGRAMS = 100
_ZOOM = 1e6  # what the solver's tolerances are divided by where the bracket is narrow
_LEAST_SHARE = 1e-15  # columns are not scaled up further


@dataclass(frozen=True)
class Bracket:
    """A point and a proof, and how far they are apart."""

    x: NDArray[np.float64]  # (K,), shares of the caps
    low: float  # level that x reaches
    high: float  # level that y disproves, but for rounding
    y: NDArray[np.float64]  # (2K,), prices on sensing rows, then users' rows, of `Scaled`
    lows: tuple[float, ...]  # low after every program


def bracket(q: Scaled, users: Balanced) -> Bracket:
    """Close the bracket of a problem in which all echoes are heard and some power serves all users."""
    K = len(q.n)
    alone = 1 / (np.diag(q.A) + q.n)
    x = start(q, users)
    low, high, y = q.level(x), float(np.min(alone)), np.zeros(2 * K)
    y[np.argmin(alone)] = 1.0
    lows, t = [low], low if low > 0 else 0.5 * high
    for _ in range(_MAX_PROGRAMS):
        near = 1 / max(high / low - 1, 1 / _ZOOM) if low > 0 else 1.0
        found = _program(q, t, np.maximum(x, _LEAST_SHARE), max(near, 1.0))
        if found is None:
            break
        point, prices = filled(drawn_inside(q, found[0], users)), found[1]
        before = low, high, t
        width = np.log(high) - np.log(low) if low > 0 else np.inf
        if q.serves(point, _ROUNDING) and q.level(point) > low:
            x, low = point, q.level(point)
        disproved = least_disproved(q, prices)
        if disproved < high:
            high, y = disproved, prices
        lows.append(low)
        if high - low <= _CLOSED * high:
            break
        halved = low > 0 and np.log(high) - np.log(low) <= 0.5 * width
        t = low if halved else np.sqrt(max(low, 1e-9 * high) * high)
        if (low, high, t) == before:
            break
    return Bracket(x, low, high, y, tuple(lows))


def least_disproved(q: Scaled, y: NDArray[np.float64]) -> float:
    """Least level t at which prices y >= 0 (2K,) prove that no x <= 1 reaches more; inf where they prove nothing.

    The proof's margin, t n.y_s + m.y_c - sum max((1 - t A)'y_s + (1 - C)'y_c, 0), rises with t, in straight pieces.
    """
    y_s, y_c = np.split(y, 2)
    if not np.any(y_s > 0):
        return np.inf
    rise, base = q.A.T @ y_s, y_s + y_c - q.C.T @ y_c

    def margin(t: float) -> float:
        return float(t * (q.n @ y_s) + q.m @ y_c - np.sum(np.maximum(base - t * rise, 0.0)))

    knots = base[rise > 0] / rise[rise > 0]
    ends = [0.0, *sorted(knots[knots > 0].tolist())]
    first = next((k for k, t in enumerate(ends) if margin(t) > 0), len(ends))
    if first == 0:
        return np.inf  # the users' rows alone contradict each other, which says nothing about levels
    left = ends[first - 1]
    slope = q.n @ y_s + np.sum(rise[base - (left + 1e-15 * left) * rise > 0])
    return float(left - margin(left) / slope)


def _program(
    q: Scaled, t: float, x0: NDArray[np.float64], zoom: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Point (K,) and prices (2K,) of theta(t), in d, x = x0 (1 + d / zoom), rows over x0; None if the solver fails."""
    from scipy.optimize import linprog

    K, own = len(x0), np.append(x0, x0)
    rows = np.vstack([np.eye(K) - t * q.A, np.eye(K) - q.C]) * x0 / own[:, None]
    missing = np.append(t * q.n, q.m) / own - np.sum(rows, axis=1)
    result = linprog(
        np.append(np.zeros(K), -1.0),
        A_ub=np.append(-rows, np.repeat([[1.0], [0.0]], K, axis=0), axis=1),
        b_ub=-zoom * missing,
        bounds=[*((-zoom, zoom * (1 / part - 1)) for part in x0), (None, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10, "presolve": False},
    )
    if result.status != 0:
        return None
    y = np.maximum(-result.ineqlin.marginals, 0.0) / own
    return np.clip(x0 * (1 + result.x[:K] / zoom), 0.0, 1.0), y / np.sum(y)
