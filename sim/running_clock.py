"""Clocks that never restart: samples as fast as somebody takes them, or as fast as they really pass.

Each tells the index of the current sample at a sample rate, and `mark` values that name an instant for all rates.
"""

import time


class FreeClock:
    """As fast as possible: now is where the foremost receiver is."""

    paced = False

    def __init__(self) -> None:
        self.front = 0
        self.wanted = 0  # as far as a receiver waits for those who send
        self.pushed_to = 0  # as far as those who send have moved time while no receiver stirred
        self.idle = False  # whether receivers let a transmitter wait in vain

    def now(self, sample_rate_hz: float) -> int:
        """Index of the current sample."""
        return self.front

    def mark(self, index: int, sample_rate_hz: float) -> float:
        """The instant of a sample: its number, whatever the rate."""
        return float(index)

    def index(self, mark: float, sample_rate_hz: float) -> int:
        """The sample at an instant."""
        return int(mark)


class WallClock:
    """As fast as samples really pass."""

    paced = True

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def now(self, sample_rate_hz: float) -> int:
        """Index of the current sample."""
        return int((time.monotonic() - self._began_s) * sample_rate_hz)

    def mark(self, index: int, sample_rate_hz: float) -> float:
        """The instant of a sample, in seconds."""
        return index / sample_rate_hz

    def index(self, mark: float, sample_rate_hz: float) -> int:
        """The sample at an instant."""
        return int(mark * sample_rate_hz)
