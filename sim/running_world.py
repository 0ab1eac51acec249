"""A world whose clock never restarts: for radios whose streams stay open while something is changed.

In `World` every change restarts all buffers and all readers, which suits a radio that is asked for samples by number. A
DMA that was opened keeps its place instead: a frame stays where it was in the stream when a target goes away or another
node begins to send. So here a transmitter's buffer has a place on the clock, a receiver asks for a stretch of it, and
receiver and transmitter of a node are tuned apart. Paths, noise, front end and converter are the same code as there.

An epoch still begins with every change: moving targets start again at their places and fading is drawn anew. Receivers
number their noise by what they have heard, so no sample of it is used twice.

A transmission is heard by who has its sample rate and is tuned less than that beside it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.channel import BLOCK, Arrival, Motion, Moving, Rails, arrivals, render
from sim.interpolator import STREAM
from sim.noise import MAX_EPOCH
from sim.propagation import ScenePath, scene_paths
from sim.receiver import front_end, transmitter_noise
from sim.running_clock import FreeClock, WallClock
from sim.scene import Scene
from sim.stream import LATENCY_SAMPLES
from sim.world import World
from testbed.device import Reception, Settings
from testbed.errors import RadioError
from testbed.units import SPEED_OF_LIGHT_MPS

HISTORY_SAMPLES = 1 << 21  # of what was sent once: who listens later hears silence
_ROOM = BLOCK + STREAM.num_taps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuning:
    """Of a receiver or a transmitter."""

    carrier_hz: float
    sample_rate_hz: float
    gain_db: float


@dataclass(frozen=True, eq=False)
class Loop:
    """A buffer that repeats."""

    samples: NDArray[np.complex128]  # of full scale 1, shape (n,)
    start: float  # of its first sample, on the clock


@dataclass(frozen=True)
class Tone:
    """A complex tone of a transmitter's generators."""

    frequency_hz: float
    amplitude: complex  # of full scale 1, at sample 0 of the clock


class Passage:
    """Samples that are sent once, in pieces with or without gaps between them."""

    def __init__(self, end: int) -> None:
        self.end = end  # on the clock: where the next piece may begin
        self.touched_s = time.monotonic()  # when the last piece came
        self.given_up_s = -np.inf  # when a receiver waited for one in vain
        self.closed = False  # whether no more will come
        self._pieces: deque[tuple[int, NDArray[np.complex64]]] = deque()

    def append(self, start: int, samples: NDArray[np.complex64]) -> None:
        """Add a piece behind the others; forget what is too old."""
        self._pieces.append((start, samples))
        self.end = start + samples.size
        self.touched_s = time.monotonic()
        while self._pieces[0][0] + self._pieces[0][1].size < self.end - HISTORY_SAMPLES:
            self._pieces.popleft()

    def restart(self, end: int) -> None:
        """Forget everything; the next piece may begin at `end`."""
        self._pieces.clear()
        self.end = end

    def close(self, cut: int | None = None) -> None:
        """No more will come; from sample `cut` on, what came is not sent."""
        self.closed = True
        if cut is not None and cut < self.end:
            pieces = [(start, samples[: max(cut - start, 0)]) for start, samples in self._pieces]
            self._pieces, self.end = deque(pieces), cut

    def stretch(self, first: int, count: int) -> NDArray[np.complex64]:
        """Samples first .. first + count - 1 of the clock, zero where nothing is sent."""
        out = np.zeros(count, dtype=np.complex64)
        for start, samples in self._pieces:
            begin, end = max(start, first), min(start + samples.size, first + count)
            if begin < end:
                out[begin - first : end - first] = samples[begin - start : end - start]
        return out


@dataclass
class _Transmitter:
    """What a node sends; one that is not tuned sends nothing."""

    tuning: Tuning | None = None
    loop: Loop | None = None
    passage: Passage | None = None
    tones: tuple[Tone, ...] = ()


class Listener(Protocol):
    """A stream of received samples that is open."""

    def settle(self) -> None:
        """Take what is on the air until now; it is about to change."""

    def mark(self) -> float:
        """The instant of the next sample that is not taken yet."""


@dataclass(frozen=True, eq=False)
class _Heard:
    """What reaches a receiver while nothing changes."""

    paths: tuple[ScenePath, ...]
    sources: tuple[Arrival, ...]
    noise: float  # amplitude of the own transmitter's noise, in sqrt(milliwatt)


class RunningWorld(World):
    """See the module. Callers hold `lock` around every call but those of an emulator, which take it themselves."""

    def __init__(self, scene: Scene, clock: FreeClock | WallClock) -> None:
        super().__init__(scene)
        self.lock = threading.Condition()
        self.clock = clock
        self.listeners: list[Listener] = []
        self._begin = 0.0  # mark of the epoch's begin
        self._tx = [_Transmitter() for _ in scene.nodes]
        self._heard: dict[tuple[int, Tuning], _Heard] = {}
        self._warned: set[tuple[int, int]] = set()

    def tune(self, node_idx: int, tuning: Tuning | None) -> None:
        """Tune a transmitter, or switch it off."""
        if self._tx[node_idx].tuning != tuning:
            self._change()
            self._tx[node_idx].tuning = tuning

    def repeat(self, node_idx: int, loop: Loop | None) -> None:
        """Send a buffer over and over, or no longer."""
        self._change()
        self._tx[node_idx].loop = loop

    def send(self, node_idx: int, passage: Passage | None) -> None:
        """Send what is appended to a passage, or no longer."""
        self._change()
        self._tx[node_idx].passage = passage

    def generate(self, node_idx: int, tones: tuple[Tone, ...]) -> None:
        """Send tones."""
        if self._tx[node_idx].tones != tones:
            self._change()
            self._tx[node_idx].tones = tones

    def sent(self, node_idx: int, first: int, count: int) -> NDArray[np.complex64]:
        """What a node's converter puts out at samples first .. first + count - 1, of full scale 1; no tones."""
        transmitter = self._tx[node_idx]
        if transmitter.passage is not None:
            return transmitter.passage.stretch(first, count)
        if transmitter.loop is None:
            return np.zeros(count, dtype=np.complex64)
        samples = transmitter.loop.samples
        place = (np.arange(first, first + count) - round(transmitter.loop.start)) % samples.size
        return samples[place].astype(np.complex64)

    def awaited(self, sample_rate_hz: float) -> list[Passage]:
        """Passages of a sample rate that more may come of."""
        return [
            tx.passage
            for tx in self._tx
            if tx.passage is not None
            and not tx.passage.closed
            and tx.tuning is not None
            and tx.tuning.sample_rate_hz == sample_rate_hz
        ]

    def hear(self, node_idx: int, tuning: Tuning, first: int, rails: Rails, absolute: int, deaf: bool = False) -> int:
        """Samples first .. first + n - 1 of the clock, as they arrive at a node's converters.

        Args:
            node_idx: the node.
            tuning: of its receiver.
            first: on the clock.
            rails: filled, in sqrt(milliwatt), shape (num_rx, 2, n).
            absolute: number of the first sample among all that the node ever hears.
            deaf: whether the receiver has nothing but its noise.

        Returns:
            How many samples were clipped before the converter.
        """
        rails[...] = 0.0
        noise: float | NDArray[np.float32] = 0.0
        if not deaf:
            heard = self._steady(node_idx, tuning)
            begin = self.clock.index(self._begin, tuning.sample_rate_hz)
            passing, own = self._passing(node_idx, tuning, heard.paths, first, rails.shape[2])
            render((*heard.sources, *passing), first - begin, rails)
            noise = heard.noise
            if own is not None:
                relative = transmitter_noise(self.scene, node_idx, heard.paths)
                noise = np.sqrt(noise**2 + (relative * own) ** 2).astype(np.float32)
        settings = Settings(tuning.carrier_hz, tuning.sample_rate_hz, 0.0, tuning.gain_db)
        return front_end(self.scene, node_idx, rails, absolute, settings, self._limits[node_idx], noise)

    def transmitting(self) -> dict[str, bool]:
        """Per node that has a transmitter, whether it is on."""
        return {
            name: self._is_on(self._tx[i]) for i, name in enumerate(self.scene.node_names) if self._limits[i].num_tx
        }

    def set_condition(self, condition: str, epoch: int | None = None) -> None:
        """Switch targets; a new epoch begins, and the clock runs on."""
        with self.lock:
            self._settle()
            super().set_condition(condition, epoch)

    def configure(self, node: str, wanted: Settings) -> Settings:
        """Refuse: the radio has a driver of its own."""
        raise self._elsewhere(node)

    def transmit(self, node: str, samples: NDArray[np.complex64]) -> None:
        """Refuse: the radio has a driver of its own."""
        raise self._elsewhere(node)

    def receive(self, node: str, num_samples: int) -> Reception:
        """Refuse: the radio has a driver of its own."""
        raise self._elsewhere(node)

    def mute(self, node: str) -> None:
        """Refuse: the radio has a driver of its own."""
        raise self._elsewhere(node)

    def _elsewhere(self, node: str) -> RadioError:
        name = self.scene.node_names[self._index(node)]
        return RadioError(f"{name}: is a virtual Pluto; use its ip: uri, here only conditions are set")

    def _settle(self) -> None:
        for listener in self.listeners:
            listener.settle()

    def _change(self) -> None:
        self._settle()
        self._new_epoch()

    def _new_epoch(self, earliest: int = 0) -> None:
        super()._new_epoch(earliest)
        self._heard = {}
        # every rate has its own count of samples; all streams are at or behind now
        now = [self.clock.mark(self.clock.now(1.0), 1.0)]
        self._begin = max(min([listener.mark() for listener in self.listeners] + now), 0.0)

    def _steady(self, rx: int, tuning: Tuning) -> _Heard:
        if (rx, tuning) not in self._heard:
            self._heard[rx, tuning] = self._arriving_at(rx, tuning)
        return self._heard[rx, tuning]

    def _arriving_at(self, rx: int, tuning: Tuning) -> _Heard:
        carrier_hz, rate_hz = tuning.carrier_hz, tuning.sample_rate_hz
        begin = self.clock.index(self._begin, rate_hz)
        offsets = [self._offset_hz(tx, rx, tuning) for tx in range(len(self._tx))]
        paths = tuple(
            _turned(path, offsets[path.tx] or 0.0)
            for path in scene_paths(self.scene, rx, carrier_hz, rate_hz, self._targets_off)
            if offsets[path.tx] is not None
        )
        buffers: list[NDArray[np.complex128] | None] = []
        starts: list[float] = []
        for tx, transmitter in enumerate(self._tx):
            loop = transmitter.loop if offsets[tx] is not None else None
            buffers.append(None if loop is None else self._at_antenna(tx, loop.samples))
            starts.append(0.0 if loop is None else (loop.start - begin) % loop.samples.size)
        epoch = self.epoch % MAX_EPOCH
        sources = list(arrivals(paths, buffers, starts, rate_hz, carrier_hz, epoch))
        for tx, transmitter in enumerate(self._tx):
            for tone in transmitter.tones if offsets[tx] is not None else ():
                sources += self._tone(tx, tone, paths, tuning, begin)
        own = buffers[rx]
        amplitude = 0.0 if own is None else float(np.sqrt(np.mean(np.abs(own) ** 2)))
        return _Heard(paths, tuple(sources), amplitude * transmitter_noise(self.scene, rx, paths))

    def _tone(self, tx: int, tone: Tone, paths: Sequence[ScenePath], tuning: Tuning, begin: int) -> tuple[Arrival, ...]:
        """A tone is a constant over paths that turn faster by its frequency, and earlier by its phase over the path."""
        turns = tone.frequency_hz / tuning.sample_rate_hz
        own = [
            _turned(replace(path, gain=path.gain * np.exp(-2j * np.pi * turns * path.delay_samples)), tone.frequency_hz)
            for path in paths
            if path.tx == tx
        ]
        constant = self._at_antenna(tx, np.array([tone.amplitude * np.exp(2j * np.pi * ((turns * begin) % 1.0))]))
        buffers = [constant if i == tx else None for i in range(len(self._tx))]
        epoch = self.epoch % MAX_EPOCH
        return arrivals(own, buffers, [0.0] * len(buffers), tuning.sample_rate_hz, tuning.carrier_hz, epoch)

    def _passing(
        self, rx: int, tuning: Tuning, paths: Sequence[ScenePath], first: int, count: int
    ) -> tuple[list[Moving], NDArray[np.float64] | None]:
        """What is sent once, over every path; and the amplitude of the node's own at every sample."""
        found: list[Moving] = []
        own: NDArray[np.float64] | None = None
        begin = self.clock.index(self._begin, tuning.sample_rate_hz)
        wavelength_m = SPEED_OF_LIGHT_MPS / tuning.carrier_hz
        for tx in {path.tx for path in paths}:
            passage = self._tx[tx].passage
            if passage is None:
                continue
            start = self.scene.nodes[tx].start_offset_samples + LATENCY_SAMPLES
            motions = [Motion(path, wavelength_m, tuning.sample_rate_hz, start) for path in paths if path.tx == tx]
            ends = (first - begin, first - begin + count)
            longest = max(motion.delay_at(end) for motion in motions for end in ends)
            origin = first - int(longest) - 2 * _ROOM
            samples = passage.stretch(origin, first + count + _ROOM - origin)
            if not samples.any():
                continue
            on_air = self._at_antenna(tx, samples.astype(np.complex128))
            planes = np.stack([on_air.real, on_air.imag]).astype(np.float32)[:, None]
            if tx == rx:
                own = np.abs(on_air[first - origin : first - origin + count])
            for motion in motions:
                path = motion.path
                fading = None if path.fading is None else replace(path.fading, epoch=self.epoch % MAX_EPOCH)
                response = np.array(path.response, dtype=np.complex64)
                found.append(Moving(planes, 0, STREAM, motion, response, fading, origin - begin))
        return found, own

    def _at_antenna(self, tx: int, samples: NDArray[np.complex128]) -> NDArray[np.complex128]:
        tuning = self._tx[tx].tuning
        assert tuning is not None
        on_air = self.scene.nodes[tx].impairments.transmit(samples)
        return on_air * self._limits[tx].tx_amplitude(tuning.gain_db)

    def _offset_hz(self, tx: int, rx: int, tuning: Tuning) -> float | None:
        """How far beside the receiver's carrier a transmission is; None where it is not heard."""
        transmitter = self._tx[tx]
        if not self._is_on(transmitter) or transmitter.tuning is None:
            return None
        offset_hz = transmitter.tuning.carrier_hz - tuning.carrier_hz
        if transmitter.tuning.sample_rate_hz == tuning.sample_rate_hz and abs(offset_hz) < tuning.sample_rate_hz:
            return offset_hz
        if (tx, rx) not in self._warned:
            self._warned.add((tx, rx))
            log.warning(
                "%s does not hear %s: other sample rate, or tuned a sample rate apart",
                self.scene.node_names[rx], self.scene.node_names[tx],
            )  # fmt: skip
        return None

    def _is_on(self, transmitter: _Transmitter) -> bool:
        if transmitter.tuning is None:
            return False
        passage = transmitter.passage
        if passage is not None and passage.closed:  # what was pushed is sent nevertheless
            passage = passage if passage.end > self.clock.now(transmitter.tuning.sample_rate_hz) else None
        return transmitter.loop is not None or passage is not None or bool(transmitter.tones)


def _turned(path: ScenePath, offset_hz: float) -> ScenePath:
    """A path whose carrier is off by so much at the receiver."""
    if offset_hz == 0.0:
        return path
    return replace(path, doppler_hz=path.doppler_hz + offset_hz, carrier_offset_hz=path.carrier_offset_hz + offset_hz)
