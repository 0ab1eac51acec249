"""Range standard deviations and powers of all drops over self-interference and over the users' threshold.

    IC          all base stations at their caps, whether or not that serves the users
    optimum     the smallest largest range standard deviation that serves all users; NaN where nothing does
    mean        the smallest mean one, at a few levels only

Solvers are called here and nowhere else. Means are over drops in which some power serves all users: the same at all
points of a sweep over self-interference, others at every point of one over the threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.draws import Advance, mean_of
from sim.figures.localization_scenario import MIN_COMM_SINR_DB, SELF_GAIN_DB, Drops
from testbed.allocation.localization import RangeProblem, range_stds, serves, solve

METRICS = ("avg", "max")  # of a drop's three standard deviations
SCHEMES = ("IC", "optimum")
SELF_GAINS_DB = np.array([-140, -135, -130, -125, -120, -115, -110, -107.5, -105, -104, -103, -102, -101, -100, -97.5, -95, -90, -85, -80.0])  # fmt: skip  # noqa: E501
CDF_SELF_GAINS_DB = (-140.0, -110.0, -100.0, -90.0)  # of figure 3; the least mean is found at these
MIN_COMM_SINRS_DB = np.arange(-20.0, 11.0)
COMMON_DB = 4.0  # the common set of a sweep over the threshold: drops that can be served up to here
CANCELLED_DB = -40.0  # of the paths between stations, where static ones have been removed
_RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Sweep:
    """N drops at J points, of base stations k."""

    x: NDArray[np.float64]  # (J,), dB
    std_m: dict[str, NDArray[np.float64]]  # by scheme, (N, J, 3); the optimum's is NaN where nothing serves
    power_w: NDArray[np.float64]  # (N, J, 3), of the optimum
    feasible: NDArray[np.bool_]  # (N, J)
    ic_serves: NDArray[np.bool_]  # (N, J)

    def metric(self, scheme: str, metric: str) -> NDArray[np.float64]:
        """Mean or largest standard deviation of every drop, (N, J), m."""
        std = self.std_m[scheme]
        return np.mean(std, axis=2) if metric == "avg" else np.max(std, axis=2)

    def curve(self, scheme: str, metric: str, drops: NDArray[np.bool_] | None = None) -> "Curve":
        """Mean over the feasible drops, or over those of `drops` (N,)."""
        counted = self.feasible if drops is None else np.broadcast_to(drops[:, None], self.feasible.shape)
        return Curve(self.x, *mean_of(self.metric(scheme, metric), counted))

    def crossing(self, metric: str, drops: NDArray[np.bool_] | None = None, upto: float = np.inf) -> "Crossing":
        """Where the optimum's mean stops to be below IC's, over the feasible drops or over those of `drops` (N,)."""
        counted = self.feasible if drops is None else np.broadcast_to(drops[:, None], self.feasible.shape)
        kept = self.x <= upto
        gap = np.where(counted, self.metric("optimum", metric) - self.metric("IC", metric), 0.0)[:, kept]
        counts = counted[:, kept].astype(np.float64)
        rng = np.random.default_rng(0)
        weight = rng.multinomial(len(gap), np.full(len(gap), 1 / len(gap)), size=_RESAMPLES)
        with np.errstate(invalid="ignore"):
            mean, resampled = np.sum(gap, axis=0) / np.sum(counts, axis=0), (weight @ gap) / (weight @ counts)
        at, changes = crossing(self.x[kept], mean)
        spread = np.array([crossing(self.x[kept], row)[0] for row in resampled])
        known = spread[np.isfinite(spread)]
        return Crossing(at, float(np.std(known)) if len(known) > _RESAMPLES // 2 else np.nan, changes)

    def median_crossing(self, metric: str) -> float:
        """The same of medians; for a sweep whose feasible drops are the same at every point."""
        drops = self.feasible[:, 0]
        gap = [np.median(self.metric(scheme, metric)[drops], axis=0) for scheme in SCHEMES]
        return crossing(self.x, gap[1] - gap[0])[0]

    def at(self, x: float) -> int:
        """Index of a point."""
        return int(np.argmin(np.abs(self.x - x)))


@dataclass(frozen=True, eq=False)
class Curve:
    """A mean over drops."""

    x: NDArray[np.float64]  # (J,)
    mean: NDArray[np.float64]  # (J,), NaN where no drop counts
    stderr: NDArray[np.float64]  # (J,), NaN where fewer than two do

    def at(self, x: float) -> float:
        """Mean at a point of the axis."""
        return float(self.mean[np.argmin(np.abs(self.x - x))])


@dataclass(frozen=True)
class Crossing:
    """Where one mean overtakes another."""

    at: float  # NaN where it never does
    stderr: float  # by resampling drops
    changes: int  # of sign, all told


def crossing(x: NDArray[np.float64], gap: NDArray[np.float64]) -> tuple[float, int]:
    """Last place where `gap` goes from below 0 to above, linear between points, and how often it changes sign."""
    known = np.isfinite(gap)
    x, gap = x[known], gap[known]
    rises = np.flatnonzero((gap[:-1] < 0) & (gap[1:] >= 0))
    changes = int(np.sum(np.diff(np.sign(gap)) != 0))
    if not len(rises):
        return np.nan, changes
    k = rises[-1]
    return float(x[k] - gap[k] * (x[k + 1] - x[k]) / (gap[k + 1] - gap[k])), changes


def over_self_gain(drops: Drops, advance: Advance, self_gains_db: NDArray[np.float64] = SELF_GAINS_DB) -> Sweep:
    """Figures 3 and 4: self-interference over own power, dB; `advance` is called with the number of drops done."""
    return _sweep(drops, self_gains_db, lambda drop, x: drops.problem(drop, x, MIN_COMM_SINR_DB), advance)


def over_threshold(drops: Drops, advance: Advance, thresholds_db: NDArray[np.float64] = MIN_COMM_SINRS_DB) -> Sweep:
    """Figure 5: the SINR every user needs, dB."""
    return _sweep(drops, thresholds_db, lambda drop, x: drops.problem(drop, SELF_GAIN_DB, x), advance)


def least_mean_std(drops: Drops, self_gains_db: tuple[float, ...], advance: Advance) -> NDArray[np.float64]:
    """Standard deviations of the allocation with the least mean one, (N, J, 3), m; NaN where nothing serves."""
    found = np.full((len(drops), len(self_gains_db), 3), np.nan)
    for drop in range(len(drops)):
        for j, self_gain_db in enumerate(self_gains_db):
            problem = drops.problem(drop, self_gain_db)
            allocation = solve(problem, "mean_std")
            if allocation.status != "infeasible":
                found[drop, j] = range_stds(problem, allocation.power)
        advance(1)
    return found


def _sweep(
    drops: Drops, x: NDArray[np.float64], problem_at: Callable[[int, float], RangeProblem], advance: Advance
) -> Sweep:
    shape = (len(drops), len(x))
    std = {scheme: np.full((*shape, 3), np.nan) for scheme in SCHEMES}
    power, feasible, ic_serves = np.full((*shape, 3), np.nan), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for drop in range(len(drops)):
        for j, value in enumerate(x.tolist()):
            problem = problem_at(drop, value)
            caps = np.asarray(problem.max_power)
            std["IC"][drop, j], ic_serves[drop, j] = range_stds(problem, caps), serves(problem, caps)
            allocation = solve(problem, "policy")
            if allocation.status != "infeasible":
                feasible[drop, j], power[drop, j] = True, allocation.power
                std["optimum"][drop, j] = range_stds(problem, allocation.power)
        advance(1)
    return Sweep(x, std, power, feasible, ic_serves)
