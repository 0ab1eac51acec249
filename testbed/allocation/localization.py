"""Power allocation for device-free localisation: the least largest range standard deviation of K base stations.

    minimise    max_k sigma_k(p)                                                                                 (P1)
    subject to  comm_k(p) >= Gamma_k           every user has its SINR                                         (P1.a)
                0 <= p <= max_power            per base station                                                (P1.b)

With the SINRs of `localization_problem` this is: maximise the smallest weighted sensing SINR (P2).

    policy     globally optimal, by policy iteration over closed forms (eigenvalue problems), with a proof
    sca        the paper's successive convex approximation, an SOCP per round; reaches the same optimum
    lp         the same optimum by linear programs, each with a point and a proof
    mean_std   the least MEAN standard deviation instead, globally (convex in log power)
    equal      every base station at its cap, the paper's initial condition (IC)

1. The largest multiple f of all required SINRs that users can have, in closed form; f < 1: infeasible, with proof.
2. No echo heard at a base station: nothing to optimise; the least powers that serve all users.
3. The method's own search, in shares of the caps with every row over its own signal.
4. The result serves users within 1e-9 of what they need; a largest power is exactly at its cap.

Source: Rivera Figueroa, Bishoyi and Petrova, arXiv 2402.10660. Differs: policy, lp and mean_std are not in the paper;
per-node caps are the only constraint on power, a "total power constraint" appears in its abstract alone. What the other
localization modules do otherwise stands in each of them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation, Status
from testbed.allocation.localization_certificate import (
    BEYOND,
    bound_certificate,
    infeasibility_certificate,
    verify_certificate,
)
from testbed.allocation.localization_feasibility import Balanced, balanced, least_shares
from testbed.allocation.localization_lp import bracket
from testbed.allocation.localization_mean import ENOUGH, least_mean_std
from testbed.allocation.localization_policy import best_level
from testbed.allocation.localization_problem import (
    MEETS,
    OwnEcho,
    RangeProblem,
    Scaled,
    range_stds,
    serves,
    sinrs,
    smallest_sinr,
)
from testbed.allocation.localization_sca import ascend

__all__ = [
    "METHODS",
    "OwnEcho",
    "RangeProblem",
    "range_stds",
    "serves",
    "sinrs",
    "smallest_sinr",
    "solve",
    "verify_certificate",
]

METHODS = ("policy", "sca", "lp", "mean_std", "equal")


def solve(
    problem: RangeProblem, method: str = "policy", *, tolerance: float = 1e-4, max_rounds: int = 100
) -> Allocation:
    """Allocate the power of every base station.

    Args:
        problem: gains, noise, requirements and caps.
        method: "policy", "sca", "lp", "mean_std" or "equal".
        tolerance: "sca" stops when the objective rises by less than this, relative (eps of Algorithm 1).
        max_rounds: "sca" stops after this many convex problems.

    Returns:
        Allocation with equal pilot and data power, shape (K,), in the problem's unit. objective: smallest weighted
        sensing SINR at these powers, linear, whatever the method and status; never NaN. slack: A p - b of
        `RangeProblem.rows`, (K,). history: objective of each policy (falling), convex problem or linear program
        (rising). upper_bound (policy, lp): no power that serves all users reaches more; certificate says why, with y
        (2K,) for `verify_certificate`. kkt_residual (mean_std): gap of its own objective, relative. note: why a search
        ended before it settled. status:
        "optimal": upper_bound is within 1e-6 of the objective; or mean_std, within 1e-8 of its own optimum.
        "stationary": sca has settled, a search without proof, or equal powers that serve all users.
        "zero_gain": a base station hears no echo, 0 is the optimum; powers are the least that serve all users.
        "infeasible": equal powers that do not serve, or nothing does; then power is where all users have the largest
        common share of what they need, and certificate holds y (K,), empty when another power serves.

    Raises:
        ValueError: an unknown method, or a tolerance or number of rounds out of range.
    """
    if not (0 < tolerance < np.inf) or max_rounds < 1:
        raise ValueError(f"tolerance {tolerance:g}, max_rounds {max_rounds}; must be above 0 and at least 1")
    if method not in METHODS:
        raise ValueError(f"method: found {method!r}; must be one of {', '.join(METHODS)}")
    if method == "equal":
        return _equal(problem)
    q, least = problem.scaled, least_shares(problem.scaled)
    if least is None:  # at a cap, or beyond
        users = balanced(q)
        if users.factor < 1 - MEETS / 2:
            return _infeasible(problem, users)
        if users.factor < 1 + MEETS:  # a feasible set of one point has no inside: what can be had is asked for, nearly
            q, least = q.relaxed(users.factor * (1 - MEETS / 10)), users.x
    if np.any(np.isinf(q.n)):
        return _allocation(problem, users.x if least is None else least, "zero_gain", upper_bound=0.0)
    if method == "policy":
        best = best_level(q)
        return _proved(problem, q, best.x, best.y, best.history)
    if method == "mean_std":
        x, gap, note = least_mean_std(q, balanced(q), best_level(q).x)
        status: Status = "optimal" if gap is not None and gap <= ENOUGH else "stationary"
        return _allocation(problem, x, status, kkt_residual=gap, note=note)
    if method == "lp":
        found = bracket(q, balanced(q))
        return _proved(problem, q, found.x, found.y, found.lows)
    x, history, note = ascend(q, balanced(q), tolerance, max_rounds)
    return _allocation(problem, x, "stationary", history=history, note=note)


def _proved(
    problem: RangeProblem, q: Scaled, x: NDArray[np.float64], y: NDArray[np.float64], history: tuple[float, ...]
) -> Allocation:
    """An optimum with the proof that its prices give, or those of linear programs where rounding spoils them."""
    level = smallest_sinr(problem, _power(problem, x)) * (1 + BEYOND)
    certificate = bound_certificate(problem, y, level) or bound_certificate(problem, bracket(q, balanced(q)).y, level)
    if not certificate:
        return _allocation(problem, x, "stationary", history=history, note="no proof within rounding")
    return _allocation(problem, x, "optimal", history=history, upper_bound=level, certificate=certificate)


def _equal(problem: RangeProblem) -> Allocation:
    x, q = np.ones(problem.num_nodes), problem.scaled
    if serves(problem, _power(problem, x)):
        return _allocation(problem, x, "stationary" if np.all(np.isfinite(q.n)) else "zero_gain")
    users = balanced(q)
    certificate = {} if users.factor >= 1 - MEETS / 2 else infeasibility_certificate(problem, users)
    return _allocation(problem, x, "infeasible", certificate=certificate)


def _infeasible(problem: RangeProblem, users: Balanced) -> Allocation:
    return _allocation(problem, users.x, "infeasible", certificate=infeasibility_certificate(problem, users))


def _power(problem: RangeProblem, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.asarray(problem.max_power)


def _allocation(problem: RangeProblem, x: NDArray[np.float64], status: Status, **more: Any) -> Allocation:
    power = _power(problem, x)
    A, b = problem.rows
    return Allocation(power, power, smallest_sinr(problem, power), status, slack=A @ power - b, **more)
