"""Laws, thresholds and detection probabilities of the two likelihood-ratio detectors.

    noise variance known      T = ||P y||^2 / sigma2                         2T ~ chi2(2r)      2T ~ ncx2(2r, lam)
    noise variance unknown    F = (||P y||^2 / r) / (||P_perp y||^2 / M)     F ~ F(2r, 2M)      F ~ ncf(2r, 2M, lam)
                                                                             without a target   with it

P projects on the r dimensions of the echoes left after the nuisance space of rank Q is removed, P_perp on the other
M = N - r - Q of the N observations; lam = 2 ||(I - P_D) X h||^2 / sigma2 is the noncentrality of both. Thresholds are
on T (no factor 2) and on F as written here. Plots, tests and thresholds share the law objects `h0_law`, `h1_law`,
`cfar_h0_law`, `cfar_h1_law`.

Source: Zou et al., CoMP-ISAC letter (arXiv 2503.07139), eqs. (8)-(12); F test: SIGNAL_CHAIN section 3.
Differs: rank r in place of the number of transmitters L; nuisance space Q; exact lam without the N >> 1 step; the
letter calls T itself chi-squared, it is 2T (T as chi2(6) would turn a nominal PFA of 1e-6 into 1.9e-14).

SciPy is imported inside the functions: `isac check` and `isac --help` must start without it.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import Values, below_one, not_negative, probability, shaped, whole


class Law(Protocol):
    """What is used of a frozen SciPy distribution."""

    pdf: Callable[[Any], Any]
    cdf: Callable[[Any], Any]
    sf: Callable[[Any], Any]  # 1 - cdf, with its own digits in the tail
    isf: Callable[[Any], Any]
    mean: Callable[[], Any]
    var: Callable[[], Any]
    rvs: Callable[..., Any]


# Noise variance known: the statistic T


def h0_law(rank: int) -> Law:
    """Law of T without a target: Gamma(rank, 1), because 2T ~ chi2(2 rank)."""
    from scipy import stats

    law: Law = stats.gamma(whole(rank, "rank", 1))
    return law


def h1_law(noncentrality: Values, rank: int) -> Law:
    """Law of T with a target: half of a noncentral chi-squared variable with 2 rank degrees of freedom."""
    from scipy import stats

    law: Law = stats.ncx2(2 * whole(rank, "rank", 1), _above_zero(noncentrality), scale=0.5)
    return law


def glrt_threshold(pfa: Values, rank: int) -> Values:
    """Threshold delta on T with false-alarm probability Gamma(rank, delta) / Gamma(rank) = pfa.

    Args:
        pfa: probability of false alarm in (0, 1), any shape.
        rank: degrees of freedom of the test; the number of active transmitters unless echoes cannot be told apart.

    Raises:
        ValueError: `pfa` outside (0, 1) or a rank below 1.

    Source: CoMP-ISAC letter, eqs. (9)-(10). Differs: none.
    Valid for: pfa down to 1e-100, where the realised PFA is within 3e-14 (ppf(1 - pfa) is off by 2e-5 at 1e-12).
    """
    from scipy import special

    return shaped(special.gammainccinv(whole(rank, "rank", 1), probability(pfa, "pfa")), pfa)


def false_alarm_probability(threshold: Values, rank: int) -> Values:
    """Probability that T reaches `threshold` without a target: Gamma(rank, delta) / Gamma(rank)."""
    from scipy import special

    return shaped(special.gammaincc(whole(rank, "rank", 1), not_negative(threshold, "threshold")), threshold)


def detection_probability(
    noncentrality: Values,
    rank: int,
    *,
    pfa: float | NDArray[np.float64] | None = None,
    threshold: float | NDArray[np.float64] | None = None,
) -> Values:
    """Probability of detection of the known-noise GLRT.

    PoD = Q_r(sqrt(lam), sqrt(2 delta)), with 2T ~ ncx2(2r, lam) under H1.

    Args:
        noncentrality: lam = 2 ||X h||^2 / sigma2, linear, any shape.
        rank: degrees of freedom of the test; L for the paper's X, less if echoes cannot be told apart.
        pfa: probability of false alarm in (0, 1), broadcast with `noncentrality`; or give `threshold` instead.
        threshold: delta, on T.

    Returns:
        Probability, same shape as `noncentrality`.

    Raises:
        ValueError: `pfa` outside (0, 1), a negative noncentrality, or not exactly one of `pfa` and `threshold`.

    Source: Zou et al., CoMP-ISAC letter, eq. (12) without the N >> 1 step.
    Differs: none. Valid for: noise variance known, X known exactly; 1e-13 relative where the result is above 1e-100.
    """
    delta = _limit(pfa, threshold, lambda p: glrt_threshold(p, rank))
    return shaped(h1_law(noncentrality, rank).sf(delta), noncentrality)


def miss_probability(
    noncentrality: Values,
    rank: int,
    *,
    pfa: float | NDArray[np.float64] | None = None,
    threshold: float | NDArray[np.float64] | None = None,
) -> Values:
    """1 - `detection_probability` with all its digits where it is small. Same arguments, shape and errors."""
    delta = _limit(pfa, threshold, lambda p: glrt_threshold(p, rank))
    return shaped(h1_law(noncentrality, rank).cdf(delta), noncentrality)


def required_noncentrality(pod: Values, pfa: float, rank: int) -> Values:
    """Noncentrality at which `detection_probability` reaches `pod`; 0 where pod <= pfa.

    Args:
        pod: wanted probability of detection in [0, 1), any shape.
        pfa: probability of false alarm in (0, 1).
        rank: degrees of freedom of the test.

    Raises:
        ValueError: `pod` outside [0, 1), `pfa` outside (0, 1) or a rank below 1.

    Source: CoMP-ISAC letter, eq. (18): lam / (2N) is the required sum of sensing signal-to-noise ratios.
    Differs: the letter leaves out the 1 / (2N). Valid for: noise variance known.
    """
    from scipy import stats

    return _inverse(pod, pfa, stats.ncx2, 2 * glrt_threshold(pfa, rank), 2 * rank)


def swerling1_detection_probability(
    mean_noncentrality: Values,
    rank: int,
    *,
    pfa: float | NDArray[np.float64] | None = None,
    threshold: float | NDArray[np.float64] | None = None,
) -> Values:
    """Probability of detection when one Rayleigh factor per trial scales all echoes of the target together.

    h = a h0 with a ~ CN(0, 1), so lam is exponential with mean 2 mu. T's component along X h0 is exponential with
    mean 1 + mu, its other r - 1 components with mean 1. Summed, with x = delta mu / (1 + mu):

        PoD = Q(r-1, delta) + exp(-delta) delta^(r-1) / (r-1)! * 1F1(1; r; x)        r = 1: pfa^(1 / (1 + mu))

    Args:
        mean_noncentrality: mean of lam over the fading, linear, any shape.
        rank: degrees of freedom of the test.
        pfa: probability of false alarm in (0, 1), broadcast with `mean_noncentrality`; or give `threshold` instead.
        threshold: delta, on T, below 700.

    Returns:
        Probability, same shape as `mean_noncentrality`.

    Raises:
        ValueError: as `detection_probability`, or a threshold of 700 and more.

    Source: Swerling case 1, with the r dimensions in the role of pulses.
    Differs: 1F1 keeps every term positive at small mu. Valid for: echoes that fade together, noise variance known.
    """
    from scipy import special

    r = whole(rank, "rank", 1)
    mu = not_negative(mean_noncentrality, "noncentrality") / 2
    delta = np.asarray(_limit(pfa, threshold, lambda p: glrt_threshold(p, rank)))
    if np.any(delta >= 700):
        raise ValueError(f"threshold {np.max(delta):g} - it must be below 700, where exp overflows")
    steady = special.gammaincc(r - 1, delta) if r > 1 else 0.0
    density = np.exp(special.xlogy(r - 1, delta) - delta - special.gammaln(r))
    return shaped(steady + density * special.hyp1f1(1, r, delta * mu / (1 + mu)), mean_noncentrality)


def cell_search_pfa(pfa: Values, num_cells: int) -> Values:
    """Per-cell PFA of a search over C cells: 1 - (1 - pfa)^(1/C), exact for independent cells, else conservative."""
    cells = whole(num_cells, "number of cells", 1)
    return shaped(-np.expm1(np.log1p(-probability(pfa, "pfa")) / cells), pfa)


# Noise variance unknown: the statistic F


def residual_dof(rank: int, num_observations: int, num_nuisance: int = 0) -> int:
    """Real degrees of freedom 2 (N - r - Q) of the residual that the noise variance is estimated from.

    Raises:
        ValueError: N - r - Q <= 0.
    """
    left = num_observations - whole(rank, "rank", 1) - whole(num_nuisance, "number of nuisance dimensions", 0)
    if left <= 0:
        raise ValueError(
            f"{num_observations} observations less rank {rank} less {num_nuisance} nuisance dimensions leave {left} to "
            "estimate the noise from - at least 1 must be left; observe more or use the known-noise test"
        )
    return 2 * whole(left, "number of residual dimensions", 1)


def cfar_h0_law(rank: int, num_observations: int, num_nuisance: int = 0) -> Law:
    """Law of F without a target: F(2r, 2 (N - r - Q)). Thresholds come from `cfar_threshold`, not from its isf."""
    from scipy import stats

    law: Law = stats.f(2 * whole(rank, "rank", 1), residual_dof(rank, num_observations, num_nuisance))
    return law


def cfar_h1_law(noncentrality: Values, rank: int, num_observations: int, num_nuisance: int = 0) -> Law:
    """Law of F with a target: noncentral F with the noncentrality of T."""
    from scipy import stats

    k, nu = 2 * whole(rank, "rank", 1), residual_dof(rank, num_observations, num_nuisance)
    law: Law = stats.ncf(k, nu, _above_zero(noncentrality))
    return law


def cfar_threshold(pfa: Values, rank: int, num_observations: int, num_nuisance: int = 0) -> Values:
    """Threshold on F; its false-alarm probability is `pfa` whatever the noise variance.

    Args:
        pfa: probability of false alarm in (0, 1), any shape.
        rank: r, dimensions of the echoes after the nuisance space is removed.
        num_observations: N, resource elements or samples judged together.
        num_nuisance: Q, rank of the nuisance space (self, direct, clutter, other targets).

    Raises:
        ValueError: `pfa` outside (0, 1), a rank below 1, or N - r - Q <= 0.

    Source: SIGNAL_CHAIN section 3. Differs: from scipy.stats.f.isf, whose PFA is off by 2e-5 at 1e-12.
    Valid for: white noise; pfa down to 1e-12, where the realised PFA is within 1e-13.
    """
    from scipy import special

    r, m = whole(rank, "rank", 1), residual_dof(rank, num_observations, num_nuisance) // 2
    p = probability(pfa, "pfa")
    # B = r F / (r F + m) is Beta(r, m); B and 1 - B are each solved for, neither by subtraction from 1.
    # SciPy before 1.12 has no betainccinv, and its betaincinv is off by 1 % at 1e-12.
    return shaped(m * special.betainccinv(r, m, p) / (r * special.betaincinv(m, r, p)), pfa)


def cfar_detection_probability(
    noncentrality: Values,
    rank: int,
    num_observations: int,
    num_nuisance: int = 0,
    *,
    pfa: float | NDArray[np.float64] | None = None,
    threshold: float | NDArray[np.float64] | None = None,
) -> Values:
    """Probability of detection of the F test, whose noise variance is estimated from the residual.

    Args:
        noncentrality: lam = 2 ||(I - P_D) X h||^2 / sigma2, linear, any shape.
        rank: r, as in `cfar_threshold`.
        num_observations: N, as in `cfar_threshold`.
        num_nuisance: Q, as in `cfar_threshold`.
        pfa: probability of false alarm in (0, 1), broadcast with `noncentrality`; or give `threshold` instead.
        threshold: on F.

    Returns:
        Probability, same shape as `noncentrality`.

    Raises:
        ValueError: as `cfar_threshold`, a negative noncentrality, or not exactly one of `pfa` and `threshold`.

    Source: SIGNAL_CHAIN section 3. Differs: none. Valid for: white noise, X and D known exactly.
    """
    limit = _limit(pfa, threshold, lambda p: cfar_threshold(p, rank, num_observations, num_nuisance))
    return shaped(cfar_h1_law(noncentrality, rank, num_observations, num_nuisance).sf(limit), noncentrality)


def cfar_swerling1_detection_probability(
    mean_noncentrality: Values,
    rank: int,
    num_observations: int,
    num_nuisance: int = 0,
    *,
    pfa: float | NDArray[np.float64] | None = None,
    threshold: float | NDArray[np.float64] | None = None,
) -> Values:
    """Probability of detection on F when one Rayleigh factor per trial scales all echoes of the target together.

    The noise estimate is W / m with W ~ Gamma(m, 1), m = N - r - Q, so a threshold f on F is c W on T, c = r f / m.
    With T = (1 + mu) E + G, E ~ Gamma(1, 1), G ~ Gamma(r-1, 1), b = 1 / (1 + mu), lam exponential of mean 2 mu, and
    I_x(p, q) the regularised incomplete beta function:

        PoD = P(G >= c W) + P(G < c W <= (1 + mu) E + G)
            = I_{1/(1+c)}(m, r-1) + (1-b)^(1-r) (1 + b c)^-m I_{(1-b)c/(1+c)}(r-1, m)      r = 1: (1 + b c)^-m

    Args:
        mean_noncentrality: mean of lam over the fading, linear, any shape.
        rank: degrees of freedom r of the cell.
        num_observations: N.
        num_nuisance: Q.
        pfa: probability of false alarm in (0, 1); or give `threshold` instead.
        threshold: f, on F.

    Returns:
        Probability, same shape as `mean_noncentrality`.

    Raises:
        ValueError: as `cfar_detection_probability`.

    Source: Swerling case 1 on the F test of SIGNAL_CHAIN section 3; own derivation.
    Differs: below a mean of 1e-6 the value at 1e-6, which is within 1e-6 of the PFA, relative. Valid for: echoes that
    fade together.
    """
    from scipy import special

    r = whole(rank, "rank", 1)
    m = residual_dof(rank, num_observations, num_nuisance) // 2
    limit = _limit(pfa, threshold, lambda p: cfar_threshold(p, rank, num_observations, num_nuisance))
    c = r * np.asarray(limit) / m
    mu = np.maximum(not_negative(mean_noncentrality, "noncentrality"), 1e-6) / 2  # at 0 the second term is 0 / 0
    b = 1 / (1 + mu)
    if r == 1:
        return shaped(np.exp(-m * np.log1p(b * c)), mean_noncentrality)
    scale = np.exp((1 - r) * np.log(b * mu) - m * np.log1p(b * c))  # 1 - b = b mu
    steady = special.betainc(m, r - 1, 1 / (1 + c))
    return shaped(steady + scale * special.betainc(r - 1, m, b * mu * c / (1 + c)), mean_noncentrality)


def cfar_required_noncentrality(
    pod: Values, pfa: float, rank: int, num_observations: int, num_nuisance: int = 0
) -> Values:
    """Noncentrality at which `cfar_detection_probability` reaches `pod`; 0 where pod <= pfa.

    Raises:
        ValueError: as `required_noncentrality` and `cfar_threshold`, or a result above 1e9.
    """
    from scipy import stats

    nu = residual_dof(rank, num_observations, num_nuisance)
    return _inverse(pod, pfa, stats.ncf, cfar_threshold(pfa, rank, num_observations, num_nuisance), 2 * rank, nu)


def _inverse(pod: Values, pfa: float, family: Any, limit: float, *dof: int) -> Values:
    """Noncentrality at which `family` exceeds `limit` with probability `pod`: Brent's method on sqrt(lam)."""
    from scipy import optimize

    def shortfall(root: float, target: float) -> float:
        lam = max(root**2, 1e-100)
        if target <= 0.5:
            return target - float(family.sf(limit, *dof, lam))
        return float(family.cdf(limit, *dof, lam)) - (1.0 - target)  # 1 - target is exact, the miss has its digits

    def solve(target: float) -> float:
        if target <= pfa or shortfall(0.0, target) <= 0:
            return 0.0
        upper = 1.0
        while shortfall(upper, target) > 0:
            upper *= 2.0
            if upper > 2**15:  # SciPy's series end here; reached only with one or two residual dimensions
                raise ValueError(f"pod {target:g} at pfa {pfa:g} needs a noncentrality above 1e9 - observe more")
        return float(optimize.brentq(shortfall, 0.0, upper, args=(target,), xtol=1e-14, rtol=1e-15)) ** 2

    targets = below_one(pod, "pod")
    return shaped(np.array([solve(float(target)) for target in targets.flat]).reshape(targets.shape), pod)


def _limit(pfa: Any, threshold: Any, from_pfa: Callable[[Any], Any]) -> Any:
    if (pfa is None) == (threshold is None):
        raise ValueError(f"pfa {pfa} and threshold {threshold} - exactly one of them must be given")
    return from_pfa(pfa) if threshold is None else not_negative(threshold, "threshold")


def _above_zero(noncentrality: Any) -> NDArray[np.float64]:
    # scipy.stats.ncf.sf(x, k, nu, 0) is -cdf, a negative number (SciPy 1.17); at 1e-100 the law is the same to the bit.
    return np.maximum(not_negative(noncentrality, "noncentrality"), 1e-100)
