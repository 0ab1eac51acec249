"""How much of its requirements an uplink problem can meet: the largest common share, and the largest sensing SINR.

Both by local ascent from several points: the problem is not convex, and what is found is reachable but not proved to
be the most. In logarithms of powers the common share is a geometric program but for the array's spread of eigenvalues,
and all starts end alike; for the sensing SINR full energy was the optimum of a global search in the one scene where
that was tried.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.uplink_ascent import ascend
from testbed.allocation.uplink_problem import UplinkProblem, reached

_PILOT_SHARES = (0.1, 0.5, 0.9)  # at full energy; the starts beside equal powers


@dataclass(frozen=True, eq=False)
class Best:
    """A value and where it is reached."""

    value: float
    z: NDArray[np.float64]  # (2K,)


def starts(problem: UplinkProblem) -> list[NDArray[np.float64]]:
    """Coordinates that searches begin from: equal powers, and full energy with other pilot shares."""
    return [problem.equal, *(np.repeat([1.0, share], problem.num_users) for share in _PILOT_SHARES)]


def largest_sensing(problem: UplinkProblem) -> Best:
    """Largest sensing SINR, whatever the users get; 0 where no echo is heard."""
    if not _hears_echo(problem):
        return Best(0.0, problem.equal)
    found = [ascend(problem, z, "sensing") for z in starts(problem)]
    return _best([Best(reached(problem, z).sensing, z) for z in found])


def largest_share(problem: UplinkProblem) -> Best:
    """Largest f such that all rates and the sensing SINR are at least f times what is asked; inf if nothing is."""
    asked = np.asarray(problem.min_rate_bps_hz)
    inside = reached(problem, np.full(2 * problem.num_users, 0.5))
    if np.any(asked[inside.rates == 0] > 0) or (problem.min_sensing_sinr > 0 and not _hears_echo(problem)):
        return Best(0.0, problem.equal)
    if not np.any(asked > 0) and problem.min_sensing_sinr == 0:
        return Best(np.inf, problem.equal)
    found = [ascend(problem, z, "share") for z in starts(problem)]
    return _best([Best(_share(problem, z), z) for z in found])


def _share(problem: UplinkProblem, z: NDArray[np.float64]) -> float:
    found, asked = reached(problem, z), np.asarray(problem.min_rate_bps_hz)
    shares = list(found.rates[asked > 0] / asked[asked > 0])
    if problem.min_sensing_sinr > 0:
        shares.append(found.sensing / problem.min_sensing_sinr)
    return float(min(shares))


def _hears_echo(problem: UplinkProblem) -> bool:
    return reached(problem, np.full(2 * problem.num_users, 0.5)).sensing > 0


def _best(found: list[Best]) -> Best:
    return max(found, key=lambda best: best.value)
