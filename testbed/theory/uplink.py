"""Uplink with cooperative sensing: what the pilots of K users tell an array about their channels and about echoes.

Every user k is heard directly, h_k ~ CN(0, R_h,k), and by way of the target, g_k ~ CN(0, R_g,k), u_k = h_k + g_k. After
correlation with the user's own pilot, tau symbols of power p_k,

    y_k = sqrt(tau p_k) (h_k + g_k) + n_k,        n_k ~ CN(0, sigma2 I),   Psi_k = tau p_k R_k + sigma2 I        eq. (2)
    x_hat = sqrt(tau p_k) R_x Psi_k^-1 y_k        for x = h, g and u, R_u = R_k = R_h,k + R_g,k            eqs. (3), (4)
    Theta_x = tau p_k R_x Psi_k^-1 R_x            covariance of the estimate;   C_x = R_x - Theta_x of its error
    X = tau p_k R_h Psi_k^-1 R_g                  E[h_hat g_hat^H] = -E[h_err g_err^H]: both come from the same y_k

so that C_u = C_h + C_g - X - X^H, and not C_h + C_g. Everything is computed in the eigenbasis V_k of R_k, found once,
where Psi_k is diagonal and at least sigma2, with covariances over the noise variance: raw milliwatts span 14 decades.

Source: He et al., uplink ISAC (arXiv 2603.17744), eqs. (1)-(4). Differs: the paper's formulas did not survive in the
copies that are stored, these are derived from its prose; C_u and X are not in the paper.

What follows from it: `uplink_rates` (Theorem 1), `uplink_sensing` (SINR and combiner of the target),
`uplink_detection` (detector) and `uplink_mismatch` (what the detector's model leaves out).
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.theory.arguments import not_negative, whole

_HERMITIAN = 1e-9  # relative: what rounding may take from a covariance matrix


@dataclass(frozen=True, eq=False)
class UplinkStatistics:
    """Covariances of K users' channels at M antennas, noise and pilot length. Copied, checked, made read-only.

    Raises:
        ValueError: a shape that does not fit, a matrix that is not Hermitian or has a negative eigenvalue, a noise
            variance that is not above 0, or fewer pilot symbols than users.
    """

    direct_cov: NDArray[np.complex128]  # (K, M, M), R_h, in the unit of noise_var per unit of transmit power
    echo_cov: NDArray[np.complex128]  # (K, M, M), R_g
    noise_var: float  # per antenna and symbol, > 0
    pilot_len: int  # tau, symbols, >= K

    def __post_init__(self) -> None:
        if not (0 < self.noise_var < np.inf):
            raise ValueError(f"noise_var: found {self.noise_var:g}; must be finite and above 0")
        direct = _covariances(self.direct_cov, "direct_cov", None)
        object.__setattr__(self, "direct_cov", direct)
        object.__setattr__(self, "echo_cov", _covariances(self.echo_cov, "echo_cov", direct.shape))
        object.__setattr__(self, "noise_var", float(self.noise_var))
        object.__setattr__(self, "pilot_len", whole(self.pilot_len, "pilot_len", 1))
        if self.pilot_len < self.num_users:
            raise ValueError(
                f"pilot_len: found {self.pilot_len}; must be at least {self.num_users}, one orthogonal pilot per user"
            )

    @property
    def num_users(self) -> int:
        """K."""
        return len(self.direct_cov)

    @property
    def num_antennas(self) -> int:
        """M."""
        return self.direct_cov.shape[-1]

    @functools.cached_property
    def R_h(self) -> NDArray[np.complex128]:
        """(K, M, M), over the noise."""
        return self.direct_cov / self.noise_var

    @functools.cached_property
    def R_g(self) -> NDArray[np.complex128]:
        """(K, M, M), over the noise."""
        return self.echo_cov / self.noise_var

    @functools.cached_property
    def R(self) -> NDArray[np.complex128]:
        """(K, M, M), R_h + R_g, over the noise."""
        return self.R_h + self.R_g

    @functools.cached_property
    def basis(self) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
        """Eigenvalues r (K, M) and eigenvectors V (K, M, M) of R, R = V diag(r) V^H."""
        r, V = np.linalg.eigh(self.R)
        return np.maximum(r, 0.0), V

    @functools.cached_property
    def overlap(self) -> NDArray[np.float64]:
        """(K, K, M): diagonal of V_k^H R_i V_k, [user i, user k, eigenvector]: tr(R_i f(R_k)) is a dot product."""
        _, V = self.basis
        overlap = np.einsum("kam,iab,kbm->ikm", V.conj(), self.R, V, optimize=True).real
        return np.maximum(overlap, 0.0)

    @functools.cached_property
    def turned_echo(self) -> NDArray[np.complex128]:
        """(K, M, M), V_k^H R_g,k."""
        return np.swapaxes(self.basis[1].conj(), -1, -2) @ self.R_g


@dataclass(frozen=True, eq=False)
class UplinkEstimates:
    """Covariances of MMSE estimates and of their errors, (K, M, M) each, in the unit of the channels' covariances."""

    direct: NDArray[np.complex128]  # Theta_h
    echo: NDArray[np.complex128]  # Theta_g
    effective: NDArray[np.complex128]  # Theta_u
    direct_error: NDArray[np.complex128]  # C_h
    echo_error: NDArray[np.complex128]  # C_g
    effective_error: NDArray[np.complex128]  # C_u
    cross: NDArray[np.complex128]  # X = E[h_hat g_hat^H]


def estimates(statistics: UplinkStatistics, pilot_power: NDArray[np.float64]) -> UplinkEstimates:
    """Covariances of the estimates of direct channel, echo and their sum, and of the errors.

    Args:
        statistics: of the channels.
        pilot_power: per symbol, shape (K,), linear, >= 0; 0 gives estimates that are 0.

    Raises:
        ValueError: a power of another shape, negative or not finite.

    Source: He et al., eqs. (3)-(4). Differs: effective channel and cross covariance added.
    """
    P = energies(statistics, pilot_power)
    inverse, R_h, R_g = psi_inverse(statistics, P), statistics.R_h, statistics.R_g
    (r, V), scale = statistics.basis, P[:, None, None]
    direct, echo, cross = scale * R_h @ inverse @ R_h, scale * R_g @ inverse @ R_g, scale * R_h @ inverse @ R_g
    left = r / (P[:, None] * r + 1)  # eigenvalues of C_u, and below of Theta_u: neither is a difference
    effective_error = (V * left[:, None, :]) @ np.swapaxes(V.conj(), -1, -2)
    effective = (V * (P[:, None] * r * left)[:, None, :]) @ np.swapaxes(V.conj(), -1, -2)
    unit = statistics.noise_var
    return UplinkEstimates(
        unit * _hermitian(direct),
        unit * _hermitian(echo),
        unit * _hermitian(effective),
        unit * _hermitian(R_h - direct),
        unit * _hermitian(R_g - echo),
        unit * _hermitian(effective_error),
        unit * cross,
    )


def estimators(
    statistics: UplinkStatistics, pilot_power: NDArray[np.float64]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Matrices G_h and G_g, (K, M, M) each, with h_hat = G_h y_k and g_hat = G_g y_k for y_k of eq. (2).

    G_x = sqrt(tau p_k) R_x Psi_k^-1. Arguments and errors as `estimates`.
    """
    P = energies(statistics, pilot_power)
    gain = np.sqrt(P)[:, None, None] * psi_inverse(statistics, P)
    return statistics.R_h @ gain, statistics.R_g @ gain


def energies(statistics: UplinkStatistics, pilot_power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pilot energies tau p, (K,)."""
    return statistics.pilot_len * powers(statistics, pilot_power, "pilot_power")


def powers(statistics: UplinkStatistics, power: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """`power` as an array of shape (K,), or ValueError."""
    found = not_negative(power, name)
    if found.shape != (statistics.num_users,):
        raise ValueError(f"{name}: found shape {found.shape}; must be ({statistics.num_users},)")
    return found


def psi_inverse(statistics: UplinkStatistics, energy: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Inverse of Psi over the noise, (K, M, M), for pilot energies (K,)."""
    r, V = statistics.basis
    return (V / (energy[:, None] * r + 1)[:, None, :]) @ np.swapaxes(V.conj(), -1, -2)


def _covariances(value: Any, name: str, shape: tuple[int, ...] | None) -> NDArray[np.complex128]:
    found = np.array(value, dtype=np.complex128)
    if found.ndim != 3 or found.shape[1] != found.shape[2] or 0 in found.shape:
        raise ValueError(f"{name}: found shape {found.shape}; must be (K, M, M), a covariance matrix per user")
    if shape is not None and found.shape != shape:
        raise ValueError(f"{name}: found shape {found.shape}; must be {shape} like direct_cov")
    if not np.all(np.isfinite(found)):
        raise ValueError(f"{name}: found values that are not finite")
    for k, matrix in enumerate(found):
        size = np.max(np.abs(matrix))
        if np.max(np.abs(matrix - matrix.conj().T)) > _HERMITIAN * size:
            raise ValueError(f"{name}[{k}]: not Hermitian - a covariance matrix E[x x^H] is")
        least = np.linalg.eigvalsh(matrix)[0]
        if least < -_HERMITIAN * size * len(matrix):
            raise ValueError(f"{name}[{k}]: found eigenvalue {least:g}; a covariance matrix has none below 0")
    found = _hermitian(found)
    found.setflags(write=False)
    return found


def _hermitian(matrix: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return (matrix + np.swapaxes(matrix.conj(), -1, -2)) / 2
