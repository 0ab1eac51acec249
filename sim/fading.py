"""Block fading: complex gains that are redrawn from block to block of the receiver's samples.

    gain_b = sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) w_b        E|gain_b|^2 = 1, w_b circular, K the Rician factor

Blocks are cut at the receiver's frame boundary: block b holds the samples b block_samples .. (b + 1) block_samples - 1
after the epoch began. Gains depend on (seed, path, channel, epoch, block) alone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.noise import EPOCH_STRIDE, Purpose, absolute_index, unit_noise
from testbed.config import StrictModel

Redrawn = Literal["never", "run", "block"]


class Fading(StrictModel):
    """How gains change over time. Mode `static` of a detector's scene: echo per block; `fading`: echo and direct."""

    block_samples: int = Field(ge=1, lt=1 << 30)  # one frame, usually
    echo: Literal["never", "block"] = "block"  # circular gain of every echo, unit mean power
    direct: Literal["run", "block"] = "run"  # the scattered part of direct paths that have a rician_k_db


@dataclass(frozen=True)
class PathFading:
    """Fading of one path."""

    seed: int
    stream: int  # tells paths apart, below 2^16
    purpose: Purpose
    k_factor: float  # linear; 0 for Rayleigh
    block_samples: int  # 0: one gain for the whole run
    per_channel: bool  # every receive channel draws its own
    epoch: int

    def gains(self, first_block: int, count: int, num_channels: int) -> NDArray[np.complex64]:
        """Gains of blocks first_block .. first_block + count - 1, shape (num_channels, count)."""
        steady, scattered = np.sqrt(self.k_factor / (self.k_factor + 1)), np.sqrt(1 / (self.k_factor + 1))
        start = absolute_index(self.epoch, first_block % EPOCH_STRIDE) if self.block_samples else 0
        drawn = 1 if self.block_samples == 0 else count
        channels = range(num_channels if self.per_channel else 1)
        rows = [unit_noise(self.seed, self.stream, start, drawn, channel, self.purpose) for channel in channels]
        gains = np.complex64(steady) + np.complex64(scattered) * np.stack(rows)
        return np.ascontiguousarray(np.broadcast_to(gains, (num_channels, drawn)))
