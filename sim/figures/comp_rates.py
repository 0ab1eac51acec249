"""Sum rates of the three schemes for every draw and every point of figures 2b and 2c.

    PPA   the letter's allocation: largest sum rate that meets all requirements, NaN where none does
    EPA   equal power           RPA   random shares           whatever they reach, and whether it meets the requirements

`largest_sum_rates` is the one place where a solver is called.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.comp_pod import pod_of
from sim.figures.comp_scenario import (
    COMM_NOISE_VAR,
    MIN_COMM_SINR,
    NUM_CELLS,
    SENSING_NOISE_VAR,
    Channels,
    required_sensing_snr,
)
from sim.figures.draws import Advance
from testbed.allocation.comp import CompProblems, solve_many
from testbed.units import undb

SCHEMES = ("PPA", "EPA", "RPA")
METHODS = ("newton", "ppa")
_CHUNK = 4000  # problems at a time: some 100 MB
_TOLERANCE = 1e-9  # relative, of a requirement, as the solvers have it


@dataclass(frozen=True, eq=False)
class Sweep:
    """D draws at K points. By scheme, arrays of shape (D, K)."""

    total_power_db: NDArray[np.float64]  # (K,)
    pod: NDArray[np.float64]  # (K,), required
    sum_rate: dict[str, NDArray[np.float64]]  # bit/s/Hz; PPA: NaN where infeasible; others: reached in any case
    feasible: dict[str, NDArray[np.bool_]]  # all requirements met
    mean_pod: dict[str, NDArray[np.float64]]  # of EPA and RPA, mean over the cells

    def pick(self, points: NDArray[np.bool_]) -> "Sweep":
        """Some of the points."""
        return Sweep(
            self.total_power_db[points],
            self.pod[points],
            {scheme: rate[:, points] for scheme, rate in self.sum_rate.items()},
            {scheme: met[:, points] for scheme, met in self.feasible.items()},
            {scheme: pod[:, points] for scheme, pod in self.mean_pod.items()},
        )


def sweep(
    channels: Channels,
    total_power_db: NDArray[np.float64],
    pod: NDArray[np.float64],
    method: str,
    advance: Advance,
) -> Sweep:
    """All schemes for all draws at K points.

    Args:
        channels: D draws.
        total_power_db: budget of every point, (K,).
        pod: required at every point, (K,).
        method: of `largest_sum_rates`.
        advance: called with the number of draws that have been done.
    """
    snr = required_sensing_snr(pod)
    best = largest_sum_rates(channels, total_power_db, MIN_COMM_SINR, snr, method, advance)
    rate, feasible, mean_pod = {"PPA": best}, {"PPA": np.isfinite(best)}, {}
    for scheme in SCHEMES[1:]:
        rate[scheme], feasible[scheme], sensing_snr = fixed(channels, scheme, total_power_db, snr)
        mean_pod[scheme] = np.mean(pod_of(sensing_snr), axis=-1)
    return Sweep(total_power_db, pod, rate, feasible, mean_pod)


def largest_sum_rates(
    channels: Channels,
    total_power_db: NDArray[np.float64],
    min_comm_sinr: float,
    min_sensing_snr: NDArray[np.float64],
    method: str,
    advance: Advance = lambda count: None,
) -> NDArray[np.float64]:
    """Sum rate of PPA for D draws at K points, shape (D, K), NaN where infeasible.

    Args:
        channels: D draws.
        total_power_db: budget of every point, (K,).
        min_comm_sinr: required of every user, linear.
        min_sensing_snr: required of every cell at every point, linear, (K,).
        method: "ppa", the letter's alternation, or "newton", which ends in the same maximum some 300 times sooner.
        advance: called with the number of draws that have been done.
    """
    D, K = len(channels), len(total_power_db)
    found = np.empty((D, K))
    step = max(1, (_CHUNK if method == "newton" else 1) // K)
    for first in range(0, D, step):
        part = channels.part(first, step)
        num = len(part)
        problems = CompProblems(
            np.repeat(part.comm_gain, K, axis=0),
            np.repeat(part.sensing_gain, K, axis=0),
            COMM_NOISE_VAR,
            SENSING_NOISE_VAR,
            np.tile(undb(total_power_db), num),
            min_comm_sinr,
            np.tile(min_sensing_snr, num)[:, None],
        )
        found[first : first + num] = solve_many(problems, method).objective.reshape(num, K)
        advance(num)
    return found


def fixed(
    channels: Channels, scheme: str, total_power_db: NDArray[np.float64], min_sensing_snr: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """What EPA or RPA reaches: sum rate (D, K), requirements met (D, K), sensing SNR (D, K, L)."""
    shares = channels.random_shares if scheme == "RPA" else np.full((len(channels), NUM_CELLS), 1 / NUM_CELLS)
    p = shares[:, None, :] * undb(total_power_db)[:, None]
    own = p * np.diagonal(channels.comm_gain, axis1=1, axis2=2)[:, None, :]
    comm_sinr = own / (p @ channels.comm_gain - own + COMM_NOISE_VAR)
    sensing_snr = p @ channels.sensing_gain / SENSING_NOISE_VAR
    limit = 1 + _TOLERANCE
    met = np.all(comm_sinr * limit >= MIN_COMM_SINR, axis=-1)
    met &= np.all(sensing_snr * limit >= min_sensing_snr[:, None], axis=-1)
    return np.sum(np.log2(1 + comm_sinr), axis=-1), met, sensing_snr
