"""What a planner of cooperative clusters decides, as a value."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

PlanStatus = Literal["optimal", "infeasible"]


@dataclass(frozen=True)
class Option:
    """The best that one size of the users' clusters allows."""

    comm_cluster_size: int  # L
    comm_power_share: float  # least p^c that reaches the rate floor; NaN where p^c = 1 does not
    max_sensing_nodes: int  # that the backhaul leaves room for
    sensing_nodes: tuple[int, ...]  # best set; empty where there is none
    crlb: float  # at p^s = 1 - p^c, unit of the problem; inf where there is no plan of this size


@dataclass(frozen=True)
class Plan:
    """Clusters and power split. Infeasible: no nodes, size 0, share NaN, bound inf, and `note` says what is missing."""

    sensing_nodes: tuple[int, ...]  # that send and listen, rising; 0 .. N - 1 are the nearest N where none are known
    comm_cluster_size: int  # L, base stations that serve a user together
    comm_power_share: float  # p^c; the rest, p^s = 1 - p^c, senses
    crlb: float  # predicted bound of the position at p^s, length^2, geometric mean over target positions
    rates: tuple[float, ...]  # predicted, a number per user, or the mean user's, in the problem's unit
    backhaul: float  # used, in the same unit
    status: PlanStatus
    note: str = ""
    options: tuple[Option, ...] = ()  # one per cluster size that was tried

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: inf and NaN become null."""
        return dict(_plain(asdict(self)))


def infeasible(note: str, options: tuple[Option, ...] = ()) -> Plan:
    """A plan that is none."""
    return Plan((), 0, math.nan, math.inf, (), 0.0, "infeasible", f"cooperative: infeasible; {note}", options)


def affordable(backhaul: float, data: float, price: float, most: int) -> int:
    """Sensing nodes that fit: N of data + price N <= backhaul, at most `most`; 1e-9 forgives rounding."""
    room = backhaul - data
    if room < -1e-9 * max(1.0, abs(backhaul)):
        return 0
    return most if price * most <= room + 1e-9 * price else min(most, math.floor(max(room, 0.0) / price + 1e-9))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
