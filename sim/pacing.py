"""Sample time at the speed of the wall clock, and a count of where the machine could not keep up."""

import logging
import time
from collections.abc import Callable

PEERS_MAY_LAG_S = 0.1  # and still catch up; beyond it they have stalled, and time with them

log = logging.getLogger(__name__)


class Pacer:
    """The wall clock of an epoch: it begins when its first samples are asked for.

    A block may leave once its last sample has been "taken". It is an overrun if making it took longer than it lasts,
    counted from when it was asked for or from when its first sample was taken, whichever came later: a client that asks
    late is no overrun. Time is not made up for: after an overrun the next blocks are late as well, until they catch up.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.overruns = 0
        self.late_s = 0.0  # the worst of them
        self._now = now
        self._epoch: int | None = None
        self._began = 0.0

    def done(self, epoch: int, start: int, num_samples: int, sample_rate_hz: float, asked: float) -> float:
        """Note a block that has just been made, and tell when it may leave, in seconds of the clock.

        Args:
            epoch: of the block.
            start: first sample of the block within the epoch.
            num_samples: of the block.
            sample_rate_hz: of the receiver.
            asked: when the request came, in seconds of the clock.
        """
        if epoch != self._epoch:
            self._epoch, self._began = epoch, asked - start / sample_rate_hz
        taken = self._began + start / sample_rate_hz
        late_s = self._now() - (max(asked, taken) + num_samples / sample_rate_hz)
        if late_s > 0:
            self.overruns += 1
            self.late_s = max(self.late_s, late_s)
            if self.overruns & (self.overruns - 1) == 0:  # 1, 2, 4, 8, ...
                log.warning(
                    "slower than real time: %d overrun(s), the worst %.3g s late at %.3g samples per second",
                    self.overruns,
                    self.late_s,
                    sample_rate_hz,
                )
        return taken + num_samples / sample_rate_hz


class StreamPacer:
    """The wall clock of a stream without epochs, which peers may hold up: their pauses are no overruns.

    A block may be made when its last sample has been "taken". It is an overrun if making it took longer than it lasts.
    """

    def __init__(self, sample_rate_hz: float, now: Callable[[], float] = time.monotonic) -> None:
        self.overruns = 0
        self._rate_hz = sample_rate_hz
        self._now = now
        self._next: float | None = None  # when the next sample is taken
        self._began = 0.0

    def room(self, most: int) -> int:
        """How many of `most` samples that are at hand may be made now."""
        self._began = self._now()
        if self._next is None:
            self._next = self._began
        self._next = max(self._next, self._began - PEERS_MAY_LAG_S)
        return min(most, max(0, int((self._began - self._next) * self._rate_hz)))

    def made(self, num_samples: int) -> None:
        """Note a block that has just been made."""
        assert self._next is not None, "room was asked for before"
        self._next += num_samples / self._rate_hz
        late_s = self._now() - self._began - num_samples / self._rate_hz
        if late_s > 0:
            self.overruns += 1
            if self.overruns & (self.overruns - 1) == 0:
                log.warning(
                    "raw ports: slower than real time: %d overrun(s), now %.3g s late at %.3g samples per second",
                    self.overruns,
                    late_s,
                    self._rate_hz,
                )
