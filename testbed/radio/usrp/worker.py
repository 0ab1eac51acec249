"""The one thread that commands a device; whoever asks waits no longer than the timeout.

UHD may not come back: a network that is gone, a board that hangs. Then its thread hangs, and nobody else. What had
begun goes on, and sees by `Task.is_abandoned` that nobody waits any more; what had not begun is dropped, except what
must be done whatever happens: a mute. Commands come one after the other, so a late one never overtakes a newer one.

UHD 4's Python module holds the interpreter's lock while it commands a device (not while it streams). There a timeout is
UHD's own: some seconds.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from testbed.errors import RadioTimeout, RadioUnavailable

T = TypeVar("T")

log = logging.getLogger(__name__)


class Task:
    """A command under way."""

    def __init__(self, call: Callable[["Task"], Any], *, surely: bool) -> None:
        self.is_abandoned = False  # nobody waits for its result
        self.error: BaseException | None = None
        self.result: Any = None
        self.done = threading.Event()
        self._call, self._surely = call, surely

    def run(self) -> None:
        """In the worker's thread."""
        try:
            if not self.is_abandoned or self._surely:
                self.result = self._call(self)
        except BaseException as exc:
            self.error = exc
            if self.is_abandoned:
                log.warning("%s", exc)
        finally:
            self.done.set()


class Worker:
    """See the module."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"isac-usrp {name}", daemon=True)
        self._thread.start()

    def ask(self, call: Callable[[Task], T], timeout_s: float, *, surely: bool = False) -> T:
        """Result of a command.

        Args:
            call: the command; it is told its task.
            timeout_s: to wait for what is under way before and for itself.
            surely: whether it is done even when nobody waits for it any more.

        Raises:
            RadioTimeout: it did not come back in time.
            RadioError: whatever else the command raises.
        """
        if self._ended:
            raise RadioUnavailable(f"{self.name}: this radio was closed")
        if threading.current_thread() is self._thread:
            return call(Task(call, surely=surely))
        task = Task(call, surely=surely)
        self._tasks.put(task)
        try:
            if not task.done.wait(timeout_s):
                raise self.silent(timeout_s)
        finally:
            task.is_abandoned = True
        if task.error is not None:
            raise task.error
        result: T = task.result
        return result

    def post(self, call: Callable[[Task], Any]) -> None:
        """Have a command done that nobody waits for; its error is logged."""
        task = Task(call, surely=True)
        task.is_abandoned = True
        if not self._ended:
            self._tasks.put(task)

    def end(self) -> None:
        """No more commands; the thread ends behind those under way."""
        if not self._ended:
            self._ended = True
            self._tasks.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def silent(self, timeout_s: float) -> RadioTimeout:
        """What it means that no answer came."""
        return RadioTimeout(
            f"{self.name}: no answer within {timeout_s:g} s; check cable, power and network of the device"
        )

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
            del task  # holds what it found until then
