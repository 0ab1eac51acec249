"""The known-noise detector's threshold and detection probability with NumPy alone.

`isac check` predicts PoD with these, because loading SciPy takes longer than the prediction; the tests use them as the
route to `theory.detection` that shares no code with it. Both rest on one identity: 2T ~ ncx2(2r, lam) is chi2(2r + 2k)
with k Poisson of mean lam / 2, and a chi-squared tail of even order is a Poisson sum itself,

    Q(m, delta) = exp(-delta) sum_{j<m} delta^j / j!        PoD = sum_k Poisson(k; lam/2) Q(r + k, delta)

All terms are positive, so nothing cancels.

Source: CoMP-ISAC letter, eqs. (10) and (12), for whole r. Differs: series in place of the Marcum function.
"""

import math

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import Values, not_negative, probability, shaped, whole


def glrt_threshold_series(pfa: float, rank: int) -> float:
    """Threshold delta on T with Q(rank, delta) = pfa, as `detection.glrt_threshold`.

    Newton's method on ln Q, which is concave and falling in delta: whatever the start, every later step comes down to
    the root from above.

    Raises:
        ValueError: `pfa` outside (0, 1) or a rank below 1.

    Valid for: pfa <= 0.5 to 1e-14 relative, rank up to a few hundred.
    """
    target = math.log(float(probability(pfa, "pfa")))
    r = whole(rank, "rank", 1)
    delta = float(r)
    for _ in range(200):
        # Q = last * terms, where last = exp(-delta) delta^(r-1) / (r-1)! = -dQ/ddelta and terms runs from j = r-1 down
        terms = 1.0 + float(np.cumprod(np.arange(r - 1, 0, -1) / delta).sum())
        log_q = (r - 1) * math.log(delta) - delta - math.lgamma(r) + math.log(terms)
        step = terms * (log_q - target)
        delta = max(delta + step, 1e-3 * delta)
        if abs(step) <= 4e-16 * delta:
            break
    return delta


def detection_probability_series(noncentrality: Values, rank: int, threshold: float) -> Values:
    """Probability that T reaches `threshold`, as `detection.detection_probability`.

    Args:
        noncentrality: lam, linear, any shape.
        rank: degrees of freedom of the test, whole.
        threshold: delta, on T.

    Returns:
        Probability, same shape as `noncentrality`.

    Raises:
        ValueError: a negative noncentrality or threshold, or a rank below 1.

    Valid for: 1e-12 relative for noncentralities and thresholds up to several thousand and results above 1e-280; work
    and memory grow with the larger of the two.
    """
    lam = not_negative(noncentrality, "noncentrality")
    delta = float(not_negative(threshold, "threshold"))
    r = whole(rank, "rank", 1)
    return shaped(np.array([_mixture(x / 2, r, delta) for x in lam.flat]).reshape(lam.shape), noncentrality)


def _mixture(mu: float, r: int, delta: float) -> float:
    reach = max(mu, delta)
    num_terms = int(reach + 40.0 * math.sqrt(reach)) + 200  # 40 standard deviations: what is left out is below 1e-300
    tails = np.cumsum(_poisson(delta, r + num_terms))[r - 1 : r - 1 + num_terms]  # Q(r + k, delta)
    return min(float(_poisson(mu, num_terms) @ tails), 1.0)


def _poisson(mean: float, size: int) -> NDArray[np.float64]:
    """Poisson probabilities of 0 .. size-1, by ratios from the mode and normalised: no logarithm of a large number."""
    mode = int(mean)
    above = np.cumprod(mean / np.arange(mode + 1, size))
    below = np.cumprod(np.arange(mode, 0, -1) / mean)[::-1] if mode else np.empty(0)
    weights = np.concatenate([below, [1.0], above])
    return weights / float(weights.sum())
