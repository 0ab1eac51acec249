"""Signals that end a command: each raises KeyboardInterrupt, and none gets lost.

Python drops an exception that a signal handler raises within a weak reference's callback or a destructor, of which HDF5
has many. So the handler also leaves a note, and long work calls `check` where it may be stopped.
"""

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_noted = False


def install() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt. Under nohup, which has SIGHUP ignored, it stays so."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _quiet


def check() -> None:
    """Raise KeyboardInterrupt if a signal came whose exception was dropped. Cleaning up does not call this."""
    if _noted:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    global _noted
    _noted = True
    # a closed terminal may send SIGHUP twice, by the kernel and by the shell; the second must not cut the muting short.
    # Ctrl-C may: it is the way out of a cleaning-up that hangs
    for repeated in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(repeated, signal.SIG_IGN)
    raise KeyboardInterrupt


def _quiet(unraisable: "UnraisableHookArgs") -> None:
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
