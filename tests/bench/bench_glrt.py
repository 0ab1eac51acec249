"""The batched detector against a loop over trials, and against the bare projection it cannot beat."""

import numpy as np

from sim.montecarlo import statistics
from sim.noise import unit_noise
from testbed.sensing.glrt import glrt
from tests.bench.harness import Race

NUM_TRIALS, NUM_OBSERVATIONS, NUM_CELLS, NUM_NUISANCE = 2000, 100, 3, 12
NUM_SAMPLES = NUM_TRIALS * NUM_OBSERVATIONS

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
textbook = np.random.default_rng(1)


def monte_carlo_loop() -> list[float]:
    """A trial at a time with the basis precomputed, circular noise of E|w|^2 = 2 from NumPy's fastest generator."""
    statistics = []
    for _ in range(NUM_TRIALS):
        row = noise.standard_normal(2 * NUM_OBSERVATIONS, dtype=np.float32).view(np.complex64)
        statistics.append(float(np.sum(np.abs(basis.conj().T @ row) ** 2)) / 2.0)
    return statistics


def textbook_loop() -> list[float]:
    """The same as most would write it: double precision, the default generator."""
    statistics = []
    for _ in range(NUM_TRIALS):
        row = textbook.standard_normal(NUM_OBSERVATIONS) + 1j * textbook.standard_normal(NUM_OBSERVATIONS)
        statistics.append(float(np.linalg.norm(basis.conj().T @ row) ** 2) / 2.0)
    return statistics


RACES = [
    Race(
        name=f"Monte Carlo: noise drawn and T of {NUM_TRIALS} trials, N = {NUM_OBSERVATIONS}, L = {NUM_CELLS}",
        limit="noise alone",
        contestants={
            "noise alone": lambda: [unit_noise(1, 0, first, 26_000) for first in range(0, NUM_SAMPLES, 26_000)],
            "sim.montecarlo": lambda: statistics(X, NUM_TRIALS, seed=1, sigma2=2.0, noise_var=2.0),
            "loop over trials, NumPy's fastest noise": monte_carlo_loop,
            "loop over trials, textbook": textbook_loop,
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
