"""Device time in whole samples: what starts together is given one number, and no fraction of a second is ever added up.

A device whose clock stands still (UHD's simulator) starts everything at once, and nothing it receives can be shown to
follow on.
"""

import math
import time
from typing import Any

LEAD_S = 0.1  # from a command to the time it names
MAX_LEAD_S = 1.0
_PROBE_S = 0.02


class Lead:
    """How far ahead of device time streams are started; longer after one that came too late."""

    def __init__(self) -> None:
        self.seconds = LEAD_S

    def lengthen(self) -> None:
        """The host was too slow."""
        self.seconds = min(2 * self.seconds, MAX_LEAD_S)

    def samples(self, rate_hz: float) -> int:
        """At a sample rate."""
        return math.ceil(self.seconds * rate_hz)


def is_running(usrp: Any) -> bool:
    """Whether device time passes."""
    before = usrp.get_time_now()
    time.sleep(_PROBE_S)
    elapsed = usrp.get_time_now() - before
    return bool(elapsed.get_real_secs() > 0)


def now(usrp: Any, rate_hz: float) -> int:
    """Device time in samples."""
    return int(usrp.get_time_now().to_ticks(rate_hz))


def time_spec(uhd: Any, sample: int, rate_hz: float) -> Any:
    """Device time of a sample: whole seconds and the rest, exact on the tick."""
    return uhd.types.TimeSpec.from_ticks(sample, rate_hz)


def next_begin(begin: int, period: int, earliest: int) -> int:
    """The first begin of a buffer that repeats, not before `earliest`; all in samples."""
    return begin + max(0, math.ceil((earliest - begin) / period)) * period
