"""What every allocation scheme returns, and the simplest scheme."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["optimal", "stationary", "infeasible", "zero_gain"]


@dataclass(frozen=True)
class Allocation:
    """How much every node transmits. Powers are linear, in the unit of the problem, shape (num_nodes,)."""

    pilot_power: NDArray[np.float64]
    data_power: NDArray[np.float64]
    objective: float  # of the scheme's problem; NaN where a scheme has none
    status: Status
    upper_bound: float | None = None  # certified
    history: tuple[float, ...] = ()  # objective per iteration
    certificate: dict[str, Any] = field(default_factory=dict)

    @property
    def power(self) -> NDArray[np.float64]:
        """The common power vector of a scheme that does not tell pilots from data."""
        if not np.array_equal(self.pilot_power, self.data_power):
            raise ValueError("pilot_power and data_power differ; use the one that is meant")
        return self.data_power


def equal_power(total_power: float, num_nodes: int) -> Allocation:
    """Every node gets the same share of the total; no constraint is looked at."""
    if num_nodes < 1 or not (np.isfinite(total_power) and total_power >= 0):
        raise ValueError(f"total_power {total_power}, num_nodes {num_nodes}; must be finite >= 0 and at least 1")
    power = np.full(num_nodes, total_power / num_nodes)
    return Allocation(power, power, float("nan"), "stationary")
