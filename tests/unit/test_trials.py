"""Trials are the same in any blocks and processes, and go on from what an interrupted run stored."""

import functools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.montecarlo import statistics
from testbed.errors import ConfigError
from testbed.processes import Processes
from testbed.trials import run_blocks, run_trials, trial_rng

NUM_LAYOUTS, NUM_TRIALS, SEED = 3, 7, 5
X = np.exp(2j * np.pi * np.outer(np.arange(20), [0.1, 0.3]))


def outcome(rng: np.random.Generator, index: int) -> NDArray[np.float64]:
    """A layout's gain, the same in all its trials, and noise of the trial."""
    layout, _ = divmod(index, NUM_TRIALS)
    return np.array([trial_rng(SEED, layout).exponential(), rng.normal()])


class Interrupted:
    """Until it is interrupted at a trial; counts what it was asked for."""

    def __init__(self, at: int | None) -> None:
        self.at, self.num_asked = at, 0

    def __call__(self, rng: np.random.Generator, index: int) -> float:
        if index == self.at:
            raise KeyboardInterrupt
        self.num_asked += 1
        return float(rng.normal())

    def __reduce__(self) -> tuple[object, ...]:
        return (Interrupted, (None,))  # the store knows it by this: the same function in every run


def test_trials_of_layouts_are_the_same_in_any_chunks_and_in_processes() -> None:
    count = NUM_LAYOUTS * NUM_TRIALS
    reference = run_trials(outcome, count, seed=1)
    assert reference.shape == (count, 2)
    gains, noise = reference.reshape(NUM_LAYOUTS, NUM_TRIALS, 2).transpose(2, 0, 1)
    assert len(np.unique(gains)) == NUM_LAYOUTS
    assert np.all(gains == gains[:, :1])
    assert len(np.unique(noise)) == count
    with Processes(2) as executor:
        for chunk in (1, 4, 100):
            np.testing.assert_array_equal(run_trials(outcome, count, seed=1, chunk=chunk), reference)
        told: list[tuple[int, int]] = []
        pooled = run_trials(outcome, count, seed=1, chunk=4, executor=executor, notify=lambda *done: told.append(done))
    np.testing.assert_array_equal(pooled, reference)
    assert told[-1] == (count, count)
    assert len(told) == 6
    assert np.any(run_trials(outcome, count, seed=2) != reference)


def test_a_function_of_many_trials_gives_the_same_in_blocks_of_any_size() -> None:
    reference = statistics(X, 1000, seed=3)
    for chunk in (None, 1, 77, 5000):
        blocks = run_blocks(functools.partial(statistics, X, seed=3), 1000, chunk=chunk)
        np.testing.assert_allclose(blocks, reference, rtol=1e-12)


def test_an_interrupted_run_goes_on_with_the_trials_that_are_missing(tmp_path: Path) -> None:
    store = tmp_path / "trials"
    first = Interrupted(at=13)
    with pytest.raises(KeyboardInterrupt):
        run_trials(first, 20, seed=1, chunk=4, store=store)
    (store / "0+4.npy").write_bytes(b"cut short")
    second = Interrupted(at=None)
    told: list[tuple[int, int]] = []
    found = run_trials(second, 20, seed=1, chunk=4, store=store, notify=lambda *done: told.append(done))
    np.testing.assert_array_equal(found, run_trials(Interrupted(at=None), 20, seed=1))
    assert (first.num_asked, second.num_asked) == (13, 12)
    assert told == [(4, 20), (8, 20), (12, 20), (16, 20), (20, 20)]
    with pytest.raises(ConfigError, match="trials of another function, arguments or seed"):
        run_trials(second, 20, seed=2, store=store)
    with pytest.raises(ConfigError, match="holds something else than trials"):
        run_trials(second, 20, seed=1, store=tmp_path)


def test_what_cannot_be_run_is_said() -> None:
    assert run_trials(outcome, 0, seed=1).shape == (0,)
    with pytest.raises(ValueError, match="need at least 0 trials"):
        run_trials(outcome, -1, seed=1)
    with pytest.raises(ValueError, match=r"outcomes of shape \(\); need \(5, ...\)"):
        run_blocks(lambda *, first, num_trials: 0.0, 5, chunk=5)
