"""The localisation paper's claims C3.1 to C5.3 as rules on the computed sweeps.

A convention is one of two sets of drops. C3.3, C4.3 and C5.3 hold on every drop or not at all; the others are about
means over drops. The paper's own numbers are lost: what is judged is the effect it describes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.claims import Claims, Finding, finding
from sim.figures.localization_scenario import MAX_POWER_W
from sim.figures.localization_sweeps import CDF_SELF_GAINS_DB, COMMON_DB, Sweep
from testbed.units import db

EXACT = 1e-9  # relative: rounding of a bound that holds per drop
SATURATED = 0.01  # of the relative gain: less is a curve that has become flat
NUM_SIGMA = 4.0
COARSE_M = 10.0  # a range standard deviation of this and more is tens of metres
FINE_M = 5.0
LOOSE_DB = -5.0  # thresholds up to here are loose
FEW = 10  # feasible drops; fewer make no mean


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the rules look at."""

    self_gain: Sweep
    threshold: Sweep
    cancelled: Sweep  # over self-interference, static paths between stations cancelled
    least_mean: NDArray[np.float64]  # (N, len(CDF_SELF_GAINS_DB), 3), m, of the allocation with the least mean

    @property
    def common(self) -> NDArray[np.bool_]:
        """Drops that can be served at every threshold up to COMMON_DB, (N,)."""
        return np.all(self.threshold.feasible[:, self.threshold.x <= COMMON_DB], axis=1)


def _crosses(evidence: Evidence) -> Finding:
    sweep = evidence.self_gain
    of_means, cancelled = sweep.crossing("avg"), evidence.cancelled.crossing("avg")
    first, last = (_gains(sweep, "avg")[k] for k in (0, -1))
    numbers = {
        "crossing_db": of_means.at,
        "stderr_db": of_means.stderr,
        "crossing_of_medians_db": sweep.median_crossing("avg"),
        "crossing_without_static_paths_db": cancelled.at,
        "its_stderr_db": cancelled.stderr,
        "crossing_of_worst_db": sweep.crossing("max").at,
        "share_of_drops_better_at_-140_db": _share_better(sweep, -140),
        "share_of_drops_better_at_-100_db": _share_better(sweep, -100),
    }
    note = "the mean of three is not what is optimised: the worst of three never crosses"
    served = sweep.feasible[:, 0]
    for j, x in enumerate(CDF_SELF_GAINS_DB):
        numbers[f"least_mean_avg_at_{x:g}_db"] = float(np.mean(evidence.least_mean[served, j]))
    known = sweep.ic_serves[:, 0]
    ic = np.stack([sweep.metric("IC", "avg")[known, sweep.at(x)] for x in CDF_SELF_GAINS_DB], axis=1)
    if np.all(np.mean(evidence.least_mean[known], axis=2) <= ic * (1 + EXACT)):
        note += "; powers of the least mean are never above IC where IC serves"
    return finding(first > 0 > last and of_means.changes == 1, numbers, note)


def _gain_saturates(evidence: Evidence) -> Finding:
    sweep = evidence.self_gain
    gain = _gains(sweep, "avg")
    below = sweep.x <= sweep.crossing("avg").at
    known = gain[below]
    falls = len(known) > 2 and bool(np.all(np.diff(known) <= EXACT))
    flat = abs(gain[sweep.at(-140)] - gain[sweep.at(-130)])
    numbers = {f"gain_avg_at_{x:g}_db": float(gain[sweep.at(x)]) for x in (-140, -120, -110, -105)}
    numbers |= {"gain_max_at_-140_db": float(_gains(sweep, "max")[sweep.at(-140)]), "change_to_-130_db": float(flat)}
    return finding(falls and flat < SATURATED, numbers, "gains are over IC's mean, where the optimum is better")


def _worst_never_above(evidence: Evidence) -> Finding:
    sweep = evidence.self_gain
    ratio = (sweep.metric("optimum", "max") / sweep.metric("IC", "max"))[sweep.ic_serves]
    share = float(np.mean(ratio <= 1 + EXACT)) if len(ratio) else np.nan
    numbers = {"share_of_drops": share, "largest_ratio": float(np.max(ratio, initial=-np.inf)), "pairs": len(ratio)}
    return finding(share == 1, numbers, "exact, at every level, where IC serves the users")


def _power_falls(evidence: Evidence) -> Finding:
    sweep = evidence.self_gain
    power = np.mean(sweep.power_w[sweep.feasible[:, 0]], axis=(0, 2))
    in_dbm = 30 + db(power)
    mean_dbm = 30 + np.mean(db(sweep.power_w[sweep.feasible[:, 0]]), axis=(0, 2))
    numbers = {f"mean_power_dbm_at_{x:g}_db": float(in_dbm[sweep.at(x)]) for x in (-140, -105, -100, -90, -80)}
    numbers |= {f"mean_of_dbm_at_{x:g}_db": float(mean_dbm[sweep.at(x)]) for x in (-140, -80)}
    return finding(bool(np.all(np.diff(power) < 0)), numbers, "a property of the average only, see C4.3")


def _std_rises(evidence: Evidence) -> Finding:
    sweep = evidence.self_gain
    std = sweep.std_m["optimum"][sweep.feasible[:, 0]]
    mean = np.mean(std, axis=0)
    rises = bool(np.all(np.diff(mean, axis=0) > 0))
    spread = np.ptp(mean, axis=1) / np.mean(mean, axis=1)
    between = [std[:, :, a] - std[:, :, b] for a, b in ((0, 1), (1, 2), (2, 0))]
    sigmas = [np.abs(np.mean(d, axis=0)) / np.maximum(np.std(d, axis=0, ddof=1), 1e-300) for d in between]
    apart = float(np.max(sigmas) * np.sqrt(len(std)))
    numbers = {f"mean_std_m_at_{x:g}_db": float(np.mean(mean[sweep.at(x)])) for x in (-140, -110, -80)}
    numbers |= {"largest_spread_of_stations": float(np.max(spread)), "largest_difference_in_stderr": apart}
    return finding(rises and apart <= NUM_SIGMA, numbers, "the scene is symmetric; stations may differ by chance only")


def _one_at_its_cap(evidence: Evidence) -> Finding:
    ratio = [np.max(sweep.power_w[sweep.feasible], axis=1) / MAX_POWER_W for sweep in _all(evidence)]
    found = np.concatenate(ratio)
    numbers = {"smallest_of_largest_power_over_cap": float(np.min(found)), "largest": float(np.max(found))}
    return finding(bool(np.all(found == 1)), numbers, "more power for all raises every SINR")


def _too_coarse(evidence: Evidence) -> Finding:
    coarse = evidence.self_gain.curve("optimum", "avg").mean
    fine = {scheme: evidence.cancelled.curve(scheme, "avg").at(-140) for scheme in ("IC", "optimum")}
    numbers = {"least_mean_std_m": float(np.min(coarse))}
    numbers |= {f"{scheme.lower()}_without_static_paths_m": value for scheme, value in fine.items()}
    holds = bool(np.all(coarse >= COARSE_M) and max(fine.values()) <= FINE_M)
    return finding(holds, numbers, "raw SINR, no processing gain; without static paths: between stations -40 dB")


def _better_when_loose(evidence: Evidence) -> Finding:
    own, common = (_loose_gain(evidence.threshold, drops) for drops in (None, evidence.common))
    numbers = _at_thresholds(evidence.threshold) | {"least_gain_own_m": own, "least_gain_common_m": common}
    return finding(own > 0 and common > 0, numbers, _sets(evidence), convention=max(own, common) > 0)


def _worse_when_strict(evidence: Evidence) -> Finding:
    sweep, enough = evidence.threshold, np.sum(evidence.threshold.feasible, axis=0) >= FEW
    upto = float(np.max(sweep.x[enough], initial=-np.inf))
    own = sweep.crossing("avg", upto=upto)
    common = sweep.crossing("avg", evidence.common, upto=COMMON_DB)
    numbers = {
        "crossing_own_db": own.at,
        "stderr_own_db": own.stderr,
        "crossing_common_db": common.at,
        "stderr_common_db": common.stderr,
        "crossing_of_worst_db": sweep.crossing("max", upto=upto).at,
        "common_drops": float(np.sum(evidence.common)),
        "feasible_share_at_-5_db": float(np.mean(sweep.feasible[:, sweep.at(-5)])),
        "feasible_share_at_0_db": float(np.mean(sweep.feasible[:, sweep.at(0)])),
        "feasible_share_at_4_db": float(np.mean(sweep.feasible[:, sweep.at(4)])),
        "ic_serves_at_-5_db": float(np.mean(sweep.ic_serves[:, sweep.at(-5)])),
    }
    both = np.isfinite([own.at, common.at])
    note = _sets(evidence) + "; IC does not serve all users itself, so it is no fair competitor"
    return finding(bool(np.all(both)), numbers, note, convention=bool(np.any(both)))


def _worst_rises(evidence: Evidence) -> Finding:
    sweep = evidence.threshold
    worst = sweep.metric("optimum", "max")
    before, after = worst[:, :-1], worst[:, 1:]
    pairs = sweep.feasible[:, :-1] & sweep.feasible[:, 1:]
    holds = np.all(~pairs | (np.nan_to_num(after) >= np.nan_to_num(before) * (1 - EXACT)), axis=1)
    nested = np.all(np.diff(sweep.feasible.astype(int), axis=1) <= 0, axis=1)
    least = {}
    for name, drops in (("own", None), ("common", evidence.common)):
        curve = sweep.curve("optimum", "avg", drops)
        kept = curve.x <= COMMON_DB
        least[f"mean_is_least_at_{name}_db"] = (
            float(curve.x[kept][np.nanargmin(curve.mean[kept])]) if np.any(np.isfinite(curve.mean[kept])) else np.nan
        )
    numbers = {"share_of_drops": float(np.mean(holds & nested)), **least}
    return finding(bool(np.all(holds & nested)), numbers, "exact, of the worst of three; the mean of three dips first")


CLAIMS: Claims[Evidence] = {
    "C3.1": ("optimum better in the mean below some self-interference, not above", _crosses),
    "C3.2": ("the gain grows as self-interference falls, and saturates", _gain_saturates),
    "C3.3": ("worst range never worse than IC's, on every drop", _worst_never_above),
    "C4.1": ("mean power falls as self-interference rises", _power_falls),
    "C4.2": ("range STD rises with self-interference, alike at all stations", _std_rises),
    "C4.3": ("one station at its cap, on every drop", _one_at_its_cap),
    "C4.4": ("tens of metres, too coarse without further processing", _too_coarse),
    "C5.1": ("optimum better in the mean at loose thresholds", _better_when_loose),
    "C5.2": ("optimum worse in the mean at strict thresholds", _worse_when_strict),
    "C5.3": ("worst range never better at a stricter threshold, on every drop", _worst_rises),
}


def _all(evidence: Evidence) -> tuple[Sweep, ...]:
    return evidence.self_gain, evidence.threshold, evidence.cancelled


def _gains(sweep: Sweep, metric: str) -> NDArray[np.float64]:
    """1 less the optimum's mean over IC's, at every point."""
    return 1 - sweep.curve("optimum", metric).mean / sweep.curve("IC", metric).mean


def _share_better(sweep: Sweep, x: float) -> float:
    j = sweep.at(x)
    better = sweep.metric("optimum", "avg")[:, j] < sweep.metric("IC", "avg")[:, j]
    return float(np.mean(better[sweep.feasible[:, j]]))


def _loose_gain(sweep: Sweep, drops: NDArray[np.bool_] | None) -> float:
    gap = sweep.curve("IC", "avg", drops).mean - sweep.curve("optimum", "avg", drops).mean
    return float(np.min(gap[sweep.x <= LOOSE_DB]))


def _at_thresholds(sweep: Sweep) -> dict[str, float]:
    curves = {scheme: sweep.curve(scheme, "avg") for scheme in ("IC", "optimum")}
    return {f"{s.lower()}_avg_m_at_{x:g}_db": curve.at(x) for s, curve in curves.items() for x in (-20, -5, 0, 4)}


def _sets(evidence: Evidence) -> str:
    num = int(np.sum(evidence.common))
    return f"own: every threshold over its own feasible drops; common: {num} drops feasible up to {COMMON_DB:g} dB"
