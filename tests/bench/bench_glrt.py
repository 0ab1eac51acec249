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


RACES = [
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
    )
]
