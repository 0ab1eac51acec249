"""Which powers give every user its SINR: the least ones, the most balanced ones, and prices that prove there are none.

    x >= C x + m,  0 <= x <= 1                                       shares of the caps, rows as in `Scaled`

More power of one's own only helps oneself, so there is one least solution, (1 - C)^-1 m. It exists and fits the caps
exactly where every user can have the same multiple f >= 1 of its SINR: the largest f with x >= f (C x + m), in closed
form.

Source: Foschini and Miljanic, IEEE Trans. Veh. Technol. 42 (1993); the paper says nothing about infeasible draws.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.localization_perron import capped_level, prices
from testbed.allocation.localization_problem import Scaled

_AT_A_CAP = 1e-9  # relative: nearer to a cap the balanced point says whether it is within


@dataclass(frozen=True)
class Balanced:
    """Where all users reach the same multiple of what they need, and the largest."""

    factor: float  # reached over required; inf where nothing is asked, 0 where a user has no signal
    x: NDArray[np.float64]  # (K,), shares; 0 for nodes whose users ask for nothing
    y: NDArray[np.float64]  # (K,), prices on x >= C x + m that prove infeasibility where factor < 1; else 0


def balanced(q: Scaled) -> Balanced:
    """The balanced point of the users' rows."""
    K, asked = len(q.m), q.asked
    x, y = np.zeros(K), np.zeros(K)
    hopeless = np.isinf(q.m)
    if np.any(hopeless):
        x[~hopeless], y[np.argmax(hopeless)] = 1.0, 1.0
        return Balanced(0.0, x, y)
    if not np.any(asked):
        return Balanced(np.inf, x, y)
    C, m, eye = q.C[np.ix_(asked, asked)], q.m[asked], np.eye(int(np.sum(asked)))
    factor, found, cap = capped_level(C, m, eye, np.ones(len(m)))
    if not np.all((found > 0) & (found <= 1 + 1e-9)):  # users that hardly disturb each other
        found = filled(np.maximum(np.linalg.solve(eye - (1 - 1e-12) * factor * C, factor * m), 0.0))
        cap = int(np.argmax(found))
    x[asked] = np.minimum(found, 1.0)
    if factor < 1:
        y[asked] = prices(factor * C, factor * m, np.maximum(found, 1e-300), cap)
    return Balanced(factor, x, y)


def least_shares(q: Scaled) -> NDArray[np.float64] | None:
    """Least solution of the users' rows, (K,); None where there is none within the caps, or none but at a cap."""
    if np.any(np.isinf(q.m)):
        return None
    try:
        x: Any = np.linalg.solve(np.eye(len(q.m)) - q.C, q.m)
    except np.linalg.LinAlgError:
        return None
    # x >= 0 and x = C x + m with m > 0 proves that the spectral radius of C is below 1
    return x if np.all((x >= 0) & (x < 1 - _AT_A_CAP)) else None


def filled(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest multiple of shares x within the caps: it raises every SINR. Zero stays zero."""
    top = np.max(x)
    return x / top if top > 0 else x


def start(q: Scaled, users: Balanced) -> NDArray[np.float64]:
    """Shares that serve all users: all at their caps if they do, else the least, scaled up to the box.

    A node whose user asks for nothing would be silent then. Where there is one: the balanced point, and of what its
    users can spare, half, in equal parts to those nodes.
    """
    ones = np.ones(len(q.m))
    if q.serves(ones, 0.0):
        return ones
    silent, least = ~q.asked, least_shares(q)
    if not np.any(silent):
        return filled(users.x if least is None else least)
    x = users.x
    spare = 0.5 * np.maximum(x - q.C @ x - q.m, 0.0) / np.sum(silent)
    allowed = np.divide(spare[:, None], q.C, out=np.ones_like(q.C), where=spare[:, None] < q.C)
    return np.where(silent, np.min(allowed, axis=0), x)


def drawn_inside(q: Scaled, x: NDArray[np.float64], users: Balanced) -> NDArray[np.float64]:
    """The point nearest to x, on the way to the balanced point, that serves all users."""
    if q.serves(x, 0.0) or not users.factor > 1:
        return x
    inside = np.where(q.asked, users.x, np.minimum(x, users.x))
    slack, slack_inside = (part - q.C @ part - q.m for part in (x, inside))
    short = slack < 0
    gained = np.maximum(slack_inside - slack, -slack)[short]
    theta = np.max(-slack[short] / gained, initial=0.0)
    return (1 - theta) * x + theta * inside
