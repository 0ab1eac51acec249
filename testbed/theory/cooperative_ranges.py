"""Fisher information from ranges of any quality, and what the radar equation makes a range worth.

    F = sum_ij g_ij g_ij^T / var(r_ij),   g_ij = u_i + u_j

over the links (i, j) that are usable. Where a direct path hides an echo a link has no variance of the form
1 / (zeta2 w_i w_j), and moments do not do.

Source: specification of arXiv 2403.20228, sections 2 and 9. Differs: the paper has equal links only.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.theory.arguments import not_negative
from testbed.theory.cooperative_information import SINGULAR, Information, constant, offsets, symmetric


def fim_of_sets(
    tx_weight: ArrayLike, tx_bearing_rad: ArrayLike, rx_weight: ArrayLike, rx_bearing_rad: ArrayLike, zeta2: float = 1.0
) -> Information:
    """Fisher information where some nodes send and others listen, weights a_i b_j per link, shape (2, 2).

        F = zeta2 (B M_a + A M_b + q_a q_b^T + q_b q_a^T)

    Args:
        tx_weight: a, shape (N_t,): of link (i, j), information 1 / var(r_ij) = zeta2 a_i b_j.
        tx_bearing_rad: shape (N_t,).
        rx_weight: b, shape (N_r,).
        rx_bearing_rad: shape (N_r,).
        zeta2: link constant.

    Source: specification, section 2. Differs: none.
    """
    a, b = not_negative(tx_weight, "tx_weight"), not_negative(rx_weight, "rx_weight")
    u, v = np.exp(1j * np.asarray(tx_bearing_rad)), np.exp(1j * np.asarray(rx_bearing_rad))
    if a.shape != u.shape or b.shape != v.shape or a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"weights {a.shape}, {b.shape}, bearings {u.shape}, {v.shape} - a bearing per weight")
    A, B, qa, qb = np.sum(a), np.sum(b), a @ u, b @ v
    half_trace = A * B + (qa * qb.conj()).real
    coupling = (B * (a @ u**2) + A * (b @ v**2)) / 2 + qa * qb
    return constant(zeta2) * symmetric(half_trace, coupling)


def fim_of_pairs(node_position: ArrayLike, target_position: ArrayLike, range_var: ArrayLike) -> Information:
    """Fisher information from measured bistatic ranges of any quality, F = sum_ij g_ij g_ij^T / var(r_ij).

    Args:
        node_position: shape (N, 2), or (N, 3): then gradients are of the slant ranges, over x and y.
        target_position: shape (2,) or (3,), or (T, 2) or (T, 3).
        range_var: var(r_ij), length^2, shape (N, N) or (T, N, N), [transmitter, receiver]; inf or NaN: link not used.

    Returns:
        F, shape (2, 2) or (T, 2, 2), 1 / length^2.

    Raises:
        ValueError: shapes that do not fit, a variance not above 0, a node on the target.
    """
    found: Information = pair_information(node_position, target_position, range_var).sum(axis=(-4, -3))
    return found


def pair_information(node_position: ArrayLike, target_position: ArrayLike, range_var: ArrayLike) -> NDArray[np.float64]:
    """What every link adds to F, g_ij g_ij^T / var(r_ij), shape (..., N, N, 2, 2); arguments as `fim_of_pairs`."""
    offset, distance = offsets(node_position, target_position, (2, 3))
    u = offset[..., :2] / distance[..., None]
    var = np.asarray(range_var, dtype=np.float64)
    num = u.shape[-2]
    if var.shape[-2:] != (num, num) or var.ndim > u.ndim:
        raise ValueError(f"range_var: found shape {var.shape}; must be {(num, num)}, or one such per target position")
    if np.any(var <= 0):
        at = tuple(int(k) for k in np.argwhere(var <= 0)[0])
        raise ValueError(
            f"range_var{list(at)}: found {var[at]:g}; must be above 0, inf or NaN where a link is unusable"
        )
    g = u[..., :, None, :] + u[..., None, :, :]
    information = np.where(np.isnan(var), 0.0, 1 / var)
    return information[..., None, None] * g[..., :, None] * g[..., None, :]


def crlb_of_information(F: ArrayLike) -> Any:
    """CRLB, tr F^-1, of Fisher informations (..., 2, 2): a float, or shape (...); inf where F is singular."""
    F = np.asarray(F, dtype=np.float64)
    a, b, c = F[..., 0, 0], F[..., 0, 1], F[..., 1, 1]
    trace, det = a + c, a * c - b * b
    with np.errstate(divide="ignore", invalid="ignore"):
        larger = (trace + np.hypot(a - c, 2 * b)) / 2
        value = np.where(det * SINGULAR > larger**2, trace / det, np.inf)
    return value if value.ndim else float(value)


def link_constant(
    power_share: float,
    antenna_gains: float,
    rms_bandwidth_hz: float,
    rcs: float,
    carrier_hz: float,
    noise_power: float,
    num_samples: float = 1.0,
) -> float:
    """zeta2 = p G_t G_r B^2 sigma n / (8 pi f_c^2 sigma_s^2), unit of `rcs`, for beta = 2.

    Range information 8 pi^2 B^2 SNR / c^2, by the radar equation SNR = p G_t G_r (c / f_c)^2 sigma / ((4 pi)^3 d^4
    sigma_s^2).

    Args:
        power_share: p^s times the transmit power.
        antenna_gains: G_t G_r, linear.
        rms_bandwidth_hz: B, RMS, not occupied: df sqrt((n^2 - 1) / 12) of n equal subcarriers.
        rcs: radar cross section, length^2.
        carrier_hz: f_c.
        noise_power: sigma_s^2, per sample, in the unit of the transmit power.
        num_samples: n, integrated coherently.

    Source: specification, section 2, after eq. (5). Differs: n, which the paper leaves out.
    """
    return (
        power_share
        * antenna_gains
        * (rms_bandwidth_hz / carrier_hz) ** 2
        * rcs
        * num_samples
        / (8 * np.pi * noise_power)
    )
