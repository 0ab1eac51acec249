"""Faults on request: what real radios do to samples now and then, at a sample that the scene file names.

A fault stands in a scene as a table `[[faults]]`. Time is sample time, so a fault says when by an epoch and a sample
within it, and happens there however a stream is cut into requests:

    kind             what happens                                                       as in
    reported_loss    samples are lost, and the reception fails and says how many        UHD: overflow
    unreported_loss  samples are lost, and nothing says so                              libiio 0.x: a lost buffer
    underflow        a transmitter falls silent for a while; the radio says so or not   UHD: async message; Pluto: a bit
    late_start       the first samples after a transmit are silent
    silent_node      the node neither answers nor does what it is asked                 a stalled host or cable
    cut              the connection of whoever asked for a reception is dropped

A receiver counts its own samples from the begin of the epoch, as its replies do; what it lost before counts as well. A
transmitter counts the samples it sends. Nothing here is drawn at random: two runs have the same faults.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.device import Reception
from testbed.errors import SampleLoss

FaultKind = Literal["reported_loss", "unreported_loss", "underflow", "late_start", "silent_node", "cut"]
Answer = Literal["answer", "silent", "cut"]
HORIZON_SAMPLES = 1 << 20  # a transmitter is silenced so far ahead of what is received: more than any start offset

_WITHOUT_SAMPLES = ("silent_node", "cut")
_OF_TRANSMITTERS = ("underflow", "late_start")

log = logging.getLogger(__name__)


class Fault(StrictModel):
    """One fault of one node, which may happen several times."""

    kind: FaultKind
    node: str = Field(min_length=1, max_length=32)
    from_epoch: int = Field(default=0, ge=0)  # not before this epoch
    at_sample: int = Field(default=0, ge=0)  # of the epoch: the first one lost or silent, or asked for in vain
    num_samples: int = Field(default=0, ge=0, lt=1 << 32)  # lost or silent
    every_samples: int = Field(default=0, ge=0)  # again in the same epoch so many samples after; 0: once per epoch
    times: int = Field(default=1, ge=0)  # in all epochs together; silent_node: requests in a row; 0: without end
    reported: bool = False  # underflow: whether the radio tells of it

    @model_validator(mode="after")
    def _consistent(self) -> "Fault":
        if (self.num_samples == 0) != (self.kind in _WITHOUT_SAMPLES):
            rule = "no samples are lost, remove it" if self.num_samples else "must be at least 1"
            raise ValueError(f"num_samples: found {self.num_samples} with kind = '{self.kind}'; {rule}")
        if self.reported and self.kind != "underflow":
            raise ValueError(f"reported: only an underflow may be reported or not; a {self.kind} is what its name says")
        if self.kind == "late_start" and (self.at_sample or self.every_samples):
            raise ValueError("at_sample, every_samples: a late_start begins with the first sample sent; remove them")
        if self.every_samples and self.kind in _WITHOUT_SAMPLES:
            raise ValueError(f"every_samples: a {self.kind} happens once per epoch; remove it")
        if 0 < self.every_samples <= self.num_samples:
            raise ValueError(
                f"every_samples: found {self.every_samples}; must be more than num_samples = {self.num_samples}"
            )
        return self


def check_faults(faults: Sequence[Fault], nodes: Mapping[str, tuple[int, int]]) -> None:
    """ValueError, with the dotted key, where a fault is of no node of the scene, or of one that cannot have it.

    Args:
        faults: of the scene.
        nodes: number of transmitters and of receivers of every node.
    """
    for i, fault in enumerate(faults):
        if fault.node not in nodes:
            raise ValueError(f"faults[{i}].node: '{fault.node}' is no node; nodes are {', '.join(nodes)}")
        if nodes[fault.node][0 if fault.kind in _OF_TRANSMITTERS else 1] == 0:
            part = "transmitter" if fault.kind in _OF_TRANSMITTERS else "receiver"
            raise ValueError(f"faults[{i}].node: {fault.node} has no {part}, which kind = '{fault.kind}' is about")


class Air(Protocol):
    """What a fault acts on: the world."""

    @property
    def epoch(self) -> int:
        """The current epoch."""

    def transmitting(self) -> dict[str, bool]:
        """Per node that has a transmitter, whether it is on."""

    def receive(self, node: str, num_samples: int) -> Reception:
        """The next samples of a node in this epoch."""

    def skip(self, node: str, num_samples: int) -> None:
        """Advance a node's read position, as if the samples had been lost."""

    def silence(self, node: str, first: int, count: int) -> None:
        """In this epoch the node's transmitter is silent at its samples first .. first + count - 1."""


@dataclass
class _Armed:
    """A fault, and what is left of it."""

    fault: Fault
    left: float  # times it may still happen
    at: float  # sample of this epoch at which it happens next

    def begin_epoch(self) -> None:
        self.at = self.fault.at_sample

    def is_due(self, start: int, stop: int, epoch: int) -> bool:
        """Whether it happens among samples start .. stop - 1; what would have been before them never happens."""
        every = self.fault.every_samples
        if self.at < start:
            self.at = self.at + -(-(start - self.at) // every) * every if every else math.inf
        return self.left > 0 and epoch >= self.fault.from_epoch and self.at < stop

    def happen(self) -> int:
        """Count it; the sample at which it happens."""
        at = int(self.at)
        self.left -= 1
        self.at = at + self.fault.every_samples if self.fault.every_samples else math.inf
        log.warning("%s: %s at sample %d", self.fault.node, self.fault.kind, at)
        return at


class Faults:
    """Stands between requests and the world, and lets the faults of a scene happen."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._armed = [_Armed(fault, fault.times or math.inf, fault.at_sample) for fault in faults]
        self._stalled: dict[str, float] = {}  # nodes that do not answer, and how often they still will not
        self._restarted: set[str] = set()  # nodes that began to transmit and were not heard since
        self._owed: Counter[str] = Counter()  # per node, underflows that its next reply tells of
        # of the current epoch
        self._epoch = -1
        self._position: Counter[str] = Counter()  # per node, samples received or lost
        self._hidden: Counter[str] = Counter()  # per node, samples lost without a word
        self._underflows: list[tuple[str, int]] = []  # node and sample, to be told of when that time has come

    def answer(self, air: Air, op: str, node: str, num_samples: int = 0) -> Answer:
        """How a request to a node is answered: as ever, not at all, or by dropping the connection it came over."""
        if not self._armed:
            return "answer"
        self._look_at_clock(air)
        start = self._position[node]
        if op == "receive":
            for armed in self._due(node, "cut", start, start + num_samples):
                armed.happen()
                return "cut"
            for armed in self._due(node, "silent_node", start, start + num_samples):
                armed.happen()
                self._stalled[node] = armed.fault.times or math.inf
                armed.left = 0
        if self._stalled.get(node, 0) > 0:
            self._stalled[node] -= 1
            return "silent"
        return "answer"

    def transmitted(self, node: str) -> None:
        """A node began to repeat a buffer."""
        self._restarted.add(node)

    def receive(self, air: Air, node: str, num_samples: int) -> Reception:
        """What a receiver makes of the next samples of the air.

        Raises:
            SampleLoss: a loss that the radio reports; the next reception begins behind it.
        """
        if not self._armed:
            return air.receive(node, num_samples)
        self._look_at_clock(air)
        start = self._position[node]
        self._silence(air, start + num_samples)
        for armed in self._due(node, "reported_loss", start, start + num_samples):
            lost, at = armed.fault.num_samples, armed.happen()
            air.skip(node, at - start + lost)
            self._position[node] = at + lost
            raise SampleLoss(f"{node}: overflow, {lost} samples lost at sample {at} of epoch {air.epoch}", lost)
        got = self._with_holes(air, node, num_samples)
        self._owed.update(other for other, at in self._underflows if at < self._position[node])
        self._underflows = [(other, at) for other, at in self._underflows if at >= self._position[node]]
        return got

    def underflows(self, node: str) -> int:
        """How many underflows the reply to this node has to tell of; they are told of once."""
        return self._owed.pop(node, 0)

    def _with_holes(self, air: Air, node: str, num_samples: int) -> Reception:
        """So many samples that seem to follow on, whatever was lost between them."""
        seems = self._position[node] - self._hidden[node]
        parts: list[Reception] = []
        left = num_samples
        while left:
            start = self._position[node]
            hole = next(self._due(node, "unreported_loss", start, start + left), None)
            size = left if hole is None else hole.happen() - start
            if size:
                parts.append(air.receive(node, size))
            lost = 0 if hole is None else hole.fault.num_samples
            if lost:
                air.skip(node, lost)
            self._hidden[node] += lost
            self._position[node] += size + lost
            left -= size
        raw = parts[0].raw if len(parts) == 1 else np.concatenate([part.raw for part in parts], axis=1)
        return replace(parts[0], raw=raw, start=seems, clip_count=sum(part.clip_count for part in parts))

    def _look_at_clock(self, air: Air) -> None:
        if air.epoch != self._epoch:
            self._epoch = air.epoch
            self._position.clear()
            self._hidden.clear()
            self._underflows.clear()
            for armed in self._armed:
                armed.begin_epoch()

    def _due(self, node: str, kind: FaultKind, start: int, stop: int) -> Iterator[_Armed]:
        of_node = (armed for armed in self._armed if (armed.fault.node, armed.fault.kind) == (node, kind))
        return (armed for armed in of_node if armed.is_due(start, stop, self._epoch))

    def _silence(self, air: Air, stop: int) -> None:
        """Silence the transmitters ahead of what is about to be received, up to sample `stop`."""
        on = [node for node, is_on in air.transmitting().items() if is_on]
        for node in on:
            for armed in self._due(node, "underflow", 0, stop + HORIZON_SAMPLES):
                while armed.is_due(0, stop + HORIZON_SAMPLES, self._epoch):
                    at = armed.happen()
                    air.silence(node, at, armed.fault.num_samples)
                    if armed.fault.reported:
                        self._underflows.append((node, at))
            if node in self._restarted:
                for armed in self._due(node, "late_start", 0, stop):
                    air.silence(node, armed.happen(), armed.fault.num_samples)
        self._restarted.clear()
