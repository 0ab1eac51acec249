"""Planner for a measured network: clusters and power split from links and gains as they are.

    minimise    CRLB(set) / (1 - p^c)                 over L, p^c and a set of N sensing nodes
    subject to  R_u(L, p^c) >= R                      every user, with a margin
                L R + e N <= C                        backhaul, every copy of the data counted; or R + e N <= C
    CRLB(set) = tr F^-1,  F = sum over links (i, j) in the set of g_ij g_ij^T / var(r_ij)

1. For every L: the least p^c that reaches R, by bisection; more would only take power from sensing.
2. What is left of the backhaul caps N.
3. The best set of at most so many nodes, of all sets (up to 16 nodes).
4. The L whose bound, at p^s = 1 - p^c, is least.

Ranges need not have information w_i w_j: where a direct path hides an echo a link has no variance, and it is left out.

Source: section 4 of the specification of arXiv 2403.20228 for a testbed. Differs: measured variances and gains for the
model's; every copy counts by default, since each of the L nodes has to be sent the data; counted once, L = n always
wins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.arguments import numbers
from testbed.allocation.cooperative_plan import Option, Plan, affordable, infeasible
from testbed.allocation.cooperative_subsets import BestSets, best_by_pairs
from testbed.allocation.cooperative_users import UserChannels, least_share, user_rates
from testbed.theory.cooperative import pair_information


@dataclass(frozen=True, eq=False)
class PairProblem:
    """Measured links and gains of n nodes, and what is asked of them. Copied, checked, made read-only.

    Raises:
        ValueError: shapes that do not fit or a value out of range.
    """

    node_position_m: NDArray[np.float64]  # (n, 2) or (n, 3)
    target_position_m: NDArray[np.float64]  # (2,) or (3,), or (T, .): where it may be
    range_var_m2: NDArray[np.float64]  # (n, n) or (T, n, n), [transmitter, receiver], at p^s = 1; inf, NaN: unusable
    users: UserChannels  # of the same n nodes
    min_rate_bps_hz: float  # R, of every user
    backhaul_bps_hz: float  # C
    backhaul_price_bps_hz: float  # e, per sensing node
    margin_db: float = 0.0  # by which signals may be weaker than measured
    count_copies: bool = True  # L R of the backhaul, or R
    live: NDArray[np.bool_] | None = None  # (n,); dead nodes neither sense nor serve nor interfere

    def __post_init__(self) -> None:
        for name in ("min_rate_bps_hz", "backhaul_bps_hz", "backhaul_price_bps_hz", "margin_db"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: found {getattr(self, name):g}; must be finite and at least 0")
        for name in ("node_position_m", "target_position_m", "range_var_m2"):
            object.__setattr__(self, name, numbers(getattr(self, name), name))
        num = len(self.node_position_m)
        live = np.ones(num, dtype=bool) if self.live is None else np.array(self.live, dtype=bool)
        if live.shape != (num,) or len(self.users.gain) != num:
            raise ValueError(f"live {live.shape}, users.gain {self.users.gain.shape}: must be of {num} nodes")
        live.setflags(write=False)
        object.__setattr__(self, "live", live)
        if np.all(live):
            pair_information(self.node_position_m, self.target_position_m, self.range_var_m2)
        else:
            gain = np.where(live[:, None], self.users.gain, 0.0)
            var = np.where(live[:, None] & live, self.range_var_m2, np.inf)
            users = self.users
            object.__setattr__(
                self, "users", UserChannels(gain, users.noise_var, users.response, users.cover_len, users.waveform)
            )
            object.__setattr__(self, "range_var_m2", var)

    def data_rate(self, cluster_size: int) -> float:
        """Of the backhaul, what the users' data take."""
        return (cluster_size if self.count_copies else 1) * self.min_rate_bps_hz

    def best_sets(self) -> BestSets:
        """The best set of every size, at p^s = 1."""
        return best_by_pairs(pair_information(self.node_position_m, self.target_position_m, self.range_var_m2))


def plan_pairs(problem: PairProblem) -> Plan:
    """The best plan, or why there is none; see the module."""
    sets = problem.best_sets()
    num_live = int(np.sum(np.any(problem.users.gain > 0, axis=1)))
    options = tuple(_option(problem, sets, L) for L in range(1, num_live + 1))
    possible = [option for option in options if option.crlb < np.inf]
    if not possible:
        return infeasible(_why(problem, sets, options), options)
    best = min(possible, key=lambda option: option.crlb)
    L, share = best.comm_cluster_size, best.comm_power_share
    used = problem.data_rate(L) + problem.backhaul_price_bps_hz * len(best.sensing_nodes)
    rates = tuple(user_rates(problem.users, L, share).tolist())
    return Plan(best.sensing_nodes, L, share, best.crlb, rates, used, "optimal", options=options)


def _option(problem: PairProblem, sets: BestSets, L: int) -> Option:
    share = least_share(problem.users, L, problem.min_rate_bps_hz, problem.margin_db)
    most = affordable(
        problem.backhaul_bps_hz, problem.data_rate(L), problem.backhaul_price_bps_hz, len(problem.node_position_m)
    )
    nodes, crlb = sets.within(most) if share < 1 else ((), np.inf)
    return Option(L, share, most, nodes, crlb / (1 - share) if nodes else np.inf)


def _why(problem: PairProblem, sets: BestSets, options: tuple[Option, ...]) -> str:
    """What stands in the way, with the number, the limit and the next step."""
    R, C, e = problem.min_rate_bps_hz, problem.backhaul_bps_hz, problem.backhaul_price_bps_hz
    if not options:
        return "no node reaches a user; check users.gain"
    reaching = [option for option in options if option.comm_power_share < 1]
    if not reaching:
        at_most = [(np.min(user_rates(problem.users, o.comm_cluster_size, 1.0, problem.margin_db)), o) for o in options]
        largest, option = max(at_most, key=lambda pair: pair[0])
        L = option.comm_cluster_size
        user = int(np.argmin(user_rates(problem.users, L, 1.0)))
        margin = f" with {problem.margin_db:g} dB margin" if problem.margin_db else ""
        return (
            f"R: a rate of {R:.4g} bit/s/Hz{margin} is asked for every user, user {user} reaches {largest:.4g} with "
            f"all power (L = {L}); ask for less than {largest:.4g}, raise the power, or serve user {user} from nearer"
        )
    fewest = int(np.argmax(sets.crlb < np.inf)) if np.any(sets.crlb < np.inf) else 0
    if not fewest:
        return "no set of nodes locates the target: too few usable links, or all nodes in line with it; add nodes"
    L = reaching[0].comm_cluster_size
    data, needed = problem.data_rate(L), problem.data_rate(L) + fewest * e
    counted = f"L R = {L} x {R:.4g}" if problem.count_copies else f"R = {R:.4g}"
    less = (C - fewest * e) / (data / R) if R > 0 else 0.0
    lower = f", or ask for a rate of {less:.4g}" if less > 0 else ""
    return (
        f"C: the backhaul carries {C:.4g} bit/s/Hz, {needed:.4g} are needed ({counted} for data and {fewest} sensing "
        f"nodes at {e:.4g}); give it {needed:.4g}{lower}"
    )
