"""The uplink problem as a value, and what powers reach in it.

    maximise    sum_k R_k(p_pilot, p_data)           bit/s/Hz, with maximum ratio combining: Theorem 1           (P3)
    subject to  tau p_pilot,k + N p_data,k <= E_k    energy of a block, N = T - tau                            (23b)
                R_k >= R_th,k                        every user has its rate                                   (23c)
                gamma_s >= gamma_th                  the target has its SINR, at the best combiner             (23d)

Solvers use the coordinates of the paper's hindsight: the share e of the budget that a user spends, and the share r of
that which goes into pilots, p_pilot = r e E / tau, p_data = (1 - r) e E / N. There the energy constraint is a box, and
energy moves between pilots and data without leaving it.

Source: He et al., uplink ISAC (arXiv 2603.17744), (17)-(23). Differs: coordinates; gamma_th is given instead of the
probability that it stands for, `theory.uplink_detection.required_sensing_sinr` converts.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.arguments import NOT_NEGATIVE, check, numbers
from testbed.theory.uplink import UplinkStatistics
from testbed.theory.uplink_rates import bound, rate
from testbed.theory.uplink_sensing import ErrorCov, sensing

MEETS = 1e-6  # a requirement that is met within this, relative, is met


@dataclass(frozen=True, eq=False)
class UplinkProblem:
    """Covariances, noise, block and requirements of K users at M antennas. Linear throughout.

    Arrays are copied, checked and made read-only; scalars are spread over the users.

    Raises:
        ValueError: a shape that does not fit, a value out of range, a matrix that is no covariance, fewer pilot symbols
            than users, or no data symbols.
    """

    direct_cov: NDArray[np.complex128]  # (K, M, M), R_h, received over transmitted power
    echo_cov: NDArray[np.complex128]  # (K, M, M), R_g
    noise_var: float  # per antenna and symbol, in the unit of received power, > 0
    block_len: int  # T, symbols of a coherence block
    pilot_len: int  # tau, K <= tau < T
    energy: float | NDArray[np.float64]  # scalar or (K,), E: transmitted power times symbols, per block
    min_rate_bps_hz: float | NDArray[np.float64]  # scalar or (K,), R_th, prelog included; 0 asks for nothing
    min_sensing_sinr: float  # gamma_th, per symbol; 0 asks for nothing

    def __post_init__(self) -> None:
        found = UplinkStatistics(self.direct_cov, self.echo_cov, self.noise_var, self.pilot_len)
        for name in ("direct_cov", "echo_cov", "noise_var", "pilot_len"):
            object.__setattr__(self, name, getattr(found, name))
        if self.block_len != int(self.block_len) or self.block_len <= self.pilot_len:
            raise ValueError(
                f"block_len: found {self.block_len}; must be a whole number above pilot_len {found.pilot_len}"
            )
        object.__setattr__(self, "block_len", int(self.block_len))
        for name in ("energy", "min_rate_bps_hz"):
            value = numbers(getattr(self, name), name, (found.num_users,), spread=True)
            check(value, name, *NOT_NEGATIVE)
            object.__setattr__(self, name, value)
        asked = numbers(self.min_sensing_sinr, "min_sensing_sinr", ())
        check(asked, "min_sensing_sinr", *NOT_NEGATIVE)
        object.__setattr__(self, "min_sensing_sinr", float(asked))
        if not np.all(np.isfinite(found.R * np.max(self.energy))):
            raise ValueError("uplink: energy times covariance over noise overflows; check the units")

    @property
    def num_users(self) -> int:
        """K."""
        return len(self.direct_cov)

    @property
    def num_data(self) -> int:
        """N, data symbols of a block."""
        return self.block_len - self.pilot_len

    @functools.cached_property
    def statistics(self) -> UplinkStatistics:
        """Channels as the theory wants them; eigenbases are found once."""
        return UplinkStatistics(self.direct_cov, self.echo_cov, self.noise_var, self.pilot_len)

    @functools.cached_property
    def equal(self) -> NDArray[np.float64]:
        """Coordinates (2K,) of all energy spent with equal pilot and data power: e = 1, r = tau / T."""
        return np.repeat([1.0, self.pilot_len / self.block_len], self.num_users)

    def powers(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pilot and data powers, (K,) each, of coordinates z (2K,) = (e, r)."""
        spent, r = z[: self.num_users] * np.asarray(self.energy), z[self.num_users :]
        return r * spent / self.pilot_len, (1 - r) * spent / self.num_data

    def coordinates(self, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse of `powers`; the share of pilots is that of `equal` where a user spends nothing."""
        pilot, E = self.pilot_len * pilot_power, np.asarray(self.energy)
        spent = pilot + self.num_data * data_power
        e = np.divide(spent, E, out=np.zeros_like(spent), where=E > 0)
        r = np.divide(pilot, spent, out=self.equal[self.num_users :].copy(), where=spent > 0)
        return np.clip(np.concatenate([e, r]), 0.0, 1.0)


def rates(
    problem: UplinkProblem, pilot_power: NDArray[np.float64], data_power: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rates of all users, bit/s/Hz, shape (K,): (N / T) log2(1 + gamma) of Theorem 1.

    Raises:
        ValueError: a power of another shape, negative or not finite. The energy budget is not looked at.
    """
    return rate(bound(problem.statistics, pilot_power, data_power).sinr, problem.pilot_len, problem.block_len)


def sensing_sinr(
    problem: UplinkProblem,
    pilot_power: NDArray[np.float64],
    data_power: NDArray[np.float64],
    error_cov: ErrorCov = "exact",
) -> float:
    """Ergodic sensing SINR per symbol with the best combiner, eq. (22); ValueError as `rates`."""
    return sensing(problem.statistics, pilot_power, data_power, error_cov).sinr


@dataclass(frozen=True, eq=False)
class Reached:
    """What powers reach, and how it changes with the coordinates."""

    rates: NDArray[np.float64]  # (K,)
    rate_jacobian: NDArray[np.float64]  # (K, 2K)
    sensing: float
    sensing_gradient: NDArray[np.float64]  # (2K,)


def reached(problem: UplinkProblem, z: NDArray[np.float64]) -> Reached:
    """Rates and sensing SINR at coordinates z (2K,), with derivatives."""
    pp, pd = problem.powers(z)
    K, E = problem.num_users, np.asarray(problem.energy)
    e, r = z[:K], z[K:]
    pp_e, pp_r = r * E / problem.pilot_len, e * E / problem.pilot_len
    pd_e, pd_r = (1 - r) * E / problem.num_data, -e * E / problem.num_data
    b = bound(problem.statistics, pp, pd)
    by_sinr = (problem.num_data / problem.block_len / np.log(2) / (1 + b.sinr))[:, None]
    by_e = np.diag(b.pilot_gradient * pp_e) + b.data_jacobian * pd_e
    by_r = np.diag(b.pilot_gradient * pp_r) + b.data_jacobian * pd_r
    s = sensing(problem.statistics, pp, pd)
    gradient = [s.pilot_gradient * pp_e + s.data_gradient * pd_e, s.pilot_gradient * pp_r + s.data_gradient * pd_r]
    found = rate(b.sinr, problem.pilot_len, problem.block_len)
    return Reached(found, by_sinr * np.hstack([by_e, by_r]), s.sinr, np.concatenate(gradient))


def meets(problem: UplinkProblem, found: Reached) -> bool:
    """Whether every user has its rate and the target its SINR, within MEETS."""
    floor = np.asarray(problem.min_rate_bps_hz) * (1 - MEETS)
    return bool(np.all(found.rates >= floor) and found.sensing >= problem.min_sensing_sinr * (1 - MEETS))
