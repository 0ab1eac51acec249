"""The numbers behind the figures: theory over a fine power axis, the fit without a target, the ROC."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.experiment.comp.law import Law, Statistic
from testbed.experiment.comp.statistics import StoredDetection

Array = NDArray[np.float64]
MIN_COUNTED = 5  # false alarms below which a measured ROC is not drawn


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
            getattr(stored, statistic) if law == common else common.h0.isf(law.survival(stored))
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
