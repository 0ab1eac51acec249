"""The receiving array: where a plane wave's phases run, known up to a factor per channel.

    a_m = c_m exp(2j pi d m u)        d in wavelengths, u the direction's component along the array's axis

Channel 0 stands at the receiver. Unknown factors c_m stay in channels that are estimated; only what is computed from a
direction, an echo's steering vector, needs them. Phase errors of 10 degrees rms cost 0.1 dB of array gain, of 20 half a
decibel, and none changes the false alarms (scenes/uplink.md section 1).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from testbed.config import StrictModel
from testbed.places import Position


class UniformArray(StrictModel):
    """A uniform linear array as surveyed."""

    spacing_wavelengths: float = Field(default=0.5, gt=0)
    broadside_deg: float = 0.0  # azimuth that the array faces; its axis is 90 degrees further round

    def steering(
        self, here: Position, there: Position, num_channels: int, channel_factor: ArrayLike = 1.0
    ) -> NDArray[np.complex128]:
        """Response to a wave from a place, shape (num_channels,).

        Args:
            here: the receiver's place.
            there: where the wave comes from.
            num_channels: M.
            channel_factor: c_m, complex, (num_channels,) or one for all.

        Raises:
            ValueError: both places are the same.
        """
        towards = np.subtract(there, here).astype(np.float64)
        distance = float(np.linalg.norm(towards))
        if distance == 0:
            raise ValueError(f"place {tuple(there)}: that of the receiver; a wave from there has no direction")
        axis = np.deg2rad(self.broadside_deg + 90.0)
        u = float(towards[0] * np.cos(axis) + towards[1] * np.sin(axis)) / distance
        phases = np.exp(2j * np.pi * self.spacing_wavelengths * u * np.arange(num_channels))
        return phases * np.asarray(channel_factor, dtype=np.complex128)
