"""A capture in memory."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits, Settings, raw_to_complex
from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.waveform.frame import Frame

NoticeKind = Literal["lost", "shifted", "timeout", "underflow", "gap", "unverified"]
MAX_NOTES = 8  # of a node, in words


@dataclass(frozen=True)
class Notice:
    """Something noticed while samples were received."""

    kind: NoticeKind
    sample_start: int  # about where, in the attempt's own samples
    sample_count: int = 0  # lost, silent or not verified; 0 where nobody knows
    node: str = ""  # whose transmitter it is about
    attempt: int = 1  # at receiving these samples; only those of the last one were kept


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
    notices: tuple[Notice, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """What was noticed, in words."""
        said = dict.fromkeys(self._note(notice) for notice in self.notices)
        more = [f"{self.name}: {len(said) - MAX_NOTES} more of that kind"] if len(said) > MAX_NOTES else []
        return (*list(said)[:MAX_NOTES], *more)

    def _note(self, notice: Notice) -> str:
        count = f"{notice.sample_count} samples" if notice.sample_count else "samples"
        near = f"near sample {notice.sample_start}"
        told = {
            "lost": f"{count} lost {near}, as the radio reported",
            "shifted": f"{count} (modulo the frame) lost {near}, without a report",
            "timeout": f"no answer in time {near}",
            "underflow": f"underflows {near}, as the radio of {notice.node} reported",
            "gap": f"{notice.node} fell silent {near}, in {count}",
            "unverified": "the radio cannot tell of losses, nor can frames so weak or so few; samples may be missing",
        }[notice.kind]
        if notice.kind != "unverified":
            told += "; received again" if notice.attempt < self.attempts else "; kept"
        return f"{self.name}: {told}"

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
