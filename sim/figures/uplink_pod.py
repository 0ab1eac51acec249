"""Figure 9: probability of detection over power for several numbers of users who share one total power.

    model       the paper's detector within the paper's model: exact mean over fading, its approximation (16), trials
    world       the same detector where an absent target is absent from the pilots, too: what it decides, by theory

Users stand at the disc's centre, so that K is the only difference. Trials draw channels' estimates, QPSK and white
interference as the model has them, T and its threshold as the receiver computes them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.figures.draws import Advance, random_generator
from sim.figures.uplink_scenario import Setting, problem
from testbed.theory.uplink_detection import (
    deflection_detection_probability,
    deflection_threshold,
    mean_deflections,
    mean_detection_probability,
)
from testbed.theory.uplink_mismatch import alarm_probability, block_gains
from testbed.theory.uplink_sensing import sensing
from testbed.units import db, undb

USERS = (1, 2, 4, 8)
TOTAL_POWERS_DBM = np.arange(0.0, 15, 2)
PILOT_LEN = 8
_PART = 2000  # trials at a time

_QPSK = np.exp(1j * np.pi / 4 * (1 + 2 * np.arange(4)))


@dataclass(frozen=True, eq=False)
class Detection:
    """J powers, by number of users."""

    x: NDArray[np.float64]  # (J,), total power, dBm
    theory: dict[int, NDArray[np.float64]]  # (J,)
    approximate: dict[int, NDArray[np.float64]]  # (J,), eq. (16)
    simulated: dict[int, NDArray[np.float64]]  # (J,)
    simulated_pfa: dict[int, NDArray[np.float64]]  # (J,)
    world_pfa: dict[int, NDArray[np.float64]]  # (J,)
    world_pod: dict[int, NDArray[np.float64]]  # (J,)
    pfa: float  # nominal
    trials: int


def detection(trials: int, seed: int, advance: Advance) -> Detection:
    """Theory and `trials` decisions per point and hypothesis."""
    names = "theory", "approximate", "simulated", "simulated_pfa", "world_pfa", "world_pod"
    found = {name: {K: np.empty(len(TOTAL_POWERS_DBM)) for K in USERS} for name in names}
    pfa = Setting().pfa
    for K in USERS:
        for j, total_dbm in enumerate(TOTAL_POWERS_DBM):
            setting = Setting(num_users=K, pilot_len=PILOT_LEN, power_dbm=float(total_dbm - db(float(K))))
            statistics = problem(setting, np.tile([setting.centre_m, 0.0], (K, 1))).statistics
            p, N = np.full(K, undb(setting.power_dbm)), setting.block_len - PILOT_LEN
            point = sensing(statistics, p, p)
            lam = mean_deflections(point, p, N)
            rng = random_generator(seed, K, j)
            found["theory"][K][j] = mean_detection_probability(lam, pfa)
            found["approximate"][K][j] = deflection_detection_probability(float(np.sum(lam)), pfa)
            for name, target in (("simulated", 1.0), ("simulated_pfa", 0.0)):
                found[name][K][j] = _decided(lam / N, N, target, pfa, trials, rng)
            for name, present in (("world_pfa", False), ("world_pod", True)):
                found[name][K][j] = alarm_probability(block_gains(statistics, p, p, present), p, N, pfa)
            advance(1)
    return Detection(TOTAL_POWERS_DBM, pfa=pfa, trials=trials, **found)


def _decided(
    gains: NDArray[np.float64], N: int, target: float, pfa: float, trials: int, rng: np.random.Generator
) -> float:
    """Share of trials that are decided for the target; `gains` (K,) are mean echo powers per symbol over S."""
    alarms = 0
    for first in range(0, trials, _PART):
        count, K = min(_PART, trials - first), len(gains)
        a = np.sqrt(gains / 2) * rng.standard_normal((count, K, 2)).view(np.complex128)[..., 0]
        s = _QPSK[rng.integers(0, 4, (count, K, N), dtype=np.int8)]
        mu = (a[:, None] @ s)[:, 0]
        noise = rng.standard_normal((count, N, 2)).view(np.complex128)[..., 0] / np.sqrt(2)
        T = np.sum((mu.conj() * (target * mu + noise)).real, axis=1)
        alarms += int(np.sum(deflection_threshold(np.sum(np.abs(mu) ** 2, axis=1), pfa) < T))
    return alarms / trials
