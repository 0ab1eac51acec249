"""Do measured detections agree with theory? One verdict from four tests, and the variances it needs.

1. chi-squared of the measured probabilities of detection about the theoretical curve,
2. Kolmogorov-Smirnov of the statistic without a target about its law,
3., 4. exact binomial tests of the false alarms at 1e-2 and 1e-3,

combined by Hochberg's step-up procedure. The tests without a target belong to every verdict: a detection curve alone is
blind to a leak that raises noise and echo alike.

The theoretical curve is either the truth (an emulated run: `pod_variance_truth`) or follows from the noncentrality
estimated from the very trials that are judged (on air: `pod_variance_measured`, `cfar_pod_variance_measured`, which
take out what estimate and detections share).

Source: SIGNAL_CHAIN section 5; Hochberg, Biometrika 75 (1988); Wilson, J. Am. Stat. Assoc. 22 (1927).
Differs: for F the derivative and the covariance are in closed form, not by differences and quadrature.
"""

import dataclasses
import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.theory.arguments import Values, not_negative, shaped, whole
from testbed.theory.detection import residual_dof

FALSE_ALARM_LEVELS = (1e-2, 1e-3)
MIN_H0_TRIALS = 20_000  # fewer leave the test at 1e-3 with too little power
MIN_POINT_VARIANCE = 5.0  # n p (1-p) from which a binomial count is near enough to normal for the chi-squared test


@dataclasses.dataclass(frozen=True)
class PodPoints:
    """Detections counted at each (power, node) point beside the probability theory gives; arrays of one shape."""

    num_detections: NDArray[Any]  # trials in which the statistic reached the threshold
    num_trials: NDArray[Any]  # independent trials
    pod: NDArray[np.float64]  # probability of detection of the theoretical curve
    pod_variance: NDArray[np.float64]  # variance of num_detections / num_trials - pod, were the curve right

    def __post_init__(self) -> None:
        """Check shapes and ranges."""
        shapes = {field.name: np.shape(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if len(set(shapes.values())) != 1:
            raise ValueError(f"shapes {shapes} - all four arrays must have one shape")
        counts, trials, pod = np.asarray(self.num_detections), np.asarray(self.num_trials), np.asarray(self.pod)
        if np.any(trials < 1) or np.any(counts < 0) or np.any(counts > trials):
            raise ValueError("num_detections - each must lie in 0..num_trials, with at least one trial per point")
        if not np.all((pod >= 0) & (pod <= 1)):
            raise ValueError("pod - each must lie in 0..1")
        if not np.all(np.asarray(self.pod_variance) >= 0):
            raise ValueError("pod_variance - none may be negative or NaN")


@dataclasses.dataclass(frozen=True)
class FalseAlarms:
    """False alarms among the pooled trials without a target."""

    pfa: float  # nominal probability of false alarm
    counted: int
    expected: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether measurement and theory are consistent, with everything the decision rests on."""

    consistent: bool
    level: float  # probability of a wrong "not consistent"
    p_values: dict[str, float | None]  # pod_chi2 (None: no point could be tested), h0_law, false_alarms_1e-2, ..._1e-3
    chi2: float | None  # sum of squared standardised deviations of the tested points
    num_tested_points: int
    num_points: int
    num_covered_points: int  # points whose 95 % Wilson interval holds the theoretical PoD; not deciding
    expected_covered_points: float
    num_h0_trials: int
    false_alarms: tuple[FalseAlarms, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain dict, lists and numbers, ready for JSON."""
        plain = dataclasses.asdict(self)
        return plain | {"false_alarms": list(plain["false_alarms"]), "notes": list(self.notes)}


def judge(points: PodPoints, h0_survival: ArrayLike, level: float = 0.05) -> Verdict:
    """Verdict on detections at some points and on the statistic without a target.

    Args:
        points: what was detected, and the curve to judge it by.
        h0_survival: survival function of each pooled H0 statistic under its own law, `h0_law(rank).sf(T)` or
            `cfar_h0_law(...).sf(F)`, any shape; uniform if the law holds, so powers, nodes and ranks can be pooled.
        level: probability of a wrong "not consistent", in (0, 1).

    Raises:
        ValueError: no H0 trial, values outside 0..1, or a level outside (0, 1).

    Source: SIGNAL_CHAIN section 5. Differs: none.
    Valid for: trials that share one noncentrality per point; tests that are independent or positively dependent.
    """
    from scipy import stats

    if not 0 < level < 1:
        raise ValueError(f"level {level:g} - it must lie in (0, 1)")
    survival = np.asarray(h0_survival, dtype=np.float64).ravel()
    if survival.size == 0 or not np.all((survival >= 0) & (survival <= 1)):
        raise ValueError(f"{survival.size} H0 survival values - at least one is needed, each in 0..1")

    chi2, num_tested = _chi2(points)
    alarms = tuple(
        FalseAlarms(pfa, int(np.count_nonzero(survival <= pfa)), pfa * survival.size) for pfa in FALSE_ALARM_LEVELS
    )
    p_values: dict[str, float | None] = {
        "pod_chi2": float(stats.chi2.sf(chi2, num_tested)) if num_tested else None,
        "h0_law": float(stats.kstest(survival, stats.uniform.cdf).pvalue),
        "false_alarms_1e-2": float(stats.binomtest(alarms[0].counted, survival.size, alarms[0].pfa).pvalue),
        "false_alarms_1e-3": float(stats.binomtest(alarms[1].counted, survival.size, alarms[1].pfa).pvalue),
    }
    notes = []
    if not num_tested:
        notes.append(f"no point has n p (1-p) >= {MIN_POINT_VARIANCE:g}: the PoD curve is not tested, only the H0 law")
    if survival.size < MIN_H0_TRIALS:
        notes.append(f"{survival.size} H0 trials pooled, {MIN_H0_TRIALS} wanted: the false-alarm tests are weak")
    covered, expected = _coverage(points)
    return Verdict(
        consistent=not hochberg_rejects([p for p in p_values.values() if p is not None], level),
        level=level,
        p_values=p_values,
        chi2=chi2 if num_tested else None,
        num_tested_points=num_tested,
        num_points=int(np.size(points.pod)),
        num_covered_points=covered,
        expected_covered_points=expected,
        num_h0_trials=int(survival.size),
        false_alarms=alarms,
        notes=tuple(notes),
    )


def hochberg_rejects(p_values: ArrayLike, level: float) -> bool:
    """Whether Hochberg's step-up rejects: p(j) <= level / (m - j + 1) for any j of the m sorted p-values."""
    ordered = np.sort(np.asarray(p_values, dtype=np.float64))
    return bool(np.any(ordered <= level / np.arange(ordered.size, 0, -1)))


def wilson_interval(
    successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper end of Wilson's interval for a probability: all p with |k - n p| <= z sqrt(n p (1-p))."""
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if np.any(n < 1) or not np.all((k >= 0) & (k <= n)) or not 0 < confidence < 1:
        raise ValueError("successes must lie in 0..trials, trials be at least 1 and confidence lie in (0, 1)")
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    centre = (k + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    return np.where(k == 0, 0.0, centre - half), np.where(k == n, 1.0, centre + half)


def noncentrality_estimate(statistic: ArrayLike, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noncentrality of T from its mean over trials: lam_hat = mean(2T) - 2r, unbiased, may be negative.

    Args:
        statistic: T, trials on the last axis.
        rank: degrees of freedom of the test.

    Returns:
        lam_hat and its standard error sqrt((4r + 4 lam) / n) with max(lam_hat, 0) in place of lam.

    Raises:
        ValueError: no trial, or a rank below 1.
    """
    mean, n = _mean(statistic)
    lam = 2 * mean - 2 * whole(rank, "rank", 1)
    return lam, np.sqrt((4 * rank + 4 * np.maximum(lam, 0)) / n)


def cfar_noncentrality_estimate(
    statistic: ArrayLike, rank: int, num_observations: int, num_nuisance: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noncentrality of F from its mean over trials: lam_hat = k (mean(F) (nu - 2) / nu - 1), unbiased.

    k = 2r and nu = 2 (N - r - Q) are the degrees of freedom of F.

    Args:
        statistic: F, trials on the last axis.
        rank: r.
        num_observations: N.
        num_nuisance: Q.

    Returns:
        lam_hat and its standard error, with max(lam_hat, 0) in place of lam.

    Raises:
        ValueError: no trial, a rank below 1, or N - r - Q <= 2, where F has no variance.
    """
    mean, n = _mean(statistic)
    k, nu = 2 * rank, _dof_with_variance(rank, num_observations, num_nuisance)
    scale = k * (nu - 2) / nu
    lam = scale * mean - k
    return lam, scale * np.sqrt(_f_variance(np.maximum(lam, 0), k, nu) / n)


def pod_variance_truth(pod: Values, trials: ArrayLike) -> Values:
    """Variance p (1-p) / n of a measured probability of detection about the true one."""
    p = np.asarray(pod, dtype=np.float64)
    return shaped(p * (1 - p) / _at_least_one(trials), pod)


def pod_variance_measured(noncentrality_hat: Values, rank: int, threshold: float, trials: ArrayLike) -> Values:
    """Variance of measured minus predicted PoD when the prediction uses lam_hat of the same trials; noise known.

    p_meas - p(lam_hat) is the mean of 1{2T > 2 delta} - p' 2T to first order, so with k = 2r

        V = [p (1-p) + p'^2 v - 2 p' c] / n        v = var(2T) = 2 (k + 2 lam)        p' = (Q_{k+2} - Q_k) / 2
        c = cov(1{2T > 2 delta}, 2T) = k Q_{k+2} + lam Q_{k+4} - p (k + lam)          Q_k = ncx2.sf(2 delta, k, lam)

    Args:
        noncentrality_hat: lam_hat; below 0 it is taken as 0, and so it must be for the predicted PoD.
        rank: degrees of freedom of the test.
        threshold: delta, on T.
        trials: n.

    Returns:
        V, same shape as `noncentrality_hat`.

    Source: SIGNAL_CHAIN section 5. Differs: none.
    Valid for: n large enough that lam_hat scatters within the straight part of the curve.
    """
    from scipy import stats

    lam, k = np.maximum(noncentrality_hat, 1e-100), 2 * whole(rank, "rank", 1)
    p, q2, q4 = (stats.ncx2.sf(2 * not_negative(threshold, "threshold"), k + step, lam) for step in (0, 2, 4))
    slope = (q2 - p) / 2
    cov = k * q2 + lam * q4 - p * (k + lam)
    variance = p * (1 - p) + slope**2 * 2 * (k + 2 * lam) - 2 * slope * cov
    return shaped(variance / _at_least_one(trials), noncentrality_hat)


def cfar_pod_variance_measured(
    noncentrality_hat: Values,
    rank: int,
    num_observations: int,
    num_nuisance: int,
    threshold: float,
    trials: ArrayLike,
) -> Values:
    """`pod_variance_measured` for the statistic F and the lam_hat of `cfar_noncentrality_estimate`.

    With F = (A / k) / (B / nu), A ~ ncx2(k, lam), B ~ chi2(nu), R(i, j) = P(A_{k+i} / B_{nu-j} > thr k / nu):

        V = [p (1-p) + s^2 var(F) - 2 s cov] / n       s = k (nu-2) / nu dp/dlam       dp/dlam = (R(2, 0) - R(0, 0)) / 2
        cov(1{F > thr}, F) = E[F 1{F > thr}] - p E[F],  E[F 1{F > thr}] = nu / (k (nu-2)) (k R(2, 2) + lam R(4, 2))

    Args:
        noncentrality_hat: lam_hat; below 0 it is taken as 0, and so it must be for the predicted PoD.
        rank: r.
        num_observations: N.
        num_nuisance: Q.
        threshold: on F.
        trials: n.

    Returns:
        V, same shape as `noncentrality_hat`.

    Raises:
        ValueError: a rank below 1, or N - r - Q <= 2, where F has no variance.

    Source: SIGNAL_CHAIN section 5, last paragraph of the variances. Differs: closed forms of cov and dp/dlam.
    Valid for: as `pod_variance_measured`.
    """
    from scipy import stats

    lam, k = np.maximum(noncentrality_hat, 1e-100), 2 * whole(rank, "rank", 1)
    nu = _dof_with_variance(rank, num_observations, num_nuisance)
    ratio = not_negative(threshold, "threshold") * k / nu

    def exceeds(i: int, j: int) -> Any:
        return stats.ncf.sf(ratio * (nu - j) / (k + i), k + i, nu - j, lam)

    p = exceeds(0, 0)
    mean_above = nu / (k * (nu - 2)) * (k * exceeds(2, 2) + lam * exceeds(4, 2))
    cov = mean_above - p * nu * (k + lam) / (k * (nu - 2))
    slope = k * (nu - 2) / nu * (exceeds(2, 0) - p) / 2
    variance = p * (1 - p) + slope**2 * _f_variance(lam, k, nu) - 2 * slope * cov
    return shaped(variance / _at_least_one(trials), noncentrality_hat)


def _chi2(points: PodPoints) -> tuple[float, int]:
    """Sum of squared standardised deviations over the points that can be tested, and their number."""
    n, pod, variance = (np.ravel(a).astype(np.float64) for a in (points.num_trials, points.pod, points.pod_variance))
    tested = n * pod * (1 - pod) >= MIN_POINT_VARIANCE
    if np.any(variance[tested] == 0):
        raise ValueError("pod_variance 0 at a point with 0 < pod < 1 - it must be positive there")
    deviation = np.ravel(points.num_detections)[tested] / n[tested] - pod[tested]
    return float(np.sum(deviation**2 / variance[tested])), int(np.count_nonzero(tested))


def _coverage(points: PodPoints) -> tuple[int, float]:
    """Points covered by their 95 % Wilson intervals, and the number expected if the curve is right."""
    from scipy import stats

    n, pod, variance = (np.ravel(a).astype(np.float64) for a in (points.num_trials, points.pod, points.pod_variance))
    low, high = wilson_interval(np.ravel(points.num_detections), n)
    z = NormalDist().inv_cdf(0.975)
    half = z * np.sqrt(n * pod * (1 - pod))  # the interval covers pod where |k - n pod| <= half
    exact = stats.binom.cdf(np.floor(n * pod + half), n, pod) - stats.binom.cdf(np.ceil(n * pod - half) - 1, n, pod)
    # Against a curve fitted to the same trials the deviation is smaller than binomial: normal, with its own variance.
    binomial = pod * (1 - pod) / n
    fitted = (n * pod * (1 - pod) >= MIN_POINT_VARIANCE) & ~np.isclose(variance, binomial, rtol=1e-6, atol=0)
    ratio = np.sqrt(np.divide(binomial, variance, out=np.ones_like(pod), where=fitted & (variance > 0)))
    expected = np.where(fitted, stats.chi2.cdf((z * ratio) ** 2, 1), exact)
    return int(np.count_nonzero((low <= pod) & (pod <= high))), math.fsum(expected)


def _at_least_one(trials: ArrayLike) -> NDArray[np.float64]:
    n = np.asarray(trials, dtype=np.float64)
    if not np.all(n >= 1):
        raise ValueError(f"{np.min(n):g} trials - at least one is needed")
    return n


def _mean(statistic: ArrayLike) -> tuple[NDArray[np.float64], int]:
    values = np.asarray(statistic, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"statistic of shape {values.shape} - at least one trial is needed on its last axis")
    return values.mean(axis=-1), values.shape[-1]


def _dof_with_variance(rank: int, num_observations: int, num_nuisance: int) -> int:
    nu = residual_dof(rank, num_observations, num_nuisance)
    if nu <= 4:
        raise ValueError(
            f"{num_observations} observations less rank {rank} less {num_nuisance} nuisance dimensions leave {nu // 2} "
            "- at least 3 must be left for F to have a variance"
        )
    return nu


def _f_variance(lam: Any, k: int, nu: int) -> Any:
    """Variance of the noncentral F law; nu > 4."""
    return 2 * (nu / k) ** 2 * ((k + lam) ** 2 + (k + 2 * lam) * (nu - 2)) / ((nu - 2) ** 2 * (nu - 4))
