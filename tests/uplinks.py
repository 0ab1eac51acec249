"""Uplink problems for tests: drops of the specification's geometry, and small ones of no special structure."""

from dataclasses import replace

import numpy as np

from sim.figures.uplink_scenario import Setting, drop, problem
from testbed.allocation.uplink import UplinkProblem
from testbed.theory.uplink import UplinkStatistics

NEAR_FAR_M = 60.0  # radius of the disc in which users differ by 20 dB and more


def scene(seed=1, number=0, *, sensing=True, problem_changes=None, **changes):
    """The allocation problem of one drop; `changes` are of the setting, `problem_changes` of the problem."""
    setting = Setting(**changes)
    return replace(problem(setting, drop(setting, seed, number), sensing), **(problem_changes or {}))


def drawn_covariances(seed, num_users=3, num_antennas=4, direct=1.0, echo=0.1):
    """Full-rank direct covariances and echoes of rank one from different directions, (K, M, M) each."""
    rng = np.random.default_rng(seed)
    K, M = num_users, num_antennas
    root = (rng.standard_normal((K, M, M)) + 1j * rng.standard_normal((K, M, M))) / np.sqrt(2 * M)
    R_h = direct * rng.uniform(0.3, 3, (K, 1, 1)) * root @ np.conj(np.swapaxes(root, 1, 2))
    a = np.exp(-1j * np.pi * np.arange(M) * rng.uniform(-0.9, 0.9, (K, 1)))
    R_g = echo * rng.uniform(0.3, 3, (K, 1, 1)) * a[:, :, None] * a.conj()[:, None, :]
    return R_h, R_g


def drawn_statistics(seed, num_users=3, num_antennas=4, noise_var=0.3, pilot_len=5, **more):
    return UplinkStatistics(*drawn_covariances(seed, num_users, num_antennas, **more), noise_var, pilot_len)


def drawn_problem(seed, num_users=3, num_antennas=4, energy=40.0, min_rate=0.05, min_sensing=0.02, **more):
    covariances = drawn_covariances(seed, num_users, num_antennas, **more)
    return UplinkProblem(*covariances, 0.3, 40, 5, energy, min_rate, min_sensing)


def complex_normal(rng, *shape):
    """CN(0, 1)."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def drawn_channels(statistics, rng, count):
    """Direct channels and echoes, (B, M, K) each, in the unit of the covariances."""
    found = []
    for cov in (statistics.direct_cov, statistics.echo_cov):
        values, V = np.linalg.eigh(cov)
        root = V * np.sqrt(np.maximum(values, 0))[:, None, :]
        found.append(np.einsum("kab,nkb->nak", root, complex_normal(rng, count, *cov.shape[:2])))
    return found
