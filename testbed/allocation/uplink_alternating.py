"""The paper's alternating optimisation (Algorithm 1), frozen by the energy constraint, and one that moves.

    ao      pilot powers by a penalty dual decomposition, then data powers by convex approximation, and again
    split   energies, then pilot shares, of the same problem; each by SQP

Algorithm 1 from a feasible point:

1. Pilot powers for fixed data powers: shares x_k = p_k / u_k of what the budget leaves, u_k = (E_k - N p_data,k) / tau.
   lambda = 0, rho = 10. Projected ascent (28) of
       L = sum R - lambda^T (c - s) - ||c - s||^2 / (2 rho),   c = (R_k - R_th,k, gamma_s / gamma_th - 1)   (24)-(26)
   on 0 <= x <= 1 with Armijo's rule, slack s = max(0, c + rho lambda) after every step                      (30), (31)
2. lambda += (c - s) / rho, rho *= 0.6; repeat 1 until |c - s| < 1e-6                                          (32)-(34)
3. Data powers for fixed pilot powers: D_k is affine in them; maximise sum_k ln(D_k + p_k t_k^2) - D_k / D_k^(n)
   subject to the box, p_k t_k^2 >= (2^(T R_th / N) - 1) D_k, and with w_s frozen sum_k p_k (q_k - gamma_th c_k) >=
   gamma_th sigma2; all rows linear, each over its own size; then w_s anew                                     (35)-(38)
4. Repeat 1 to 3 until the sum rate changes by less than 1e-4.

A user that spends all its energy cannot move: fewer pilots free nothing for data within block 1, nor the reverse within
block 3. From equal powers that is every user, and ao ends where it starts unless data powers can fall (near-far).
Its end is no stationary point of the whole problem, `kkt_residual` says so. In the coordinates of split the budget
couples nothing.

Source: He et al., uplink ISAC (arXiv 2603.17744), Algorithm 1, (24)-(38). Differs: the sign convention of lambda; block
1 is kept only where it meets the requirements and loses nothing; constants rho, 0.6, 60, 40, 30 are choices of the
project's specification; split is not in the paper.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.uplink_ascent import ascend
from testbed.allocation.uplink_problem import UplinkProblem, meets, reached
from testbed.theory.uplink_rates import UplinkBound, bound, rate
from testbed.theory.uplink_sensing import sensing

ROUNDS = 30  # of ao at most
_SETTLED = 1e-4  # change of the sum rate, bit/s/Hz, that ends ao
_SPLIT_ROUNDS, _SPLIT_SETTLED = 200, 1e-10
_PENALTY, _GROWTH, _PENALTY_ROUNDS, _FULFILLED = 10.0, 0.6, 30, 1e-6
_STEPS, _ARMIJO, _TRIALS = 60, 1e-4, 40
_STILL = 1e-12  # a step of less ends the ascent
_DATA_ROUNDS, _DATA_SETTLED = 20, 1e-6

_Powers = NDArray[np.float64]


def alternate(problem: UplinkProblem, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Algorithm 1 from coordinates z (2K,) that meet the requirements: coordinates, and the sum rate of every round."""
    pp, pd = problem.powers(z)
    history = [_sum_rate(problem, pp, pd)]
    for _ in range(ROUNDS):
        pp = _kept(problem, pp, pilot_block(problem, pp, pd), functools.partial(_with_data, pd))
        pd = data_block(problem, pp, pd)
        history.append(_sum_rate(problem, pp, pd))
        if abs(history[-1] - history[-2]) < _SETTLED:
            break
    return problem.coordinates(pp, pd), tuple(history)


def alternate_split(problem: UplinkProblem, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Energies and pilot shares in turn, from coordinates z (2K,) that meet the requirements; as `alternate`."""
    energies = np.repeat([True, False], problem.num_users)
    history = [_sum_rate(problem, *problem.powers(z))]
    for _ in range(_SPLIT_ROUNDS):
        for free in (~energies, energies):
            proposed = ascend(problem, z, "rate", free)
            if meets(problem, reached(problem, proposed)) and _rises(problem, z, proposed):
                z = proposed
        history.append(_sum_rate(problem, *problem.powers(z)))
        if history[-1] - history[-2] <= _SPLIT_SETTLED * history[-1]:
            break
    return z, tuple(history)


def pilot_block(problem: UplinkProblem, pilot_power: _Powers, data_power: _Powers) -> _Powers:
    """Steps 1 and 2: pilot powers (K,) for fixed data powers."""
    u = np.maximum(np.asarray(problem.energy) - problem.num_data * data_power, 0.0) / problem.pilot_len
    x = np.clip(np.divide(pilot_power, u, out=np.zeros_like(u), where=u > 0), 0.0, 1.0)
    at = _PilotPoint(problem, u, data_power)
    total, c, total_slope, c_slope = at(x)
    lam, rho = np.zeros(len(c)), _PENALTY
    for _ in range(_PENALTY_ROUNDS):
        s = np.maximum(0.0, c + rho * lam)
        for _ in range(_STEPS):
            value = _lagrangian(total, c, s, lam, rho)
            slope = total_slope - (lam + (c - s) / rho) @ c_slope
            step, moved = 1.0, None
            for _ in range(_TRIALS):
                proposed = np.clip(x + step * slope, 0.0, 1.0)
                found = at(proposed)
                if _lagrangian(found[0], found[1], s, lam, rho) >= value + _ARMIJO * slope @ (proposed - x):
                    moved = proposed
                    break
                step /= 2
            if moved is None or np.max(np.abs(moved - x)) < _STILL:
                break
            x, (total, c, total_slope, c_slope) = moved, found
            s = np.maximum(0.0, c + rho * lam)
        if not len(c) or np.max(np.abs(c - s)) < _FULFILLED:
            break
        lam, rho = lam + (c - s) / rho, rho * _GROWTH
    return x * u


def data_block(problem: UplinkProblem, pilot_power: _Powers, data_power: _Powers) -> _Powers:
    """Step 3: data powers (K,) for fixed pilot powers."""
    cap = np.maximum(np.asarray(problem.energy) - problem.pilot_len * pilot_power, 0.0) / problem.num_data
    now = _sum_rate(problem, pilot_power, data_power)
    b = bound(problem.statistics, pilot_power, data_power)
    for _ in range(_DATA_ROUNDS):
        proposed = _approximation(problem, b, pilot_power, data_power, cap)
        kept = _kept(problem, data_power, proposed, lambda p: (pilot_power, p))
        if kept is data_power:
            break
        before, now, data_power = now, _sum_rate(problem, pilot_power, kept), kept
        if now - before <= _DATA_SETTLED * now:
            break
    return data_power


def _approximation(
    problem: UplinkProblem, b: UplinkBound, pilot_power: _Powers, data_power: _Powers, cap: _Powers
) -> _Powers:
    """Maximiser of the convex problem of step 3 that is exact at `data_power`, in shares of the caps."""
    from scipy.optimize import minimize

    heard = b.signal > 0
    mixed, floor, signal = b.mixed[heard] * cap, b.floor[heard], (np.diag(b.signal) * cap)[heard]
    start = np.divide(data_power, cap, out=np.zeros_like(cap), where=cap > 0).clip(0.0, 1.0)
    D0 = mixed @ start + floor

    def loss(y: _Powers) -> tuple[float, _Powers]:
        D = mixed @ y + floor
        arrived = D + signal @ y
        slope = (mixed + signal).T @ (1 / arrived) - mixed.T @ (1 / D0)
        return -float(np.sum(np.log(arrived / D0) - D / D0)), -slope

    asked = np.expm1(np.asarray(problem.min_rate_bps_hz) * problem.block_len / problem.num_data * np.log(2))
    users = asked > 0
    rows = np.diag(b.signal * cap)[users] - asked[users, None] * b.mixed[users] * cap
    least = asked[users] * b.floor[users]
    if problem.min_sensing_sinr > 0:
        s = sensing(problem.statistics, pilot_power, data_power)
        rows = np.vstack([rows, (s.signal - problem.min_sensing_sinr * s.error) * cap])
        least = np.append(least, problem.min_sensing_sinr)
    size = np.maximum(np.max(np.abs(rows), axis=1, initial=0.0), least)
    rows, least = rows[size > 0] / size[size > 0, None], least[size > 0] / size[size > 0]
    constraint = {"type": "ineq", "fun": lambda y: rows @ y - least, "jac": lambda y: rows}
    done = minimize(
        loss,
        start,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(cap),
        constraints=[constraint] if len(rows) else [],
        options={"maxiter": 200, "ftol": 1e-12},
    )
    return np.clip(done.x, 0.0, 1.0) * cap if np.all(np.isfinite(done.x)) else data_power


class _PilotPoint:
    """Sum rate, constraints c and their derivatives at shares x of the pilots' caps u."""

    def __init__(self, problem: UplinkProblem, u: _Powers, data_power: _Powers) -> None:
        self._problem, self._u, self._pd = problem, u, data_power
        self._asked = np.asarray(problem.min_rate_bps_hz)
        self._prelog = problem.num_data / problem.block_len / np.log(2)

    def __call__(self, x: _Powers) -> tuple[float, _Powers, _Powers, NDArray[np.float64]]:
        problem, pp = self._problem, x * self._u
        b = bound(problem.statistics, pp, self._pd)
        found = rate(b.sinr, problem.pilot_len, problem.block_len)
        slope = self._prelog / (1 + b.sinr) * b.pilot_gradient * self._u
        users = self._asked > 0
        c, c_slope = found[users] - self._asked[users], np.diag(slope)[users]
        if problem.min_sensing_sinr > 0:
            s = sensing(problem.statistics, pp, self._pd)
            c = np.append(c, s.sinr / problem.min_sensing_sinr - 1)
            c_slope = np.vstack([c_slope, s.pilot_gradient * self._u / problem.min_sensing_sinr])
        return float(np.sum(found)), c, slope, c_slope


def _with_data(data_power: _Powers, pilot_power: _Powers) -> tuple[_Powers, _Powers]:
    return pilot_power, data_power


def _lagrangian(total: float, c: _Powers, s: _Powers, lam: _Powers, rho: float) -> float:
    return total - float(lam @ (c - s)) - float(np.sum((c - s) ** 2)) / (2 * rho)


def _sum_rate(problem: UplinkProblem, pp: _Powers, pd: _Powers) -> float:
    sinr = bound(problem.statistics, pp, pd).sinr
    return float(np.sum(rate(sinr, problem.pilot_len, problem.block_len)))


def _rises(problem: UplinkProblem, before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    return _sum_rate(problem, *problem.powers(after)) > _sum_rate(problem, *problem.powers(before))


def _kept(
    problem: UplinkProblem,
    before: _Powers,
    proposed: _Powers,
    both: Callable[[_Powers], tuple[_Powers, _Powers]],
) -> _Powers:
    """`proposed` where it meets the requirements and raises the sum rate, otherwise `before` itself."""
    old, new = (problem.coordinates(*both(p)) for p in (before, proposed))
    good = meets(problem, reached(problem, new)) and _rises(problem, old, new)
    return proposed if good else before
