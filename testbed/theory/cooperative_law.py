"""How the position bound falls with the number of base stations of a Poisson field: approximations and the law.

Nodes are a homogeneous Poisson field of density lambda around the target, nearest first; Gamma_k = pi lambda d_k^2 are
arrival times of a unit-rate Poisson process. Replacing every distance by a mean, and bearings by spread ones,

    CRLB ~ 2 / (zeta2 S^2),   S = sum_{k<=N} E[d_k]^-beta,   E[d_k] = Gamma(k + 1/2) / (sqrt(pi lambda) Gamma(k))   (12)
                              S = sum_{k<=N} (k / (pi lambda))^(-beta/2)                                            (13)
    CRLB ln^2 N -> 2 / (zeta2 lambda^2 pi^2),   beta = 2                                                            (14)

If a share kappa of the requested nodes accepts, S becomes kappa S, so that all divide by kappa^2: (16) is (14) so.

Source: Meng and Masouros, arXiv 2403.20228, eqs. (12)-(14), (16), Theorem 1. Differs: (14) and (16) print the constant
1, `printed` keeps it; (12) and (13) print a finite value at N = 1, where one node cannot locate. Valid for: (12) within
50 % of the mean of layouts for N >= 10 and never tight; the limit is approached like 1 / ln N; for beta > 2 both sums
converge and there is no law.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.theory.arguments import not_negative
from testbed.theory.cooperative_information import crlb_from_moments, node_moments

MAX_TERMS = 10_000_000  # of the sums (12) and (13)

MeanForm = Literal["mean_distance", "mean_square", "law"]


def mean_crlb(
    num_nodes: ArrayLike,
    beta: float = 2.0,
    zeta2: float = 1.0,
    density: float = 1.0,
    *,
    form: MeanForm = "mean_distance",
    accepted: ArrayLike = 1.0,
    printed: bool = False,
) -> Any:
    """CRLB of the nearest N nodes of a Poisson field, as the paper approximates it.

    Args:
        num_nodes: N, whole numbers >= 1, any shape; for "law" any number >= 1, up to 1e300 and beyond.
        beta: path-loss exponent of one way; 2 for "law".
        zeta2: link constant, length^(2 beta - 2).
        density: lambda, nodes per area.
        form: "mean_distance" (12), "mean_square" (13), "law" (14), and with `accepted` (16).
        accepted: kappa, share of the requested nodes that accept, broadcast with `num_nodes`.
        printed: as printed: constant 1 in (14), finite at N = 1 in (12) and (13).

    Returns:
        length^2, a float or the shape of `num_nodes`; inf at N = 1 unless printed, and where kappa is 0.

    Raises:
        ValueError: N below 1 or too large for a sum, a share outside 0..1, "law" with another beta.
    """
    N, kappa = np.asarray(num_nodes, dtype=np.float64), not_negative(accepted, "accepted")
    lam, zeta2 = float(not_negative(density, "density")), float(not_negative(zeta2, "zeta2"))
    if not np.all(N >= 1) or np.any(kappa > 1):
        raise ValueError(f"num_nodes, accepted - must be at least 1 and within 0..1, found {N.min()}, {kappa.max()}")
    with np.errstate(divide="ignore"):
        if form == "law":
            if beta != 2:
                raise ValueError(f"beta {beta:g} - the law holds for beta = 2 only; other sums converge")
            value = (1 if printed else 2) / (zeta2 * (np.pi * lam * kappa * np.log(N)) ** 2)
        else:
            value = 2 / (
                zeta2 * (np.pi * lam) ** beta * (kappa * _sum(N, float(not_negative(beta, "beta")), form)) ** 2
            )
            value = np.where((N == 1) & (not printed), np.inf, value)
    return value if value.ndim else float(value)


def far_field_crlb(
    arrival: ArrayLike, bearing_rad: ArrayLike, num_nodes: ArrayLike, zeta2: float = 1.0, density: float = 1.0
) -> NDArray[np.float64]:
    """CRLB at beta = 2 of N nodes of which only the nearest M are drawn, for N up to 1e300.

    The others add ln(N / Gamma_M) to sum 1 / Gamma_k, within 1 / sqrt(M), and next to nothing to the other moments,
    whose bearings cancel.

    Args:
        arrival: Gamma_1 .. Gamma_M, shape (..., M), rising along the last axis.
        bearing_rad: shape (..., M).
        num_nodes: N, shape (J,), at least M.
        zeta2: link constant.
        density: lambda.

    Returns:
        length^2, shape (..., J).

    Raises:
        ValueError: an N below M, or as `node_moments`.
    """
    gamma, N = np.asarray(arrival, dtype=np.float64), np.atleast_1d(np.asarray(num_nodes, dtype=np.float64))
    moments = node_moments(np.sqrt(gamma), bearing_rad, 2.0).sum(axis=-1)[..., None] + np.zeros(len(N))
    if np.any(gamma.shape[-1] > N):
        raise ValueError(f"num_nodes {N.min():g} - must be at least the {gamma.shape[-1]} that are drawn")
    moments[0] += np.log(N) - np.log(gamma[..., -1:])
    # weights here are 1 / Gamma_k = w_k / (pi lambda)
    found: NDArray[np.float64] = crlb_from_moments(moments, zeta2 * (np.pi * density) ** 2)
    return found


def mean_count(num_nodes: ArrayLike) -> Any:
    """(Gamma(N + 1/2) / Gamma(N))^2, pi lambda E[d_N]^2, about N - 1/4: the paper's mean number of nodes within d_N."""
    from scipy import special

    N = np.asarray(num_nodes, dtype=np.float64)
    value = np.exp(2 * (special.gammaln(N + 0.5) - special.gammaln(N)))
    return value if value.ndim else float(value)


def _sum(N: NDArray[np.float64], beta: float, form: str) -> NDArray[np.float64]:
    """sum_{k<=N} of E[d_k]^-beta or E[d_k^2]^(-beta/2) in units of (pi lambda)^(beta/2)."""
    if form not in ("mean_distance", "mean_square"):
        raise ValueError(f"form: found {form!r}; must be mean_distance, mean_square or law")
    last = float(np.max(N, initial=1.0))
    if last > MAX_TERMS or np.any(np.floor(N) != N):
        raise ValueError(f"num_nodes {last:g} - must be whole and at most {MAX_TERMS}; the law goes further")
    k = np.arange(1, int(last) + 1, dtype=np.float64)
    square = k if form == "mean_square" else mean_count(k)
    running = np.cumsum(square ** (-beta / 2))
    return running[N.astype(np.int64) - 1]
