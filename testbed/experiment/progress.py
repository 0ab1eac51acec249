"""What a run tells its caller while it works."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What a run tells its caller."""

    doing: str
    num_samples: int = 0  # captured since the last call
    lines: tuple[str, ...] = ()  # results since the last call
    warnings: tuple[str, ...] = ()


Notify = Callable[[Progress], None]
