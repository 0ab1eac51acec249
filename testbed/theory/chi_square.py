"""Are errors as large as their bounds say? Sums of squares of normalised errors against the chi-squared law.

With d degrees of freedom and errors z that are standard normal, sum z^2 ~ chi2(d). The test has two sides: too large a
sum says that a bound is missed, too small a one that what was counted as d independent errors was not.

SciPy is imported inside the functions: `isac check` and `isac --help` must start without it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from testbed.theory.arguments import whole


@dataclass(frozen=True)
class ChiSquareTest:
    """A sum of squares, and how it compares with its law."""

    statistic: float
    num_dof: int
    p_value: float  # two-sided: chance of a sum as far out, on either side
    level: float  # probability of a wrong "not consistent"
    low: float  # of the sums that are consistent at this level
    high: float

    @property
    def consistent(self) -> bool:
        """Whether the sum lies within its limits."""
        return self.low <= self.statistic <= self.high

    @property
    def ratio(self) -> float:
        """Root mean square of the errors over their bounds; 1 is expected."""
        return math.sqrt(self.statistic / self.num_dof)


def chi_square_test(statistic: float, num_dof: int, level: float = 0.05) -> ChiSquareTest:
    """Two-sided test of a sum of squares of normalised errors.

    Args:
        statistic: the sum, at least 0.
        num_dof: d, at least 1.
        level: probability of a wrong "not consistent", in (0, 1).

    Returns:
        p_value = 2 min(P(chi2(d) <= s), P(chi2(d) >= s)), and the sums whose p_value is at least `level`.

    Raises:
        ValueError: a negative or NaN sum, no degree of freedom, or a level outside (0, 1).
    """
    from scipy import stats

    d = whole(num_dof, "num_dof", 1)
    if not statistic >= 0:
        raise ValueError(f"statistic {statistic:g} - a sum of squares must be at least 0")
    law = stats.chi2(d)
    low, high = law.ppf(_level(level) / 2), law.isf(level / 2)
    p_value = 2 * min(law.cdf(statistic), law.sf(statistic))
    return ChiSquareTest(float(statistic), d, float(min(p_value, 1.0)), level, float(low), float(high))


def bonferroni_level(level: float, num_tests: int) -> float:
    """Level of each of several tests, so that any of them is wrong with at most `level`; whatever their dependence."""
    return _level(level) / whole(num_tests, "num_tests", 1)


def bonferroni_rejects(p_values: ArrayLike, level: float) -> bool:
    """Whether any of several tests rejects at its share of the level."""
    p = np.asarray(p_values, dtype=np.float64).ravel()
    if p.size == 0 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"{p.size} p-values - at least one is needed, each in 0..1")
    return bool(np.min(p) < bonferroni_level(level, p.size))


def std_interval(std: float, num_dof: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval that holds a true standard deviation: d s^2 / sigma^2 ~ chi2(d), d = T - 1 of T trials.

    Args:
        std: s, measured about the mean of the trials, at least 0.
        num_dof: d, at least 1.
        confidence: probability that it does, in (0, 1); half of the rest on either side.

    Source: standard theory. Differs: none. Valid for: independent normal errors.
    """
    from scipy import stats

    d, out = whole(num_dof, "num_dof", 1), 1 - _level(confidence, "confidence")
    if not std >= 0:
        raise ValueError(f"std {std:g} - it must be at least 0")
    law = stats.chi2(d)
    return float(std * np.sqrt(d / law.isf(out / 2))), float(std * np.sqrt(d / law.ppf(out / 2)))


def _level(value: float, name: str = "level") -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} {value:g} - it must lie in (0, 1)")
    return value
