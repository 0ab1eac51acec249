"""The numbers behind the figures: theory over a fine power axis, the fit without a target, the ROC."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.experiment.record import StoredDetection
from testbed.experiment.results import Statistic, h0_survival
from testbed.theory import detection

Array = NDArray[np.float64]
MIN_COUNTED = 5  # false alarms below which a measured ROC is not drawn


@dataclass(frozen=True)
class Law:
    """Laws of one statistic at given degrees of freedom, as functions of arrays."""

    statistic: Statistic
    rank: int
    num_observations: int
    num_nuisance: int

    @classmethod
    def of(cls, stored: StoredDetection, statistic: Statistic) -> "Law":
        """The law a stored detection has to follow; the known-noise test has no other degree of freedom than r."""
        if statistic == "known_noise":
            return cls(statistic, stored.rank, 0, 0)
        return cls(statistic, stored.rank, stored.num_observations, stored.num_nuisance)

    @property
    def h0(self) -> detection.Law:
        """Law without a target."""
        if self.statistic == "known_noise":
            return detection.h0_law(self.rank)
        return detection.cfar_h0_law(self.rank, self.num_observations, self.num_nuisance)

    def threshold(self, pfa: float) -> float:
        """Threshold on T or F."""
        if self.statistic == "known_noise":
            return float(detection.glrt_threshold(pfa, self.rank))
        return float(detection.cfar_threshold(pfa, self.rank, self.num_observations, self.num_nuisance))

    def pod(self, noncentrality: ArrayLike, pfa: ArrayLike) -> Array:
        """Probability of detection; noncentrality and pfa are broadcast, a noncentrality below 0 counts as 0."""
        lam, level = np.broadcast_arrays(np.maximum(noncentrality, 0.0), np.asarray(pfa, dtype=np.float64))
        if self.statistic == "known_noise":
            return np.asarray(detection.detection_probability(lam, self.rank, pfa=level))
        dof = (self.rank, self.num_observations, self.num_nuisance)
        # SciPy's noncentral F leaves 0..1 by rounding
        return np.clip(detection.cfar_detection_probability(lam, *dof, pfa=level), 0.0, 1.0)


def noncentrality_over_power(axis_dbm: Array, power_dbm: Sequence[float], noncentrality: Sequence[float]) -> Array:
    """Noncentrality between the powers of a run: proportional to linear power.

    The ratio lam / P, nearly one number (converter rounding and gain steps move it a little), is interpolated over dBm
    and held beyond both ends, so the curve passes through every point.
    """
    order = np.argsort(power_dbm)
    x = np.asarray(power_dbm, dtype=np.float64)[order]
    ratio = np.asarray(noncentrality, dtype=np.float64)[order] / 10 ** (x / 10)
    curve: Array = np.interp(axis_dbm, x, ratio) * 10 ** (np.asarray(axis_dbm) / 10)
    return curve


@dataclass(frozen=True)
class H0Fit:
    """Pooled statistic without a target: how often it reached a value, and how often the law does."""

    law: Law
    num_trials: int
    num_mapped: int  # trials of other degrees of freedom, mapped to `law` at equal survival
    value: Array  # descending
    survival: Array  # measured: share of trials that reached `value`

    def band(self, value: Array) -> tuple[Array, Array]:
        """Between which shares 95 % of all experiments lie at each value, if the law holds."""
        from scipy import stats

        low, high = (stats.binom.ppf(q, self.num_trials, self.law.h0.sf(value)) for q in (0.025, 0.975))
        return low / self.num_trials, high / self.num_trials


def h0_fit(rows: Sequence[StoredDetection], statistic: Statistic, num_values: int = 300) -> H0Fit:
    """Empirical survival function of all H0 trials, thinned to `num_values` ranks evenly spread over its logarithm."""
    laws = [Law.of(stored, statistic) for stored in rows]
    common = Counter(laws).most_common(1)[0][0]
    pooled = np.concatenate(
        [
            getattr(stored, statistic) if law == common else common.h0.isf(h0_survival(stored, statistic))
            for stored, law in zip(rows, laws, strict=True)
        ]
    )
    n = pooled.size
    ranks = np.unique(np.geomspace(1, n, num_values).astype(np.int64))
    value = np.sort(pooled)[::-1][ranks - 1]
    mapped = sum(getattr(s, statistic).size for s, law in zip(rows, laws, strict=True) if law != common)
    return H0Fit(common, n, mapped, value, ranks / n)


@dataclass(frozen=True)
class Roc:
    """Measured receiver operating characteristic: shares of trials that reach a falling threshold."""

    threshold: Array
    pfa: Array
    pod: Array
    num_h0: int
    num_h1: int


def measured_roc(
    h1: StoredDetection, h0: Sequence[StoredDetection], statistic: Statistic, num_values: int = 200
) -> Roc:
    """ROC counted on captures alone: no law enters. `h0` of other degrees of freedom than `h1` is left out."""
    law = Law.of(h1, statistic)
    without = np.concatenate([getattr(s, statistic) for s in h0 if Law.of(s, statistic) == law])
    with_target: Array = np.sort(getattr(h1, statistic))
    n = without.size
    ranks = np.unique(np.geomspace(min(MIN_COUNTED, n), n, num_values).astype(np.int64)) if n else np.arange(0)
    threshold = np.sort(without)[::-1][ranks - 1]
    reached = with_target.size - np.searchsorted(with_target, threshold, side="left")
    return Roc(threshold, ranks / n, reached / with_target.size, n, with_target.size)


def nearest_half(pods: Sequence[float]) -> int:
    """Index of the probability nearest 0.5, where a ROC shows most."""
    return int(np.argmin(np.abs(np.asarray(pods) - 0.5)))
