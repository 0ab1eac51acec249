"""Are ranges as good as their bounds say, and as rarely outliers?"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import CaptureError
from testbed.sensing.ranging import Ranging
from testbed.theory.chi_square import ChiSquareTest, chi_square_test, std_interval


def range_chi_square(ranging: Ranging, true_range_m: float | None = None, *, level: float = 0.05) -> ChiSquareTest:
    """Squared errors of the ranges of a capture over their bounds, against the chi-squared law.

        sum over frames of ((range_m - drift_m - r) / crlb_m)^2

    r is the true range at the capture's middle, with as many degrees of freedom as frames; or, without a truth, the
    mean of the ranges weighted by their bounds, which takes one. A bias shows against the truth only. Outliers, which
    no bound describes, are left out: `outlier_p_value` judges whether there are too many.

    Every frame counts as a trial, also where `ranging.independent` says that they are none: then they agree better than
    their bounds, and are off together.

    Args:
        ranging: of one node.
        true_range_m: r.
        level: probability of a wrong "not consistent".

    Raises:
        CaptureError: too few frames that are no outliers.
    """
    kept = ~ranging.outlier
    num_dof = int(np.count_nonzero(kept)) - (true_range_m is None)
    if num_dof < 1:
        raise CaptureError(
            f"node '{ranging.node}': {np.count_nonzero(kept)} of {ranging.num_frames} ranges are no outliers; too few "
            f"to judge; raise the power or capture more frames"
        )
    r: NDArray[Any] = (ranging.range_m - ranging.drift_m)[kept]
    weight = 1 / ranging.crlb_m[kept] ** 2
    centre = float(weight @ r / np.sum(weight)) if true_range_m is None else true_range_m
    return chi_square_test(float(weight @ (r - centre) ** 2), num_dof, level)


def outlier_p_value(ranging: Ranging) -> float:
    """Chance of as many outliers or more, were their share twice what is predicted for a grid of range bins.

    Twice: between the bins of the resolution there are more chances to err (`theory.ranging.outlier_probability`).
    """
    from scipy import stats

    share = min(2 * ranging.outliers_predicted, 1.0)
    return float(stats.binom.sf(np.count_nonzero(ranging.outlier) - 1, ranging.num_frames, share))


def range_std_interval(ranging: Ranging, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the true spread of the ranges, m; outliers left out, trials taken as independent.

    Raises:
        CaptureError: fewer than two ranges.
    """
    if ranging.range_std_m.count < 2:
        raise CaptureError(f"node '{ranging.node}': {ranging.range_std_m.count} ranges have no spread; capture more")
    return std_interval(ranging.range_std_m.value, ranging.range_std_m.count - 1, confidence)
