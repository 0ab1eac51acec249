"""Users' channels from a capture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.sensing.cooperative_channels import UserChannels, user_channels


@dataclass(frozen=True)
class Heard:
    """What all users know of the nodes."""

    channels: tuple[UserChannels, ...]

    @classmethod
    def of(cls, capture: Capture, experiment: CooperativeExperiment) -> "Heard":
        """From the pilots of a capture that holds all users."""
        return cls(tuple(user_channels(capture, user.name) for user in experiment.users))

    @property
    def gain(self) -> NDArray[np.float64]:
        """Power per element at full power, shape (num_nodes, num_users)."""
        return np.stack([channels.power for channels in self.channels], axis=1)

    @property
    def noise_var(self) -> NDArray[np.float64]:
        """Per element, shape (num_users,)."""
        return np.array([channels.noise_var.value for channels in self.channels])

    @property
    def response(self) -> NDArray[np.complex128]:
        """Amplitudes per subcarrier at full power, shape (num_nodes, num_users, num_subcarriers)."""
        return np.stack([channels.channel for channels in self.channels], axis=1)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Of all users."""
        return tuple(note for channels in self.channels for note in channels.warnings)
