"""CoMP power allocation: largest sum rate of L cells under rate and sensing requirements and a total power budget.

    maximise    sum_i log2(1 + SINR_i)                                                       eq. (13)
    subject to  sum P <= total_power, 0 <= P <= max_power
                SINR_i >= min_comm_sinr_i      rates of the users, 2^rate - 1                eq. (17)
                SNR_i  >= min_sensing_snr_i    noncentrality / (2N) of the target cells      eq. (18)

    ppa      the letter's alternation from equal power, or from the balanced point where equal power violates something
    equal    every node the same share of the budget (EPA)
    random   shares u / sum(u), u uniform from the Mersenne Twister (RPA); no draw is rejected

1. P_req, the least power that meets every requirement, by linear programming; above the budget: infeasible, with proof.
2. `comp_ppa` alternates in shares of the budget with gains over noise.
3. The result keeps rows within 1e-9 of what is required, and uses the budget in full unless a cap forbids.

Source: Zou et al., CoMP-ISAC letter (arXiv 2503.07139). Differs: RPA is not confined to the feasible region, which the
letter's own figures contradict; the sensing SNR holds the 1/(2N) that (18) omits; caps per node. What the other comp
modules do otherwise stands in each of them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation, Status, equal_power, random_power
from testbed.allocation.comp_certificate import explain, infeasibility_certificate, reachable, verify_certificate
from testbed.allocation.comp_feasibility import BUDGET_TOLERANCE, balanced_shares, required_power
from testbed.allocation.comp_ppa import ascend, kkt_residual
from testbed.allocation.comp_problem import CompProblem, comm_sinr, row_margins_db, scaled, sensing_snr, sum_rate

__all__ = [
    "METHODS",
    "CompProblem",
    "comm_sinr",
    "explain",
    "infeasibility_certificate",
    "reachable",
    "required_power",
    "row_margins_db",
    "sensing_snr",
    "solve",
    "sum_rate",
    "verify_certificate",
]

METHODS = ("ppa", "equal", "random")


def solve(
    problem: CompProblem,
    method: str = "ppa",
    seed: int | None = None,
    *,
    tolerance: float = 1e-6,
    max_rounds: int = 500,
) -> Allocation:
    """Allocate the power of every node.

    Args:
        problem: gains, noise, requirements and budget.
        method: "ppa", "equal" or "random".
        seed: of "random", 0..2^32 - 1; None draws a new one every time. The others ignore it.
        tolerance: "ppa" stops when the sum rate rises by less than this, relative to the larger of 1 and the rate.
        max_rounds: "ppa" stops after this many alternations.

    Returns:
        Allocation with equal pilot and data power, shape (L,), in the problem's unit. objective: sum rate in bit/s/Hz,
        NaN when infeasible. slack: A p - b, (2L,). history (ppa): sum rate at the start and after each round.
        kkt_residual (ppa): relative to the gradient. note (ppa): why it ended before it settled. status:
        "optimal": closed form, one node. "stationary": the alternation has settled, or a fixed scheme that meets every
        requirement. "zero_gain": no user has a gain of its own, any feasible power gives 0.
        "infeasible": a fixed scheme violates something, or no power meets everything; then power holds the scheme's
        powers or, of ppa, the balanced point, and certificate is that of `infeasibility_certificate`, empty when
        another power does.

    Raises:
        ValueError: an unknown method, or a seed, tolerance or number of rounds out of range.
    """
    L = problem.num_nodes
    if not (0 < tolerance < np.inf) or max_rounds < 1:
        raise ValueError(f"tolerance {tolerance:g}, max_rounds {max_rounds}; must be above 0 and at least 1")
    if method == "ppa":
        return _ppa(problem, tolerance, max_rounds)
    if method == "equal":
        return _fixed(problem, equal_power(1.0, L).power)
    if method == "random":
        return _fixed(problem, random_power(1.0, L, seed).power)
    raise ValueError(f"method: found {method!r}; must be one of {', '.join(METHODS)}")


def _fixed(problem: CompProblem, q: NDArray[np.float64]) -> Allocation:
    if not scaled(problem).meets(q):
        return _allocation(problem, q, "infeasible", certificate=infeasibility_certificate(problem))
    return _allocation(problem, q, "stationary" if np.any(np.diag(problem.comm_gain)) else "zero_gain")


def _ppa(problem: CompProblem, tolerance: float, max_rounds: int) -> Allocation:
    value, vertex = required_power(problem)
    if vertex is None or value > problem.total_power * (1 + BUDGET_TOLERANCE):
        certificate = infeasibility_certificate(problem)
        balanced = np.array(certificate["balanced_power"]) / problem.total_power
        return _allocation(problem, balanced, "infeasible", certificate=certificate)
    q_problem, L = scaled(problem), problem.num_nodes
    least = q_problem.filled(vertex / problem.total_power)
    balanced, equal = balanced_shares(q_problem), np.full(L, 1 / L)
    interior = max(balanced, least, key=lambda q: float(np.min(q_problem.ratios(q))))
    single = value >= problem.total_power * (1 - BUDGET_TOLERANCE)
    start = least if single else equal if q_problem.meets(equal) else interior
    if not np.any(np.diag(problem.comm_gain)):
        return _allocation(problem, start, "zero_gain", upper_bound=0.0)
    if L == 1:
        q = q_problem.filled(np.ones(1))
        return _allocation(problem, q, "optimal", upper_bound=sum_rate(problem, problem.total_power * q))
    history: tuple[float, ...] = (sum_rate(problem, problem.total_power * start),)
    q, note = start, ""
    if not single:  # on a feasible set of one point an interior-point method would stall
        q, history, note = ascend(q_problem, start, interior, tolerance, max_rounds)
    residual = kkt_residual(q_problem, q)
    return _allocation(problem, q, "stationary", history=history, kkt_residual=residual, note=note)


def _allocation(problem: CompProblem, q: NDArray[np.float64], status: Status, **more: Any) -> Allocation:
    power, objective = problem.total_power * q, float("nan")
    if status != "infeasible":
        power = np.minimum(power, problem.max_power)  # to the last bit
        objective = sum_rate(problem, power)
    A, b = problem.rows
    return Allocation(power, power, objective, status, slack=A @ power - b, **more)
