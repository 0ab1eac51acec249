"""The delay of one echo in every frame: projected maximum likelihood, frames with columns of their own.

    tau_hat = argmax J(tau),   J(tau) = |x(tau)^H (I - P_D) y|^2 / ||(I - P_D) x(tau)||^2     (SIGNAL_CHAIN section 6)
    a_hat = x^H (I - P_D) y / ||(I - P_D) x||^2
    var(tau) >= sigma2 / (2 |a|^2 ||(I - P_[D x]) x'||^2)

J / sigma2 is what the GLRT of one column would be, so its peak is found on a grid of 1/8 sample. On the grid, x is a
phase ramp on elements between exact columns that lie ANCHOR samples apart (ramps alone are wrong by -32 to -43 dB,
enough to find a peak); Newton's method then runs on exact columns and their derivatives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = 8  # steps per sample
ANCHOR = 4.0  # samples between exact columns of the grid
MIN_VISIBLE = 0.3  # of a column's power must be left by D, as for a cell under test; a grid point with less is skipped
_MAX_STEPS = 6
_TOLERANCE = 1e-6  # samples; 0.01 mm of range at 20 MS/s
# delays (M,) or one, orders of the derivative -> an array (M, N) per order, whitened as y is
Columns = Callable[[NDArray[np.float64] | float, Sequence[int]], list[NDArray[np.complex128]]]


@dataclass(frozen=True, eq=False)
class Nuisance:
    """range(D) of every frame."""

    basis: NDArray[np.complex128]  # orthonormal, shape (M or 1, N, Q)

    @classmethod
    def of(cls, columns: Sequence[NDArray[np.complex128]], num_observations: int) -> "Nuisance":
        """From columns of shape (M, N) or (1, N). Silent ones (zero) are left out.

        Columns are normalised first, so that a weak path counts as much as a strong one; QR, never D^H D inverted.
        """
        active = [column for column in columns if np.any(column)]
        if not active:
            return cls(np.zeros((1, num_observations, 0), dtype=np.complex128))
        D = np.stack(np.broadcast_arrays(*active), axis=-1)
        U, _ = np.linalg.qr(D / np.linalg.norm(D, axis=-2, keepdims=True))
        return cls(U)

    @property
    def rank(self) -> int:
        """Q."""
        return int(self.basis.shape[-1])

    def coordinates(self, columns: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """U^H x of every frame, shape (M, Q)."""
        found: NDArray[np.complex128] = (columns[:, None, :] @ self.basis.conj())[:, 0, :]
        return found

    def removed(self, columns: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """(I - P_D) x of every frame, shape (M, N)."""
        if self.rank == 0:
            return columns
        left: NDArray[np.complex128] = columns - (self.basis @ self.coordinates(columns)[..., None])[..., 0]
        return left


@dataclass(frozen=True, eq=False)
class Profile:
    """J over delay: the projected matched filter of every frame, normalised."""

    delay_samples: NDArray[np.float64]  # shape (G,)
    statistic: NDArray[np.float64]  # J, in the unit of |y|^2; 0 where D hides the echo, shape (M, G)
    visible: NDArray[np.float64]  # smallest ||(I - P_D) x||^2 / ||x||^2 of all frames, shape (G,)


@dataclass(frozen=True, eq=False)
class DelayFit:
    """The maximum of J in every frame."""

    delay_samples: NDArray[np.float64]  # shape (M,)
    amplitude: NDArray[np.complex128]  # a_hat, shape (M,)
    energy: NDArray[np.float64]  # ||(I - P_D) x||^2, shape (M,)
    slope_energy: NDArray[np.float64]  # ||(I - P_[D x]) x'||^2, shape (M,)
    residual: NDArray[np.float64]  # ||(I - P_[D x]) y||^2, shape (M,)


def delay_profile(
    left: NDArray[np.complex128],
    columns: Columns,
    nuisance: Nuisance,
    subcarriers: NDArray[np.int64],
    fft_size: int,
    low: float,
    high: float,
) -> Profile:
    """J on a grid of 1/8 sample over [low, high].

    Args:
        left: (I - P_D) y, shape (M, N), symbol by symbol.
        columns: exact x at a delay.
        nuisance: D.
        subcarriers: of the elements of a symbol.
        fft_size: bins of a symbol.
        low: samples.
        high: samples.
    """
    num_frames, num_subcarriers = len(left), len(subcarriers)
    grid = low + np.arange(round((high - low) * GRID) + 1) / GRID
    statistic, visible = np.zeros((num_frames, grid.size)), np.ones(grid.size)
    anchors = np.arange(low, high + ANCHOR / 2, ANCHOR)
    nearest = np.argmin(np.abs(grid[:, None] - anchors), axis=1)
    conj_basis = nuisance.basis.conj().reshape(len(nuisance.basis), -1, num_subcarriers, nuisance.rank)
    for i, anchor in enumerate(anchors):
        at = np.flatnonzero(nearest == i)
        if at.size == 0:
            continue
        (x,) = columns(anchor, (0,))
        elements = x.reshape(len(x), -1, num_subcarriers)
        ramp = np.exp(-2j * np.pi * np.outer(subcarriers, grid[at] - anchor) / fft_size)  # (K, g)
        matched = np.sum(elements.conj() * left.reshape(num_frames, -1, num_subcarriers), axis=1) @ ramp.conj()
        whole = np.sum(np.abs(x) ** 2, axis=1)[:, None]
        energy = np.repeat(whole, at.size, axis=1)
        for q in range(nuisance.rank):  # less what U^H x takes
            energy = energy - np.abs(np.sum(conj_basis[..., q] * elements, axis=1) @ ramp) ** 2
        share = energy / whole
        visible[at] = share.min(axis=0)
        clear = share > MIN_VISIBLE
        statistic[:, at] = np.where(clear, np.abs(matched) ** 2 / np.where(clear, energy, 1.0), 0.0)
    return Profile(grid, statistic, visible)


def peaks(profile: Profile) -> NDArray[np.float64]:
    """Delay of the largest J of every frame, between grid points by a parabola, shape (M,)."""
    at = np.argmax(profile.statistic, axis=1)
    inner = np.clip(at, 1, profile.delay_samples.size - 2)
    before, here, after = (np.take_along_axis(profile.statistic, (inner + k)[:, None], 1)[:, 0] for k in (-1, 0, 1))
    bend = before - 2 * here + after
    offset = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
    offset = np.where(at == inner, np.clip(offset, -0.5, 0.5), 0.0)
    found: NDArray[np.float64] = profile.delay_samples[at] + offset / GRID
    return found


def refine(
    y: NDArray[np.complex128],
    start: NDArray[np.float64],
    columns: Columns,
    nuisance: Nuisance,
    low: float,
    high: float,
) -> DelayFit:
    """Newton's method on J from starts on the grid, within one grid step of them, on exact columns.

    With A = |c|^2, c = x^H (I - P_D) y, n = ||(I - P_D) x||^2, and derivatives by tau,

        J' = A'/n - A n'/n^2,   J'' = A''/n - 2 A' n'/n^2 - A n''/n^2 + 2 A n'^2/n^3.

    Args:
        y: observations, shape (M, N).
        start: one delay per frame, shape (M,).
        columns: exact x and derivatives.
        nuisance: D.
        low: of the search, samples.
        high: of the search, samples.
    """
    left = nuisance.removed(y)
    tau, reach = start.copy(), 1.5 / GRID
    for _ in range(_MAX_STEPS):
        x, x1, x2 = columns(tau, (0, 1, 2))
        p, p1, p2 = (nuisance.coordinates(v) for v in (x, x1, x2))
        c, c1, c2 = (_inner(v, left) for v in (x, x1, x2))
        n = (_inner(x, x) - _inner(p, p)).real
        n1 = 2 * (_inner(x, x1) - _inner(p, p1)).real
        n2 = 2 * (_inner(x1, x1) - _inner(p1, p1) + _inner(x, x2) - _inner(p, p2)).real
        A, A1 = np.abs(c) ** 2, 2 * (np.conj(c) * c1).real
        A2 = 2 * (np.abs(c1) ** 2 + (np.conj(c) * c2).real)
        slope = A1 / n - A * n1 / n**2
        bend = A2 / n - 2 * A1 * n1 / n**2 - A * n2 / n**2 + 2 * A * n1**2 / n**3
        # uphill by half a step where J is not yet concave
        step = np.where(bend < 0, -slope / np.where(bend < 0, bend, -1.0), np.sign(slope) * reach / 2)
        after = np.clip(
            tau + np.clip(step, -reach, reach), np.maximum(start - reach, low), np.minimum(start + reach, high)
        )
        moved, tau = float(np.max(np.abs(after - tau), initial=0.0)), after
        if moved < _TOLERANCE:
            break
    return fit_at(y, tau, columns, nuisance)


def fit_at(y: NDArray[np.complex128], tau: NDArray[np.float64], columns: Columns, nuisance: Nuisance) -> DelayFit:
    """Amplitude, energies and residual at given delays, shape (M,)."""
    left = nuisance.removed(y)
    x, x1 = columns(tau, (0, 1))
    p, p1 = nuisance.coordinates(x), nuisance.coordinates(x1)
    energy = (_inner(x, x) - _inner(p, p)).real
    along = _inner(x, x1) - _inner(p, p1)
    slope_energy = (_inner(x1, x1) - _inner(p1, p1)).real - np.abs(along) ** 2 / energy
    c = _inner(x, left)
    residual = _inner(left, left).real - np.abs(c) ** 2 / energy
    return DelayFit(tau, c / energy, energy, slope_energy, residual)


def delay_crlb(
    amplitude_power: float | NDArray[np.float64], slope_energy: NDArray[np.float64], noise_var: float
) -> NDArray[np.float64]:
    """Cramer-Rao bound of a delay's standard deviation, samples: sqrt(sigma2 / (2 |a|^2 ||(I - P_[D x]) x'||^2))."""
    with np.errstate(divide="ignore"):
        return np.sqrt(noise_var / (2 * amplitude_power * slope_energy))


def _inner(u: NDArray[np.complex128], v: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """u^H v of every row."""
    found: NDArray[np.complex128] = np.einsum("...n,...n->...", u.conj(), v)
    return found
