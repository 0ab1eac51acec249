"""The DMA engines of a virtual board, as libiio's daemon runs them.

Receive: kernel buffers of the size that was asked for. Paced, a stream runs whether somebody reads or not, and when all
kernel buffers are full, samples are lost. Transmit: a cyclic buffer plays until it is closed; others play one after the
other, silence where none is there in time, and push waits while all kernel buffers are in use.

As fast as possible, time passes as somebody reads, and nothing is lost while receivers and transmitters wait for each
other: no longer than `PATIENCE_S`, and not at all for who was waited for in vain.
"""

import errno
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.channel import Rails, convert
from sim.iiod_protocol import refused
from sim.pluto_state import OVERFLOW, UNDERFLOW
from sim.running_clock import FreeClock
from sim.running_world import Loop, Passage
from sim.world import CHUNK_SAMPLES

if TYPE_CHECKING:
    from sim.virtual_pluto import Board

BITS = 12  # of both converters; the transmitter's stand left in 16 bits
HALF = 1 << (BITS - 1)
PATIENCE_S = 0.2
GIVEN_UP_S = 2.0  # for who was waited for in vain, nobody waits for so long


@dataclass(frozen=True)
class Hearing:
    """Settings of the receivers."""

    carrier_hz: float
    sample_rate_hz: float
    manual: tuple[bool, ...]
    gain_db: tuple[int, ...]
    off: bool
    loopback: bool


class RxStream:
    """An open receive buffer."""

    def __init__(self, board: "Board", num_samples: int, columns: tuple[int, ...]) -> None:
        self.num_samples, self.columns = num_samples, columns
        self.closed = False
        self._board, self._world = board, board.world
        self.hearing = board.hearing()
        self._at = board.receive_start()
        self._full: deque[tuple[int, NDArray[np.int16] | None]] = deque()  # kernel buffers; rendered when read
        self._stalled = False

    def mark(self) -> float:
        """The instant of the next sample that is not taken yet."""
        starts = [start for start, block in self._full if block is None]
        return self._world.clock.mark(min([self._at, *starts]), self.hearing.sample_rate_hz)

    def settle(self) -> None:
        """Take what is on the air until now; it is about to change."""
        if self._world.clock.paced:
            self._run()
        elif self._board.stale_buffers:
            while len(self._full) < self._board.kernel_buffers["rx"]:
                self._full.append((self._at, None))
                self._at += self.num_samples
            self._moved()
        for i, (start, block) in enumerate(self._full):
            if block is None:
                self._full[i] = (start, self._block(start))

    def retune(self, hearing: Hearing) -> None:
        """Go on with other settings; at another sample rate samples have other numbers, if they are paced."""
        if self._world.clock.paced and hearing.sample_rate_hz != self.hearing.sample_rate_hz:
            self._at = self._world.clock.now(hearing.sample_rate_hz)
        self.hearing = hearing

    def read(self, timeout_s: float) -> NDArray[np.int16]:
        """The next buffer, shape (samples, columns).

        Raises:
            OSError: EBADF when closed meanwhile, ETIMEDOUT when it took too long.
        """
        with self._world.lock:
            if self._world.clock.paced:
                self._await_due(timeout_s)
            elif not self._full and not self._catch_up():
                self._await_transmitters()
                self._full.append((self._at, None))
                self._at += self.num_samples
            start, block = self._full.popleft()
            if self._stalled:
                self._stalled = False
                self._at = max(self._at, self._world.clock.now(self.hearing.sample_rate_hz))
            if block is None:
                block = self._block(start)
            self._moved()
            return block

    def _catch_up(self) -> bool:
        """As fast as possible: of time that was moved on meanwhile, kernel buffers hold the begin; the rest is lost."""
        clock = self._world.clock
        assert isinstance(clock, FreeClock)
        while self._at + self.num_samples <= clock.pushed_to:
            if len(self._full) == self._board.kernel_buffers["rx"]:
                self._at = clock.pushed_to
                self._board.state.status["rx"] |= OVERFLOW
                break
            self._full.append((self._at, None))
            self._at += self.num_samples
        return bool(self._full)

    def _run(self) -> None:
        """Paced: fill kernel buffers up to now."""
        now = self._world.clock.now(self.hearing.sample_rate_hz)
        while self._at + self.num_samples <= now and not self._stalled:
            if len(self._full) == self._board.kernel_buffers["rx"]:
                self._stalled = True
                self._board.state.status["rx"] |= OVERFLOW
                return
            self._full.append((self._at, None))
            self._at += self.num_samples

    def _await_due(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            self._run()
            self._check_open()
            if self._full:
                return
            missing = self._at + self.num_samples - self._world.clock.now(self.hearing.sample_rate_hz)
            left = deadline - time.monotonic()
            if left <= 0:
                raise refused(errno.ETIMEDOUT)
            self._world.lock.wait(min(max(missing, 1) / self.hearing.sample_rate_hz, left))

    def _await_transmitters(self) -> None:
        """As fast as possible: let those who send get as far as this buffer's end."""
        clock, end = self._world.clock, self._at + self.num_samples
        assert isinstance(clock, FreeClock)
        clock.wanted, clock.idle = max(clock.wanted, end), False
        self._world.lock.notify_all()
        while True:
            now = time.monotonic()
            late = [
                passage
                for passage in self._world.awaited(self.hearing.sample_rate_hz)
                if passage.end < end and now > passage.given_up_s + GIVEN_UP_S
            ]
            for passage in late:
                if now > passage.touched_s + PATIENCE_S:
                    passage.given_up_s = now
            if all(passage.given_up_s == now for passage in late):
                return
            self._world.lock.wait(PATIENCE_S / 5)
            self._check_open()

    def _moved(self) -> None:
        clock = self._world.clock
        if isinstance(clock, FreeClock):
            clock.front = max(clock.front, self._at)
            self._world.lock.notify_all()

    def _check_open(self) -> None:
        if self.closed:
            raise refused(errno.EBADF)

    def _block(self, start: int) -> NDArray[np.int16]:
        out = np.zeros((self.num_samples, len(self.columns)), dtype=np.int16)
        at = 0
        while at < self.num_samples:
            size, silent = self._board.dropout(start + at, min(CHUNK_SAMPLES, self.num_samples - at))
            for node_idx, channels in self._board.receivers(self.columns):
                rails = self._board.rails(node_idx, size)
                self._board.hear(node_idx, channels, self.hearing, start + at, rails, silent)
                for channel, node_channel in channels:
                    self._convert(rails[node_channel], channel, start + at, out[at : at + size])
            at += size
        return out

    def _convert(self, rails: Rails, channel: int, first: int, out: NDArray[np.int16]) -> None:
        whole = self.columns == (2 * channel, 2 * channel + 1)
        if self.hearing.loopback:
            sent = self._board.looped_back(channel, first, len(out)) * HALF
            codes = np.stack([sent.real, sent.imag], axis=1).astype(np.int16)
        else:
            full_scale = self._board.amplitude(channel, self.hearing, rails)
            codes, _ = convert(rails, full_scale, HALF, out=out if whole else None)
        for rail in range(2):
            if 2 * channel + rail in self.columns:
                out[:, self.columns.index(2 * channel + rail)] = codes[:, rail]


class TxStream:
    """An open transmit buffer."""

    def __init__(self, board: "Board", num_samples: int, columns: tuple[int, ...], cyclic: bool) -> None:
        self.num_samples, self.columns, self.cyclic = num_samples, columns, cyclic
        self.closed = False
        self._board, self._world = board, board.world
        self._pushed = False
        self._rate_hz = board.state.sample_rate_hz
        self._passages: list[Passage] = []
        if not cyclic:
            for node_idx in board.transmitters:
                self._passages.append(Passage(board.world.clock.now(board.state.sample_rate_hz)))
                board.world.send(node_idx, self._passages[-1])

    def push(self, data: memoryview, timeout_s: float) -> None:
        """Play a buffer, up to the size that was asked for: int16, a column per enabled rail.

        Raises:
            OSError: EBUSY for a second cyclic buffer, ETIMEDOUT when no kernel buffer came free.
        """
        codes = np.frombuffer(data, dtype="<i2").reshape(-1, len(self.columns)) >> (16 - BITS)  # the converter's
        with self._world.lock:
            if self.closed:
                raise refused(errno.EBADF)
            if self.cyclic:
                self._loop(codes)
            elif self._passages and len(codes):
                self._append(codes, timeout_s)
            self._world.lock.notify_all()

    def stop(self) -> None:
        """Take it off the air; as fast as possible, what was pushed is still heard."""
        self.closed = True
        now = self._world.clock.now(self._board.state.sample_rate_hz)
        for node_idx in self._board.transmitters:
            if self.cyclic:
                self._world.repeat(node_idx, None)
        for passage in self._passages:
            passage.close(now if self._world.clock.paced else None)
        self._world.lock.notify_all()

    def retune(self, sample_rate_hz: int) -> None:
        """Go on at another sample rate: paced, samples have other numbers then, and what was pushed is lost."""
        if sample_rate_hz != self._rate_hz and self._world.clock.paced:
            for passage in self._passages:
                passage.restart(self._world.clock.now(sample_rate_hz))
        self._rate_hz = sample_rate_hz

    def underflowed(self) -> bool:
        """Whether time has passed beyond what was pushed."""
        now = self._world.clock.now(self._board.state.sample_rate_hz)
        return self._pushed and any(now > passage.end for passage in self._passages)

    def _loop(self, codes: NDArray[np.int16]) -> None:
        if self._pushed:
            raise refused(errno.EBUSY)
        self._pushed = True
        for channel, node_idx in enumerate(self._board.transmitters):
            samples = self._samples(codes, channel)
            self._world.send(node_idx, None)
            if samples.any():
                self._world.repeat(node_idx, Loop(samples, self._board.transmit_start(node_idx)))

    def _append(self, codes: NDArray[np.int16], timeout_s: float) -> None:
        now = self._world.clock.now(self._board.state.sample_rate_hz)
        if self.underflowed():
            self._board.state.status["tx"] |= UNDERFLOW
        self._pushed = True
        for channel, passage in enumerate(self._passages):
            passage.append(max(passage.end, now), self._samples(codes, channel).astype(np.complex64))
        self._await_room(timeout_s)

    def _await_room(self, timeout_s: float) -> None:
        """Until a kernel buffer is free again."""
        clock = self._world.clock
        room = self._board.kernel_buffers["tx"] * self.num_samples
        deadline = time.monotonic() + timeout_s
        while not self.closed:
            end = self._passages[0].end
            if isinstance(clock, FreeClock):
                if end - max(clock.front, clock.wanted) <= room:
                    return
                if clock.idle or not self._world.listeners:
                    clock.front = clock.pushed_to = end - room
                    return
                for passage in self._passages:  # who is ahead is worth waiting for
                    passage.given_up_s = -np.inf
                clock.idle = not self._world.lock.wait(PATIENCE_S)
                continue
            ahead = end - clock.now(self._rate_hz) - room
            left = deadline - time.monotonic()
            if ahead <= 0:
                return
            if left <= 0:
                raise refused(errno.ETIMEDOUT)
            self._world.lock.wait(min(ahead / self._rate_hz, left))

    def _samples(self, codes: NDArray[np.int16], channel: int) -> NDArray[np.complex128]:
        samples = np.zeros(len(codes), dtype=np.complex128)
        for rail, part in enumerate((samples.real, samples.imag)):
            if 2 * channel + rail in self.columns:
                part[:] = codes[:, self.columns.index(2 * channel + rail)] / HALF
        return samples
