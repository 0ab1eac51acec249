"""The state of an emulated world: one clock, epochs, radios and the condition. No socket in here.

Every transmit, mute, configure and condition opens a new epoch, the next one; a condition may ask for a later one, so
that a run that goes on in a fresh world has the noise that it would have had in the old one. Within an epoch every node
has its own read position; sample k of a node is taken k + receive_offset_samples (of that node) after the epoch began,
so equal indices of two nodes are simultaneous only where their offsets are equal. Noise is a function of (seed, node,
absolute sample index), so results depend neither on how a stream was cut into blocks nor on the order in which nodes
were read.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.channel import Arrival, Rails, arrivals, convert, render
from sim.impairments import START_CHANNEL
from sim.noise import EPOCH_STRIDE, MAX_EPOCH, Purpose, absolute_index, unit_noise
from sim.propagation import scene_paths
from sim.receiver import front_end, transmitter_noise
from sim.scene import Scene
from testbed.device import Limits, Reception, Settings
from testbed.errors import RadioError, RadioUnavailable, SettingOutOfRange
from testbed.radio.base import check_transmit
from testbed.radio.gains import quantise

CHUNK_SAMPLES = 1 << 16  # rendered at a time: half a megabyte, which stays in the second-level cache
START_SPAN = 1 << 14  # samples over which a random start falls


@dataclass(frozen=True, eq=False)
class _Air:
    """What a receiver hears besides its own noise, until something changes."""

    sources: tuple[Arrival, ...]
    tx_noise: float  # amplitude of the own transmitter's noise, in sqrt(milliwatt)


@dataclass(eq=False)
class _Stale:
    """Samples that a radio took before it was retuned, and has not delivered yet; they outlast epochs."""

    air: _Air
    settings: Settings
    left: int


@dataclass(frozen=True)
class _Silence:
    """A stretch in which a transmitter pauses, on the epoch's clock."""

    tx: int
    first: int
    stop: int


class World:
    """A scene with radios in it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.epoch = 0
        self.condition = "all"
        self._targets_off: frozenset[str] = frozenset()
        self._limits = [scene.limits(i) for i in range(len(scene.nodes))]
        self._settings: list[Settings | None] = [None] * len(scene.nodes)
        self._sent: list[NDArray[np.complex64] | None] = [None] * len(scene.nodes)
        self._read_at = [0] * len(scene.nodes)
        self._air: dict[tuple[int, frozenset[int]], _Air] = {}
        self._silences: list[_Silence] = []
        self._stale: dict[int, _Stale] = {}
        self._scratch: Rails = np.empty(0, dtype=np.float32)

    def limits(self, node: str) -> Limits:
        """What the radio of a node can do."""
        return self._limits[self._index(node)]

    def transmitting(self) -> dict[str, bool]:
        """Per node that has a transmitter, whether it is on."""
        return {
            name: self._sent[i] is not None for i, name in enumerate(self.scene.node_names) if self._limits[i].num_tx
        }

    def sample_rate_hz(self, node: str) -> float:
        """Realised rate of a node that was configured."""
        return self._configured(self._index(node)).sample_rate_hz

    def configure(self, node: str, wanted: Settings) -> Settings:
        """Realise settings of a node; a new epoch begins."""
        index = self._index(node)
        realised = self._limits[index].realise(wanted, node)
        before = self._settings[index]
        stale_samples = self.scene.nodes[index].impairments.stale_samples
        if before is not None and realised != before and stale_samples and index not in self._stale:
            with contextlib.suppress(RadioError):  # nothing could be heard before: the others send on another carrier
                self._stale[index] = _Stale(self._listen(index, before, frozenset()), before, stale_samples)
        self._settings[index] = realised
        self._new_epoch()
        return realised

    def transmit(self, node: str, samples: NDArray[np.complex64]) -> None:
        """Repeat samples (num_tx, n) from a node; a new epoch begins."""
        index = self._index(node)
        self._configured(index)
        if self._limits[index].num_tx == 0:
            raise RadioError(f"{node}: has no transmitter")
        check_transmit(samples, self._limits[index], node)
        self._sent[index] = samples.copy()
        self._new_epoch()

    def mute(self, node: str) -> None:
        """Stop a node's transmitter; a new epoch begins only if it was on."""
        index = self._index(node)
        if self._sent[index] is not None:
            self._sent[index] = None
            self._new_epoch()

    def set_condition(self, condition: str, epoch: int | None = None) -> None:
        """Switch targets; a new epoch begins.

        Args:
            condition: 'all', 'empty' or 'without:<target>'.
            epoch: the epoch wanted; an earlier one than the next gives the next, for no index is used twice.

        Raises:
            SettingOutOfRange: no such target, or no such epoch.
        """
        if epoch is not None and not 0 <= epoch < MAX_EPOCH:
            raise SettingOutOfRange(f"epoch {str(epoch)[:40]}: must lie in 0..{MAX_EPOCH - 1}")
        names = [target.name for target in self.scene.targets]
        if condition == "all":
            off: frozenset[str] = frozenset()
        elif condition == "empty":
            off = frozenset(names)
        elif condition.startswith("without:") and condition.removeprefix("without:") in names:
            off = frozenset([condition.removeprefix("without:")])
        else:
            raise SettingOutOfRange(
                f"condition '{condition[:80]}': must be all, empty or without:<target>; "
                f"targets here: {', '.join(names)}"
            )
        self.condition, self._targets_off = condition, off
        self._new_epoch(epoch or 0)

    def receive(self, node: str, num_samples: int) -> Reception:
        """The next samples of a node in this epoch."""
        index = self._index(node)
        settings = self._configured(index)
        limits = self._limits[index]
        start = self._start(index, num_samples)
        raw = np.empty((limits.num_rx, num_samples, 2), dtype=np.int16)
        clip_count = at = 0
        while at < num_samples:
            air, heard_as, size = self._next_stretch(index, settings, start + at, num_samples - at)
            clip_count += self._render(index, air, heard_as, start + at, raw[:, at : at + size])
            self._deliver(index, size)
            at += size
        self._read_at[index] = start + num_samples
        return Reception(raw, limits.rx_full_scale, self.epoch, start, clip_count, "reported")

    def skip(self, node: str, num_samples: int) -> None:
        """Let samples of a node pass, as if they had been lost."""
        index = self._index(node)
        self._read_at[index] = self._start(index, num_samples) + num_samples
        self._deliver(index, num_samples)

    def _deliver(self, index: int, num_samples: int) -> None:
        """Count what is left of stale samples."""
        stale = self._stale.get(index)
        if stale is not None:
            stale.left -= num_samples
            if stale.left <= 0:
                del self._stale[index]

    def silence(self, node: str, first: int, count: int) -> None:
        """In this epoch a node's transmitter pauses at its samples first .. first + count - 1.

        Receivers hear the pause without the delay of the path.
        """
        index = self._index(node)
        begin = first + round(self._start_offset(index))
        self._silences.append(_Silence(index, begin, begin + count))

    def _start(self, index: int, num_samples: int) -> int:
        name = self.scene.node_names[index]
        if self._limits[index].num_rx == 0:
            raise RadioError(f"{name}: has no receiver")
        if num_samples < 1:
            raise RadioError(f"{name}: {num_samples} samples asked for; must be at least 1")
        if self.epoch >= MAX_EPOCH:
            raise RadioError(f"{name}: all {MAX_EPOCH} epochs of this world are used up; start the emulator again")
        start = self._read_at[index]
        if start + num_samples > EPOCH_STRIDE:
            raise RadioError(
                f"{name}: the epoch's {EPOCH_STRIDE} samples are used up; a new transmission begins another"
            )
        return start

    def _next_stretch(self, index: int, settings: Settings, start: int, most: int) -> tuple[_Air, Settings, int]:
        """What is heard from sample `start` on, with which settings, and for how many samples it stays so."""
        size = min(most, CHUNK_SAMPLES)
        stale = self._stale.get(index)
        if stale is not None:
            return stale.air, stale.settings, min(size, stale.left)
        clock = start + self._receive_offset(index)
        edges = [edge for pause in self._silences for edge in (pause.first, pause.stop) if edge > clock]
        silent = frozenset(pause.tx for pause in self._silences if pause.first <= clock < pause.stop)
        return self._listen(index, settings, silent), settings, min([size, *(edge - clock for edge in edges)])

    def _render(self, index: int, air: _Air, settings: Settings, start: int, raw: NDArray[np.int16]) -> int:
        """Samples of all channels into `raw` (num_rx, n, 2); returns how many clipped."""
        limits, size = self._limits[index], raw.shape[1]
        if self._scratch.size < 2 * limits.num_rx * size:
            self._scratch = np.empty(2 * limits.num_rx * CHUNK_SAMPLES, dtype=np.float32)
        rails = self._scratch[: 2 * limits.num_rx * size].reshape(limits.num_rx, 2, size)
        rails[...] = 0.0
        clock, absolute = start + self._receive_offset(index), absolute_index(self.epoch, start)
        render(air.sources, clock, rails)
        clip_count = front_end(self.scene, index, rails, absolute, settings, limits, air.tx_noise)
        full_scale = limits.rx_amplitude(settings.rx_gain_db)
        for channel in range(limits.num_rx):
            _, saturated = convert(rails[channel], full_scale, limits.rx_full_scale, out=raw[channel])
            clip_count += saturated
        return clip_count

    def _listen(self, index: int, settings: Settings, silent: frozenset[int]) -> _Air:
        """What reaches a receiver while the transmitters `silent` pause."""
        key = (index, silent)
        if key not in self._air:
            self._air[key] = self._arriving(index, settings, silent)
        return self._air[key]

    def _arriving(self, index: int, settings: Settings, silent: frozenset[int]) -> _Air:
        buffers: list[NDArray[np.complex128] | None] = []
        for tx, sent in enumerate(self._sent):
            theirs = self._settings[tx]
            if sent is None or theirs is None or tx in silent:
                buffers.append(None)
                continue
            if (theirs.carrier_hz, theirs.sample_rate_hz) != (settings.carrier_hz, settings.sample_rate_hz):
                raise RadioError(
                    f"{self.scene.node_names[index]}: tuned to {settings.carrier_hz:g} Hz at "
                    f"{settings.sample_rate_hz:g} S/s while {self.scene.node_names[tx]} sends on "
                    f"{theirs.carrier_hz:g} Hz at {theirs.sample_rate_hz:g} S/s; all need the same"
                )
            limits = self._limits[tx]
            codes = self.scene.nodes[tx].impairments.transmit(quantise(sent[0], limits.tx_bits))
            buffers.append(codes * limits.tx_amplitude(theirs.tx_gain_db))
        rate_hz, carrier_hz = settings.sample_rate_hz, settings.carrier_hz
        paths = scene_paths(self.scene, index, carrier_hz, rate_hz, self._targets_off)
        offsets = [self._start_offset(tx) for tx in range(len(buffers))]
        sources = arrivals(paths, buffers, offsets, rate_hz, carrier_hz, self.epoch)
        own = buffers[index]
        amplitude = 0.0 if own is None else float(np.sqrt(np.mean(np.abs(own) ** 2)))
        return _Air(sources, amplitude * transmitter_noise(self.scene, index, paths))

    def _start_offset(self, index: int) -> float:
        """Samples from the begin of the epoch to the first one that a node sends."""
        node = self.scene.nodes[index]
        if not node.impairments.random_start:
            return node.start_offset_samples
        return node.start_offset_samples + START_SPAN * (float(np.angle(self._drawn_start(index))) / (2 * np.pi) + 0.5)

    def _receive_offset(self, index: int) -> int:
        """Samples from the begin of the epoch to the first one that a node receives."""
        node = self.scene.nodes[index]
        if not node.impairments.random_start:
            return node.receive_offset_samples
        # the squared magnitude of a circular sample is exponential: its tail is uniform
        return node.receive_offset_samples + int(START_SPAN * np.exp(-(np.abs(self._drawn_start(index)) ** 2)))

    def _drawn_start(self, index: int) -> np.complex64:
        drawn = unit_noise(self.scene.seed, index, self.epoch, 1, START_CHANNEL, Purpose.OSCILLATOR)
        return drawn[0]

    def _new_epoch(self, earliest: int = 0) -> None:
        self.epoch = max(self.epoch + 1, earliest)
        self._read_at = [0] * len(self.scene.nodes)
        self._air = {}
        self._silences = []

    def _index(self, node: str) -> int:
        try:
            return self.scene.node_names.index(node)
        except ValueError:
            raise RadioUnavailable(
                f"node '{node[:80]}': not in this scene; nodes here: {', '.join(self.scene.node_names)}"
            ) from None

    def _configured(self, index: int) -> Settings:
        settings = self._settings[index]
        if settings is None:
            raise RadioError(f"{self.scene.node_names[index]}: not configured yet; send settings first")
        return settings
