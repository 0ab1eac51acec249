"""The air behind the stand-in for UHD: virtual boards in a world of `sim`, and device time that waits for everybody.

Time moves on as a host waits for something that only time brings: samples, room for samples, the end of a burst. It
stops at the last sample that a transmitter was given, and where a receiver has no more room. Beside that it passes
slowly by itself. What a board loses, refuses or reports is scripted, at device times that a test can name.
"""

import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sim.channel import convert
from sim.running_world import RunningWorld, Tuning
from sim.scene import Scene, load_scene
from testbed.config import validate

SPEED = 0.2  # of the time that passes by itself, relative to the wall clock
ROOM_SAMPLES = 1 << 16  # that a device takes ahead of time, or holds for a host that is late
PACKET_SAMPLES = 2040
ASKED_S, ASKED_WALL_S = 0.05, 2.0  # who asked for the time may name one so far ahead, for so long
HALF = 1 << 15
LOUD = 0x7FFF7FFF  # a word at full scale

T = TypeVar("T")

# a B200's, with its transmit gain counted from the quietest; powers as in the scenes
HARDWARE = {
    "model": "virtual B200",
    "tx_gain_min_db": 0.0,
    "tx_gain_max_db": 89.75,
    "rx_gain_min_db": 0.0,
    "rx_gain_max_db": 76.0,
    "tx_full_scale_dbm": -74.75,
    "rx_full_scale_dbm": 8.0,
    "rx_bits": 16,
    "tx_bits": 16,
}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong once."""

    kind: str  # RX: an error of UHD, jump, silence or stale; TX: an event of UHD, or stuck
    after: int = 0  # samples of the next stream or burst before it
    count: int = 0  # samples that are lost or delayed
    out_of_sequence: bool = False


@dataclass(frozen=True)
class Got:
    """What a receive call brings."""

    count: int
    error: str = "none"
    tick: int | None = None
    out_of_sequence: bool = False
    first: bool = False
    last: bool = False


class DeviceClock:
    """Time of the world in seconds, as `RunningWorld` asks for it."""

    paced = False

    def __init__(self) -> None:
        self.seconds = 1.0

    def now(self, sample_rate_hz: float) -> int:
        return math.floor(self.seconds * sample_rate_hz + 1e-6)

    def mark(self, index: int, sample_rate_hz: float) -> float:
        return index / sample_rate_hz

    def index(self, mark: float, sample_rate_hz: float) -> int:
        return round(mark * sample_rate_hz)


class Air:
    """A world, and the boards in it."""

    def __init__(self, scene: Scene | str = "comp", boards: Sequence[Sequence[str]] | None = None) -> None:
        scene = load_scene(scene) if isinstance(scene, str) else scene
        changed = scene.model_copy(update={"hardware": scene.hardware.model_copy(update=HARDWARE)})
        self.scene = validate(changed.model_dump(), Scene, "scene")
        self.clock = DeviceClock()
        self.world = RunningWorld(self.scene, self.clock)  # type: ignore[arg-type]
        self.version = "4.3.0.0-stand-in"
        self.frozen = False
        self.wanted_s = 0.0  # up to which a host waits: transmitters take samples until then
        self._wall_s = time.monotonic()
        names = [(name,) for name in scene.node_names] if boards is None else boards
        self.boards = [VirtualUsrp(self, tuple(nodes)) for nodes in names]

    def board(self, node: str) -> "VirtualUsrp":
        """The board that a node is on."""
        return next(board for board in self.boards if node in board.nodes)

    def open(self, wanted: dict[str, str], told: str) -> "VirtualUsrp":
        """A board that answers to device arguments."""
        for board in self.boards:
            if board.answers_to(wanted):
                board.open(wanted)
                return board
        raise RuntimeError(f"LookupError: KeyError: No devices found for ----->\n{told}")

    def transmitting(self) -> dict[str, bool]:
        """Per node that has a transmitter, whether it is on."""
        with self.world.lock:
            return self.world.transmitting()

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Within, no device answers."""
        with self.world.lock:
            self.frozen = True
        try:
            yield
        finally:
            with self.world.lock:
                self.frozen = False
                self._wall_s = time.monotonic()
                self.world.lock.notify_all()

    # -- time; callers hold the lock -----------------------------------------------------------------------------------

    def pass_by(self) -> None:
        """Time that passed by itself."""
        wall_s = time.monotonic()
        elapsed_s, self._wall_s = wall_s - self._wall_s, wall_s
        self.advance(self.clock.seconds + SPEED * elapsed_s)

    def advance(self, seconds: float) -> None:
        """Move on to an instant, or as far as all are ready."""
        if self.frozen:
            return
        latest = min((board.latest() for board in self.boards), default=math.inf)
        moved = max(self.clock.seconds, min(seconds, latest))
        if moved > self.clock.seconds:
            self.clock.seconds = moved
            self.world.lock.notify_all()

    def await_time(self, seconds: float, deadline: float) -> bool:
        """Wait for an instant; False at the deadline of the wall clock."""
        self.wanted_s = max(self.wanted_s, seconds)
        self.world.lock.notify_all()
        while True:
            self.pass_by()
            self.advance(seconds)
            if self.clock.seconds >= seconds - 1e-12 and not self.frozen:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.world.lock.wait(min(left, 0.02))

    def await_thaw(self, deadline: float = math.inf) -> bool:
        """Wait until devices answer."""
        while self.frozen:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.world.lock.wait(min(left, 1.0))
        return True


class VirtualUsrp:
    """A board on which some nodes stand, a channel each."""

    def __init__(self, air: Air, nodes: tuple[str, ...]) -> None:
        self.air, self.nodes = air, nodes
        serial = "".join(letter for letter in "".join(nodes) if letter.isalnum()).upper()
        self.address = {"type": "b200", "serial": serial, "name": "", "product": "B210" if len(nodes) > 1 else "B200"}
        self._nodes = [air.scene.node_names.index(name) for name in nodes]
        self.rx_faults: list[Fault] = []
        self.tx_faults: list[Fault] = []
        self.ref_locked = self.lo_locked = self.has_pps = True
        self.clockless = self.gone = self.busy = False
        self.coerced: dict[str, Callable[[float], float]] = {}  # of what is set: gain, freq, rate
        self.log: list[str] = []  # what was commanded
        self.num_opened = 0
        self.heard = [0] * len(nodes)  # samples, per channel: noise is never used twice
        self.reset()

    def reset(self) -> None:
        """As after power on."""
        self.master_clock_hz = 32e6
        self.sources = {"clock": "internal", "time": "internal"}
        self.offset_s = 0.0
        self.rx: RxEngine | None = None
        self.tx: TxEngine | None = None
        self.asked: tuple[float, float] | None = None
        self.channels: dict[str, list[dict[str, Any]]] = {"rx": [], "tx": []}
        for direction in ("rx", "tx"):
            self._lay_out(direction, 1)

    def answers_to(self, wanted: dict[str, str]) -> bool:
        """Whether device arguments mean this board."""
        return all(self.address[key] == value for key, value in wanted.items() if key in ("type", "serial", "product"))

    def open(self, args: dict[str, str]) -> None:
        with self.air.world.lock:
            self.air.await_thaw()
            if self.busy:
                raise RuntimeError("EnvironmentError: IOError: libusb: claimed by another process: LIBUSB_ERROR_BUSY")
            self.reset()
            self.num_opened += 1
            self.master_clock_hz = float(args.get("master_clock_rate", "32e6"))
            if "clock" in self.coerced:
                self.master_clock_hz = self.coerced["clock"](self.master_clock_hz)

    def ask(self, call: Callable[[], T]) -> T:
        """A command, which takes its turn, or hangs."""
        with self.air.world.lock:
            self.air.await_thaw()
            self.check_there()
            self.air.pass_by()
            return call()

    def check_there(self) -> None:
        """As UHD reports a device that was unplugged."""
        if self.gone:
            raise RuntimeError("EnvironmentError: IOError: usb rx6 transfer status: LIBUSB_TRANSFER_NO_DEVICE")

    def latest(self) -> float:
        """How far time may move on for this board's sake."""
        found = [math.inf]
        if self.tx is not None:
            found.append(self.tx.latest())
        if self.rx is not None:
            found.append(self.rx.latest())
        if self.asked is not None and time.monotonic() < self.asked[1]:
            found.append(self.asked[0] + ASKED_S)
        return min(found)

    # -- commands ------------------------------------------------------------------------------------------------------

    def info(self, direction: str, channel: int) -> dict[str, str]:
        found = {"mboard_id": self.address["product"], "mboard_name": "", "mboard_serial": self.address["serial"]}
        return found | {f"{direction}_id": "Unknown (0x0000)", f"{direction}_serial": ""}

    def set_source(self, what: str, source: str) -> None:
        def put() -> None:
            if source not in ("internal", "external", "gpsdo", "none"):
                raise RuntimeError(f"ValueError: unknown source {source}")
            self.sources[what] = source

        self.ask(put)

    def time_now(self) -> float:
        def get() -> float:
            if self.clockless:
                return 0.0
            if self.rx is not None or self.tx is not None:
                self.asked = (self.air.clock.seconds, time.monotonic() + ASKED_WALL_S)
            return self.air.clock.seconds - self.offset_s

        return self.ask(get)

    def set_time(self, seconds: float, *, at_pulse: bool) -> None:
        def put() -> None:
            if at_pulse and not self.has_pps:
                raise RuntimeError("RuntimeError: Board 0 may not be getting a PPS signal!\nNo PPS detected.\n")
            # boards are not in step with each other, but on whole milliseconds
            self.offset_s = round(self.air.clock.seconds - seconds, 3)
            self.log.append(f"time {'at pulse' if at_pulse else 'now'}")

        self.ask(put)

    def set_subdev(self, direction: str, markup: str) -> None:
        self.ask(lambda: self._lay_out(direction, len(markup.split())))

    def _lay_out(self, direction: str, count: int) -> None:
        gain_db = self.range(direction, "gain", 0)[1]  # loud, for whoever forgets to lower it
        self.channels[direction] = [
            {"gain": gain_db, "freq": 1e9, "rate": self.master_clock_hz, "bandwidth": 56e6, "antenna": "TX/RX"}
            for _ in range(count)
        ]

    def channel(self, direction: str, channel: int) -> dict[str, Any]:
        if channel >= len(self.channels[direction]):
            raise RuntimeError(f"LookupError: IndexError: multi_usrp: {direction} channel {channel} out of range")
        return self.channels[direction][channel]

    def range(self, direction: str, what: str, channel: int) -> tuple[float, ...]:
        hardware = self.air.scene.hardware
        if what == "gain":
            low, high = getattr(hardware, f"{direction}_gain_min_db"), getattr(hardware, f"{direction}_gain_max_db")
            return low, high, getattr(hardware, f"{direction}_gain_step_db")
        if what == "freq":
            return hardware.carrier_min_hz, hardware.carrier_max_hz, 0.0
        return (self.master_clock_hz / 512, self.master_clock_hz, 0.0) if what == "rate" else (200e3, 56e6, 0.0)

    def set_channel(self, direction: str, what: str, value: Any, channel: int | None) -> None:
        def put() -> None:
            count = len(self.channels[direction])
            for k in range(count) if channel is None else [channel]:
                row, got = self.channel(direction, k), value
                self.air.world._settle()  # what is on the air until now is heard as it was
                if what == "rate":
                    got = self.master_clock_hz / min(max(round(self.master_clock_hz / value), 1), 512)
                elif what == "freq":
                    low, high, _ = self.range(direction, what, k)
                    step = self.master_clock_hz / 2**32
                    got = min(max(round(value / step) * step, low), high)
                elif what == "gain":
                    low, high, step = self.range(direction, what, k)
                    got = low + round((min(max(value, low), high) - low) / step) * step
                row[what] = self.coerced[what](got) if what in self.coerced else got
                self.log.append(
                    f"{direction}{k} {what} {row[what]:g}" if what != "antenna" else f"{direction}{k} {got}"
                )
            if direction == "tx":
                self._bring_on_air()

        self.ask(put)

    def _bring_on_air(self) -> None:
        for k, row in enumerate(self.channels["tx"]):
            node_idx = self.transmitter(k)
            if node_idx is not None:
                self.air.world.tune(node_idx, Tuning(row["freq"], row["rate"], row["gain"]))

    def transmitter(self, channel: int) -> int | None:
        """The node that a transmit channel belongs to."""
        if channel >= len(self._nodes) or not self.air.scene.nodes[self._nodes[channel]].num_tx:
            return None
        return self._nodes[channel]

    def receiver(self, channel: int) -> int | None:
        """The node that a receive channel belongs to."""
        return self._nodes[channel] if channel < len(self._nodes) else None

    # -- streams -------------------------------------------------------------------------------------------------------

    def open_rx(self, channels: list[int], cpu_format: str, otw_format: str) -> "RxEngine":
        def opened() -> RxEngine:
            _check_formats(cpu_format, otw_format)
            for k in channels:
                self.channel("rx", k)
            if self.rx is not None:
                raise RuntimeError("RuntimeError: Attempting to connect a port that is already connected!")
            self.rx = RxEngine(self, tuple(channels))
            return self.rx

        return self.ask(opened)

    def open_tx(self, channels: list[int], cpu_format: str, otw_format: str) -> "TxEngine":
        def opened() -> TxEngine:
            _check_formats(cpu_format, otw_format)
            for k in channels:
                self.channel("tx", k)
            if self.tx is not None:
                raise RuntimeError("RuntimeError: Attempting to connect a port that is already connected!")
            self.tx = TxEngine(self, tuple(channels))
            return self.tx

        return self.ask(opened)


def _check_formats(cpu_format: str, otw_format: str) -> None:
    if cpu_format != "sc16" or otw_format not in ("sc16", "sc12", "sc8"):
        raise RuntimeError(f"LookupError: KeyError: Cannot find a conversion routine for {cpu_format}, {otw_format}")


class RxEngine:
    """Receive channels of a board: samples by device time, in packets or in one piece as the host asks."""

    packet_samples = PACKET_SAMPLES

    def __init__(self, board: VirtualUsrp, channels: tuple[int, ...]) -> None:
        self.board, self.air, self.channels = board, board.air, channels
        self.rate_hz = float(board.channels["rx"][channels[0]]["rate"])
        self._shift = round(board.offset_s * self.rate_hz)  # of device time against the world's
        self._at = 0  # device time of the next sample
        self._running = self._stopping = self._is_first = False
        self._stale = 0  # samples that are left of a stream before
        self._faults: list[tuple[int, Fault]] = []
        self._settled: deque[np.ndarray] = deque()  # words (channels, n) of before a change

    def mark(self) -> float:
        """For the world: the instant of the next sample that is not taken yet."""
        taken = sum(words.shape[1] for words in self._settled)
        return (self._at + taken + self._shift) / self.rate_hz

    def settle(self) -> None:
        """For the world: take what is on the air until now; it is about to change."""
        taken = sum(words.shape[1] for words in self._settled)
        count = self.air.clock.now(self.rate_hz) - self._shift - self._at - taken
        if count > 0:
            self._settled.append(self._render(self._at + taken, count))

    def latest(self) -> float:
        return (self._at + ROOM_SAMPLES + self._shift) / self.rate_hz if self._running else math.inf

    def command(self, mode: str, start: int | None) -> None:
        def put() -> None:
            self.board.asked = None
            self.board.log.append(mode)
            if mode == "stop_cont":
                self._stopping = self._running
            elif mode == "start_cont":
                self._start(start)
            else:
                raise RuntimeError(f"NotImplementedError: {mode}")
            self.air.world.lock.notify_all()

        self.board.ask(put)

    def _start(self, start: int | None) -> None:
        present = self.air.clock.now(self.rate_hz) - self._shift
        self._at = present if start is None else start
        self._running, self._stopping, self._is_first = True, False, True
        self._settled.clear()
        self._stale = sum(fault.count for fault in self.board.rx_faults if fault.kind == "stale")
        faults, self.board.rx_faults = self.board.rx_faults, []
        self._faults = [(self._at + fault.after, fault) for fault in faults if fault.kind != "stale"]
        if start is not None and start < present:
            self._faults.insert(0, (self._at, Fault("late")))
        if self not in self.air.world.listeners:
            self.air.world.listeners.append(self)

    def recv(self, words: np.ndarray, timeout_s: float) -> Got:
        deadline = time.monotonic() + timeout_s
        with self.air.world.lock:
            self.board.check_there()
            while not self._running:
                # a real one waits for the whole timeout: nobody here sends a command meanwhile
                left = min(deadline - time.monotonic(), 0.01)
                if left <= 0 or not self.air.world.lock.wait(left):
                    return Got(0, "timeout")
            if not self.air.await_thaw(deadline):
                return Got(0, "timeout")
            if self._stale:
                count, self._stale = min(self._stale, words.shape[1]), 0
                words[:, :count] = LOUD
                return Got(count, tick=self._at - 100_000)
            self._faults.sort(key=lambda found: found[0])
            if self._faults and self._faults[0][0] <= self._at and self._faults[0][1].kind != "jump":
                return self._fail(self._faults[0][1], deadline)
            count = words.shape[1]
            if self._stopping:
                count = min(count, PACKET_SAMPLES)
            elif self._faults and self._faults[0][1].kind != "jump":
                count = min(count, self._faults[0][0] - self._at)
            if not self.air.await_time((self._at + count + self._shift) / self.rate_hz, deadline):
                # a recv of several packets is cut short by a timeout between them
                count = min(count, self.air.clock.now(self.rate_hz) - self._shift - self._at)
                count -= count % PACKET_SAMPLES
                if count <= 0:
                    return Got(0, "timeout")
            return self._deliver(words[:, :count])

    def _deliver(self, words: np.ndarray) -> Got:
        tick, count = self._at, words.shape[1]
        jump = self._faults[0] if self._faults and self._faults[0][1].kind == "jump" else None
        if jump is not None and tick <= jump[0] < tick + count:
            self._faults.pop(0)
            before = jump[0] - tick
            words[:, :before] = self._take(before)
            self._at += jump[1].count
            words[:, before:] = self._take(count - before)
        else:
            words[...] = self._take(count)
        first, self._is_first = self._is_first, False
        last = self._stopping
        if last:
            self._running = self._stopping = False
            self._settled.clear()
            if self in self.air.world.listeners:
                self.air.world.listeners.remove(self)
        self.air.world.lock.notify_all()
        return Got(count, tick=None if self.board.clockless else tick, first=first, last=last)

    def _fail(self, fault: Fault, deadline: float) -> Got:
        if fault.kind == "silence":
            while not self._stopping and (left := deadline - time.monotonic()) > 0:
                self.air.world.lock.wait(left)
            if self._stopping:
                self._faults.pop(0)
            return Got(0, "timeout")
        self._faults.pop(0)
        tick, self._at = self._at, self._at + fault.count
        if fault.count:
            self._settled.clear()
        if fault.kind in ("late", "broken_chain"):  # the device is idle until the next command
            self._running = False
            self.air.world.listeners.remove(self)
        has_time = not self.board.clockless and fault.kind in ("late", "broken_chain", "overflow")
        return Got(0, fault.kind, tick if has_time else None, out_of_sequence=fault.out_of_sequence)

    def _take(self, count: int) -> np.ndarray:
        """The next samples: those of before a change, then what is on the air."""
        out, filled = np.empty((len(self.channels), count), dtype=np.uint32), 0
        while filled < count and self._settled:
            head = self._settled.popleft()
            taken = min(head.shape[1], count - filled)
            out[:, filled : filled + taken] = head[:, :taken]
            if taken < head.shape[1]:
                self._settled.appendleft(head[:, taken:])
            filled, self._at = filled + taken, self._at + taken
        while filled < count:
            taken = min(count - filled, ROOM_SAMPLES)
            out[:, filled : filled + taken] = self._render(self._at, taken)
            filled, self._at = filled + taken, self._at + taken
        return out

    def _render(self, tick: int, count: int) -> np.ndarray:
        out = np.zeros((len(self.channels), count), dtype=np.uint32)
        for row, channel in enumerate(self.channels):
            node_idx, state = self.board.receiver(channel), self.board.channels["rx"][channel]
            if node_idx is None:
                continue
            rails = np.empty((1, 2, count), dtype=np.float32)
            tuning = Tuning(state["freq"], state["rate"], state["gain"])
            absolute, self.board.heard[channel] = self.board.heard[channel], self.board.heard[channel] + count
            self.air.world.hear(node_idx, tuning, tick + self._shift, rails, absolute)
            full_scale = self.air.world.limits(self.board.nodes[channel]).rx_amplitude(state["gain"])
            codes, _ = convert(rails[0], full_scale, HALF)
            out[row] = np.ascontiguousarray(codes).view(np.uint32)[:, 0]
        return out

    def close(self) -> None:
        with self.air.world.lock:
            self._running = False
            if self in self.air.world.listeners:
                self.air.world.listeners.remove(self)
            if self.board.rx is self:
                self.board.rx = None
            self.air.world.lock.notify_all()


class Burst:
    """What a channel sends, as a `Passage` of the world: pieces of words on the world's clock, converted when heard."""

    def __init__(self) -> None:
        self.end, self.closed = 0, True
        self.touched_s, self.given_up_s = 0.0, -math.inf
        self._pieces: deque[tuple[int, np.ndarray]] = deque()

    def append(self, start: int, words: np.ndarray) -> None:
        self._pieces.append((start, words.copy()))
        self.end = start + words.size
        while self._pieces[0][0] + self._pieces[0][1].size < self.end - 8 * ROOM_SAMPLES:
            self._pieces.popleft()

    def stretch(self, first: int, count: int) -> np.ndarray:
        out = np.zeros(count, dtype=np.complex64)
        for start, words in self._pieces:
            begin, end = max(start, first), min(start + words.size, first + count)
            if begin < end:
                codes = words[begin - start : end - start].view(np.int16).astype(np.float32) / np.float32(HALF)
                out[begin - first : end - first] = codes.view(np.complex64)
        return out


class TxEngine:
    """Transmit channels of a board."""

    packet_samples = PACKET_SAMPLES

    def __init__(self, board: VirtualUsrp, channels: tuple[int, ...]) -> None:
        self.board, self.air, self.channels = board, board.air, channels
        self.rate_hz = float(board.channels["tx"][channels[0]]["rate"])
        self._shift = round(board.offset_s * self.rate_hz)
        self._bursts = [Burst() for _ in channels]
        self._nodes = [board.transmitter(channel) for channel in channels]
        self._end = 0  # device time behind the last sample that was given
        self._sent = 0  # samples of the burst
        self._open = self._discards = self._stuck = False
        self._faults: list[Fault] = []
        self._events: list[tuple[int, int, str]] = []  # device time, channel, event
        self.starts: list[int] = []  # device times of bursts
        board._bring_on_air()
        for node_idx, burst in zip(self._nodes, self._bursts, strict=True):
            if node_idx is not None:
                self.air.world.send(node_idx, burst)  # type: ignore[arg-type]

    def latest(self) -> float:
        if not self._open or self._discards or self._stuck:
            return math.inf
        return (self._end + self._shift) / self.rate_hz

    def send(self, words: np.ndarray, start: int | None, is_last: bool, timeout_s: float) -> int:
        deadline, sent = time.monotonic() + timeout_s, 0
        with self.air.world.lock:
            if is_last and not words.shape[1] and self._open:
                self._finish()  # one packet finds room in the host, whatever the device does
                return 0
            if not self.air.await_thaw(deadline):
                return 0
            if not self._open and words.shape[1]:
                self._begin(start)
            elif start is not None and start < self._end and not self._discards:
                # the time of the first packet once more: such packets are late, and dropped
                self._discards = True
                self._events.append((self._end, 0, "time_error"))
            while sent < words.shape[1]:
                left = words.shape[1] - sent
                room = left if self._room() >= left else self._room() // PACKET_SAMPLES * PACKET_SAMPLES
                if room > 0 and not self.air.frozen:
                    self._append(words[:, sent : sent + room])
                    sent += room
                    self.air.world.lock.notify_all()
                    continue
                wait_s = deadline - time.monotonic()
                if wait_s <= 0:
                    return sent
                self.air.world.lock.wait(min(wait_s, 0.01))
                self.air.pass_by()
            if is_last and self._open:
                self._finish()
            return sent

    def _begin(self, start: int | None) -> None:
        present = self.air.clock.now(self.rate_hz) - self._shift
        self.board.asked = None
        self._open, self._discards, self._sent = True, False, 0
        self._end = max(present, self._end) if start is None else start
        self._faults, self.board.tx_faults = self.board.tx_faults, []
        self.starts.append(self._end)
        late = start is not None and start < present
        for fault in [fault for fault in self._faults if fault.kind == "time_error"]:
            self._faults.remove(fault)
            late = True
        if late:
            self._discards = True
            self._events.append((max(present, self._end), 0, "time_error"))
        for burst in self._bursts:
            burst.end, burst.closed = self._end + self._shift, late

    def _room(self) -> int:
        if self._stuck:
            return 0
        if self._discards:
            return 1 << 30
        present = math.floor(max(self.air.clock.seconds, self.air.wanted_s) * self.rate_hz) - self._shift
        begin = self._end - self._sent
        return ROOM_SAMPLES - (self._end - max(present, begin))

    def _append(self, words: np.ndarray) -> None:
        if self._discards:
            return
        while self._faults and self._faults[0].after < self._sent + words.shape[1]:
            fault, before = self._faults[0], max(self._faults[0].after - self._sent, 0)
            self._faults.pop(0)
            self._put(words[:, :before])
            words = words[:, before:]
            if fault.kind == "stuck":
                self._stuck = True
                return
            for k in range(len(self.channels)) if fault.kind.startswith("seq") else [0]:
                self._events.append((self._end, k, fault.kind))
            if fault.kind.startswith("seq"):
                words = words[:, fault.count :]  # they never arrive, what follows comes earlier
            else:
                self._end += fault.count  # nothing is sent for so long
        self._put(words)

    def _put(self, words: np.ndarray) -> None:
        if not words.shape[1]:
            return
        for row, burst in enumerate(self._bursts):
            burst.append(self._end + self._shift, words[row])
        self._end += words.shape[1]
        self._sent += words.shape[1]

    def _finish(self) -> None:
        self._open = False
        for burst in self._bursts:
            burst.closed = True
        if not self._stuck:
            self._events.append((self._end if not self._discards else 0, 0, "burst_ack"))
        self.air.world.lock.notify_all()

    def message(self, timeout_s: float) -> tuple[int, str, int | None] | None:
        deadline = time.monotonic() + timeout_s
        with self.air.world.lock:
            while True:
                if not self.air.await_thaw(deadline):
                    return None
                self.air.pass_by()
                if self._events and not self._open:
                    # who has ended a burst waits for its last sample, and time for nobody
                    self.air.advance((min(event[0] for event in self._events) + self._shift) / self.rate_hz)
                present = self.air.clock.now(self.rate_hz) - self._shift
                due = [event for event in self._events if event[0] <= present]
                if due:
                    self._events.remove(due[0])
                    tick, channel, kind = due[0]
                    return channel, kind, None if self.board.clockless else tick
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.air.world.lock.wait(min(left, 0.01))

    def close(self) -> None:
        with self.air.world.lock:
            self._open = False
            for node_idx in self._nodes:
                if node_idx is not None:
                    self.air.world.send(node_idx, None)
            if self.board.tx is self:
                self.board.tx = None
            self.air.world.lock.notify_all()


_current: Air | None = None
_current_lock = threading.Lock()


def current() -> Air:
    """The air that boards stand in: one that a test put there, or as the environment says, or nobody's."""
    global _current
    with _current_lock:
        if _current is None:
            told = json.loads(os.environ.get("UHD_STAND_IN_AIR", '{"boards": []}'))
            _current = Air(told.get("scene", "comp"), told["boards"])
        return _current


def put(air: Air | None) -> Air | None:
    """Exchange the air; returns the one before."""
    global _current
    with _current_lock:
        before, _current = _current, air
        return before
