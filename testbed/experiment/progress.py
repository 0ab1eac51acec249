"""What a run tells its caller while it works."""

from collections.abc import Callable
from dataclasses import dataclass

from testbed.experiment.results import Point
from testbed.experiment.summary import RoundSummary


@dataclass(frozen=True)
class Progress:
    """What a run tells its caller."""

    doing: str
    num_samples: int = 0  # captured since the last call
    points: tuple[Point, ...] = ()  # finished since the last call
    round: RoundSummary | None = None  # finished since the last call
    warnings: tuple[str, ...] = ()


Notify = Callable[[Progress], None]
