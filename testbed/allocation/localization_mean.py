"""The least mean range standard deviation: another objective under the same constraints, convex in log power.

    minimise sum_k sqrt((A x + n)_k / x_k)  subject to  (C x + m)_k / x_k <= 1,  x <= 1          z = log x

The paper optimises the worst range and reports the mean of all. This is what the mean could be.

1. Start between the balanced point of the users and a point that serves them, strictly inside every constraint.
2. Newton's method on  f(z) mu / f(start) - sum log(-log((C x + m)_k / x_k)) - sum log(-z_k),  mu from 1 upward by 20,
   until the number of constraints over mu, times f(start), which bounds the gap, is 1e-10 of f.
3. Scale up to the box, which raises every SINR.

Every term is log-sum-exp, or the exponential of half of one: convex, so what is found is the global optimum.

Source: specification of this project (the paper has no such variant); barrier method: Boyd and Vandenberghe, Convex
Optimization, ch. 11. Differs: none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.localization_feasibility import Balanced, filled
from testbed.allocation.localization_problem import Scaled

ENOUGH = 1e-8  # relative gap of an optimum
_GAP = 1e-10  # that is aimed at
_STEEPER = 20.0
_SETTLED = 1e-4  # half the squared Newton decrement: what the centre is missed by, in units of the barrier
_MAX_STEPS = 60  # per mu; ten are typical
_THIN = 1e-7  # a feasible set of less relative size has no inside to start from


def least_mean_std(
    q: Scaled, users: Balanced, inside: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float | None, str]:
    """Powers of the least mean standard deviation.

    Args:
        q: problem in which all echoes are heard and some power serves all users.
        users: their balanced point.
        inside: any shares (K,) above 0 that serve all users.

    Returns:
        Shares (K,); gap of the objective over the objective, None where none was proved; a note, empty unless `inside`
        was returned.
    """
    if users.factor <= 1 + _THIN:
        return filled(inside), None, "the users leave no choice; powers are those of the best worst range"
    x = 0.5 * inside + 0.5 * users.x / np.sqrt(min(users.factor, 4.0))
    z, first = np.log(x), _objective(q, np.log(x)).value
    num = len(z) + int(np.sum(q.asked))
    mu, gap = 1.0, None
    while gap is None or gap > _GAP:
        centre = _centre(q, z, mu / first)
        if centre is None:  # rounding; the centre before is as good as its own gap
            break
        z, gap = centre, num / mu * first / _objective(q, centre).value
        mu *= _STEEPER
    return filled(np.exp(z)), gap, "" if gap is not None and gap <= ENOUGH else "Newton's method did not settle"


@dataclass(frozen=True)
class _Smooth:
    """A function of z with its derivatives."""

    value: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


def _centre(q: Scaled, z: NDArray[np.float64], weight: float) -> NDArray[np.float64] | None:
    """Minimiser of weight f + barrier, from z inside, by damped Newton steps; None where rounding ends them early."""
    for _ in range(_MAX_STEPS):
        f, barrier = _objective(q, z), _barrier(q, z)
        gradient = weight * f.gradient + barrier.gradient
        try:
            step = -np.linalg.solve(weight * f.hessian + barrier.hessian, gradient)
        except np.linalg.LinAlgError:
            return None
        decrement = -gradient @ step
        if 0 <= decrement <= 2 * _SETTLED:
            return z
        value, length = weight * f.value + barrier.value, 1.0
        while not _value(q, z + length * step, weight) <= value - 0.1 * length * decrement:
            length *= 0.5
            if length < 1e-12:
                return None
        z = z + length * step
    return None


def _value(q: Scaled, z: NDArray[np.float64], weight: float) -> float:
    x = np.exp(z)
    room = np.append(-z, -np.log(((q.C @ x + q.m) / x)[q.asked]))
    if np.any(room <= 0):
        return np.inf
    return float(weight * np.sum(np.sqrt((q.A @ x + q.n) / x)) - np.sum(np.log(room)))


def _objective(q: Scaled, z: NDArray[np.float64]) -> _Smooth:
    g, J, P = _log_ratios(q.A, q.n, z)
    f = np.exp(0.5 * g)
    # second derivative of exp(g / 2): exp(g / 2) (J J' / 4 + H / 2), H = diag(P) - P P'
    hessian = 0.25 * (J.T * f) @ J + 0.5 * (np.diag(f @ P) - (P.T * f) @ P)
    return _Smooth(float(np.sum(f)), 0.5 * f @ J, hessian)


def _barrier(q: Scaled, z: NDArray[np.float64]) -> _Smooth:
    """-sum log(-z) - sum log(-g) over the users that need something, g = log((C x + m) / x)."""
    asked = q.asked
    g, J, P = (part[asked] for part in _log_ratios(q.C, q.m, z))
    u = -1 / g  # above 0
    hessian = (J.T * u**2) @ J + np.diag(u @ P) - (P.T * u) @ P + np.diag(1 / z**2)
    return _Smooth(float(-np.sum(np.log(-z)) - np.sum(np.log(-g))), u @ J - 1 / z, hessian)


def _log_ratios(
    A: NDArray[np.float64], n: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Values log((A x + n) / x), (K,), their Jacobian and the shares of A x in A x + n, (K, K); rows of 0 give -inf."""
    x = np.exp(z)
    total = A @ x + n
    with np.errstate(divide="ignore"):
        P = np.divide(A * x, total[:, None], out=np.zeros_like(A), where=total[:, None] > 0)
        return np.log(total) - z, P - np.eye(len(z)), P
