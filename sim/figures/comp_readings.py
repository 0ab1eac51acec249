"""What a curve of the letter may mean, for channels that are drawn at random: one draw, or two ways to average.

    S1   one draw; a scheme that violates a requirement there has no sum rate (NaN)
    M    EPA and RPA: mean over all draws, none where the mean PoD or the mean rate misses its requirement
         PPA: mean over the draws in which it is feasible, because it knows the channel; so M is not one rule for all
    Z    mean over all draws for every scheme; a draw in which it violates a requirement counts 0

A fourth rule, D, drops a scheme's infeasible draws. It flatters who is rarely feasible; its effect is only told. The
share of draws in which a scheme meets every requirement goes with every curve.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.comp_rates import SCHEMES, Sweep, fixed, largest_sum_rates, sweep
from sim.figures.comp_scenario import (
    BUDGETS_DB,
    MIN_COMM_SINR,
    NUM_CELLS,
    POD,
    POD_BUDGETS_DB,
    PODS,
    Channels,
    required_sensing_snr,
)
from sim.figures.draws import Advance, mean_of

READINGS = ("S1", "M", "Z")
MIN_RATE = float(np.log2(1 + MIN_COMM_SINR))
GAP_BUDGETS_DB = np.array([10.0, 15.0, 20.0])  # where the gain over EPA is judged
MATCH_FROM_DB, MATCH_TO_DB = 15.0, 19.0  # PPA at the first should equal EPA at the second
_SAME = 1e-5  # bit/s/Hz; an alternation stops this close to its maximum
_NO_MATCH_DB = 40.0
FIT_STEPS = 8  # halvings of the range in which a fitted cross-link variance is looked for
_CROSS_VARS = 0.02, 0.5


@dataclass(frozen=True, eq=False)
class Curve:
    """One scheme under one reading."""

    x: NDArray[np.float64]  # (K,), budget in dB or required PoD
    sum_rate: NDArray[np.float64]  # (K,), bit/s/Hz, NaN where the reading has none
    stderr: NDArray[np.float64]  # (K,), NaN for one draw
    feasible_share: NDArray[np.float64]  # (K,), of draws that meet every requirement

    def at(self, x: float) -> float:
        """Sum rate at a point of the axis."""
        return float(self.sum_rate[self._idx(x)])

    def share_at(self, x: float) -> float:
        """Share of feasible draws at a point of the axis."""
        return float(self.feasible_share[self._idx(x)])

    def _idx(self, x: float) -> int:
        return int(np.argmin(np.abs(self.x - x)))


@dataclass(frozen=True)
class Match:
    """The budget at which EPA has the sum rate of PPA at MATCH_FROM_DB; inf where none below 40 dB has."""

    total_power_db: float
    stderr_db: float  # NaN for one draw
    free_db: float | None = None  # M: of PPA over all draws, without requirements
    free_stderr_db: float | None = None
    fitted_cross_var: float | None = None  # variance of cross links with which the match is MATCH_TO_DB


@dataclass(frozen=True, eq=False)
class Reading:
    """All curves of one reading, and what its claims need besides."""

    name: str
    over_budget: dict[str, Curve]  # by scheme
    over_pod: dict[float, dict[str, Curve]]  # by budget in dB, then scheme
    mean_pod: dict[str, NDArray[np.float64]]  # of EPA and RPA, (len(BUDGETS_DB),)
    match: Match
    aside: dict[str, float]


@dataclass(frozen=True, eq=False)
class Rates:
    """Everything that is solved for one set of channels."""

    channels: Channels
    over_budget: Sweep
    over_pod: dict[float, Sweep]
    free: NDArray[np.float64]  # (D, 3), PPA without requirements at GAP_BUDGETS_DB
    method: str


def solve_rates(channels: Channels, method: str, advance: Advance) -> Rates:
    """Solve every point of figures 2b and 2c for every draw; `advance` is called with the number of draws done."""
    budgets = np.concatenate([BUDGETS_DB, *(np.full(len(PODS), b) for b in POD_BUDGETS_DB)])
    pods = np.concatenate([np.full(len(BUDGETS_DB), POD), *(PODS for _ in POD_BUDGETS_DB)])
    part = np.concatenate([np.full(len(BUDGETS_DB), np.nan), *(np.full(len(PODS), b) for b in POD_BUDGETS_DB)])
    found = sweep(channels, budgets, pods, method, advance)
    free = largest_sum_rates(channels, GAP_BUDGETS_DB, 0.0, np.zeros(len(GAP_BUDGETS_DB)), method)
    over_pod = {b: found.pick(part == b) for b in POD_BUDGETS_DB}
    return Rates(channels, found.pick(np.isnan(part)), over_pod, free, method)


def read(name: str, rates: Rates, advance: Advance = lambda count: None) -> Reading:
    """The curves of one of READINGS; `advance` is called with 1 for each of FIT_STEPS of an ensemble."""
    return Reading(
        name,
        curves(name, rates.over_budget, rates.over_budget.total_power_db),
        {b: curves(name, found, found.pod) for b, found in rates.over_pod.items()},
        {scheme: np.mean(pod, axis=0) for scheme, pod in rates.over_budget.mean_pod.items()},
        _match(name, rates, advance),
        _aside(rates),
    )


def curves(name: str, found: Sweep, x: NDArray[np.float64]) -> dict[str, Curve]:
    """Curve of every scheme by a reading's rule."""
    made = {}
    for scheme in SCHEMES:
        rate, feasible = found.sum_rate[scheme], found.feasible[scheme]
        if name == "Z":
            mean, stderr = mean_of(np.where(feasible, rate, 0.0), np.full_like(feasible, True))
        elif name == "M" and scheme != "PPA":
            mean, stderr = mean_of(rate, np.full_like(feasible, True))
            passed = (np.mean(found.mean_pod[scheme], axis=0) >= found.pod) & (mean / NUM_CELLS >= MIN_RATE)
            mean, stderr = np.where(passed, mean, np.nan), np.where(passed, stderr, np.nan)
        else:
            mean, stderr = mean_of(rate, feasible)
        made[scheme] = Curve(x, mean, stderr, np.mean(feasible, axis=0))
    return made


def matching_budget_db(target: float, rate_at: Callable[[float], float]) -> float:
    """Budget at which a rising sum rate reaches `target`, by bisection in 7..40 dB; -inf or inf beyond."""
    low, high = float(BUDGETS_DB[0]), _NO_MATCH_DB
    if rate_at(low) >= target:
        return -np.inf
    if not rate_at(high) >= target:
        return np.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if rate_at(middle) >= target else (middle, high)
    return high


def _match(name: str, rates: Rates, advance: Advance) -> Match:
    best = rates.over_budget.sum_rate["PPA"][:, BUDGETS_DB == MATCH_FROM_DB][:, 0]
    if name == "S1":
        return Match(_match_of(rates.channels, best, "zero")[0], np.nan)
    if name == "Z":
        return Match(*_match_of(rates.channels, np.nan_to_num(best), "zero"), None, None, _fit(name, rates, advance))
    feasible, free = best[np.isfinite(best)], rates.free[:, GAP_BUDGETS_DB == MATCH_FROM_DB][:, 0]
    first, second = (_match_of(rates.channels, ppa, "all") for ppa in (feasible, free))
    return Match(*first, *second, _fit(name, rates, advance))


def _fit(name: str, rates: Rates, advance: Advance) -> float | None:
    """Cross-link variance with which the match is MATCH_TO_DB: with requirements by Z, without by M."""
    budget = np.array([MATCH_FROM_DB])
    demand = (MIN_COMM_SINR, required_sensing_snr(np.array([POD]))) if name == "Z" else (0.0, np.zeros(1))

    def match(cross_var: float) -> float:
        channels = rates.channels.with_cross_var(cross_var)
        ppa = np.nan_to_num(largest_sum_rates(channels, budget, *demand, rates.method)[:, 0])
        return _match_of(channels, ppa, "zero" if name == "Z" else "all")[0]

    low, high = _CROSS_VARS
    for _ in range(FIT_STEPS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if match(middle) >= MATCH_TO_DB else (middle, high)
        advance(1)
    at_an_end = low == _CROSS_VARS[0] or high == _CROSS_VARS[1]
    return None if at_an_end else float(np.sqrt(low * high))


def _match_of(channels: Channels, ppa: NDArray[np.float64], rule: str) -> tuple[float, float]:
    """Budget at which EPA's mean is that of `ppa`, and its standard error; NaN where there is none."""
    if not np.all(np.isfinite(ppa)) or not len(ppa):
        return np.nan, np.nan
    found = matching_budget_db(float(np.mean(ppa)), lambda budget: float(np.mean(_equal(channels, budget, rule))))
    if not np.isfinite(found) or len(ppa) < 2:
        return found, np.nan
    equal = _equal(channels, found, rule)
    slope = (np.mean(_equal(channels, found + 0.5, rule)) - np.mean(equal)) / 0.5
    if len(ppa) == len(equal):
        variance = np.var(ppa - equal) / len(ppa)
    else:  # PPA's draws are some of EPA's; without the covariance this is slightly too large
        variance = np.var(ppa) / len(ppa) + np.var(equal) / len(equal)
    return found, float(np.sqrt(variance) / slope) if slope > 0 else np.nan


def _equal(channels: Channels, total_power_db: float, rule: str) -> NDArray[np.float64]:
    """EPA's sum rate of every draw; where it violates a requirement: 0 by "zero", kept by "all"."""
    rate, met, _ = fixed(channels, "EPA", np.array([total_power_db]), required_sensing_snr(np.array([POD])))
    return rate[:, 0] if rule == "all" else np.where(met[:, 0], rate[:, 0], 0.0)


def _aside(rates: Rates) -> dict[str, float]:
    """Numbers that decide what a mean cannot: on common draws, per draw, without requirements, and by rule D."""
    found = rates.over_budget
    ppa, epa = found.sum_rate["PPA"], found.sum_rate["EPA"]
    at = np.isin(BUDGETS_DB, GAP_BUDGETS_DB)
    gap = (ppa - epa)[:, at]
    at_15 = BUDGETS_DB == MATCH_FROM_DB
    rate_15 = {s: found.sum_rate[s][found.feasible[s][:, at_15][:, 0]][:, at_15] for s in SCHEMES}
    low = rates.over_pod[POD_BUDGETS_DB[0]].sum_rate["PPA"][:, PODS <= 0.8 + 1e-9]
    common = low[np.all(np.isfinite(low), axis=1)]
    lost = [np.any(found.feasible[s] & ~(found.sum_rate[s] <= ppa + _SAME), axis=1) for s in SCHEMES[1:]]
    falls = np.nan_to_num(np.diff(ppa, axis=1)) < -_SAME
    all_three = np.all([met[:, -1] for met in rates.over_pod[POD_BUDGETS_DB[1]].feasible.values()], axis=0)
    return {
        "share_of_draws_where_ppa_falls_with_budget": float(np.mean(np.any(falls, axis=1))),
        "share_of_draws_where_ppa_is_beaten": float(np.mean(np.any(lost, axis=0))),
        "share_of_draws_where_gap_widens": float(np.mean(np.all(np.diff(gap, axis=1) > 0, axis=1))),
        "share_of_draws_feasible_for_all_at_20_db_and_0.99": float(np.mean(all_three)),
        "rule_d_ppa_minus_epa_at_15_db": _difference(rate_15["PPA"], rate_15["EPA"]),
        "common_draws_share_at_10_db": len(common) / len(low),
        "common_draws_ppa_drop_from_0.3_to_0.8": _difference(common[:, :1], common[:, -1:]),
        **{
            f"free_gap_at_{budget:g}_db": float(np.mean(rates.free[:, k] - epa[:, at][:, k]))
            for k, budget in enumerate(GAP_BUDGETS_DB)
        },
    }


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.mean(a) - np.mean(b)) if a.size and b.size else float("nan")
