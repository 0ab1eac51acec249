"""What every allocation scheme returns, its file, and the two schemes that look at nothing."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from testbed.config import StrictModel, validate
from testbed.documents import write_document
from testbed.errors import CaptureError, ConfigError

Status = Literal["optimal", "stationary", "infeasible", "zero_gain"]

MAX_FILE_BYTES = 10_000_000  # powers of some nodes and a history; anything larger is a mistake


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
    slack: NDArray[np.float64] | None = None  # A p - b of the problem's rows, unscaled
    kkt_residual: float | None = None  # stationarity residual relative to the gradient; 0 at a KKT point
    note: str = ""  # what is valid but surprising, e.g. that a solver gave up and powers were kept

    @property
    def power(self) -> NDArray[np.float64]:
        """The common power vector of a scheme that does not tell pilots from data."""
        if not np.array_equal(self.pilot_power, self.data_power):
            raise ValueError("pilot_power and data_power differ; use the one that is meant")
        return self.data_power

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: arrays become lists; inf and NaN become null, JSON has no name for them."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Allocation":
        """What `to_dict` made; null reads as NaN where a number belongs.

        Raises:
            ValueError: a missing, extra or mistyped field, a power that is negative or not finite; one line.
        """
        if not isinstance(data, dict):
            raise ValueError(f"allocation: found {type(data).__name__}; must be a table of its fields")
        try:
            record = validate(data, _AllocationRecord, "allocation")
        except ConfigError as exc:
            raise ValueError(str(exc)) from exc
        return record.allocation()


_Power = Annotated[float, Field(ge=0)]


class _AllocationRecord(StrictModel):
    """The fields of an allocation as they stand in JSON; all must be there."""

    pilot_power: Annotated[tuple[_Power, ...], Field(min_length=1)]
    data_power: Annotated[tuple[_Power, ...], Field(min_length=1)]
    objective: float | None
    status: Status
    upper_bound: float | None
    history: tuple[float | None, ...]
    certificate: dict[str, Any]
    slack: tuple[float | None, ...] | None
    kkt_residual: float | None
    note: str

    def allocation(self) -> Allocation:
        pilot_power, data_power = np.array(self.pilot_power), np.array(self.data_power)
        if pilot_power.shape != data_power.shape:
            raise ValueError(f"allocation: data_power: found {len(data_power)} nodes; must be {len(pilot_power)}")
        return Allocation(
            pilot_power,
            data_power,
            _number(self.objective),
            self.status,
            self.upper_bound,
            tuple(map(_number, self.history)),
            self.certificate,
            None if self.slack is None else np.array([_number(value) for value in self.slack]),
            self.kkt_residual,
            self.note,
        )


class _AllocationFile(StrictModel):
    node_names: tuple[str, ...]  # the order of the powers
    allocation: _AllocationRecord


def save_allocation(path: Path, allocation: Allocation, node_names: Sequence[str]) -> None:
    """Write an allocation and the nodes its powers belong to as JSON; floats keep every bit.

    Raises:
        ValueError: not one name per power.
        CaptureError: the file cannot be written; one line.
    """
    _check_names(tuple(node_names), len(allocation.data_power))
    write_document(path, {"node_names": list(node_names), "allocation": allocation.to_dict()})


def load_allocation(path: Path) -> tuple[Allocation, tuple[str, ...]]:
    """Read what `save_allocation` wrote: the allocation and its node names; CaptureError in one line otherwise."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CaptureError(f"{path}: larger than {MAX_FILE_BYTES} bytes; not an allocation file")
        found = json.loads(path.read_bytes())
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (ValueError, RecursionError) as exc:
        raise CaptureError(f"{path}: not an allocation file (not valid JSON); allocate again") from exc
    try:
        if not isinstance(found, dict):
            raise ValueError(f"found {type(found).__name__}; must be a table")
        content = validate(found, _AllocationFile, "content")
        allocation = content.allocation.allocation()
        _check_names(content.node_names, len(allocation.data_power))
    except (ConfigError, ValueError, RecursionError) as exc:
        raise CaptureError(f"{path}: not an allocation file ({exc}); allocate again") from exc
    return allocation, content.node_names


def equal_power(total_power: float, num_nodes: int) -> Allocation:
    """Every node gets the same share of the total; no constraint is looked at."""
    _check_total(total_power, num_nodes)
    power = np.full(num_nodes, total_power / num_nodes)
    return Allocation(power, power, float("nan"), "stationary")


def random_power(total_power: float, num_nodes: int, seed: int | None) -> Allocation:
    """Random shares u / sum(u) of the total, u uniform from the Mersenne Twister; no constraint is looked at.

    The stream is that of MATLAB's rng(seed); rand, for the CoMP letter's "seed 2". None draws a new seed every time.
    """
    _check_total(total_power, num_nodes)
    if seed is not None and not (seed == int(seed) and 0 <= seed < 2**32):
        raise ValueError(f"seed: found {seed}; must be a whole number 0..2^32 - 1")
    shares = np.random.RandomState(seed).random_sample(num_nodes)
    power = total_power * shares / np.sum(shares)
    return Allocation(power, power, float("nan"), "stationary")


def _check_total(total_power: float, num_nodes: int) -> None:
    if num_nodes < 1 or not (np.isfinite(total_power) and total_power >= 0):
        raise ValueError(f"total_power {total_power}, num_nodes {num_nodes}; must be finite >= 0 and at least 1")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if not isinstance(value, float) or np.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _check_names(names: tuple[str, ...], num_nodes: int) -> None:
    if len(names) != num_nodes or len(set(names)) != num_nodes:
        raise ValueError(f"node_names: found {', '.join(names) or 'none'}; must be {num_nodes} different names")
