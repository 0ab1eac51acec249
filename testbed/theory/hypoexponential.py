"""Law of a weighted sum of independent unit exponentials, S = sum_i w_i E_i, with weights of either sign.

    E exp(s S) = M(s) = prod_i 1 / (1 - w_i s)
    P(S > x) = 1 / (2 pi j) int M(s) exp(-s x) / s ds        from c - j inf to c + j inf, 0 < c < 1 / w_max, x >= 0

The path is bent into the hyperbola s(v) = b cosh(v - j theta), b = 1 / w_max, which meets the real axis at the saddle
point c = b cos theta and keeps all poles of positive weights on its right, 0 and the others on its left; the
trapezoidal rule converges on it exponentially. Equal weights, for which partial fractions divide by zero, and nearly
equal ones, for which they cancel, are nothing special. Below 0 the law is that of -S.

Source: moment generating function of a quadratic form in complex Gaussian variables (Turin 1960), inverted as in
Weideman and Trefethen 2007. Differs: the contour passes through the saddle point, so tails keep their digits.
Valid for: P(S > x) relative to 1e-10 down to 1e-200 for x >= 0; absolute to 1e-13 for x < 0.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import Values, probability, shaped

_STEP = 8.0  # steps of the rule per half-width of the analytic strip: error exp(-2 pi 8), times a pole of high order
_FAR = 37.0  # -ln of what is left out at the ends
_BATCH = 1 << 16  # complex numbers at a time, what a cache holds
_MOST_FACTORS = 100  # a product of more may overflow


def hypoexponential_tail(x: Values, weights: Any) -> Values:
    """Probability that sum_i w_i E_i exceeds `x`.

    Args:
        x: any shape, finite.
        weights: shape (n,), real, of either sign; zeros do not count.

    Returns:
        Probability, same shape as `x`; of no weights at all, 1 below 0 and 0 from there on.

    Raises:
        ValueError: `x` or `weights` not finite, or `weights` not a vector.
    """
    at, w = _finite(x, "x"), _weights(weights)
    scale = np.max(np.abs(w), initial=0.0)
    if scale == 0:
        return shaped(np.where(at < 0, 1.0, 0.0), x)
    at, w, found = at / scale, w / scale, np.empty(at.shape)
    above = at >= 0
    found[above] = _upper(at[above], w)
    found[~above] = 1 - _upper(-at[~above], -w)
    return shaped(np.clip(found, 0.0, 1.0), x)


def hypoexponential_threshold(tail: Values, weights: Any) -> Values:
    """Where `hypoexponential_tail` is `tail`: the threshold for a probability of false alarm, relative to 1e-12.

    Args:
        tail: probability in (0, 1), any shape.
        weights: shape (n,), real, at least one not 0.

    Raises:
        ValueError: `tail` outside (0, 1), or weights as in `hypoexponential_tail` or all 0.
    """
    from scipy import optimize

    p, w = probability(tail, "tail"), _weights(weights)
    if not np.any(w):
        raise ValueError("weights: all are 0 - a sum that is always 0 has no threshold")
    size = float(np.sum(np.abs(w)))
    found = np.empty(p.shape)
    for at in np.ndindex(p.shape):
        excess = functools.partial(_excess, w, float(np.log(p[at])))
        low, high = 0.0, 0.0
        while excess(high) > 0:
            high = 2 * high + size
        while excess(low) < 0:
            low = 2 * low - size
        found[at] = optimize.brentq(excess, low, high, xtol=1e-14 * size, rtol=1e-13) if low < high else low
    return shaped(found, tail)


def _excess(w: NDArray[np.float64], log_tail: float, x: float) -> float:
    return float(np.log(max(hypoexponential_tail(x, w), 1e-300))) - log_tail


def _upper(x: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(S > x) for x >= 0, (n,), the largest |w| being 1."""
    w = w[w != 0]
    if len(x) == 0 or np.max(w) <= 0:
        return np.zeros(len(x))
    largest = np.max(w)
    c = _saddle(x, w, 1 / largest)
    theta = np.arccos(np.clip(c * largest, 0.0, 1.0))
    width = np.minimum(theta, np.pi / 2 - theta)  # to the poles at 1 / w_max and at 0
    step = width / _STEP
    # |s| ~ exp(v) ends the sum by the poles' power law, exp(-x s) does so earlier where x is large
    by_power = _FAR / np.count_nonzero(w)
    by_decay = np.arccosh(1 + _FAR / np.maximum(x * c, 1e-300))
    num = np.ceil(np.minimum(by_power + 2, by_decay) / step).astype(int)
    found = np.empty(len(x))
    for part in _parts(num, len(w)):
        found[part] = _trapezoid(x[part], w, 1 / largest, theta[part], step[part], int(np.max(num[part])))
    return found


def _saddle(x: NDArray[np.float64], w: NDArray[np.float64], b: float) -> NDArray[np.float64]:
    """Least point of M(c) exp(-c x) / c on 0 < c < b, by bisection of its logarithm's slope, which rises."""
    low, high = np.zeros(len(x)), np.full(len(x), b)
    for _ in range(60):
        c = (low + high) / 2
        slope = np.sum(w / (1 - w * c[:, None]), axis=1) - 1 / c - x
        low, high = np.where(slope < 0, c, low), np.where(slope < 0, high, c)
    return low


def _trapezoid(
    x: NDArray[np.float64],
    w: NDArray[np.float64],
    b: float,
    theta: NDArray[np.float64],
    step: NDArray[np.float64],
    num: int,
) -> NDArray[np.float64]:
    """The integral, by symmetry twice its half: with v goes the conjugate of the integrand, and ds with it."""
    v = step[:, None] * np.arange(num + 1)
    turn, growth = np.exp(1j * theta[:, None]), np.exp(v)
    s = b * (growth / turn + turn / growth) / 2
    ds = b * (growth / turn - turn / growth) / 2
    if len(w) <= _MOST_FACTORS:
        product = s.copy()
        for weight in w:
            product *= 1 - weight * s
        value = np.exp(-x[:, None] * s) / product * ds
    else:
        value = np.exp(-x[:, None] * s - np.log(s) - sum(np.log(1 - weight * s) for weight in w)) * ds
    value[:, 0] /= 2
    # s falls through the axis from above: against the direction of the inversion formula
    return -np.sum(value.imag, axis=1) * step / np.pi


def _parts(num: NDArray[np.int_], num_weights: int) -> list[NDArray[np.int_]]:
    """Indices in groups of similar length that fit the memory."""
    order = np.argsort(num)
    parts, first = [], 0
    while first < len(order):
        last = first + 1
        while last < len(order) and (last - first + 1) * num[order[last]] <= _BATCH:
            last += 1
        parts.append(order[first:last])
        first = last
    return parts


def _weights(weights: Any) -> NDArray[np.float64]:
    w = _finite(weights, "weights")
    if w.ndim != 1:
        raise ValueError(f"weights: found shape {w.shape}; must be a vector")
    return w


def _finite(value: Any, name: str) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} {array[~np.isfinite(array)].flat[0]} - it must be finite")
    return array
