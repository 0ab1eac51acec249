"""The CoMP letter's setting, scenario S1, and channels drawn at random.

    h ~ CN(0, variance), independent; variance 1 of a station to its own user, CROSS_VAR to another cell's, 1 of every
    echo; shares of random power u / sum(u), u uniform on 0..1

Draw k comes from its own seed sequence, (seed, k): the same numbers whatever the chunks and however many there are.

Source: Zou et al., CoMP-ISAC letter (arXiv 2503.07139). Differs: the letter gives no variances. Those of 1 are natural
values; CROSS_VAR was chosen because with 1 only 1 % of draws can be served. S1 was selected, from 18 searches of
100 000 draws, so that the letter's claims hold in it: it shows that they can hold together, not that they are typical.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.figures.draws import random_generator
from testbed.theory.detection import required_noncentrality
from testbed.units import undb

NUM_CELLS = 3  # L
NUM_OBSERVATIONS = 100  # N
PFA = 1e-6
COMM_NOISE_VAR = undb(1.0)
SENSING_NOISE_VAR = undb(15.0)
MIN_COMM_SINR = 1.0  # 2^rate - 1 of 1 bit/s/Hz
POD = 0.7  # required, where it is not the axis
CROSS_VAR = 0.1

BUDGETS_DB = np.arange(7.0, 21.0)  # of figures 2a and 2b
PODS = np.array([0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95, 0.99])  # of 2c
POD_BUDGETS_DB = (10.0, 20.0)  # of 2c

_CHANNELS = 0  # first number of the spawn key; trials take the others


@dataclass(frozen=True, eq=False)
class Channels:
    """D draws of all links, [draw, transmitter, receiver], linear."""

    comm_gain: NDArray[np.float64]  # (D, L, L)
    sensing_channel: NDArray[np.complex128]  # (D, L, L)
    random_shares: NDArray[np.float64]  # (D, L), of random power, summing to 1

    def __len__(self) -> int:
        return len(self.comm_gain)

    @property
    def sensing_gain(self) -> NDArray[np.float64]:
        """|h|^2 of the echoes, (D, L, L)."""
        return np.abs(self.sensing_channel) ** 2

    def part(self, first: int, count: int) -> "Channels":
        """Draws `first` to `first + count`."""
        rows = slice(first, first + count)
        return Channels(self.comm_gain[rows], self.sensing_channel[rows], self.random_shares[rows])

    def with_cross_var(self, cross_var: float) -> "Channels":
        """The same draws, cross links scaled from CROSS_VAR to another variance."""
        factor = np.where(np.eye(self.comm_gain.shape[-1], dtype=bool), 1.0, cross_var / CROSS_VAR)
        return replace(self, comm_gain=self.comm_gain * factor)


def scenario_s1() -> Channels:
    """Scenario S1 as one draw; only gains are given, echoes get phase 0."""
    comm_gain = [[0.904, 0.218, 0.304], [0.084, 4.248, 0.001], [0.010, 0.050, 2.485]]
    sensing_gain = [[0.526, 1.750, 1.251], [1.189, 0.442, 0.398], [6.075, 0.032, 3.429]]
    echoes = np.sqrt(np.array([sensing_gain])).astype(np.complex128)
    return Channels(np.array([comm_gain]), echoes, np.array([[0.232, 0.240, 0.528]]))


def draw_channels(seed: int, first: int, count: int) -> Channels:
    """Draws `first` to `first + count` of the ensemble of `seed`."""
    L = NUM_CELLS
    normal = np.empty((count, 2, L, L, 2))
    uniform = np.empty((count, L))
    for k in range(count):
        rng = random_generator(seed, _CHANNELS, first + k)
        normal[k] = rng.standard_normal(normal.shape[1:])
        uniform[k] = rng.random(L)
    h = normal.view(np.complex128)[..., 0] / np.sqrt(2)
    variance = np.where(np.eye(L, dtype=bool), 1.0, CROSS_VAR)
    return Channels(variance * np.abs(h[:, 0]) ** 2, h[:, 1], uniform / np.sum(uniform, axis=1, keepdims=True))


def required_sensing_snr(pod: NDArray[np.float64]) -> NDArray[np.float64]:
    """Required noncentrality / (2N) of a PoD, zeta of eq. (18)."""
    return np.asarray(required_noncentrality(pod, PFA, NUM_CELLS)) / (2 * NUM_OBSERVATIONS)
