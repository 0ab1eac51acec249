"""The state of an emulated world: one clock, epochs, radios and the condition. No socket in here.

Every transmit, mute, configure and condition opens a new epoch, the next one; a condition may ask for a later one, so
that a run that goes on in a fresh world has the noise that it would have had in the old one. Within an epoch every node
has its own read position; sample k of a node is taken k + receive_offset_samples (of that node) after the epoch began,
so equal indices of two nodes are simultaneous only where their offsets are equal. Noise is a function of (seed, node,
absolute sample index), so results depend neither on how a stream was cut into blocks nor on the order in which nodes
were read.
"""

import numpy as np
from numpy.typing import NDArray

from sim.channel import PathTable, convert, path_tables, render
from sim.noise import EPOCH_STRIDE, MAX_EPOCH, absolute_index, unit_noise
from sim.propagation import scene_paths
from sim.scene import Scene
from testbed.device import Limits, Reception, Settings
from testbed.errors import RadioError, RadioUnavailable, SettingOutOfRange
from testbed.radio.base import check_transmit
from testbed.radio.gains import quantise
from testbed.units import thermal_noise_dbm, undb


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
        self._tables: dict[int, tuple[PathTable, ...]] = {}

    def limits(self, node: str) -> Limits:
        """What the radio of a node can do."""
        return self._limits[self._index(node)]

    def transmitting(self) -> dict[str, bool]:
        """Per node that has a transmitter, whether it is on."""
        return {
            name: self._sent[i] is not None for i, name in enumerate(self.scene.node_names) if self._limits[i].num_tx
        }

    def configure(self, node: str, wanted: Settings) -> Settings:
        """Realise settings of a node; a new epoch begins."""
        index = self._index(node)
        realised = self._limits[index].realise(wanted, node)
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
        self._sent[index] = samples
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
        if limits.num_rx == 0:
            raise RadioError(f"{node}: has no receiver")
        if num_samples < 1:
            raise RadioError(f"{node}: {num_samples} samples asked for; must be at least 1")
        if self.epoch >= MAX_EPOCH:
            raise RadioError(f"{node}: all {MAX_EPOCH} epochs of this world are used up; start the emulator again")
        start = self._read_at[index]
        if start + num_samples > EPOCH_STRIDE:
            raise RadioError(
                f"{node}: the epoch's {EPOCH_STRIDE} samples are used up; a new transmission begins another"
            )
        if index not in self._tables:
            self._tables[index] = self._arriving(index, settings)
        analogue = unit_noise(self.scene.seed, index, absolute_index(self.epoch, start), num_samples)
        noise_dbm = thermal_noise_dbm(settings.sample_rate_hz, self.scene.nodes[index].noise_figure_db)
        analogue *= np.float32(np.sqrt(undb(noise_dbm)))
        render(self._tables[index], start + self.scene.nodes[index].receive_offset_samples, analogue)
        raw, clip_count = convert(analogue, limits.rx_amplitude(settings.rx_gain_db), limits.rx_full_scale)
        self._read_at[index] = start + num_samples
        return Reception(raw[None], limits.rx_full_scale, self.epoch, start, clip_count, "reported")

    def _arriving(self, index: int, settings: Settings) -> tuple[PathTable, ...]:
        buffers: list[NDArray[np.complex128] | None] = []
        for tx, sent in enumerate(self._sent):
            theirs = self._settings[tx]
            if sent is None or theirs is None:
                buffers.append(None)
                continue
            if (theirs.carrier_hz, theirs.sample_rate_hz) != (settings.carrier_hz, settings.sample_rate_hz):
                raise RadioError(
                    f"{self.scene.node_names[index]}: tuned to {settings.carrier_hz:g} Hz at "
                    f"{settings.sample_rate_hz:g} S/s while {self.scene.node_names[tx]} sends on "
                    f"{theirs.carrier_hz:g} Hz at {theirs.sample_rate_hz:g} S/s; all need the same"
                )
            limits = self._limits[tx]
            buffers.append(quantise(sent[0], limits.tx_bits) * limits.tx_amplitude(theirs.tx_gain_db))
        paths = scene_paths(self.scene, index, settings.carrier_hz, settings.sample_rate_hz, self._targets_off)
        offsets = [node.start_offset_samples for node in self.scene.nodes]
        return path_tables(paths, buffers, offsets, settings.sample_rate_hz)

    def _new_epoch(self, earliest: int = 0) -> None:
        self.epoch = max(self.epoch + 1, earliest)
        self._read_at = [0] * len(self.scene.nodes)
        self._tables = {}

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
