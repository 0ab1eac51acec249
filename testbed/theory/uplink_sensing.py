"""The target's SINR after the users' direct signals have been cancelled, and the combiner that is best for it.

    gamma_s = w^H A w / w^H B w,   A = sum_k p_k Theta_g,k,   B = sum_k p_k C_u,k + sigma2 I             eqs. (18), (21)
    best    w = top generalised eigenvector of (A, B), unit norm; gamma_s = largest eigenvalue                 eq. (22)

with the data powers p_k. At the best combiner the derivative of gamma_s needs none of w (envelope theorem).

`error_cov` says which error covariance is in B: "exact" C_u, or "independent" C_h + C_g, as if the errors of direct
channel and echo were independent, which they are not: it overstates the disturbance and understates gamma_s (2.05
against 0.44 in the specification's scene).

Source: He et al., uplink ISAC (arXiv 2603.17744), eqs. (18), (21), (22). Differs: a Hermitian solver on the pair (A, B)
instead of eigenvectors of B^-1 A, which is not Hermitian.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from testbed.theory.uplink import UplinkStatistics, energies, powers

ErrorCov = Literal["exact", "independent"]


@dataclass(frozen=True, eq=False)
class SensingPoint:
    """Sensing SINR with the best combiner and its derivatives at one choice of powers.

    signal and error are q_k and c_k in noise units: gamma_s = q . data_power / (c . data_power + 1).
    """

    sinr: float  # gamma_s, ergodic, per symbol
    combiner: NDArray[np.complex128]  # (M,), unit norm, its phase arbitrary
    pilot_gradient: NDArray[np.float64]  # (K,), d gamma_s / d pilot_power_k
    data_gradient: NDArray[np.float64]  # (K,), d gamma_s / d data_power_k
    signal: NDArray[np.float64]  # (K,), q_k = w^H Theta_g,k w / sigma2
    error: NDArray[np.float64]  # (K,), c_k = w^H C_k w / sigma2


def sensing(
    statistics: UplinkStatistics,
    pilot_power: NDArray[np.float64],
    data_power: NDArray[np.float64],
    error_cov: ErrorCov = "exact",
) -> SensingPoint:
    """Sensing SINR with the combiner that makes it largest.

    Args:
        statistics: of the channels.
        pilot_power: per symbol, shape (K,), linear, >= 0.
        data_power: per symbol, shape (K,), linear, >= 0.
        error_cov: "exact" or "independent".

    Raises:
        ValueError: a power of another shape, negative or not finite, or an unknown error covariance.

    Source: He et al., eqs. (21)-(22). Differs: see the module. Valid for: derivatives where the largest eigenvalue is
    single, as it is for echoes from one direction.
    """
    P, pd = energies(statistics, pilot_power), powers(statistics, data_power, "data_power")
    A, B = _pencil(statistics, P, pd, _known(error_cov))
    w = top_eigenvector(A, B)
    return _at(statistics, P, pd, w, error_cov)


def sensing_with(
    statistics: UplinkStatistics,
    pilot_power: NDArray[np.float64],
    data_power: NDArray[np.float64],
    combiner: NDArray[np.complex128],
    error_cov: ErrorCov = "exact",
) -> SensingPoint:
    """The same with a combiner (M,) that is given; derivatives are for this combiner kept."""
    P, pd = energies(statistics, pilot_power), powers(statistics, data_power, "data_power")
    norm = np.linalg.norm(combiner)
    if np.shape(combiner) != (statistics.num_antennas,) or not (0 < norm < np.inf):
        raise ValueError(f"combiner: must be a vector of {statistics.num_antennas} numbers, finite and not all 0")
    return _at(statistics, P, pd, combiner / norm, _known(error_cov))


def pencil(
    statistics: UplinkStatistics,
    pilot_power: NDArray[np.float64],
    data_power: NDArray[np.float64],
    error_cov: ErrorCov = "exact",
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """A and B of eq. (21), (M, M) each, over the noise variance. Arguments and errors as `sensing`."""
    P, pd = energies(statistics, pilot_power), powers(statistics, data_power, "data_power")
    return _pencil(statistics, P, pd, _known(error_cov))


def top_eigenvector(A: NDArray[np.complex128], B: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Unit vector (M,) with the largest w^H A w / w^H B w; A Hermitian >= 0, B Hermitian > 0, (M, M)."""
    from scipy import linalg

    w = linalg.eigh(A, B)[1][:, -1]
    return w / np.linalg.norm(w)


def _pencil(
    statistics: UplinkStatistics, P: NDArray[np.float64], pd: NDArray[np.float64], error_cov: ErrorCov
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    r, V = statistics.basis
    M, eye = statistics.num_antennas, np.eye(statistics.num_antennas)
    g = 1 / (P[:, None] * r + 1)
    root = np.sqrt((pd * P)[:, None] * g)[:, :, None] * statistics.turned_echo
    A = root.reshape(-1, M).conj().T @ root.reshape(-1, M)
    if error_cov == "exact":
        spread = np.swapaxes(V * np.sqrt(pd[:, None] * r * g)[:, None, :], 0, 1).reshape(M, -1)
        B = spread @ spread.conj().T + eye
    else:
        turned = np.swapaxes(V.conj(), -1, -2) @ statistics.R_h
        root = np.sqrt((pd * P)[:, None] * g)[:, :, None] * turned
        B = np.tensordot(pd, statistics.R, axes=1) - root.reshape(-1, M).conj().T @ root.reshape(-1, M) - A + eye
    return (A + A.conj().T) / 2, (B + B.conj().T) / 2


def _at(
    statistics: UplinkStatistics,
    P: NDArray[np.float64],
    pd: NDArray[np.float64],
    w: NDArray[np.complex128],
    error_cov: ErrorCov,
) -> SensingPoint:
    r, V = statistics.basis
    g = 1 / (P[:, None] * r + 1)
    echo = np.abs(statistics.turned_echo @ w) ** 2  # |V^H R_g w|^2, (K, M)
    q, dq = P * np.sum(g * echo, axis=1), np.sum(g**2 * echo, axis=1)
    if error_cov == "exact":
        turned = np.abs(w.conj() @ V) ** 2
        c, dc = np.sum(r * g * turned, axis=1), -np.sum((r * g) ** 2 * turned, axis=1)
    else:
        direct = np.abs(np.einsum("kam,ka->km", V.conj(), statistics.R_h @ w)) ** 2
        whole = ((statistics.R @ w) @ w.conj()).real
        c, dc = whole - P * np.sum(g * (direct + echo), axis=1), -np.sum(g**2 * (direct + echo), axis=1)
    disturbance = pd @ c + 1.0
    sinr = float(pd @ q / disturbance)
    by_pilot = statistics.pilot_len * pd * (dq - sinr * dc) / disturbance
    return SensingPoint(sinr, w, by_pilot, (q - sinr * c) / disturbance, q, c)


def _known(error_cov: ErrorCov) -> ErrorCov:
    if error_cov not in get_args(ErrorCov):
        raise ValueError(f"error_cov: found {error_cov!r}; must be one of {', '.join(get_args(ErrorCov))}")
    return error_cov
