"""Antennas of a node: a uniform linear array of receive channels with calibration errors, and a sector's pattern."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sim.noise import Purpose, unit_noise
from testbed.config import StrictModel
from testbed.places import Position


class LinearArray(StrictModel):
    """A uniform linear array; channel 0 stands at the node's position."""

    spacing_wavelengths: float = Field(default=0.5, gt=0)
    broadside_deg: float = 0.0  # azimuth that the array faces; its axis is 90 degrees further round
    calibration_phase_deg: float = Field(default=0.0, ge=0, le=180)  # rms of each channel's unknown phase
    calibration_gain_db: float = Field(default=0.0, ge=0, le=10)  # rms of each channel's unknown gain

    def response(self, towards: NDArray[np.float64], num_channels: int) -> NDArray[np.complex128]:
        """exp(2j pi spacing m u), u the direction's component along the axis, shape (num_channels,).

        Args:
            towards: vector from the node to where the wave comes from, shape (2,) or (3,).
            num_channels: of the array.
        """
        axis = np.deg2rad(self.broadside_deg + 90.0)
        u = float(towards[0] * np.cos(axis) + towards[1] * np.sin(axis)) / float(np.linalg.norm(towards))
        return np.exp(2j * np.pi * self.spacing_wavelengths * u * np.arange(num_channels))

    def calibration(self, seed: int, node_idx: int, num_channels: int) -> NDArray[np.complex128]:
        """Unknown factors of the channels, drawn from the scene's seed, shape (num_channels,)."""
        drawn = unit_noise(seed, node_idx, 0, num_channels, channel=1, purpose=Purpose.PLACEMENT) * np.sqrt(2.0)
        gain_db, phase_deg = self.calibration_gain_db * drawn.real, self.calibration_phase_deg * drawn.imag
        return 10.0 ** (gain_db / 20) * np.exp(1j * np.deg2rad(phase_deg))


class Sector(StrictModel):
    """A sector antenna: -min(12 (angle / beamwidth)^2, front_to_back) dB off its azimuth, as 3GPP TR 36.814 has it."""

    azimuth_deg: float
    beamwidth_deg: float = Field(default=70.0, gt=0, le=360)  # where it has lost 3 dB
    front_to_back_db: float = Field(default=25.0, ge=0)

    def loss_db(self, towards: NDArray[np.float64]) -> float:
        """What the pattern takes off the antenna's gain in a direction."""
        angle = np.degrees(np.arctan2(towards[1], towards[0])) - self.azimuth_deg
        off = (angle + 180.0) % 360.0 - 180.0
        return float(min(12.0 * (off / self.beamwidth_deg) ** 2, self.front_to_back_db))


def direction(here: Position | Sequence[float], there: Position | Sequence[float]) -> NDArray[np.float64]:
    """Vector from one place to another."""
    return np.subtract(there, here).astype(np.float64)
