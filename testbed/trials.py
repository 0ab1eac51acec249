"""Monte Carlo: trials that depend on a seed and on their index alone, in blocks, here or by any Executor.

    run_trials(function, n, seed=s)     outcome_t = function(rng(s, t), t)           t = 0 .. n - 1
    run_blocks(function, n)             the same for one that computes many at once and seeds them by index itself

So outcomes are the same in blocks of any size and with any number of workers: bit for bit where a trial is computed
alone, to rounding where a block is one matrix product. Layouts (drops, scenes) and their trials are two levels of key:

    def outcome(rng, index):
        layout, trial = divmod(index, TRIALS)
        stations = draw_stations(trial_rng(SEED, layout))       # the same in all trials of the layout
        return statistic(stations, rng)
"""

import functools
import hashlib
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.documents import write_document
from testbed.errors import CaptureError, ConfigError
from testbed.sweep import completed

NUM_BLOCKS = 64  # by default; enough to keep some tens of workers busy to the end

Notify = Callable[[int, int], None]


class Block(Protocol):
    """Outcomes of trials first .. first + num_trials - 1, shape (num_trials, ...)."""

    def __call__(self, *, first: int, num_trials: int) -> ArrayLike:
        """Each a function of its index alone."""


def trial_rng(seed: int, *key: int) -> np.random.Generator:
    """The generator of a trial, or of what trials share: independent of that of every other key."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def run_trials(
    function: Callable[[np.random.Generator, int], ArrayLike],
    num_trials: int,
    *,
    seed: int,
    chunk: int | None = None,
    executor: Executor | None = None,
    store: Path | None = None,
    notify: Notify | None = None,
) -> NDArray[Any]:
    """Outcomes of all trials in order, shape (num_trials, ...).

    Args:
        function: of a module where an executor is given; called with `trial_rng(seed, index)` and the index; returns a
            number or an array, of the same shape in every trial.
        num_trials: a generator of its own costs a trial about 20 us; see `run_blocks` for cheaper ones.
        seed: of all trials together.
        chunk: trials in one piece of work; no outcome depends on it.
        executor: None runs them here.
        store: folder for finished pieces, from which an interrupted run goes on.
        notify: is told how many trials are done, and of how many.

    Raises:
        ConfigError: the store holds other trials.
        WorkerLost: a piece was tried again and again.
    """
    block = functools.partial(_one_by_one, function, seed)
    return run_blocks(block, num_trials, chunk=chunk, executor=executor, store=store, notify=notify)


def run_blocks(
    function: Block,
    num_trials: int,
    *,
    chunk: int | None = None,
    executor: Executor | None = None,
    store: Path | None = None,
    notify: Notify | None = None,
) -> NDArray[Any]:
    """As `run_trials` for a function of many trials, e.g. `functools.partial(sim.montecarlo.statistics, X, seed=1)`."""
    if num_trials < 0 or (chunk is not None and chunk < 1):
        raise ValueError(f"num_trials {num_trials}, chunk {chunk}: need at least 0 trials, 1 in a chunk")
    size = chunk or max(1, -(-num_trials // NUM_BLOCKS))
    pieces = {first: min(size, num_trials - first) for first in range(0, num_trials, size)}
    if store is not None:
        _open(store, function)
    found: dict[int, NDArray[Any]] = {}
    num_done = 0
    for first, outcome, is_new in _outcomes(function, pieces, executor, store):
        if outcome.shape[:1] != (pieces[first],):
            raise ValueError(f"trials from {first}: outcomes of shape {outcome.shape}; need ({pieces[first]}, ...)")
        if store is not None and is_new:
            _save(_path(store, first, pieces[first]), outcome)
        found[first] = outcome
        num_done += pieces[first]
        if notify is not None:
            notify(num_done, num_trials)
    return np.concatenate([found[first] for first in pieces]) if pieces else np.empty(0)


def _outcomes(
    function: Block, pieces: dict[int, int], executor: Executor | None, store: Path | None
) -> Iterator[tuple[int, NDArray[Any], bool]]:
    missing = dict(pieces)
    for first, count in pieces.items() if store is not None else ():
        assert store is not None, "else there is nothing to loop over"
        if (outcome := _load(_path(store, first, count))) is not None:
            del missing[first]
            yield first, outcome, False
    if executor is None:
        for first, count in missing.items():
            yield first, np.asarray(function(first=first, num_trials=count)), True
        return
    futures = {executor.submit(function, first=first, num_trials=n): first for first, n in missing.items()}
    for first, future in completed(futures):
        yield first, np.asarray(future.result()), True


def _one_by_one(
    function: Callable[[np.random.Generator, int], ArrayLike], seed: int, *, first: int, num_trials: int
) -> NDArray[Any]:
    return np.stack([np.asarray(function(trial_rng(seed, t), t)) for t in range(first, first + num_trials)])


def _open(store: Path, function: Block) -> None:
    """Make the folder, or see that it is of the same function, arguments and seed; changed code it cannot see."""
    digest = hashlib.sha256(pickle.dumps(function)).hexdigest()
    marker = store / "trials.json"
    try:
        store.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            if any(store.iterdir()):
                raise ConfigError(f"{store}: holds something else than trials; give another folder")
            write_document(marker, {"function_sha256": digest})
        elif digest not in marker.read_text(encoding="utf-8"):
            raise ConfigError(
                f"{store}: holds trials of another function, arguments or seed; remove it, or give another"
            )
    except OSError as exc:
        raise ConfigError(f"{store}: cannot hold trials ({exc.strerror or exc}); give another folder") from exc


def _path(store: Path, first: int, num_trials: int) -> Path:
    return store / f"{first}+{num_trials}.npy"


def _save(path: Path, outcome: NDArray[Any]) -> None:
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.save(file, outcome, allow_pickle=False)
        part.replace(path)
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be written ({exc.strerror or exc}); make room, then run it again") from exc


def _load(path: Path) -> NDArray[Any] | None:
    try:
        outcome: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # not there, or cut short by a power failure
    return outcome
