"""Virtual boards: a Pluto's settings and channels, connected to nodes of a running world.

A board hosts one node or two. Its receive channels are those of its nodes, in order, its transmit channels their
transmitters; a channel without a node is terminated: it sends nowhere and hears nothing but zeros. What moves samples
is in `sim.pluto_dma`.
"""

import errno
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.channel import Rails
from sim.iio_context import Device, xml
from sim.iiod_protocol import Command, refused
from sim.pluto_context import FIRMWARE, devices
from sim.pluto_dma import Hearing, RxStream, TxStream
from sim.pluto_state import UNDERFLOW, PlutoState
from sim.running_world import RunningWorld, Tone, Tuning
from sim.scene import Scene
from sim.sysfs import File
from sim.world import CHUNK_SAMPLES, START_SPAN
from testbed.errors import ConfigError

KERNEL_BUFFERS = 4
MAX_KERNEL_BUFFERS = 1024
MAX_DMA_BYTES = 1 << 27  # of all kernel buffers of a direction
MAX_LOOP_SAMPLES = 1 << 22
MAX_RX_STREAMS = 4  # of a board
CYCLIC_RETRY_S = 0.05  # a buffer may be opened while the one before it is being closed
DROPOUT_SAMPLES = 1024  # of a wanted underflow
AGC_TARGET = 0.5  # of full scale, for the largest rail
AGC_STEP_DB = 10  # per chunk of samples, of the slow modes
RSSI_SAMPLES = 4096


@dataclass(frozen=True)
class Nuisances:
    """What real boards do and a driver has to stand."""

    stale_buffers: bool = False  # after a change, full kernel buffers of before are read first
    random_start: bool = False  # a stream starts anywhere
    clip_dbfs: float | None = None  # receivers clip so far below full scale
    underflow_every: int = 0  # samples between two short silences of all transmitters; 0: none

    def in_scene(self, scene: Scene) -> Scene:
        """The scene with those that its impairments hold."""
        if self.clip_dbfs is None:
            return scene
        clipping = {"clip_dbfs": self.clip_dbfs}
        nodes = tuple(
            node.model_copy(update={"impairments": node.impairments.model_copy(update=clipping)})
            for node in scene.nodes
        )
        return scene.model_copy(update={"nodes": nodes})


class Board:
    """One Pluto. Callers need not hold the world's lock."""

    def __init__(
        self,
        world: RunningWorld,
        nodes: Sequence[str],
        model: str | None = None,
        nuisances: Nuisances | None = None,
    ) -> None:
        """Connect nodes of the world.

        Raises:
            ConfigError: they do not fit on a board.
        """
        self.world, self.nodes = world, tuple(nodes)
        self.label = ",".join(nodes)
        self.control = ""  # endpoint of who sets the world's conditions
        self._indices = [world.scene.node_names.index(name) for name in nodes]
        scene = world.scene
        self._ports = [(i, channel) for i in self._indices for channel in range(scene.nodes[i].num_rx)]
        self.transmitters = [i for i in self._indices if scene.nodes[i].num_tx]
        num_channels = max(len(self._ports), len(self.transmitters), 1)
        if num_channels > 2:
            raise ConfigError(
                f"--board {self.label}: {len(self._ports)} receive and {len(self.transmitters)} transmit channels; a "
                f"Pluto has two of each, put the nodes on several boards"
            )
        self._nuisances = nuisances or Nuisances()
        impairments = [scene.nodes[i].impairments for i in self._indices]
        self.stale_buffers = self._nuisances.stale_buffers or any(row.stale_samples for row in impairments)
        self.random_start = self._nuisances.random_start or any(row.random_start for row in impairments)
        self.state = PlutoState(num_channels, model or ("ad9363a" if num_channels == 1 else "ad9361"))
        self.kernel_buffers = {"rx": KERNEL_BUFFERS, "tx": KERNEL_BUFFERS}
        self.timeout_s = 5.0
        self._devices = devices(self.state)
        self._rng = np.random.default_rng([scene.seed, *self._indices])
        self._num_heard = dict.fromkeys(self._indices, 0)
        self._scratch: Rails = np.empty(0, dtype=np.float32)
        self._rx: list[RxStream] = []
        self._tx: TxStream | None = None
        with world.lock:
            self._apply()

    def context(self) -> str:
        """The context, as a client reads it."""
        serial = hashlib.sha256(self.label.encode()).hexdigest()[:34]
        variant = "Z7010-AD9363A" if self.state.model.name == "ad9363a" else f"Z7010-{self.state.model.name.upper()}"
        attributes = {
            "hw_model": f"Analog Devices PlutoSDR Rev.C ({variant})",
            "hw_model_variant": "0",
            "hw_serial": serial,
            "fw_version": FIRMWARE,
            "ad9361-phy,xo_correction": "40000000",
            "ad9361-phy,model": self.state.model.name,
            "simulated": f"isac-sim, nodes {self.label}",  # what no real board says
            **({"conditions": self.control} if self.control else {}),
        }
        return xml(self._devices, attributes, "virtual PlutoSDR of isac-sim")

    def device(self, name: str) -> Device:
        """By id or name; OSError where there is none."""
        for device in self._devices:
            if name in (device.id, device.name):
                return device
        raise refused(errno.ENODEV)

    def read(self, command: Command) -> list[str | int]:
        """One attribute, or all of a folder; a number is the errno of one that cannot be read."""
        files = self.device(command.device).files(command.kind, command.channel)
        with self.world.lock:
            self._look_for_underflow()
            if command.attribute is None:
                return [file.read() for file in files.values()]
            return [_file(files, command.attribute).read()]

    def write(self, command: Command, text: str) -> None:
        """Set an attribute; OSError where that cannot be."""
        if command.attribute is None:
            raise refused(errno.ENOSYS)
        file = _file(self.device(command.device).files(command.kind, command.channel), command.attribute)
        if file.write is None:
            raise refused(errno.EACCES)
        with self.world.lock:
            self._look_for_underflow()
            file.write(text)
            self._apply()

    def set_kernel_buffers(self, name: str, count: int) -> None:
        """For buffers that are opened later."""
        direction = self._direction(self.device(name))
        with self.world.lock:
            if not 1 <= count <= MAX_KERNEL_BUFFERS:
                raise refused(errno.EINVAL)
            if self._rx if direction == "rx" else self._tx is not None:
                raise refused(errno.EBUSY)
            self.kernel_buffers[direction] = count

    def open(self, command: Command) -> RxStream | TxStream:
        """A buffer of the converter core that the command names.

        Raises:
            OSError: EINVAL, ENOMEM, or EBUSY where the core has as many as it can have.
        """
        device = self.device(command.device)
        direction = self._direction(device)
        if command.number < 1 or not 0 < command.mask < 1 << device.num_scan:
            raise refused(errno.EINVAL)
        columns = tuple(k for k in range(device.num_scan) if command.mask >> k & 1)
        num_buffers = 1 if command.cyclic else self.kernel_buffers[direction]
        if command.number * 2 * len(columns) * num_buffers > MAX_DMA_BYTES:
            raise refused(errno.ENOMEM)
        with self.world.lock:
            if direction == "rx":
                if command.cyclic:
                    raise refused(errno.EINVAL)
                if len(self._rx) == MAX_RX_STREAMS:
                    raise refused(errno.EBUSY)
                self._rx.append(RxStream(self, command.number, columns))
                self.world.listeners.append(self._rx[-1])
                return self._rx[-1]
            if command.cyclic and command.number > MAX_LOOP_SAMPLES:
                raise refused(errno.ENOMEM)
            if not self.world.lock.wait_for(lambda: self._tx is None, CYCLIC_RETRY_S):
                raise refused(errno.EBUSY)
            self._tx = TxStream(self, command.number, columns, command.cyclic)
            return self._tx

    def close(self, stream: RxStream | TxStream) -> None:
        """Close a buffer that `open` gave."""
        with self.world.lock:
            if isinstance(stream, TxStream):
                self._look_for_underflow()
                stream.stop()
                self._tx = None
                self._apply()
            else:
                stream.closed = True
                self._rx.remove(stream)
                self.world.listeners.remove(stream)
            self.world.lock.notify_all()

    def hearing(self) -> Hearing:
        """Settings of the receivers now."""
        state = self.state
        manual = tuple(mode == "manual" for mode in state.gain_mode)
        gains = tuple(gain if fixed else 0 for gain, fixed in zip(state.rx_gain_db, manual, strict=True))
        off = state.rx_lo_off or state.ensm_mode not in ("fdd", "pinctrl_fdd_indep")
        return Hearing(state.rx_lo_hz, state.sample_rate_hz, manual, gains, off, state.loopback == 1)

    def receive_start(self) -> int:
        """Where on the clock a receive buffer that is opened now begins."""
        offset = self.world.scene.nodes[self._indices[0]].receive_offset_samples
        return self.world.clock.now(self.state.sample_rate_hz) + offset + int(self._drawn_start())

    def transmit_start(self, node_idx: int) -> float:
        """Where on the clock a buffer that is pushed now begins."""
        offset = self.world.scene.nodes[node_idx].start_offset_samples
        return self.world.clock.now(self.state.sample_rate_hz) + offset + self._drawn_start()

    def receivers(self, columns: tuple[int, ...]) -> list[tuple[int, list[tuple[int, int]]]]:
        """Nodes with an enabled column: their channels, as the board and as they count them."""
        found: dict[int, list[tuple[int, int]]] = {}
        for channel, (node_idx, node_channel) in enumerate(self._ports):
            if any(column // 2 == channel for column in columns):
                found.setdefault(node_idx, []).append((channel, node_channel))
        return list(found.items())

    def rails(self, node_idx: int, size: int) -> Rails:
        """Room for samples of a node, shape (num_rx, 2, size); the same every time."""
        num_rx = self.world.scene.nodes[node_idx].num_rx
        if self._scratch.size < 2 * num_rx * size:
            self._scratch = np.empty(2 * num_rx * CHUNK_SAMPLES, dtype=np.float32)
        return self._scratch[: 2 * num_rx * size].reshape(num_rx, 2, size)

    def hear(
        self,
        node_idx: int,
        channels: list[tuple[int, int]],
        hearing: Hearing,
        first: int,
        rails: Rails,
        silent: bool,
    ) -> None:
        """What arrives at a node's converters, into `rails`."""
        gain_db = self._gain_db(channels[0][0], hearing)
        tuning = Tuning(hearing.carrier_hz, hearing.sample_rate_hz, gain_db)
        absolute = self._num_heard[node_idx]
        self._num_heard[node_idx] += rails.shape[2]
        self.world.hear(node_idx, tuning, first, rails, absolute, deaf=silent or hearing.off)
        for channel, node_channel in channels:
            part = rails[node_channel, :, :RSSI_SAMPLES]
            power = float(np.mean(part**2)) * 2
            self.state.rssi_db[channel] = round(-40 * np.log10(max(power, 1e-20))) / 4

    def amplitude(self, channel: int, hearing: Hearing, rails: Rails) -> float:
        """Amplitude at the antenna that reaches full scale; a gain control looks at the samples first."""
        limits = self.world.limits(self.nodes[0])
        if not hearing.manual[channel]:
            low, high = self.state.rx_gains
            peak = float(np.abs(rails).max()) / AGC_TARGET
            wanted = int(np.floor(limits.rx_full_scale_dbm - 20 * np.log10(max(peak, 1e-12))))
            now = self.state.rx_gain_db[channel]
            if self.state.gain_mode[channel] != "fast_attack":
                wanted = min(max(wanted, now - AGC_STEP_DB), now + AGC_STEP_DB)
            self.state.rx_gain_db[channel] = min(max(wanted, low), high)
        return limits.rx_amplitude(self._gain_db(channel, hearing))

    def looped_back(self, channel: int, first: int, count: int) -> NDArray[np.complex64]:
        """What the board's own transmitter sends, without any air."""
        if channel >= len(self.transmitters):
            return np.zeros(count, dtype=np.complex64)
        return self.world.sent(self.transmitters[channel], first, count)

    def dropout(self, first: int, most: int) -> tuple[int, bool]:
        """How many samples from `first` on are alike, and whether transmitters pause there."""
        every = self._nuisances.underflow_every
        if not every:
            return most, False
        within = first % every
        if within < DROPOUT_SAMPLES:
            if self._tx is not None:
                self.state.status["tx"] |= UNDERFLOW
            return min(most, DROPOUT_SAMPLES - within), True
        return min(most, every - within), False

    def _gain_db(self, channel: int, hearing: Hearing) -> float:
        return float(hearing.gain_db[channel] if hearing.manual[channel] else self.state.rx_gain_db[channel])

    def _drawn_start(self) -> float:
        return float(self._rng.uniform(0, START_SPAN)) if self.random_start else 0.0

    def _direction(self, device: Device) -> str:
        if device.num_scan == 0:
            raise refused(errno.EINVAL)
        return "tx" if device.channels[0].output else "rx"

    def _look_for_underflow(self) -> None:
        if self._tx is not None and self._tx.underflowed():
            self.state.status["tx"] |= UNDERFLOW

    def _apply(self) -> None:
        """Bring what was set on the air."""
        state = self.state
        for channel, node_idx in enumerate(self.transmitters):
            gain_db = state.tx_gain_mdb[channel] / 1000
            tuning = Tuning(state.tx_lo_hz, state.sample_rate_hz, gain_db) if state.transmits else None
            self.world.tune(node_idx, tuning)
            self.world.generate(node_idx, self._tones(channel) if self._tx is None else ())
        hearing = self.hearing()
        for stream in self._rx:
            if stream.hearing != hearing:
                stream.settle()
                stream.retune(hearing)
        if self._tx is not None:
            self._tx.retune(state.sample_rate_hz)

    def _tones(self, channel: int) -> tuple[Tone, ...]:
        """The generators of a channel: two cosines in phase, two in quadrature, each two turning phasors."""
        state, found = self.state, list[Tone]()
        for k in range(4 * channel, 4 * channel + 4):
            amplitude = state.dds_scale[k] * (1.0 if k % 4 < 2 else 1j)
            if state.dds_on[k] and amplitude != 0:
                turn = np.exp(1j * np.deg2rad(state.dds_mdeg[k] / 1000))
                found.append(Tone(state.dds_hz[k], complex(amplitude / 2 * turn)))
                found.append(Tone(-state.dds_hz[k], complex(amplitude / 2 / turn)))
        return tuple(found)


def board_plan(node_names: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, ...]]:
    """Which nodes share a board: as `--board bs1,u1` says, every other one has a board of its own.

    Raises:
        ConfigError: an unknown node, or one that stands twice.
    """
    plan = [tuple(name.strip() for name in text.split(",")) for text in wanted]
    placed = [name for nodes in plan for name in nodes]
    for name in placed:
        if name not in node_names:
            raise ConfigError(f"--board: node '{name[:80]}' is not in this scene; nodes here: {', '.join(node_names)}")
        if placed.count(name) > 1:
            raise ConfigError(f"--board: node '{name}' is given twice; a node has one board")
    return plan + [(name,) for name in node_names if name not in placed]


def _file(files: Mapping[str, File], name: str) -> File:
    if name not in files:
        raise refused(errno.ENOENT)
    return files[name]
