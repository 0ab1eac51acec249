"""Servers mute a radio whose client is not heard of; while one radio is received from, the others hear of it here."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence

from testbed.errors import IsacError, RadioError
from testbed.radio.base import Attended, Radio

log = logging.getLogger(__name__)


@contextlib.contextmanager
def attended(radios: Sequence[Radio]) -> Iterator[None]:
    """Whatever `radios` send is on the air at the beginning of the block, and was on the air all the time at its end.

    Only within the block: a controller that computes for long, asks its operator or hangs is not heard of, and what it
    left on the air is muted by the servers until the next block.

    Raises:
        RadioError: a server had muted one of them meanwhile, or was lost: what was received is not to be used.
    """
    minded = [radio for radio in radios if isinstance(radio, Attended) and radio.patience_s is not None]
    if not minded:
        yield
        return
    before = [radio.attend() for radio in minded]
    ended = threading.Event()
    pause_s = min(radio.patience_s or 0.0 for radio in minded) / 4

    def run() -> None:
        while not ended.wait(pause_s):
            for radio in minded:
                try:
                    radio.attend(wait=False)
                except IsacError as exc:  # told at the end of the block
                    log.debug("%s: %s", radio, exc)

    threading.Thread(target=run, name="isac-attendance", daemon=True).start()
    try:
        yield
    finally:
        ended.set()  # and no waiting for it: an interrupt mutes now
    for radio, count in zip(minded, before, strict=True):
        if radio.attend() != count:
            name = radio.name if isinstance(radio, Radio) else radio
            raise RadioError(
                f"{name}: its server had muted it for want of a sign of life while others received; raise watchdog_s "
                f"in the server's [safety], or look for what stalls this host"
            )
