"""Rates of the uplink that an array can promise before it knows the channels: use-and-then-forget (UaTF) bounds.

    gamma_k = p_k |E[w_k^H u_k]|^2 / (sum_i p_i E|w_k^H u_i|^2 - p_k |E[w_k^H u_k]|^2 + sigma2 E||w_k||^2)       eq. (7)

For maximum ratio combining, w_k = u_hat_k up to a factor that is not random, this is Theorem 1:

    gamma_k = p_k t_k^2 / (sum_i p_i X_ik + sigma2 t_k),   t_k = tr Theta_k,   X_ik = tr(R_i Theta_k)           eq. (20)

with the data powers p_k; i = k is part of the sum. Only Theta_k depends on a pilot power, on user k's alone.

Source: He et al., uplink ISAC (arXiv 2603.17744), eqs. (7), (20), Theorem 2. Differs: t_k and X_ik are divided by the
pilot energy P_k = tau p_k, which leaves formula and gradients without a 0 / 0 where a user sends no pilots; a combiner
of unit norm, which the paper also asks for, gives another bound (7 to 48 % higher SINR).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import not_negative
from testbed.theory.uplink import UplinkStatistics, energies, powers


@dataclass(frozen=True, eq=False)
class UplinkBound:
    """Theorem 1 and its derivatives at one choice of powers."""

    sinr: NDArray[np.float64]  # (K,), gamma
    pilot_gradient: NDArray[np.float64]  # (K,), d gamma_k / d pilot_power_k; those of other users are 0
    data_jacobian: NDArray[np.float64]  # (K, K), d gamma_k / d data_power_j, [k, j]
    signal: NDArray[np.float64]  # (K,), t_k^2 in noise units: gamma_k = data_power_k signal_k / disturbance_k
    mixed: NDArray[np.float64]  # (K, K), X_ik, [k, i]: disturbance_k = mixed_k . data_power + floor_k
    floor: NDArray[np.float64]  # (K,), t_k


def bound(
    statistics: UplinkStatistics, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64]
) -> UplinkBound:
    """Theorem 1: SINR of every user with maximum ratio combining, and its derivatives.

    Args:
        statistics: of the channels.
        pilot_power: per symbol, shape (K,), linear, >= 0; 0 gives SINR 0 and the derivative's limit.
        data_power: per symbol, shape (K,), linear, >= 0.

    Raises:
        ValueError: a power of another shape, negative or not finite.

    Source: He et al., eq. (20), Theorem 2 and eqs. (51)-(58). Differs: see the module.
    """
    P, pd = energies(statistics, pilot_power), powers(statistics, data_power, "data_power")
    r, _ = statistics.basis
    g = 1 / (P[:, None] * r + 1)
    part = r**2 * g  # eigenvalues of Theta / P
    slope = -(r**3) * g**2  # its derivative by P
    t, dt = np.sum(part, axis=1), np.sum(slope, axis=1)
    X = np.einsum("ikm,km->ki", statistics.overlap, part)
    dX = np.einsum("ikm,km->ki", statistics.overlap, slope)
    D, dD = X @ pd + t, dX @ pd + dt  # over P, too
    heard = D > 0  # otherwise R_k = 0
    D = np.where(heard, D, 1.0)
    own = P * t**2 / D
    sinr = pd * own
    by_energy = pd * t * (t + 2 * P * dt - P * t * dD / D) / D
    jacobian = np.diag(own) - (sinr / D)[:, None] * X
    return UplinkBound(sinr, statistics.pilot_len * by_energy, jacobian, (P * t) ** 2, P[:, None] * X, P * t)


def sampled_bound(
    combiners: NDArray[np.complex128],
    channels: NDArray[np.complex128],
    data_power: NDArray[np.float64],
    noise_var: float,
) -> NDArray[np.float64]:
    """Eq. (7) from draws of combiners and channels: what a receiver that only knows their means can promise.

    Args:
        combiners: w, shape (B, M, K), one matrix per block; user k's output is w_k^H y.
        channels: effective channels u, shape (B, M, K), of the same blocks.
        data_power: shape (K,), linear, >= 0.
        noise_var: per antenna, > 0.

    Returns:
        gamma, shape (K,); 0 for a user whose combiner is 0. Expectations are means over the B blocks; the SINR of few
        blocks reads high, because |E[w^H u]|^2 does.

    Raises:
        ValueError: shapes that do not fit, a negative power or noise variance.
    """
    if combiners.shape != channels.shape or combiners.ndim != 3:
        raise ValueError(f"combiners {combiners.shape}, channels {channels.shape}; must both be (B, M, K)")
    pd, sigma2 = not_negative(data_power, "data_power"), not_negative(noise_var, "noise_var")
    if pd.shape != channels.shape[-1:]:
        raise ValueError(f"data_power: found shape {pd.shape}; must be {channels.shape[-1:]}")
    gain = np.swapaxes(combiners.conj(), -1, -2) @ channels  # (B, K, K), w_k^H u_i
    signal = pd * np.abs(np.mean(np.diagonal(gain, axis1=1, axis2=2), axis=0)) ** 2
    all_power = np.mean(np.abs(gain) ** 2, axis=0) @ pd
    noise = sigma2 * np.mean(np.sum(np.abs(combiners) ** 2, axis=1), axis=0)
    left = all_power - signal + noise
    return np.divide(signal, left, out=np.zeros_like(signal), where=left > 0)


def rate(sinr: NDArray[np.float64], pilot_len: int, block_len: int) -> NDArray[np.float64]:
    """(N / T) log2(1 + gamma), bit/s/Hz, same shape as `sinr`: N = T - tau of T symbols carry data."""
    return (block_len - pilot_len) / block_len * np.log1p(sinr) / np.log(2)
