"""CoMP power allocation: largest sum rate of L cells under rate and sensing requirements and a total power budget.

    maximise    sum_i log2(1 + SINR_i)                                                       eq. (13)
    subject to  sum P <= total_power, 0 <= P <= max_power
                SINR_i >= min_comm_sinr_i      rates of the users, 2^rate - 1                eq. (17)
                SNR_i  >= min_sensing_snr_i    noncentrality / (2N) of the target cells      eq. (18)

    ppa      the letter's alternation from equal power, or from the balanced point where equal power violates something
    newton   a local maximum, the best of those from equal power and from one start per node; one loop, many at once
    global   the global maximum of at most five nodes, with a bound that proves it
    equal    every node the same share of the budget (EPA)
    random   shares u / sum(u), u uniform from the Mersenne Twister (RPA); no draw is rejected

1. P_req, the least power that meets every requirement, by linear programming; above the budget: infeasible, with proof.
   "newton" and "global" first scan the vertices of up to three nodes, which is cheaper.
2. `comp_ppa`, `comp_newton` or `comp_global` search in shares of the budget with gains over noise.
3. The result keeps rows within 1e-9 of what is required, and uses the budget in full unless a cap forbids.

Source: Zou et al., CoMP-ISAC letter (arXiv 2503.07139). Differs: RPA is not confined to the feasible region, which the
letter's own figures contradict; the sensing SNR holds the 1/(2N) that (18) omits; caps per node. What the other comp
modules do otherwise stands in each of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.base import Allocation, Status, equal_power, random_power
from testbed.allocation.comp_batch import (
    BatchAllocation,
    CompProblems,
    ascended,
    corner_starts,
    newton_batch,
    newton_shares,
)
from testbed.allocation.comp_certificate import explain, infeasibility_certificate, reachable, verify_certificate
from testbed.allocation.comp_feasibility import BUDGET_TOLERANCE, balanced_shares, required_power
from testbed.allocation.comp_global import MAX_NODES, global_maximum
from testbed.allocation.comp_newton import ScaledBatch
from testbed.allocation.comp_ppa import ascend_from_each, kkt_residual
from testbed.allocation.comp_problem import (
    CompProblem,
    Scaled,
    comm_sinr,
    row_margins_db,
    scaled,
    sensing_snr,
    sum_rate,
)
from testbed.allocation.comp_vertices import MAX_SCAN_NODES, least_power

__all__ = [
    "METHODS",
    "STARTS",
    "BatchAllocation",
    "CompProblem",
    "CompProblems",
    "comm_sinr",
    "explain",
    "infeasibility_certificate",
    "reachable",
    "required_power",
    "row_margins_db",
    "sensing_snr",
    "solve",
    "solve_many",
    "sum_rate",
    "verify_certificate",
]

METHODS = ("ppa", "equal", "random", "newton", "global")
STARTS = ("one", "corners")


def solve(
    problem: CompProblem,
    method: str = "ppa",
    seed: int | None = None,
    *,
    tolerance: float = 1e-6,
    max_rounds: int = 500,
    starts: str = "one",
    max_simplices: int = 200_000,
) -> Allocation:
    """Allocate the power of every node.

    Args:
        problem: gains, noise, requirements and budget.
        method: "ppa", "newton", "global", "equal" or "random".
        seed: of "random", 0..2^32 - 1; None draws a new one every time. The others ignore it.
        tolerance: "ppa" stops when the sum rate rises by less than this, relative to the larger of 1 and the rate;
            "global" when the bound is within this many bit/s/Hz of the rate. "newton" always goes to rounding.
        max_rounds: "ppa" stops after this many alternations.
        starts: of "ppa": "one", or "corners" for L starts more, 0.98 of the budget to one node and the rest over all,
            drawn into what is feasible; the best end is kept. The alternation from one start may miss the maximum.
        max_simplices: "global" stops when it has looked at this many, proved or not.

    Returns:
        Allocation with equal pilot and data power, shape (L,), in the problem's unit. objective: sum rate in bit/s/Hz,
        NaN when infeasible. slack: A p - b, (2L,). history (ppa): sum rate at the start and after each round.
        kkt_residual (ppa, newton, global): relative to the gradient. upper_bound (global): no power reaches more.
        note (ppa, newton, global): why it ended before it settled. status:
        "optimal": one node, in closed form; or global, where the objective is within the tolerance of upper_bound.
        "stationary": the search has settled, global without proof, or a fixed scheme that meets every requirement.
        "zero_gain": no user has a gain of its own, any feasible power gives 0.
        "infeasible": a fixed scheme violates something, or no power meets everything; then power holds the scheme's
        powers or, of the others, the balanced point, and certificate is that of `infeasibility_certificate`, empty when
        another power does.

    Raises:
        ValueError: an unknown method, more nodes than "global" can do, or another argument out of range.
    """
    L = problem.num_nodes
    if not (0 < tolerance < np.inf) or max_rounds < 1:
        raise ValueError(f"tolerance {tolerance:g}, max_rounds {max_rounds}; must be above 0 and at least 1")
    if starts not in STARTS or max_simplices < 1:
        raise ValueError(f"starts {starts!r}, max_simplices {max_simplices}; must be 'one' or 'corners', at least 1")
    if method == "ppa":
        return _ppa(problem, tolerance, max_rounds, starts)
    if method == "newton":
        return _newton(problem)
    if method == "global":
        if L > MAX_NODES:
            raise ValueError(f"comp: global: found {L} nodes; must be at most {MAX_NODES}, use 'newton' for more")
        return _global(problem, tolerance, max_simplices)
    if method == "equal":
        return _fixed(problem, equal_power(1.0, L).power)
    if method == "random":
        return _fixed(problem, random_power(1.0, L, seed).power)
    raise ValueError(f"method: found {method!r}; must be one of {', '.join(METHODS)}")


def solve_many(
    problems: CompProblems | Sequence[CompProblem], method: str = "newton", **arguments: Any
) -> BatchAllocation:
    """Powers of many problems of the same number of nodes; "newton" does all at once, the others one after another.

    Args:
        problems: the quickest is one `CompProblems`; or a sequence of single ones.
        method: as in `solve`.
        arguments: of `solve`, for a method that has any.

    Returns:
        power (B, L), NaN where infeasible: `solve` tells why. objective (B,), NaN there. status (B,), as in `solve`.

    Raises:
        ValueError: as `solve`; no problems, or different numbers of nodes.
    """
    if method == "newton" and not arguments:
        return newton_batch(problems if isinstance(problems, CompProblems) else CompProblems.of(problems))
    each = [solve(problems[k], method, **arguments) for k in range(len(problems))]
    if len({len(allocation.power) for allocation in each}) != 1:
        raise ValueError("problems: found none, or different numbers of nodes; must all have the same number")
    status = np.array([allocation.status for allocation in each])
    power = np.array([allocation.power for allocation in each])
    power[status == "infeasible"] = np.nan
    return BatchAllocation(power, np.array([allocation.objective for allocation in each]), status)


def _fixed(problem: CompProblem, q: NDArray[np.float64]) -> Allocation:
    if not scaled(problem).meets(q):
        return _allocation(problem, q, "infeasible", certificate=infeasibility_certificate(problem))
    return _allocation(problem, q, "stationary" if np.any(np.diag(problem.comm_gain)) else "zero_gain")


def _ppa(problem: CompProblem, tolerance: float, max_rounds: int, starts: str) -> Allocation:
    value, vertex = required_power(problem)
    if vertex is None or value > problem.total_power * (1 + BUDGET_TOLERANCE):
        return _infeasible(problem)
    q_problem, L = scaled(problem), problem.num_nodes
    least = q_problem.filled(vertex / problem.total_power)
    balanced, equal = balanced_shares(q_problem), np.full(L, 1 / L)
    interior = max(balanced, least, key=lambda q: float(np.min(q_problem.ratios(q))))
    single = value >= problem.total_power * (1 - BUDGET_TOLERANCE)
    start = least if single else equal if q_problem.meets(equal) else interior
    simple = _simple(problem, start)
    if simple is not None:
        return simple
    history: tuple[float, ...] = (sum_rate(problem, problem.total_power * start),)
    q, note = start, ""
    if not single:  # on a feasible set of one point an interior-point method would stall
        begins = np.vstack([start, corner_starts(L)[1:]]) if starts == "corners" else start[None]
        q, history, note = ascend_from_each(q_problem, begins, interior, tolerance, max_rounds)
    residual = kkt_residual(q_problem, q)
    return _allocation(problem, q, "stationary", history=history, kkt_residual=residual, note=note)


def _newton(problem: CompProblem) -> Allocation:
    total, least = _least(problem)
    if total > 1 + BUDGET_TOLERANCE:
        return _infeasible(problem)
    q_problem = scaled(problem)
    q, note = _filled_start(q_problem, least), ""
    simple = _simple(problem, q)
    if simple is not None:
        return simple
    if total < 1 - BUDGET_TOLERANCE:
        found, settled = newton_shares(ScaledBatch.of(q_problem))
        q = found[0] if settled[0] else ascended(q_problem, least, found[0])
        note = "" if settled[0] else "Newton did not settle on the best point seen; powers are those of the alternation"
    return _allocation(problem, q, "stationary", kkt_residual=kkt_residual(q_problem, q), note=note)


def _global(problem: CompProblem, tolerance: float, max_simplices: int) -> Allocation:
    total, least = _least(problem)
    if total > 1 + BUDGET_TOLERANCE:
        return _infeasible(problem)
    q_problem = scaled(problem)
    start = _filled_start(q_problem, least)
    simple = _simple(problem, start)
    if simple is not None:
        return simple
    begins = np.vstack([start, corner_starts(problem.num_nodes)])
    q, bound, count = global_maximum(ScaledBatch.of(q_problem), begins, tolerance, max_simplices)
    reached = sum_rate(problem, np.minimum(problem.total_power * q, problem.max_power))
    bound = max(bound, reached)
    proved = reached >= bound - tolerance
    note = "" if proved else f"stopped after {count} simplices, {bound - reached:.2g} bit/s/Hz below upper_bound"
    residual = kkt_residual(q_problem, q)
    status: Status = "optimal" if proved else "stationary"
    return _allocation(problem, q, status, upper_bound=bound, kkt_residual=residual, note=note)


def _least(problem: CompProblem) -> tuple[float, NDArray[np.float64]]:
    """Least power over the budget, inf where none does, and its shares: by a scan where that says feasible."""
    if problem.num_nodes <= MAX_SCAN_NODES:
        total, q = least_power(ScaledBatch.of(scaled(problem)), BUDGET_TOLERANCE)
        if total[0] <= 1 + BUDGET_TOLERANCE:
            return float(total[0]), q[0]
    value, power = required_power(problem)
    return value / problem.total_power, np.zeros(problem.num_nodes) if power is None else power / problem.total_power


def _filled_start(problem: Scaled, least: NDArray[np.float64]) -> NDArray[np.float64]:
    """A feasible point that fills the budget or a cap."""
    return problem.filled(least if np.any(least > 0) else np.full(len(least), 1 / len(least)))


def _infeasible(problem: CompProblem) -> Allocation:
    certificate = infeasibility_certificate(problem)
    balanced = np.array(certificate["balanced_power"]) / problem.total_power
    return _allocation(problem, balanced, "infeasible", certificate=certificate)


def _simple(problem: CompProblem, feasible: NDArray[np.float64]) -> Allocation | None:
    """What needs no search: no gain at all, or one node."""
    if not np.any(np.diag(problem.comm_gain)):
        return _allocation(problem, feasible, "zero_gain", upper_bound=0.0)
    if problem.num_nodes > 1:
        return None
    q = scaled(problem).filled(np.ones(1))
    return _allocation(problem, q, "optimal", upper_bound=sum_rate(problem, problem.total_power * q))


def _allocation(problem: CompProblem, q: NDArray[np.float64], status: Status, **more: Any) -> Allocation:
    power, objective = problem.total_power * q, float("nan")
    if status != "infeasible":
        power = np.minimum(power, problem.max_power)  # to the last bit
        objective = sum_rate(problem, power)
    A, b = problem.rows
    return Allocation(power, power, objective, status, slack=A @ power - b, **more)
