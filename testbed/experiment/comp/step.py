"""Where a step of a run stands: a power of the axis, or a round of the loop."""

from dataclasses import dataclass
from typing import Literal

MAX_STEPS = 1000  # of one kind, by the experiment file


@dataclass(frozen=True)
class Step:
    """A step and its names in the run directory."""

    kind: Literal["points", "rounds"]
    index: int

    @property
    def key(self) -> str:
        """Group in detections.h5."""
        return f"{self.kind}/{self.index:03d}"

    @property
    def stem(self) -> str:
        """Beginning of the names of its captures."""
        return f"{self.index:03d}" if self.kind == "points" else f"round{self.index:03d}"

    @property
    def title(self) -> str:
        """For progress and messages."""
        return f"power {self.index + 1}" if self.kind == "points" else f"round {self.index}"

    @property
    def serial(self) -> int:
        """A number no other step of a run has."""
        return self.index + (MAX_STEPS if self.kind == "rounds" else 0)
