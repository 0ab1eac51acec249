"""An Executor of worker processes of this machine, each of which may die without harm to the others.

`concurrent.futures.ProcessPoolExecutor` is broken as a whole when one of its processes dies. Here each worker has one
call at a time: the call of one that died is given to a fresh worker, and the rest notice nothing. A call that takes
MAX_ATTEMPTS workers with it fails with `WorkerLost`.

Workers stand in sessions of their own. Ctrl-C reaches them by way of this process, once, so that what cleans up in a
worker is not cut short; and they end, cleaned up, when this process does in whatever way.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from testbed import interrupts
from testbed.errors import WorkerLost

MAX_ATTEMPTS = 3
STOP_TIMEOUT_S = 30.0  # to mute, to write down what is measured, and to stop an emulator

T = TypeVar("T")

_spawn = multiprocessing.get_context("spawn")  # a fork would copy sockets and locks
_starting = threading.Lock()  # multiprocessing keeps a list of children that two threads must not work on at once


class Processes(Executor):
    """Calls run in `num_workers` processes that start when they are needed.

    Leaving its `with` block by an exception, Ctrl-C for one, interrupts what the workers do and waits for their end.
    Like all that starts Python processes, a script that uses it needs `if __name__ == "__main__":`.
    """

    def __init__(self, num_workers: int) -> None:
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="worker")  # each waits for one process
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._stopped = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """As Executor.submit; function, arguments and result have to be picklable."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As Executor.shutdown; workers end once they are idle."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            self.shutdown()
            return
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._end()
        self._threads.shutdown()

    def _end(self) -> None:
        with self._lock:
            self._stopped = True
            workers, idle = list(self._workers), set(self._idle)
        try:
            for worker in workers:
                worker.stop(busy=worker not in idle)
            for worker in workers:
                worker.join()
        except BaseException:  # Ctrl-C once more
            for worker in workers:
                worker.kill()
            raise

    def _call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        request = pickle.dumps((fn, args, kwargs))
        for _ in range(MAX_ATTEMPTS):
            worker = self._take()
            try:
                answer = worker.call(request)
            except (EOFError, OSError):
                self._bury(worker)
                continue
            with self._lock:
                self._idle.append(worker)
            succeeded, value = pickle.loads(answer)
            if succeeded:
                return value
            raise value
        raise WorkerLost(
            f"its process died in mid-work {MAX_ATTEMPTS} times, the last time by {worker.end}; where memory ran out, "
            "fewer workers at a time need less of it"
        )

    def _take(self) -> "_Worker":
        with self._lock:
            if self._stopped:
                raise WorkerLost("no worker: they were told to stop")
            if self._idle:
                return self._idle.pop()
            worker = _Worker()
            self._workers.append(worker)
        worker.wait_until_ready()
        return worker

    def _bury(self, worker: "_Worker") -> None:
        worker.join()
        with self._lock:
            self._workers.remove(worker)
            if self._stopped:
                raise WorkerLost("its process was told to stop")


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self) -> None:
        self._closing = threading.Lock()
        self._pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(theirs,), daemon=True)
        with _starting:
            # no Ctrl-C before the worker can handle it; it unblocks the signal itself
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()  # so that the pipe ends when the process does

    def wait_until_ready(self) -> None:
        """Where a process cannot begin, another one cannot either."""
        try:
            self._pipe.recv_bytes()
        except (EOFError, OSError):
            self.join()
            raise WorkerLost(
                f"a worker process did not start, it ended by {self.end}; a script that starts some needs "
                "`if __name__ == '__main__':` around what it does"
            ) from None

    def call(self, request: bytes) -> bytes:
        """Returns the pickled answer; EOFError or OSError where the process has died."""
        self._pipe.send_bytes(request)
        return self._pipe.recv_bytes()

    def stop(self, *, busy: bool) -> None:
        """An idle one ends as its pipe does; a busy one unwinds."""
        if not busy:
            self._close_pipe()
        elif self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)  # SIGINT may be ignored, by a shell's &

    def kill(self) -> None:
        """End it at once."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def join(self) -> None:
        """Wait for the end, and enforce it."""
        if not wait([self._process.sentinel], STOP_TIMEOUT_S):
            self.kill()
        with _starting:
            self._process.join()
        self._close_pipe()

    def _close_pipe(self) -> None:
        """Once: who called it and who ends all workers may both be at it, and a descriptor may be another's by then."""
        with self._closing:
            self._pipe.close()

    @property
    def end(self) -> str:
        """How it ended."""
        code = self._process.exitcode
        return signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"


def _serve(pipe: Connection) -> None:
    """What a worker does until its pipe ends: read a call, run it, answer."""
    with contextlib.suppress(OSError):
        os.setsid()
    try:
        interrupts.install()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=_end_with_parent, daemon=True).start()
        pipe.send_bytes(b"ready")
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _answer(request: bytes) -> bytes:
    try:
        fn, args, kwargs = pickle.loads(request)
        return pickle.dumps((True, fn(*args, **kwargs)))
    except Exception as exc:
        exc.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return _failure(exc)


def _failure(exc: Exception) -> bytes:
    try:
        answer = pickle.dumps((False, exc))
        pickle.loads(answer)  # not every exception that can be pickled can be made again
    except Exception:
        answer = pickle.dumps((False, RuntimeError(f"{type(exc).__name__}: {exc}")))
    return answer


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
