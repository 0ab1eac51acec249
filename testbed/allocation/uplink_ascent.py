"""Sequential quadratic programming (SLSQP) with analytic derivatives on the coordinates (e, r) of the uplink problem.

    rate      maximise sum_k R_k      subject to R_k >= R_th,k,  ln(gamma_s / gamma_th) >= 0,  0 <= e, r <= 1
    share     maximise s              subject to ln(R_k / R_th,k) >= s,  ln(gamma_s / gamma_th) >= s,  the same box
    sensing   maximise ln gamma_s     subject to the same box

The problem is not convex: a maximiser is local. Logarithms, because gamma_s spans decades over the box. A coordinate
may be held at its value, which is how the alternating method moves energies and pilot shares in turn.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.uplink_problem import Reached, UplinkProblem, reached

Goal = Literal["rate", "share", "sensing"]

_EDGE = (
    1e-9  # no coordinate is started nearer to the end of the box: there gamma_s or a rate is 0, and its logarithm not
)
_PRECISION = 1e-13  # of SLSQP, on objective and constraints
_ITERATIONS = 300
_TINY = 1e-300


def ascend(
    problem: UplinkProblem, start: NDArray[np.float64], goal: Goal, free: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """A local maximiser near `start` (2K,), inside the box; only coordinates `free` (2K,) move."""
    from scipy.optimize import minimize

    moving = np.ones(len(start), dtype=bool) if free is None else free
    at, asked_rate = _Cached(problem), np.asarray(problem.min_rate_bps_hz)
    users = asked_rate > 0 if goal != "sensing" else np.zeros_like(asked_rate, dtype=bool)
    sensed = problem.min_sensing_sinr > 0 and goal != "sensing"
    num = int(np.sum(moving))

    def whole(x: NDArray[np.float64]) -> NDArray[np.float64]:
        z = start.copy()
        z[moving] = np.clip(x[:num], 0.0, 1.0)
        return z

    def rows(x: NDArray[np.float64]) -> NDArray[np.float64]:
        found = at(whole(x))
        log_sensing = [np.log(max(found.sensing, _TINY) / problem.min_sensing_sinr)] if sensed else []
        if goal == "share":
            by_user = np.log(np.maximum(found.rates[users], _TINY) / asked_rate[users])
            return np.append(by_user, log_sensing) - x[-1]
        return np.append(found.rates[users] - asked_rate[users], log_sensing)

    def row_jacobian(x: NDArray[np.float64]) -> NDArray[np.float64]:
        found = at(whole(x))
        jacobian = found.rate_jacobian[users][:, moving]
        if goal == "share":
            jacobian = jacobian / np.maximum(found.rates[users], _TINY)[:, None]
        if sensed:
            jacobian = np.vstack([jacobian, found.sensing_gradient[moving] / max(found.sensing, _TINY)])
        return np.hstack([jacobian, np.full((len(jacobian), 1), -1.0)]) if goal == "share" else jacobian

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        if goal == "share":
            return -float(x[-1]), np.append(np.zeros(num), -1.0)
        found = at(whole(x))
        if goal == "sensing":
            return -float(np.log(max(found.sensing, _TINY))), -found.sensing_gradient[moving] / max(
                found.sensing, _TINY
            )
        return -float(np.sum(found.rates)), -np.sum(found.rate_jacobian, axis=0)[moving]

    first = np.clip(start[moving], _EDGE, 1 - _EDGE)
    bounds: list[tuple[float | None, float | None]] = [(0.0, 1.0)] * num
    if goal == "share":
        at_start = rows(np.append(first, 0.0))
        first, bounds = np.append(first, np.min(at_start)), [*bounds, (None, None)]
    constraints = {"type": "ineq", "fun": rows, "jac": row_jacobian}
    done = minimize(
        loss,
        first,
        jac=True,
        method="SLSQP",
        bounds=bounds,
        constraints=[constraints] if np.any(users) or sensed else [],
        options={"maxiter": _ITERATIONS, "ftol": _PRECISION},
    )
    return whole(done.x) if np.all(np.isfinite(done.x)) else start.copy()


def stationarity(problem: UplinkProblem, z: NDArray[np.float64]) -> float:
    """Residual of the first-order conditions at z (2K,), over the gradient's norm: 0 at a KKT point of goal "rate"."""
    from scipy.optimize import nnls

    found, asked_rate = reached(problem, z), np.asarray(problem.min_rate_bps_hz)
    gradient = np.sum(found.rate_jacobian, axis=0)
    eye, near = np.eye(len(z)), 1e-7
    tight = (asked_rate > 0) & (found.rates <= asked_rate * (1 + near))
    columns = [found.rate_jacobian[tight], eye[z <= near], -eye[z >= 1 - near]]
    if problem.min_sensing_sinr > 0 and found.sensing <= problem.min_sensing_sinr * (1 + near):
        columns.append(found.sensing_gradient[None] / found.sensing)
    size = float(np.linalg.norm(gradient))
    if size == 0:
        return 0.0
    active = np.vstack(columns)
    norms = np.linalg.norm(active, axis=1)
    active = active[norms > 0] / norms[norms > 0, None]
    return float(nnls(active.T, -gradient)[1]) / size if len(active) else 1.0


class _Cached:
    """The last point: SLSQP asks for objective, constraints and derivatives one after the other."""

    def __init__(self, problem: UplinkProblem) -> None:
        self._reached: Callable[[NDArray[np.float64]], Reached] = lambda z: reached(problem, z)
        self._at: bytes = b""
        self._found: Reached | None = None

    def __call__(self, z: NDArray[np.float64]) -> Reached:
        key = z.tobytes()
        if self._found is None or key != self._at:
            self._at, self._found = key, self._reached(z)
        return self._found
