"""The batched detector against a loop over trials, and against the bare projection it cannot beat."""

import numpy as np

from testbed.sensing.glrt import glrt
from tests.bench.harness import Race

NUM_TRIALS, NUM_OBSERVATIONS, NUM_CELLS, NUM_NUISANCE = 2000, 104, 3, 12

rng = np.random.default_rng(1)


def _complex(*shape: int) -> np.ndarray:
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


y = _complex(NUM_TRIALS, NUM_OBSERVATIONS)
X = _complex(NUM_OBSERVATIONS, NUM_CELLS)
D = _complex(NUM_OBSERVATIONS, NUM_NUISANCE)
Q = np.linalg.qr(np.concatenate([D, X], axis=1))[0]
V, U = Q[:, :NUM_NUISANCE], Q[:, NUM_NUISANCE:]


def per_trial_loop() -> list[float]:
    """One trial at a time, with the bases precomputed."""
    statistics = []
    for row in y:
        z = row - V @ (V.conj().T @ row)
        statistics.append(float(np.sum(np.abs(U.conj().T @ z) ** 2)))
    return statistics


noise = np.random.Generator(np.random.SFC64(1))
basis = np.linalg.qr(X)[0]


def _draw(num_trials: int) -> np.ndarray:
    """Circular noise of E|w|^2 = 2, complex64."""
    rails = noise.standard_normal((num_trials, 2 * NUM_OBSERVATIONS), dtype=np.float32)
    return rails.view(np.complex64)


def monte_carlo() -> np.ndarray:
    """False-alarm trials by the detector itself: noise drawn, T of every trial."""
    return np.concatenate([glrt(_draw(250), X, 2.0).statistic for _ in range(NUM_TRIALS // 250)])


def monte_carlo_loop() -> list[float]:
    """The same, a trial at a time with the basis precomputed."""
    statistics = []
    for _ in range(NUM_TRIALS):
        row = _draw(1)[0]
        statistics.append(float(np.sum(np.abs(basis.conj().T @ row) ** 2)) / 2.0)
    return statistics


RACES = [
    Race(
        name=f"Monte Carlo: noise drawn and T of {NUM_TRIALS} trials, N = {NUM_OBSERVATIONS}, L = {NUM_CELLS}",
        limit="noise alone",
        contestants={
            "noise alone": lambda: _draw(NUM_TRIALS),
            "batched T": monte_carlo,
            "loop over trials": monte_carlo_loop,
        },
        unit_count=NUM_TRIALS,
        unit="trial",
    ),
    Race(
        name=f"GLRT of {NUM_TRIALS} trials, N = {NUM_OBSERVATIONS}, L = {NUM_CELLS}, Q = {NUM_NUISANCE}",
        limit="bare projection",
        contestants={
            "bare projection": lambda: y @ Q.conj(),
            "batched T": lambda: glrt(y, X, 2.0, D),
            "batched F": lambda: glrt(y, X, None, D),
            "loop over trials": per_trial_loop,
        },
        unit_count=NUM_TRIALS,
        unit="trial",
    ),
]
