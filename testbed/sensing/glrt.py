"""The two GLRTs: known noise variance (T) and unknown noise variance (F, constant false-alarm rate), batched.

    T = ||P_{X|D} y||^2 / sigma2                                          2T ~ chi2(2r)          under H0
    F = (||P_{X|D} y||^2 / r) / (||(I - P_[X D]) y||^2 / (N - r - Q))      F ~ F(2r, 2(N-r-Q))    under H0

P_{X|D} projects on range((I - P_D) X), r is its rank, Q the rank of D.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.sensing.model import projection_basis

_BLOCK_TRIALS = 256  # at a time in double precision: a block of some hundred observations stays in the cache
PYTHAGORAS_SHARE = 1e-3  # of the energy: above it ||z||^2 - ||U^H z||^2 keeps 12 digits
RANK_KAPPA = 1e-6  # share of a direction's power that must survive (I - P_D) to count as a degree of freedom


@dataclass(frozen=True)
class Glrt:
    """Result of a batch of tests; the statistics are of shape (...,)."""

    statistic: NDArray[np.float64]  # T, or F where no noise variance was given
    rank: int  # r
    num_nuisance: int  # Q
    num_observations: int  # N
    explained: NDArray[np.float64]  # ||P_{X|D} y||^2
    residual: NDArray[np.float64]  # ||(I - P_[X D]) y||^2

    @property
    def num_residual(self) -> int:
        """Complex degrees of freedom of the residual, N - r - Q."""
        return self.num_observations - self.rank - self.num_nuisance


def glrt(
    y: NDArray[np.complexfloating],
    X: NDArray[np.complexfloating],
    noise_var: float | None = None,
    D: NDArray[np.complexfloating] | None = None,
) -> Glrt:
    """Generalised likelihood-ratio test of y = X h + D d + w against y = D d + w.

    Args:
        y: observations, shape (..., N).
        X: columns of the cell under test, shape (N, L); zero columns (silent transmitters) do not count.
        noise_var: sigma2, E|w|^2 per observation; None for the test of unknown noise.
        D: nuisance columns, shape (N, Q); None for the paper's test.

    Returns:
        T with noise_var, else F, with rank and degrees of freedom.

    Raises:
        ValueError: shapes that do not fit, noise_var not positive, no active column, or N - r - Q <= 0 for F.

    Source: Zou et al., CoMP-ISAC letter, eq. (8); nuisance columns and F as SIGNAL_CHAIN section 3.
    Differs: rank-revealing SVD of normalised columns instead of (X^H X)^-1. Valid for: X and D known exactly.
    """
    y, columns = np.asarray(y), np.asarray(X, dtype=np.complex128)
    if columns.ndim != 2 or y.shape[-1:] != columns.shape[:1]:
        raise ValueError(f"shapes y {y.shape}, X {columns.shape}; must be (..., N) and (N, L)")
    _check_noise_var(noise_var)  # before the work on X and D
    return glrt_within(y, subspaces(columns, D), noise_var)


@dataclass(frozen=True, eq=False)
class Subspaces:
    """Orthonormal bases a test projects on; made once for many batches of observations."""

    echo: NDArray[np.complex128]  # U, of range((I - P_D) X), shape (N, r)
    nuisance: NDArray[np.complex128]  # V, of range(D), shape (N, Q)


def subspaces(X: NDArray[np.complexfloating], D: NDArray[np.complexfloating] | None = None) -> Subspaces:
    """Bases of the cell's columns X (N, L) and the nuisance columns D (N, Q).

    Raises:
        ValueError: shapes that do not fit, or no active column.
    """
    columns = np.asarray(X, dtype=np.complex128)
    nuisance = np.zeros((columns.shape[0], 0), np.complex128) if D is None else np.asarray(D, dtype=np.complex128)
    if nuisance.ndim != 2 or nuisance.shape[0] != columns.shape[0]:
        raise ValueError(f"shape D {nuisance.shape}; must be (N, Q) with N = {columns.shape[0]}")
    V = projection_basis(nuisance)
    return Subspaces(_visible_basis(columns, V), V)


def glrt_within(y: NDArray[np.complexfloating], spaces: Subspaces, noise_var: float | None = None) -> Glrt:
    """`glrt` with its bases at hand: y of shape (..., N)."""
    _check_noise_var(noise_var)
    U, V = spaces.echo, spaces.nuisance
    rank, num_nuisance, num_observations = U.shape[1], V.shape[1], U.shape[0]
    if noise_var is not None and rank + num_nuisance >= num_observations:
        warnings.warn(
            f"N - r - Q = {num_observations} - {rank} - {num_nuisance}: the columns span all observations, so T is an "
            "energy detector, to which noise above noise_var looks like an echo; observe more",
            RuntimeWarning,
            stacklevel=3,
        )
    conj_U, conj_V = _as_real(U.conj()), V.conj()
    trials = y.reshape(-1, num_observations)
    explained: NDArray[np.float64] = np.empty(len(trials))
    residual: NDArray[np.float64] = np.empty(len(trials))
    for at in range(0, len(trials), _BLOCK_TRIALS):
        block = slice(at, at + _BLOCK_TRIALS)
        z = trials[block].astype(np.complex128, order="C")
        if num_nuisance:
            z -= (z @ conj_V) @ V.T
        c = (z.view(np.float64) @ conj_U).view(np.complex128)
        explained[block] = _energy(c)
        residual[block] = _residual(z, c, U, explained[block])
    explained, residual = explained.reshape(y.shape[:-1]), residual.reshape(y.shape[:-1])
    if noise_var is not None:
        statistic = explained / noise_var
    else:
        freedom = num_observations - rank - num_nuisance
        if freedom <= 0:
            raise ValueError(f"N - r - Q = {num_observations} - {rank} - {num_nuisance}; the F test needs more than 0")
        statistic = (explained / rank) / (residual / freedom)
    return Glrt(statistic, rank, num_nuisance, num_observations, explained, residual)


def _check_noise_var(noise_var: float | None) -> None:
    if noise_var is not None and not (noise_var > 0 and np.isfinite(noise_var)):
        raise ValueError(f"noise_var {noise_var}; must be positive")


def _as_real(matrix: NDArray[np.complex128]) -> NDArray[np.float64]:
    """M (N, r) as real (2N, 2r), so that rails(z) @ it = rails(z @ M): for few columns twice as fast as complex."""
    real = np.empty((matrix.shape[0], 2, matrix.shape[1], 2))
    real[:, 0, :, 0], real[:, 0, :, 1] = matrix.real, matrix.imag
    real[:, 1, :, 0], real[:, 1, :, 1] = -matrix.imag, matrix.real
    return real.reshape(2 * matrix.shape[0], -1)


def _residual(
    z: NDArray[np.complex128], c: NDArray[np.complex128], U: NDArray[np.complex128], explained: NDArray[np.float64]
) -> NDArray[np.float64]:
    """||z - U c||^2 per row: by Pythagoras, or from the vectors where the difference would lose digits."""
    total = _energy(z)
    residual: NDArray[np.float64] = total - explained
    (lost,) = np.nonzero(residual < PYTHAGORAS_SHARE * total)
    if lost.size:
        residual[lost] = _energy(z[lost] - c[lost] @ U.T)
    return residual


def _energy(rows: NDArray[np.complex128]) -> NDArray[np.float64]:
    """||row||^2 along the last axis, without the roots that abs()**2 takes only to square them."""
    rails = np.ascontiguousarray(rows).view(np.float64)
    energy: NDArray[np.float64] = np.einsum("...k,...k->...", rails, rails)
    return energy


def _visible_basis(X: NDArray[np.complex128], V: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Orthonormal basis of range((I - V V^H) X), directions with less than RANK_KAPPA of their power left dropped."""
    norms = np.linalg.norm(X, axis=0)
    active = X[:, norms > 0] / norms[norms > 0]
    if active.shape[1] == 0:
        raise ValueError("X: no active column; at least one transmitter must have power")
    active = projection_basis(active)  # repeated sequences count once
    visible = active - V @ (V.conj().T @ active)
    u, singular, _ = np.linalg.svd(visible, full_matrices=False)
    basis: NDArray[np.complex128] = u[:, singular**2 > RANK_KAPPA]
    if basis.shape[1] == 0:
        raise ValueError("X: every column lies within range(D); the cell cannot be told from the nuisance paths")
    return basis
