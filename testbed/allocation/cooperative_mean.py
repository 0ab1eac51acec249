"""Planner for a network of which densities are known: clusters and power split of the mean user and target.

    minimise    CRLB(N) / (kappa_s^2 p^s)                  over whole N, L and p^c = 1 - p^s                     (10)
    subject to  R_c(L, p^c) >= R,   R + e N <= C,   N >= 2

R_c rises with p^c and so does CRLB / p^s, hence the rate floor is active and the choices separate exactly:

    L      the one that needs the least p^c for R: at or next to the argmax of R_c(L, 1)
    p^c    the root of R_c(L, p^c) = R
    N      the argmin of CRLB(N) / kappa_s^2 over 2 <= N <= floor((C - R) / e)

If every copy of the data counts, L R + e N <= C, L and N couple and every L is tried. Where nodes and target are known,
N of them are chosen by exact bound in place of the mean over layouts.

Source: Meng and Masouros, arXiv 2403.20228, eq. (10). Differs: one root instead of the paper's search, which loses up
to 26 % on a grid of 0.005; N and L are whole. Rates in nats/s/Hz.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.cooperative_plan import Option, Plan, affordable, infeasible
from testbed.allocation.cooperative_subsets import BestSets, best_by_moments
from testbed.theory.cooperative import acceptance, comm_acceptance, mean_crlb, mean_rate
from testbed.theory.cooperative_acceptance import View
from testbed.theory.cooperative_law import MeanForm
from testbed.theory.cooperative_rate import RateForm

MAX_CLUSTER = 200  # of base stations per user that are looked at
_FALLS = 3  # sizes in a row without a better rate end the search


@dataclass(frozen=True)
class RateModel:
    """Of the users: what R_c(L, p^c) depends on besides L and p^c."""

    num_antennas: int = 4
    path_loss_exponent: float = 4.0
    load: float = 1.0  # mu_c, users per base station
    num_blocks: int = 15  # psi
    view: Literal["request", "printed"] = "request"  # of kappa_c
    form: RateForm = "theorem2"

    def rate(self, cluster_size: int, comm_power_share: float) -> float:
        """R_c, nats/s/Hz."""
        kappa = comm_acceptance(cluster_size, self.load, self.num_blocks, view=self.view)
        antennas, alpha = self.num_antennas, self.path_loss_exponent
        return mean_rate(cluster_size, comm_power_share, antennas, alpha, kappa, form=self.form)


@dataclass(frozen=True)
class SensingModel:
    """Of the target: what CRLB(N) depends on besides N."""

    beta: float = 2.0
    zeta2: float = 1.0  # at p^s = 1
    density: float = 1.0  # base stations per area
    load: float = 1.0  # mu_s, targets per base station
    num_blocks: int = 15  # psi
    view: View = "request"  # of kappa_s
    form: MeanForm = "mean_distance"
    max_nodes: int = 200  # largest cluster that is looked at

    def crlb(self, num_nodes: Any) -> Any:
        """CRLB(N) / kappa_s(N)^2 at p^s = 1, length^2."""
        kappa = acceptance(num_nodes, self.load, self.num_blocks, view=self.view)
        return mean_crlb(num_nodes, self.beta, self.zeta2, self.density, form=self.form, accepted=kappa)


@dataclass(frozen=True, eq=False)
class MeanProblem:
    """Requirements on the mean user and target.

    Raises:
        ValueError: a negative number, or nodes without a target.
    """

    min_rate: float  # R, nats/s/Hz
    backhaul: float = 6.0  # C, nats/s/Hz
    backhaul_price: float = 0.3  # e, nats/s/Hz per sensing base station
    rate: RateModel = field(default_factory=RateModel)
    sensing: SensingModel = field(default_factory=SensingModel)
    count_copies: bool = False  # L R of the backhaul instead of R
    node_position: NDArray[np.float64] | None = None  # (n, 2): these nodes instead of the mean layout; none refuses
    target_position: NDArray[np.float64] | None = None  # (2,)

    def __post_init__(self) -> None:
        for name in ("min_rate", "backhaul", "backhaul_price"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: found {getattr(self, name):g}; must be finite and at least 0")
        if (self.node_position is None) != (self.target_position is None):
            raise ValueError("node_position, target_position: give both or neither")

    @functools.cached_property
    def sets(self) -> BestSets:
        """Sensing nodes of every size 0..max_nodes and their bound at p^s = 1."""
        if self.node_position is None or self.target_position is None:
            return _nearest(self.sensing)
        offset = np.asarray(self.node_position, dtype=np.float64) - self.target_position
        if offset.ndim != 2 or offset.shape[1] != 2:
            raise ValueError(f"node_position: found shape {np.shape(self.node_position)}; must be (n, 2)")
        bearing = np.arctan2(offset[:, 1], offset[:, 0])
        return best_by_moments(np.hypot(*offset.T), bearing, self.sensing.beta, self.sensing.zeta2)


def plan_mean(problem: MeanProblem) -> Plan:
    """The best plan, or why there is none; see the module."""
    R, C, e = problem.min_rate, problem.backhaul, problem.backhaul_price
    top, largest = best_cluster(problem.rate)
    if largest < R:
        return infeasible(
            f"R: a mean rate of {R:.4g} nats/s/Hz is asked for, {largest:.4g} is the most (L = {top}, all power); ask "
            f"for less, or give base stations more antennas"
        )
    sizes = range(1, MAX_CLUSTER + 1) if problem.count_copies else [least_share(problem.rate, R)[0]]
    options = []
    for L in sizes:
        data = L * R if problem.count_copies else R
        most = affordable(C, data, e, len(problem.sets.crlb) - 1)
        if most < 2 or (problem.count_copies and top + 1 < L):
            break  # a larger cluster than the best only costs
        share = share_of(problem.rate, L, R)
        nodes, crlb = problem.sets.within(most) if share < 1 else ((), np.inf)
        options.append(Option(L, share, most, nodes, crlb / (1 - share) if nodes else np.inf))
    possible = [option for option in options if option.crlb < np.inf]
    if not possible:
        return infeasible(_why(problem, options), tuple(options))
    best = min(possible, key=lambda option: option.crlb)
    L, share = best.comm_cluster_size, best.comm_power_share
    used = (L * R if problem.count_copies else R) + e * len(best.sensing_nodes)
    rates = (problem.rate.rate(L, share),)
    return Plan(best.sensing_nodes, L, share, best.crlb, rates, used, "optimal", options=tuple(options))


@functools.lru_cache(maxsize=64)
def _nearest(model: SensingModel) -> BestSets:
    """Sets 0 .. N - 1 and their bounds in the mean."""
    crlb: NDArray[np.float64] = np.full(model.max_nodes + 1, np.inf)
    crlb[2:] = model.crlb(np.arange(2, len(crlb)))
    return BestSets(tuple(tuple(range(size)) for size in range(len(crlb))), crlb, exact=True)


@functools.lru_cache(maxsize=64)
def best_cluster(model: RateModel) -> tuple[int, float]:
    """The L of the largest R_c(L, 1), and that rate."""
    best, largest, falls = 1, model.rate(1, 1.0), 0
    for L in range(2, MAX_CLUSTER + 1):
        rate = model.rate(L, 1.0)
        best, largest, falls = (L, rate, 0) if rate > largest else (best, largest, falls + 1)
        if falls == _FALLS:
            break
    return best, largest


@functools.lru_cache(maxsize=4096)
def share_of(model: RateModel, cluster_size: int, min_rate: float) -> float:
    """Root p^c of R_c(L, p^c) = R, at most 1e-12 above it; 0 for R = 0; NaN where p^c = 1 does not reach R."""
    from scipy import optimize

    if min_rate <= 0:
        return 0.0
    if model.rate(cluster_size, 1.0) < min_rate:
        return math.nan

    def excess(share: float) -> float:
        return model.rate(cluster_size, share) - min_rate

    return float(optimize.brentq(excess, 0.0, 1.0, xtol=1e-13, rtol=1e-13))


def least_share(model: RateModel, min_rate: float) -> tuple[int, float]:
    """The L that needs the least p^c for R, and that share; NaN where no L reaches R."""
    top, _ = best_cluster(model)
    best, share = top, share_of(model, top, min_rate)
    for L in (top - 1, top + 1):
        if L >= 1 and model.rate(L, share if share == share else 1.0) > min_rate:  # it needs less
            best, share = L, share_of(model, L, min_rate)
    return best, share


def _why(problem: MeanProblem, options: list[Option]) -> str:
    R, C, e = problem.min_rate, problem.backhaul, problem.backhaul_price
    fewest = int(np.argmax(problem.sets.crlb < np.inf))
    if not problem.sets.crlb[fewest] < np.inf:
        return "no set of nodes locates the target: all in line with it; add nodes"
    if any(option.max_sensing_nodes >= fewest and option.comm_power_share >= 1 for option in options):
        return f"R: a mean rate of {R:.4g} nats/s/Hz takes all power, none is left to sense; ask for less"
    L = 1
    if problem.count_copies:
        L = next(size for size in range(1, MAX_CLUSTER + 1) if not math.isnan(share_of(problem.rate, size, R)))
    needed = L * R + fewest * e
    less = (C - fewest * e) / L
    lower = f", or ask for a rate of {less:.4g}" if less > 0 else ""
    counted = f"L R = {L} x {R:.4g}" if problem.count_copies else f"R = {R:.4g}"
    return (
        f"C: the backhaul carries {C:.4g} nats/s/Hz, {needed:.4g} are needed ({counted} for data and {fewest} sensing "
        f"nodes at {e:.4g}); give it {needed:.4g}{lower}"
    )
