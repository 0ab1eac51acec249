"""A capture in memory."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits, Settings, raw_to_complex
from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.waveform.frame import Frame


@dataclass(frozen=True)
class NodeCapture:
    """What one node received."""

    name: str
    raw: NDArray[np.int16]  # shape (num_rx, n, 2)
    settings: Settings  # realised
    limits: Limits
    chunks: NDArray[Any]  # loss record, CHUNK_TABLE
    noise_var: Estimate | None = None  # E|w|^2 in milliwatt from the run's muted capture
    attempts: int = 1  # receptions begun for these samples; those before the last were discarded

    @property
    def num_samples(self) -> int:
        """Samples per channel."""
        return int(self.raw.shape[1])

    @property
    def amplitude(self) -> float:
        """sqrt(milliwatt) at full scale."""
        return self.limits.rx_amplitude(self.settings.rx_gain_db)

    @property
    def lsb(self) -> float:
        """sqrt(milliwatt) of one raw count."""
        return self.amplitude / self.limits.rx_full_scale

    @property
    def samples(self) -> NDArray[np.complex64]:
        """complex64 (num_rx, n) in sqrt(milliwatt)."""
        samples = raw_to_complex(self.raw, self.limits.rx_full_scale)
        samples *= np.float32(self.amplitude)
        return samples


@dataclass(frozen=True)
class Capture:
    """The whole network under one condition. `frame` is what was on the air; None when nothing was."""

    condition: str
    tx_names: tuple[str, ...]  # order of the frame's rows
    frame: Frame | None
    nodes: tuple[NodeCapture, ...]
    setup: dict[str, Any]  # numerology, survey, observations: what detection needs
    experiment: dict[str, Any]  # resolved experiment file
    simulated: bool
    info: dict[str, Any] = field(default_factory=dict)  # created, versions, power index

    def node(self, name: str) -> NodeCapture:
        """The capture of one node; CaptureError when the file does not hold it."""
        for node in self.nodes:
            if node.name == name:
                return node
        held = ", ".join(node.name for node in self.nodes) or "none"
        raise CaptureError(f"node '{name}': not in this capture; it holds {held}")
