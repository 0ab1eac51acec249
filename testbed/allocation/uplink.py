"""Power allocation for the uplink with cooperative sensing: pilot and data powers for the largest sum rate.

    maximise    sum_k R_k(p_pilot, p_data)              rates of Theorem 1, bit/s/Hz                                (P3)
    subject to  tau p_pilot,k + N p_data,k <= E_k,  R_k >= R_th,k,  gamma_s >= gamma_th                      (23b)-(23d)

    joint   SQP on the energy and the pilot share of every user together
    split   energies and pilot shares in turn; reaches the same
    ao      the paper's Algorithm 1: pilot powers and data powers in turn, which the energy constraint freezes
    equal   all energy spent, equal pilot and data power: the paper's fixed allocation

1. The method's own search, from equal powers where these meet the requirements.
2. Where they do not, or a search ends outside: the point with the largest common share of what is asked; below 1 that
   is the answer, infeasible, and the certificate holds that share and the largest sensing SINR; otherwise search again.

Source: He et al., uplink ISAC (arXiv 2603.17744), (17)-(38), Algorithm 1. Differs: joint and split are not in the
paper; what each does stands in `uplink_ascent`, `uplink_alternating` and `uplink_feasibility`. All results are local:
the problem is not convex and no bound is known; in the scenes tested 20 random starts end within 1e-9 of each other
where all users need a rate. Where they need none, a user without energy is a stationary point that random starts find.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation, Status
from testbed.allocation.uplink_alternating import ROUNDS, alternate, alternate_split
from testbed.allocation.uplink_ascent import ascend, stationarity
from testbed.allocation.uplink_feasibility import largest_sensing, largest_share, starts
from testbed.allocation.uplink_problem import MEETS, UplinkProblem, meets, rates, reached, sensing_sinr

__all__ = ["METHODS", "UplinkProblem", "rates", "sensing_sinr", "solve"]

METHODS = ("joint", "ao", "split", "equal")
_NUM_STARTS = 3  # of joint at most: equal powers, and full energy with pilot shares 0.1 and 0.5
_UNSETTLED = 1e-4  # relative stationarity residual from which joint tries its other starts
_FROZEN = 1e-3  # relative stationarity residual from which a result is called no stationary point


def solve(
    problem: UplinkProblem,
    method: str = "joint",
    *,
    start: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Allocation:
    """Allocate pilot and data power of every user.

    Args:
        problem: covariances, noise, block, energies and requirements.
        method: "joint", "ao", "split" or "equal".
        start: pilot and data powers, (K,) each, within the energy budget, to begin from instead of equal powers; joint
            then searches from there alone. "equal" has no start.

    Returns:
        Allocation with pilot and data powers (K,) per symbol, energy within rounding of the budget or below. objective:
        sum rate of Theorem 1 at these powers, bit/s/Hz, prelog included. slack: rates less their floors, then sensing
        SINR less its floor, (K + 1,). history: sum rate at the start and after each round. kkt_residual: of the whole
        problem, over the gradient; large where ao is frozen. certificate: empty, or where infeasible
        "largest_sensing_sinr" that any powers were found to reach and "largest_share" of all requirements together.
        status:
        "stationary": all requirements are met, within 1e-6.
        "zero_gain": no powers give any user a rate, and nothing is asked; powers are equal.
        "infeasible": method "equal" does not meet the requirements, or no powers were found that do; then the powers
        are those with the largest common share. A largest_share of 1 or more says that others than equal ones do.

    Raises:
        ValueError: an unknown method, or a start that is no power or spends more than the budget.
    """
    if method not in METHODS:
        raise ValueError(f"method: found {method!r}; must be one of {', '.join(METHODS)}")
    begin = problem.equal if start is None else _coordinates(problem, method, start)
    feasible = meets(problem, reached(problem, begin))
    if method == "equal":
        if not feasible:
            return _infeasible(problem, problem.equal, largest_share(problem).value)
        return _allocation(problem, problem.equal)
    if not np.any(reached(problem, np.repeat([1.0, 0.5], problem.num_users)).rates > 0) and feasible:
        return _allocation(problem, problem.equal, status="zero_gain")
    note = ""
    if not feasible:
        share = largest_share(problem)
        if share.value < 1 - MEETS:
            return _infeasible(problem, share.z, share.value)
        begin, note = share.z, "the start does not meet the requirements; began at their largest common share"
    if method == "joint":
        return _joint(problem, begin, note, [] if start is not None else starts(problem)[:_NUM_STARTS])
    return _alternated(problem, method, begin, note)


def _joint(
    problem: UplinkProblem, begin: NDArray[np.float64], note: str, others: list[NDArray[np.float64]]
) -> Allocation:
    """The best of `begin`, which meets the requirements, and of the ascents from it and, where there is doubt, others.

    There is doubt where the first ascent has not settled, and where a user may be left without energy.
    """
    best = _better(problem, begin, ascend(problem, begin, "rate"))
    if np.any(np.asarray(problem.min_rate_bps_hz) == 0) or stationarity(problem, best) > _UNSETTLED:
        for z in others:
            best = _better(problem, best, ascend(problem, z, "rate"))
    return _allocation(problem, best, history=(_sum_rate(problem, begin), _sum_rate(problem, best)), note=note)


def _better(problem: UplinkProblem, kept: NDArray[np.float64], proposed: NDArray[np.float64]) -> NDArray[np.float64]:
    """`proposed` where it meets the requirements and has the larger sum rate."""
    good = meets(problem, reached(problem, proposed)) and _sum_rate(problem, proposed) > _sum_rate(problem, kept)
    return proposed if good else kept


def _alternated(problem: UplinkProblem, method: str, begin: NDArray[np.float64], note: str) -> Allocation:
    z, history = (alternate if method == "ao" else alternate_split)(problem, begin)
    notes = [note] if note else []
    if method == "ao" and stationarity(problem, z) > _FROZEN:
        notes.append("not a stationary point: pilot and data blocks share a tight energy budget")
    if method == "ao" and len(history) > ROUNDS:
        notes.append(f"not settled after {ROUNDS} rounds")
    return _allocation(problem, z, history=history, note="; ".join(notes))


def _infeasible(problem: UplinkProblem, z: NDArray[np.float64], share: float) -> Allocation:
    certificate = {"largest_sensing_sinr": largest_sensing(problem).value, "largest_share": share}
    return _allocation(problem, z, status="infeasible", certificate=certificate)


def _coordinates(
    problem: UplinkProblem, method: str, start: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> NDArray[np.float64]:
    if method == "equal":
        raise ValueError("start: equal powers begin nowhere; leave it out")
    pp, pd = (np.asarray(power, dtype=np.float64) for power in start)
    rates(problem, pp, pd)  # refuses what is no power
    spent, E = problem.pilot_len * pp + problem.num_data * pd, np.asarray(problem.energy)
    if np.any(spent > E * (1 + MEETS)):
        k = int(np.argmax(spent > E * (1 + MEETS)))
        raise ValueError(f"start: user {k} spends {spent[k]:g}; its energy is {E[k]:g}")
    return problem.coordinates(pp, pd)


def _sum_rate(problem: UplinkProblem, z: NDArray[np.float64]) -> float:
    return float(np.sum(rates(problem, *problem.powers(z))))


def _allocation(
    problem: UplinkProblem, z: NDArray[np.float64], status: Status = "stationary", **more: Any
) -> Allocation:
    (pp, pd), found = problem.powers(z), reached(problem, z)
    slack = np.append(found.rates - problem.min_rate_bps_hz, found.sensing - problem.min_sensing_sinr)
    residual = None if status == "infeasible" else stationarity(problem, z)
    return Allocation(pp, pd, float(np.sum(found.rates)), status, slack=slack, kkt_residual=residual, **more)
