"""What the figures of the cooperative paper show: bounds, acceptance, rates and regions, drawn and computed.

Means of bounds are infinite for two and three nodes and slow to settle up to six: beside every mean stand the median
and the mean without the largest 1 %.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.figures.cooperative_scenario import layouts, shared_field, user_rates
from sim.figures.draws import Advance
from testbed.allocation.cooperative import (
    MeanProblem,
    RateModel,
    SensingModel,
    cooperative_boundary,
    time_sharing_boundary,
)
from testbed.allocation.cooperative_mean import best_cluster
from testbed.theory.cooperative import comm_acceptance, crlb_of_clusters, far_field_crlb, mean_rate

NUM_BLOCKS = 15  # psi
MAX_NODES = 30  # of figure 2
SHARED_NODES = 20  # of figure 3
FAR_NUM_NODES = np.array([1e9, 1e20, 1e50, 1e100, 1e150, 1e200, 1e300])
TAIL_SIZES = (2, 3, 4)
LOADS = (0.5, 1.0, 2.0, 3.0, 5.0)  # mu_c
SHARES = (0.1, 0.3, 0.5, 0.7, 1.0)  # p^c
MAX_CLUSTER = 26  # L of figure 4
DRAWN_SIZES = (1, 2, 4, 8, 12, 20)  # L that are simulated
BACKHAULS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
NUM_RATES = 61
TRIMMED = 0.01

_FAR_DRAWN, _FAR_LAYOUTS = 3000, 400
_CHUNK = 5000
_STATIONS = 400  # per torus

Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bounds:
    """CRLB over the number of nodes, zeta2 = lambda = 1."""

    num_nodes: NDArray[np.int_]  # (J,)
    mean: Curve  # (J,), of the draws; means little where tails are heavy
    stderr: Curve  # (J,)
    median: Curve  # (J,)
    trimmed: Curve  # (J,), without the largest 1 %
    tail_index: dict[int, float]  # Hill's estimate; at most 1: the mean is infinite
    far_mean: Curve  # over FAR_NUM_NODES


@dataclass(frozen=True, eq=False)
class Shared:
    """CRLB where base stations refuse, over the nodes asked, from simulated tori with as many targets as stations."""

    num_nodes: NDArray[np.int_]  # (J,)
    median: Curve  # (J,)
    trimmed: Curve  # (J,)
    accepted: Curve  # (J,), share of requests
    load_ratio: Curve  # (J,), variance over mean


@dataclass(frozen=True, eq=False)
class Rates:
    """Mean rates, nats/s/Hz, [load, share, L - 1]."""

    theorem2: Curve
    exact: Curve
    drawn: dict[tuple[float, float, int], tuple[float, float]]  # (load, share, L) -> mean, standard error


@dataclass(frozen=True, eq=False)
class Region:
    """Least bound over the rate floor at one backhaul; inf where there is none."""

    rates: Curve  # (J,)
    cooperative: Curve
    slot: Curve  # time sharing, every slot meets the backhaul by itself
    joint: Curve  # time sharing, both together do


def bounds(seed: int, num_layouts: int, advance: Advance) -> Bounds:
    """Figure 2 and the law; `advance` is called with the number of layouts done."""
    found = np.empty((num_layouts, MAX_NODES - 1))
    for first in range(0, num_layouts, _CHUNK):
        count = min(_CHUNK, num_layouts - first)
        arrival, bearing = layouts(np.random.default_rng([seed, 2, first]), count, MAX_NODES)
        found[first : first + count] = crlb_of_clusters(np.sqrt(arrival / np.pi), bearing)[:, 1:]
        advance(count)
    finite = np.where(np.isfinite(found), found, np.nan)  # too close to a line: one in a million
    tails = {size: _hill(found[:, size - 2]) for size in TAIL_SIZES}
    arrival, bearing = layouts(np.random.default_rng([seed, 1]), _FAR_LAYOUTS, _FAR_DRAWN)
    far = np.mean(far_field_crlb(arrival, bearing, FAR_NUM_NODES), axis=0)
    mean, stderr = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0) / np.sqrt(num_layouts)
    return Bounds(np.arange(2, MAX_NODES + 1), mean, stderr, np.median(found, axis=0), trimmed(found.T), tails, far)


def shared(seed: int, num_fields: int, advance: Advance) -> Shared:
    """Figure 3; `advance` is called with the number of tori done."""
    fields = []
    for number in range(num_fields):
        rng = np.random.default_rng([seed, 3, number])
        fields.append(shared_field(rng, _STATIONS, SHARED_NODES, 1.0, NUM_BLOCKS))
        advance(1)
    crlb = np.concatenate([field.crlb for field in fields], axis=1)[1:]
    accepted, ratio = (np.mean([getattr(f, name) for f in fields], axis=0)[1:] for name in ("accepted", "load_ratio"))
    return Shared(np.arange(2, SHARED_NODES + 1), np.median(crlb, axis=1), trimmed(crlb), accepted, ratio)


def rates(seed: int, num_draws: int, advance: Advance) -> Rates:
    """Figure 4; `advance` is called with 1 for every load."""
    shape = len(LOADS), len(SHARES), MAX_CLUSTER
    curves = {form: np.empty(shape) for form in ("theorem2", "exact")}
    drawn = {}
    for m, load in enumerate(LOADS):
        kappa = comm_acceptance(np.arange(1, MAX_CLUSTER + 1), load, NUM_BLOCKS, view="printed")
        for n, share in enumerate(SHARES):
            for L in range(1, MAX_CLUSTER + 1):
                for form in ("theorem2", "exact"):
                    model: Any = {"acceptance": float(kappa[L - 1]), "form": form}
                    curves[form][m, n, L - 1] = mean_rate(L, share, **model)
        for share, L in _drawn_points(load):
            values = user_rates(
                np.random.default_rng([seed, 4, m, round(100 * share), L]), num_draws, L, share, float(kappa[L - 1])
            )
            drawn[load, share, L] = float(np.mean(values)), float(np.std(values) / np.sqrt(num_draws))
        advance(1)
    return Rates(curves["theorem2"], curves["exact"], drawn)


def regions(advance: Advance) -> dict[float, Region]:
    """Figure 5 by backhaul: law (14) with the constant 2, station view; `advance` is called with 1 for each."""
    found = {}
    for C in BACKHAULS:
        problem = region_problem(C)
        floors = np.linspace(0.0, best_cluster(problem.rate)[1], NUM_RATES)
        joint, slot = (time_sharing_boundary(problem, floors, accounting) for accounting in ("joint", "slot"))
        found[C] = Region(floors, cooperative_boundary(problem, floors), slot, joint)
        advance(1)
    return found


def region_problem(backhaul: float) -> MeanProblem:
    """The paper's problem at one backhaul."""
    sensing = SensingModel(view="station", form="law", num_blocks=NUM_BLOCKS)
    return MeanProblem(0.0, backhaul, rate=RateModel(view="printed", num_blocks=NUM_BLOCKS), sensing=sensing)


def trimmed(values: NDArray[np.float64]) -> Curve:
    """Mean over the last axis without its largest 1 %."""
    kept = int((1 - TRIMMED) * values.shape[-1])
    return np.mean(np.partition(values, kept - 1, axis=-1)[..., :kept], axis=-1)


def _hill(values: NDArray[np.float64]) -> float:
    """Tail index from the largest 1 %, of values that are finite."""
    known = np.sort(values[np.isfinite(values)])
    top = known[-max(2, len(known) // 100) :]
    return float(1 / np.mean(np.log(top[1:] / top[0])))


def _drawn_points(load: float) -> list[tuple[float, int]]:
    """Shares and L that are simulated: all sizes at mu = 1, a few elsewhere."""
    if load == 1:
        return [(share, L) for share in (0.1, 0.5, 1.0) for L in DRAWN_SIZES]
    return [(1.0, L) for L in (2, 5, 12)]
