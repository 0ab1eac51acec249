"""The users' channels in every block: from the pilots as the paper has it, and from the whole block.

Pilots, with c_k user k's pilot column at its delay, in place of sqrt(p_k) phi_k, and e_k = ||c_k||^2 for tau p_k:

    y_k = Y^p c_k* / ||c_k|| = sqrt(e_k) (h_k + g_k) + n_k                                             (2)
    h_hat = G_h y,  g_hat = G_g y                      G_x = sqrt(e) R_x Psi^-1, see theory.uplink    (3), (4)

Whole block, S the columns of all users, pilots and known or decoded data:

    U = Y S^H (S S^H)^-1,   cov of its errors between users k and j at one antenna: sigma2 [(S S^H)^-1]_jk.

Source: He et al., arXiv 2603.17744, eqs. (2)-(4); whole block: scenes/uplink.md section 3.
Differs: columns at their exact delays. Valid for: delays within the window, the same for echo and direct path.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.uplink_blocks import Blocks
from testbed.theory.uplink import UplinkStatistics, estimates, estimators


@dataclass(frozen=True, eq=False)
class PilotEstimates:
    """Channels by eqs. (2)-(4)."""

    outputs: NDArray[np.complex128]  # y_k, shape (B, M, K)
    pilot_power: NDArray[np.float64]  # e_k / tau, milliwatt as the window shows it, shape (K,)
    direct: NDArray[np.complex128]  # h_hat, (B, M, K)
    echo: NDArray[np.complex128]  # g_hat, (B, M, K)
    error_cov: NDArray[np.complex128]  # C_u of every user, (K, M, M)
    statistics: UplinkStatistics  # what they were made with

    @property
    def channels(self) -> NDArray[np.complex128]:
        """u_hat, shape (B, M, K)."""
        return self.direct + self.echo

    def disturbance(self, data_power: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Z = sum_i p_i C_u,i + sigma2 I of eq. (40), shape (M, M)."""
        M = self.error_cov.shape[-1]
        return np.tensordot(data_power, self.error_cov, axes=1) + self.statistics.noise_var * np.eye(M)


def pilot_outputs(blocks: Blocks) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """y_k of eq. (2), shape (B, M, K), and the pilots' energy, shape (K,).

    Raises:
        CaptureError: a user without pilots.
    """
    c = blocks.pilot_columns
    energy: NDArray[np.float64] = np.sum(np.abs(c) ** 2, axis=1)
    if np.any(energy == 0):
        raise CaptureError("pilots: a user sends none; give every user pilot power")
    return blocks.pilots @ (c.conj() / np.sqrt(energy)[:, None]).T, energy


def pilot_estimates(blocks: Blocks, statistics: UplinkStatistics) -> PilotEstimates:
    """MMSE estimates from the pilots.

    Args:
        blocks: received.
        statistics: of the channels as the receiver knows them, in milliwatt: covariances are power gains, the noise is
            that of an element, rounding included.

    Raises:
        ValueError: statistics of other users or antennas.
        CaptureError: a user without pilots.
    """
    K, M = blocks.columns.shape[0], blocks.elements.shape[1]
    if (statistics.num_users, statistics.num_antennas) != (K, M):
        raise ValueError(
            f"statistics: of {statistics.num_users} users at {statistics.num_antennas} antennas; must be {K} and {M}"
        )
    y, energy = pilot_outputs(blocks)
    power = energy / statistics.pilot_len
    G_h, G_g = estimators(statistics, power)
    return PilotEstimates(
        outputs=y,
        pilot_power=power,
        direct=np.einsum("kij,bjk->bik", G_h, y, optimize=True),
        echo=np.einsum("kij,bjk->bik", G_g, y, optimize=True),
        error_cov=estimates(statistics, power).effective_error,
        statistics=statistics,
    )


def block_channels(
    blocks: Blocks, columns: NDArray[np.complex128] | None = None
) -> tuple[NDArray[np.complex128], Estimate]:
    """Least squares over all elements of every block.

    Args:
        blocks: received.
        columns: S of every block, shape (B, K, T), as decoded; the ones sent if not given.

    Returns:
        U, shape (B, M, K), and the noise variance from what the fit leaves, milliwatt per element.

    Raises:
        CaptureError: columns that cannot be told apart.
    """
    S = blocks.columns if columns is None else columns
    K, T = S.shape[-2:]
    gram = S @ S.conj().swapaxes(-1, -2)
    if np.any(np.linalg.cond(gram) > 1e12):
        raise CaptureError("users: their frames cannot be told apart, or one is silent; give every user power")
    # G = S^H (S S^H)^-1
    G = np.linalg.solve(gram, S).conj().swapaxes(-1, -2)
    U: NDArray[np.complex128] = blocks.elements @ G
    whole = float(np.sum(np.abs(blocks.elements) ** 2))
    explained = float(np.sum((U @ gram * U.conj()).real))
    count = blocks.elements.shape[0] * blocks.elements.shape[1] * (T - K)
    value = (whole - explained) / count
    return U, Estimate(value=value, stderr=value / np.sqrt(count), count=count)
