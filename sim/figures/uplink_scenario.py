"""The uplink paper's setting, drops of users, and blocks of channels with what the receiver estimates of them.

    base station at the origin, target on the x axis, K users uniform in a disc around a point beyond the target
    R_h,k = beta_k I            beta_k = L0 (d_k / d0)^-a_ub
    R_g,k = eta_k a a^H         eta_k = xi L0 (d_ut,k / d0)^-a_ut (d_tb / d0)^-a_tb

User k of drop n comes from its own seed sequence, (seed, n, k): the same for any number of users and drops. Block draws
have theirs, so that all powers and combiners see the same fading.

Source: He et al., uplink ISAC (arXiv 2603.17744), sec. II and VI. Differs: its numbers did not survive in the copies
that are stored; geometry and kinds of path loss are the paper's, every number here is a choice of the project's
specification, so figures show the paper's effects, not its numbers. Distances below d0 count as d0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.draws import random_generator
from testbed.allocation.beamforming import combined_sinr, combiners
from testbed.allocation.uplink import UplinkProblem
from testbed.theory.uplink import estimates, estimators
from testbed.theory.uplink_detection import required_sensing_sinr
from testbed.theory.uplink_rates import rate
from testbed.units import undb

_USERS, _BLOCKS = 0, 1  # spawn keys


@dataclass(frozen=True)
class Setting:
    """What can be varied. Defaults are those of the specification."""

    num_antennas: int = 16
    num_users: int = 4
    block_len: int = 100
    pilot_len: int = 4
    power_dbm: float = 15.0  # average over a block, per user
    noise_dbm: float = -80.0
    reference_gain_db: float = -30.0  # L0, at d0 = 1 m
    user_exponent: float = 3.2  # user to base station
    user_target_exponent: float = 2.2
    target_exponent: float = 2.8  # target to base station
    rcs_db: float = 3.0  # xi
    target_m: float = 20.0  # on the x axis
    centre_m: float = 90.0  # of the disc, on the x axis
    radius_m: float = 30.0
    min_rate_bps_hz: float = 0.1
    pfa: float = 1e-3
    min_pod: float = 0.9  # by the paper's approximation (16)

    @property
    def min_sensing_sinr(self) -> float:
        """gamma_th."""
        return required_sensing_sinr(self.min_pod, self.pfa, self.block_len - self.pilot_len)


def drop(setting: Setting, seed: int, number: int) -> NDArray[np.float64]:
    """Positions of the users of one drop, (K, 2), m."""
    found = np.empty((setting.num_users, 2))
    for k in range(setting.num_users):
        rng = random_generator(seed, _USERS, number, k)
        radius, angle = setting.radius_m * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        found[k] = setting.centre_m + radius * np.cos(angle), radius * np.sin(angle)
    return found


def gains(setting: Setting, position_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Path gains beta and eta of users at (K, 2): linear, per unit of transmit power and antenna, (K,) each."""
    to_base = np.maximum(np.hypot(position_m[:, 0], position_m[:, 1]), 1.0)
    to_target = np.maximum(np.hypot(position_m[:, 0] - setting.target_m, position_m[:, 1]), 1.0)
    L0, back = undb(setting.reference_gain_db), max(setting.target_m, 1.0) ** -setting.target_exponent
    beta = L0 * to_base**-setting.user_exponent
    return beta, undb(setting.rcs_db) * L0 * to_target**-setting.user_target_exponent * back


def problem(setting: Setting, position_m: NDArray[np.float64], sensing: bool = True) -> UplinkProblem:
    """The allocation problem of one drop, powers in mW; without `sensing` no echo, and none asked for."""
    beta, eta = (gain.astype(np.complex128) for gain in gains(setting, position_m))
    M = setting.num_antennas
    return UplinkProblem(
        beta[:, None, None] * np.eye(M),
        (eta * sensing)[:, None, None] * np.ones((M, M)),  # the target is at broadside: a = 1
        undb(setting.noise_dbm),
        setting.block_len,
        setting.pilot_len,
        setting.block_len * undb(setting.power_dbm),
        setting.min_rate_bps_hz,
        setting.min_sensing_sinr if sensing else 0.0,
    )


@dataclass(frozen=True, eq=False)
class Blocks:
    """B blocks in noise units: channels over the noise's root, covariances over its variance."""

    direct: NDArray[np.complex128]  # (B, M, K), h
    echo: NDArray[np.complex128]  # (B, M, K), g
    direct_estimate: NDArray[np.complex128]  # (B, M, K)
    echo_estimate: NDArray[np.complex128]  # (B, M, K)
    noise_cov: NDArray[np.complex128]  # (M, M), Z of eq. (39): errors of all users, and noise


def draw_blocks(
    problem: UplinkProblem,
    pilot_power: NDArray[np.float64],
    data_power: NDArray[np.float64],
    count: int,
    seed: int,
    number: int = 0,
) -> Blocks:
    """Channels of `count` blocks and the receiver's estimates from their pilots, at pilot and data powers (K,)."""
    rng = random_generator(seed, _BLOCKS, number)
    K, M, _ = problem.direct_cov.shape
    normal = rng.standard_normal((3, count, K, M, 2)).view(np.complex128)[..., 0] / np.sqrt(2)
    s = problem.statistics
    h, g = (np.einsum("kab,nkb->nak", _root(cov), w) for cov, w in zip((s.R_h, s.R_g), normal, strict=False))
    y = np.sqrt(problem.pilot_len * pilot_power) * (h + g) + np.swapaxes(normal[2], 1, 2)
    found = estimates(s, pilot_power)
    Z = np.tensordot(data_power, found.effective_error, axes=1) / s.noise_var + np.eye(M)
    h_hat, g_hat = (np.einsum("kab,nbk->nak", G, y) for G in estimators(s, pilot_power))
    return Blocks(h, g, h_hat, g_hat, (Z + Z.conj().T) / 2)


def mean_rates(
    problem: UplinkProblem,
    blocks: Blocks,
    data_power: NDArray[np.float64],
    method: str,
    own_echo: bool = True,
) -> NDArray[np.float64]:
    """Mean rate of every user with a combiner, (K,), bit/s/Hz, prelog included; eq. (40).

    Without `own_echo` all echoes disturb, the user's own among them, and combiners know h_hat alone.
    """
    U, Z = blocks.direct_estimate + blocks.echo_estimate, blocks.noise_cov
    if not own_echo:
        echo = blocks.echo_estimate * np.sqrt(data_power)
        U, Z = blocks.direct_estimate, Z + echo @ np.conj(np.swapaxes(echo, 1, 2))
    sinr = combined_sinr(U, Z, data_power, combiners(U, Z, data_power, method))
    return np.mean(rate(sinr, problem.pilot_len, problem.block_len), axis=0)


def _root(cov: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Square roots of covariances (K, M, M)."""
    values, V = np.linalg.eigh(cov)
    return (V * np.sqrt(np.maximum(values, 0.0))[:, None, :]) @ np.conj(np.swapaxes(V, 1, 2))
