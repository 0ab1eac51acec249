"""What the uplink paper's detector does in the world, where an absent target is absent from the pilots, too.

The detector's null hypothesis is the echo estimate taken away from a block whose pilots carried the echo. Where the
target is absent, g_hat is still not 0 - it is a part of the direct channel and of noise - and the residual of the
cancellation correlates with it. Per user, with a = w^H g_hat and b = w^H (u - h_hat), the residual's gain,

    target absent     E[g_hat g_hat^H] = P R_g Psi^-1 Psi_0 Psi^-1 R_g,   Psi_0 = P R_h + sigma2 I
                      E[b-vector g_hat^H] = P^2 R_h Psi^-1 R_g Psi^-1 R_g                              not 0
                      Cov(h - h_hat) = R_h - P R_h Psi^-1 R_h - P^2 R_h Psi^-1 R_g Psi^-1 R_h
    target present    E[g_hat g_hat^H] = E[b-vector g_hat^H] = Theta_g,   Cov(u - h_hat) = Theta_g + C_u

with P = tau p. Given all a_k, and for orthogonal data symbols, T is Gaussian, and

    P(T > threshold | a) = Q((sqrt(chi / 2) Q^-1(pfa) - m) / s),    e_k = N p_k / S
    chi = sum_k e_k |a_k|^2,  m = sum_k e_k |a_k|^2 Re rho_k,  s^2 = sum_k (e_k / S + e_k^2 v_k) |a_k|^2 / 2

with rho_k = E[b a*] / E|a|^2 and v_k = E|b|^2 - |rho_k|^2 E|a|^2; |a_k|^2 are independent exponentials. Their sum and
their shares of it are independent; for given shares the argument of Q is A - B r with r^2 ~ Gamma(K, 1), so that a
smooth integral over r and one over the K - 1 dimensional simplex of the shares are left.

Source: own derivation on He et al., uplink ISAC (arXiv 2603.17744), eqs. (9)-(14). Differs: both hypotheses as the
world draws them. Valid for: Gaussian channels drawn anew in every block, direct ones too; orthogonal data symbols;
1e-5 up to K = 5, 1e-3 beyond, where the simplex is sampled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import probability, whole
from testbed.theory.uplink import UplinkStatistics, energies, powers, psi_inverse
from testbed.theory.uplink_sensing import sensing, sensing_with

_RULE = 12  # nodes per dimension of the simplex and per panel of r
_MOST = 30_000  # points of the simplex
_SAMPLED = 1 << 11  # points of a Sobol sequence instead, where a product rule would take more


@dataclass(frozen=True, eq=False)
class BlockGains:
    """Second moments of what the detector correlates, per user and in noise units, at a unit-norm combiner."""

    echo: NDArray[np.float64]  # (K,), E|a|^2, a = w^H g_hat
    coupling: NDArray[np.complex128]  # (K,), rho = E[b a*] / E|a|^2, b = w^H (u - h_hat); 0 where a is
    spread: NDArray[np.float64]  # (K,), v, variance of b given a
    assumed: float  # S = w^H B w, the disturbance that the detector assumes


def block_gains(
    statistics: UplinkStatistics,
    pilot_power: NDArray[np.float64],
    data_power: NDArray[np.float64],
    target: bool,
    combiner: NDArray[np.complex128] | None = None,
) -> BlockGains:
    """Moments of echo estimate and residual as the world draws them.

    Args:
        statistics: of the channels with the target present, which is what the receiver works with.
        pilot_power: per symbol, shape (K,), linear, >= 0.
        data_power: per symbol, shape (K,), linear, >= 0.
        target: whether there is one.
        combiner: w, shape (M,), of any norm; the best one where it is left out.

    Raises:
        ValueError: as `sensing`.
    """
    P, pd = energies(statistics, pilot_power), powers(statistics, data_power, "data_power")
    if combiner is None:
        point = sensing(statistics, pilot_power, data_power)
    else:
        point = sensing_with(statistics, pilot_power, data_power, combiner)
    w, R_h, R_g, scale = point.combiner, statistics.R_h, statistics.R_g, P[:, None, None]
    inverse = psi_inverse(statistics, P)
    theta = scale * R_g @ inverse @ R_g
    if target:
        echo = _form(w, theta)
        cross, total = echo.astype(np.complex128), echo + point.error
    else:
        coupled = scale**2 * R_h @ inverse @ R_g @ inverse @ R_g  # E[(h - h_hat) g_hat^H]
        echo = _form(w, theta - scale**2 * R_g @ inverse @ R_g @ inverse @ R_g)
        cross = np.einsum("a,kab,b->k", w.conj(), coupled, w)
        total = _form(w, R_h - scale * R_h @ inverse @ R_h - scale**2 * R_h @ inverse @ R_g @ inverse @ R_h)
    known = echo > 0
    rho = np.divide(cross, echo, out=np.zeros_like(cross), where=known)
    spread = np.maximum(total - np.abs(rho) ** 2 * echo, 0.0)
    return BlockGains(echo, rho, spread, float(pd @ point.error + 1))


def alarm_probability(gains: BlockGains, data_power: NDArray[np.float64], num_data: int, pfa: float) -> float:
    """Probability that the paper's detector decides for a target; its nominal probability of false alarm is `pfa`.

    With the gains of an absent target this is the actual false-alarm rate, with those of a present one the actual
    probability of detection.

    Args:
        gains: from `block_gains`.
        data_power: shape (K,), linear, >= 0, as there.
        num_data: N, data symbols of a block.
        pfa: nominal, in (0, 1).

    Returns:
        Probability; 0.5 where no user's echo estimate differs from 0, T and its threshold both being 0.
    """
    from scipy import special

    quantile = float(-special.ndtri(probability(pfa, "pfa")))
    weight = whole(num_data, "num_data", 1) * np.asarray(data_power, dtype=np.float64) / gains.assumed
    heard = weight * gains.echo > 0
    if not np.any(heard):
        return 0.5
    weight, echo = weight[heard], gains.echo[heard]
    shares, mass = _simplex(len(echo))
    chi = shares @ (weight * echo)
    mean = shares @ (weight * echo * gains.coupling.real[heard])
    variance = shares @ ((weight / gains.assumed + weight**2 * gains.spread[heard]) * echo) / 2
    A, B = quantile * np.sqrt(chi / (2 * variance)), mean / np.sqrt(variance)
    r, density = _radii(len(echo))
    return float(np.clip(mass @ (special.ndtr(B[:, None] * r - A[:, None]) @ density), 0.0, 1.0))


def _simplex(K: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, K) with sum 1 and weights (n,) of a mean over uniform shares, by breaking sticks."""
    from scipy import special, stats

    if K == 1:
        return np.ones((1, 1)), np.ones(1)
    num = min(_RULE, int(_MOST ** (1 / (K - 1)))) if K <= 5 else 0
    if num:
        rules = [special.roots_jacobi(num, m - 1, 0) for m in range(K - 1, 0, -1)]  # Beta(1, m) on (0, 1)
        grids = np.meshgrid(*[(1 + x) / 2 for x, _ in rules], indexing="ij")
        masses = np.meshgrid(*[v / np.sum(v) for _, v in rules], indexing="ij")
        broken, mass = np.stack([grid.ravel() for grid in grids], axis=1), np.prod(masses, axis=0).ravel()
    else:
        uniform = stats.qmc.Sobol(K - 1, scramble=False).random(_SAMPLED) + 0.5 / _SAMPLED
        broken, mass = 1 - (1 - uniform) ** (1 / np.arange(K - 1, 0, -1)), np.full(_SAMPLED, 1 / _SAMPLED)
    left = np.cumprod(1 - broken, axis=1)
    shares = np.empty((len(mass), K))
    shares[:, 0], shares[:, 1:-1], shares[:, -1] = broken[:, 0], broken[:, 1:] * left[:, :-1], left[:, -1]
    return shares, mass


def _radii(K: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes r (n,) and weights (n,) of a mean over r^2 ~ Gamma(K, 1); panels double from near 0, then are 1/4 wide."""
    from scipy import special

    edges = np.concatenate([[0.0], np.geomspace(2.0**-12, 0.25, 11), np.arange(0.5, np.sqrt(K) + 6.5, 0.25)])
    x, weight = np.polynomial.legendre.leggauss(_RULE)
    half = np.diff(edges)[:, None] / 2
    r = (edges[:-1, None] + half * (1 + x)).ravel()
    density = 2 * np.exp((2 * K - 1) * np.log(r) - r**2 - special.gammaln(K))
    return r, (half * weight).ravel() * density


def _form(w: NDArray[np.complex128], matrices: NDArray[np.complex128]) -> NDArray[np.float64]:
    """w^H X_k w of Hermitian matrices >= 0, (K,)."""
    return np.maximum(np.einsum("a,kab,b->k", w.conj(), matrices, w, optimize=True).real, 0.0)
