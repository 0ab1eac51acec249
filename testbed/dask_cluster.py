"""An Executor on the workers of a dask scheduler, on this machine or on others; the extra `cluster` brings dask.

Who can reach a dask scheduler can have its workers run anything, and it can have its clients unpickle anything: it
belongs on the loopback interface or on a network where everyone is trusted (or behind dask's own TLS, which `tls://`
addresses use as dask is configured).

A worker has one call at a time and as many calls are out as there are workers. Dask itself gives a call again whose
worker was lost, four times in all (`distributed.scheduler.allowed-failures`). It counts a lost worker against all calls
that wait there, too; with more calls out, a long sweep that loses four workers would fail by the hundred. And what dask
gives up is run once more after all others, alone, so that only what kills workers itself fails.
"""

import functools
import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any, Self, TypeVar

import testbed
from testbed.errors import ClusterLost, ConfigError, WorkerLost

CONNECT_TIMEOUT_S = 10.0
WORKERS_TIMEOUT_S = 20.0  # of the first worker; those of a batch system may come much later, and one is enough
POLL_S = 1.0
PATIENCE_S = 30.0  # without a worker, until that is said

T = TypeVar("T")
Call = Callable[[], Any]

logger = logging.getLogger(__name__)
_one_at_a_time = (
    threading.Lock()
)  # in a worker of many threads: solvers keep problems that two must not fill in at once


class Cluster(Executor):
    """Calls run on the workers that the scheduler has, those that join later included."""

    def __init__(self, address: str) -> None:
        """Connect, and see that every worker can take part.

        Raises:
            ConfigError: dask is not installed, no scheduler at that address, no worker, or one that cannot take part.
        """
        self.address = address
        self._client = _connect(address)
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Future[Any], Call]] = deque()
        self._suspects: deque[tuple[Future[Any], Call]] = deque()  # given up by dask once
        self._running: dict[str, tuple[Future[Any], Call]] = {}  # by dask's key
        self._accused: str | None = None  # key of the suspect that runs alone
        self._closing = threading.Event()
        try:
            self._num_workers = self._first_workers()
            self.check(functools.partial(_fault, testbed.__version__))
        except BaseException:
            self._client.close()
            raise
        threading.Thread(target=self._watch, name="cluster", daemon=True).start()

    def check(self, fault: Callable[[], str]) -> None:
        """Call a function on every worker; ConfigError with what it says, of the first one where that is not empty."""
        found = self._client.run(fault, on_error="return")
        for worker, said in found.items():
            if isinstance(said, Exception):
                raise ConfigError(
                    f"worker {worker}: {type(said).__name__}: {said}; it needs isac-testbed {testbed.__version__}, "
                    "installed in the environment it runs in"
                ) from said
            if said:
                raise ConfigError(f"worker {worker}: {said}")

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """As Executor.submit; function, arguments and result have to be picklable."""
        future: Future[T] = Future()
        with self._lock:
            if self._closing.is_set():
                raise self._lost()
            self._waiting.append((future, functools.partial(_alone, fn, *args, **kwargs)))
        self._fill()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As Executor.shutdown; the cluster stays. What is running when nobody waits runs to its end there."""
        with self._lock:
            pending = [future for future, _ in (*self._waiting, *self._suspects, *self._running.values())]
        for future in pending:
            if cancel_futures:
                future.cancel()
            if wait and not future.cancelled():
                future.exception()
        self._closing.set()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(wait=exc is None, cancel_futures=exc is not None)

    def _first_workers(self) -> int:
        try:
            self._client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
        except TimeoutError as exc:
            raise ConfigError(
                f"--scheduler {self.address}: has no worker; start some: dask worker {self.address} --nthreads 1"
            ) from exc
        threads = self._client.nthreads()
        if many := {worker: count for worker, count in threads.items() if count > 1}:
            worker, count = next(iter(many.items()))
            raise ConfigError(
                f"worker {worker}: has {count} threads, and work needs processes of its own; instead of this one: "
                f"dask worker {self.address} --nworkers {count} --nthreads 1"
            )
        return len(threads)

    def _fill(self) -> None:
        """Hand out as many calls as there are workers; suspects one by one when there is nothing else."""
        with self._lock:
            while self._waiting and len(self._running) < max(1, self._num_workers) and self._accused is None:
                self._hand_out(*self._waiting.popleft())
            while self._suspects and not self._running:
                self._accused = self._hand_out(*self._suspects.popleft())

    def _hand_out(self, future: "Future[Any]", call: Call) -> str | None:
        if not (future.running() or future.set_running_or_notify_cancel()):
            return None
        try:
            given = self._client.submit(call, pure=False)
        except Exception as exc:  # what cannot be pickled, for one
            future.set_exception(exc)
            return None
        self._running[given.key] = future, call
        given.add_done_callback(self._take_back)
        return str(given.key)

    def _take_back(self, given: Any) -> None:
        """In a thread of dask's, for every call that is done; also for those that are lost with the scheduler."""
        if given.status not in ("finished", "error"):
            self._give_up()
            return
        result, failure = None, None
        try:
            result = given.result()
        except Exception as exc:
            failure = exc
        with self._lock:
            future, call = self._running.pop(given.key, (None, None))
            was_alone, self._accused = self._accused == given.key, None
            if future is None or call is None:
                return  # given up
            killed = type(failure).__name__ == "KilledWorker"
            if again := killed and not was_alone:
                self._suspects.append((future, call))
        self._fill()
        if again:
            return
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(_killed() if killed else failure)

    def _watch(self) -> None:
        """See workers come and go, and the scheduler go."""
        alone_s = 0.0
        while not self._closing.wait(POLL_S):
            if self._client.status != "running":
                self._give_up()
                return
            try:
                num_workers = len(self._client.sync(self._client.scheduler.ncores, callback_timeout=CONNECT_TIMEOUT_S))
            except Exception:  # of whatever kind: dask is closing, or lost its scheduler just now
                continue
            self._num_workers = num_workers
            self._fill()
            alone_s = 0.0 if num_workers else alone_s + POLL_S
            if alone_s == PATIENCE_S:
                logger.warning(
                    "%s: no worker is left; waiting for one: dask worker %s --nthreads 1", self.address, self.address
                )

    def _give_up(self) -> None:
        """Dask has forgotten its calls when it lost the scheduler for a moment."""
        with self._lock:
            self._closing.set()
            lost = [future for future, _ in (*self._running.values(), *self._suspects, *self._waiting)]
            self._running.clear()
            self._suspects.clear()
            self._waiting.clear()
        for future in lost:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(self._lost())

    def _lost(self) -> ClusterLost:
        return ClusterLost(f"--scheduler {self.address}: the scheduler is gone; start it again, and workers")


def _connect(address: str) -> Any:
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as exc:
        raise ConfigError(
            f"--scheduler {address}: needs dask.distributed ({exc}); install it: pip install 'isac-testbed[cluster]'"
        ) from exc
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]:
        # each has a level of its own; their news of a lost connection are many lines and come beside our one
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return distributed.Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False, name="isac")
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigError(
            f"--scheduler {address}: no dask scheduler answers there within {CONNECT_TIMEOUT_S:g} s; start one "
            "(dask scheduler --host 127.0.0.1), or check the address, e.g. tcp://127.0.0.1:8786"
        ) from exc


def _alone(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    with _one_at_a_time:
        return fn(*args, **kwargs)


def _fault(version: str) -> str:
    if testbed.__version__ != version:
        return f"has isac-testbed {testbed.__version__}, not {version}; install the same there"
    return ""


def _killed() -> WorkerLost:
    return WorkerLost(
        "its worker died in mid-work every time, the last time with nothing beside it; where memory ran out, fewer "
        "workers on a machine leave more to each"
    )
