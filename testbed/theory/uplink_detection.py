"""The uplink paper's detector: known echo estimate, interference taken for white, threshold from the Q function.

    T = Re(mu^H y_s) / S,   mu[t] = w^H sum_k sqrt(p_k) g_hat_k s_k[t],   S = w^H B w                     eqs. (11)-(13)
    chi = ||mu||^2 / S      its deflection
    threshold = sqrt(chi / 2) Q^-1(pfa),      PoD = Q(Q^-1(pfa) - sqrt(2 chi))                           eqs. (14), (15)
    mean over fading ~ Q(Q^-1(pfa) - sqrt(2 N gamma_s))                                                         eq. (16)

For orthogonal symbols chi = sum_k lam_k E_k, E_k independent unit exponentials, lam_k = N p_k q_k / (c . p + 1), and
the mean over fading is, by parts, one smooth integral over the tail of chi:

    E[PoD] = pfa + int_0^inf P(chi > v^2 / 2) phi(v - Q^-1(pfa)) dv

(16) is not an approximation of it when few users contribute: K = 1, mean 6, pfa 1e-2: 0.872 against 0.629.

Source: He et al., uplink ISAC (arXiv 2603.17744), eqs. (11)-(16). Differs: exact mean over fading. Valid for: the
paper's model, in which both hypotheses share one channel estimate; `uplink_mismatch` says what happens otherwise.

SciPy is imported inside the functions: `isac check` and `isac --help` must start without it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import Values, not_negative, probability, shaped, whole
from testbed.theory.hypoexponential import hypoexponential_tail
from testbed.theory.uplink_sensing import SensingPoint

_NODES = 24  # of the Gauss rule on every panel
_REACH = 9.0  # standard deviations of the normal density that count


def deflection_threshold(deflection: Values, pfa: float) -> Values:
    """Threshold on T, sqrt(chi / 2) Q^-1(pfa), same shape as `deflection` >= 0; eq. (14)."""
    chi = not_negative(deflection, "deflection")
    return shaped(np.sqrt(chi / 2) * _quantile(pfa, "pfa"), deflection)


def deflection_detection_probability(deflection: Values, pfa: float) -> Values:
    """Probability of detection at a deflection that is known: Q(Q^-1(pfa) - sqrt(2 chi)), eq. (15).

    Args:
        deflection: chi >= 0, linear, any shape. The mean N gamma_s instead gives the paper's approximation (16).
        pfa: probability of false alarm in (0, 1).

    Raises:
        ValueError: a negative deflection, or `pfa` outside (0, 1).
    """
    from scipy import special

    chi = not_negative(deflection, "deflection")
    return shaped(special.ndtr(np.sqrt(2 * chi) - _quantile(pfa, "pfa")), deflection)


def required_sensing_sinr(pod: Values, pfa: float, num_data: int) -> Values:
    """Sensing SINR per symbol at which (16) reaches `pod`: (Q^-1(pfa) - Q^-1(pod))^2 / (2 N), 0 where pod <= pfa.

    Args:
        pod: wanted probability of detection in (0, 1), any shape.
        pfa: probability of false alarm in (0, 1).
        num_data: N, data symbols of a block.

    Raises:
        ValueError: a probability outside (0, 1), or no data symbols.

    Source: He et al., (19) from (16). Differs: none. The exact mean PoD is lower, see the module.
    """
    missing = np.maximum(_quantile(pfa, "pfa") - _quantile(pod, "pod"), 0.0)
    return shaped(missing**2 / (2 * whole(num_data, "num_data", 1)), pod)


def mean_deflections(point: SensingPoint, data_power: NDArray[np.float64], num_data: int) -> NDArray[np.float64]:
    """lam_k = N p_k q_k / (c . p + 1), shape (K,); their sum is N gamma_s. `data_power` is the point's, (K,)."""
    p = not_negative(data_power, "data_power")
    return whole(num_data, "num_data", 1) * p * point.signal / (p @ point.error + 1.0)


def coherent_deflections(point: SensingPoint, data_power: NDArray[np.float64], num_data: int) -> NDArray[np.float64]:
    """N p_k q_k / (1 + N p_k c_k), shape (K,): what is left of `mean_deflections` when the errors are not white.

    With known symbols the estimation error of a user is one constant over the block and adds up like the echo itself,
    so that the deflection saturates in N. The white model overstates it 10 to 12 times in the specification's scene.

    Source: own derivation, orthogonal symbols.
    """
    p, N = not_negative(data_power, "data_power"), whole(num_data, "num_data", 1)
    return N * p * point.signal / (1.0 + N * p * point.error)


def mean_detection_probability(mean_deflection: Any, pfa: float) -> float:
    """Probability of detection averaged over fading, exactly, for orthogonal symbols.

    Args:
        mean_deflection: lam, shape (K,), >= 0: the mean deflection due to every user. Equal ones are nothing special.
        pfa: probability of false alarm in (0, 1).

    Raises:
        ValueError: a negative deflection or one that is no vector, or `pfa` outside (0, 1).

    Source: own derivation, see the module. Differs: replaces (16). Valid for: absolute 1e-12.
    """
    lam, q = not_negative(mean_deflection, "mean_deflection"), float(_quantile(pfa, "pfa"))
    if lam.ndim != 1:
        raise ValueError(f"mean_deflection: found shape {lam.shape}; must be a vector, one number per user")
    top = q + _REACH
    lam = lam[lam > 0]
    if top <= 0 or not len(lam):
        return pfa
    # The tail falls within sqrt(lam) of 0: panels that double from well below that, and of width 1 under the density
    fine = np.sqrt(np.sum(lam)) / 64
    edges = {0.0, top, *np.arange(max(q - _REACH, 0.0), top)}
    while fine < top:
        edges.add(float(fine))
        fine *= 2
    panels = np.array(sorted(edges))
    x, weight = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(panels)[:, None] / 2
    v = (panels[:-1, None] + half * (1 + x)).ravel()
    density = np.exp(-((v - q) ** 2) / 2) / np.sqrt(2 * np.pi)
    exceeds = hypoexponential_tail(v**2 / 2, lam)
    return min(pfa + float(np.sum((half * weight).ravel() * exceeds * density)), 1.0)


def _quantile(value: Any, name: str) -> NDArray[np.float64]:
    """Q^-1."""
    from scipy import special

    return np.asarray(-special.ndtri(probability(value, name)))
