"""The air of the simulated USRP: what it transmits comes back over two paths, attenuated, with noise.

Positions are samples, and ticks of the device's clock. The clock follows the host's, but waits for streams that cannot
keep up: a busy machine makes the device slow, and tears no hole into the samples.
"""

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from uhd.chdr import PacketType

LOOP_GAIN_DB = -100.0  # of the direct path at gains of 0 dB
NOISE_DBFS = -100.0  # at a receive gain of 0 dB
ECHO_SAMPLES, ECHO_AMPLITUDE = 7, 0.3j  # behind and relative to the direct path
RING_SAMPLES = 1 << 20
AHEAD_SAMPLES = 1 << 14  # so far a stream may be ahead of the clock, or the clock ahead of a stream
GAP_SAMPLES = 333  # of an underflow that is asked for
PATIENCE_S = 0.2  # with a stream that does nothing, before the clock goes on without it
POLL_S = 0.0005
FULL_SCALE = 32_768
ITEM_BYTES = 4  # a sample on the wire: two 16-bit numbers, the real part first
NOISE_SEED = 20
Event = Literal["underflow", "late data", "burst acknowledged", "late command", "overflow"]


class Air:
    """Samples on their way, the clock, and the gains at both ends."""

    def __init__(self) -> None:
        self.tx_gain_db = self.rx_gain_db = 0.0
        self.sample_rate_hz = 1e6
        self.epoch = 0  # what the device's clock shows at position 0
        self.overflows = False  # at the next packet, as if the host had not fetched samples in time
        self.num_to_lose = 0  # packets, on their way to the host
        self.underflows = False  # at the next packet, as if the host had not sent samples in time
        self.tell: Callable[[Event, int], None] = lambda event, ticks: None  # the host, what happened and when
        self._ring = np.zeros(RING_SAMPLES, dtype=np.complex64)
        self._clock, self._looked_at = 0.0, time.monotonic()  # position, and when it was so
        self._written = self._read = 0  # positions that come next
        self._wrote_at = self._read_at = -np.inf  # when the streams last did something, s
        self._is_burst = self._is_late = False
        self._rng = np.random.default_rng(NOISE_SEED)

    @property
    def is_transmitting(self) -> bool:
        """Whether a burst is under way. One whose samples do not come has an underflow, which ends it."""
        if self._is_burst and time.monotonic() > self._wrote_at + PATIENCE_S:
            self._is_burst = False
            self.tell("underflow", self._written + self.epoch)
        return self._is_burst

    def now(self) -> int:
        """Position that is on the air at this moment."""
        at, limit = time.monotonic(), np.inf
        if at < self._read_at + PATIENCE_S:
            limit = self._read + AHEAD_SAMPLES
        if self.is_transmitting:
            limit = min(limit, self._written + AHEAD_SAMPLES)
        self._clock = max(self._clock, min(self._clock + (at - self._looked_at) * self.sample_rate_hz, limit))
        self._looked_at = at
        return int(self._clock)

    def ticks(self, last_pps: bool = False) -> int:
        """What the device's clock shows, or showed at the last pulse per second."""
        at = self.now()
        return max((at - at % int(self.sample_rate_hz) if last_pps else at) + self.epoch, 0)

    def set_ticks(self, ticks: int, next_pps: bool = False) -> None:
        """Set the clock, now or for the next pulse per second."""
        at, second = self.now(), int(self.sample_rate_hz)
        self.epoch = ticks - (at - at % second + second if next_pps else at)

    def write(self, samples: NDArray[np.complex64], ticks: int | None) -> None:
        """Transmit. A burst begins at a time or at once; within one, as in a radio, times do not count."""
        if self._is_late:
            return
        if not self.is_transmitting:
            now = self.now()
            position = now if ticks is None else ticks - self.epoch
            if position < now:
                self._is_late = True
                self.tell("late data", now + self.epoch)
                return
            self._be_silent(self._written, position)
            self._written, self._is_burst = position, True
        if self.underflows:
            self.underflows = False
            self.tell("underflow", self._written + self.epoch)
            self._be_silent(self._written, self._written + GAP_SAMPLES)
            self._written += GAP_SAMPLES
        self._wrote_at = time.monotonic()
        while self.now() < self._written - AHEAD_SAMPLES:
            time.sleep(POLL_S)
            self._wrote_at = time.monotonic()
        at = (self._written + np.arange(samples.size)) % RING_SAMPLES
        self._ring[at] = samples * np.float32(10 ** (self.tx_gain_db / 20))
        self._written += samples.size

    def end_burst(self) -> None:
        """Nothing follows; the host is told when the last sample has left."""
        was_late, self._is_burst, self._is_late = self._is_late, False, False
        while not was_late and self.now() < self._written:
            time.sleep(POLL_S)
        if not was_late:
            self.tell("burst acknowledged", self._written + self.epoch)

    def begin(self, ticks: int | None) -> bool:
        """Receive from a time on, or at once; False where that is past."""
        now = self.now()
        position = now if ticks is None else ticks - self.epoch
        if position < now:
            self.tell("late command", now + self.epoch)
            return False
        self._read, self._read_at = position, time.monotonic()
        return True

    def end(self) -> None:
        """Nobody receives any more."""
        self._read_at = -np.inf

    def read(self, count: int) -> tuple[int, NDArray[np.complex64]]:
        """Time and samples, the next ones at the receiver; noise alone where nothing was sent."""
        while self.now() < self._read + count or (self._written < self._read + count and self.is_transmitting):
            self._read_at = time.monotonic()
            time.sleep(POLL_S)
        self._read_at = time.monotonic()
        if self._written < self._read + count:
            self._be_silent(self._written, self._read + count)
            self._written = self._read + count
        first, self._read = self._read, self._read + count
        position = first + np.arange(count)
        direct, echo = (self._ring[(position - delay) % RING_SAMPLES] for delay in (0, ECHO_SAMPLES))
        noise = self._rng.standard_normal((count, 2), dtype=np.float32).view(np.complex64)[:, 0] / np.sqrt(2)
        heard = 10 ** (LOOP_GAIN_DB / 20) * (direct + ECHO_AMPLITUDE * echo) + 10 ** (NOISE_DBFS / 20) * noise
        return first + self.epoch, (heard * 10 ** (self.rx_gain_db / 20)).astype(np.complex64)

    def _be_silent(self, start: int, stop: int) -> None:
        self._ring[np.arange(max(start, stop - RING_SAMPLES), stop) % RING_SAMPLES] = 0


class Source:
    """Fills packets for the host. One per stream."""

    def __init__(self, air: Air, has_time: bool) -> None:
        self._air, self._has_time = air, has_time
        self.is_cut = False  # by an overflow

    def begin(self, ticks: int | None) -> bool:
        """The stream starts at a time, or at once; False where it does not."""
        return self._air.begin(ticks)

    def fill_packet(self, packet: Any, num_bytes: int) -> Any:
        """A packet with so many bytes of samples; None ends the stream."""
        if self._air.overflows:
            self._air.overflows, self.is_cut = False, True
            self._air.tell("overflow", self._air.ticks())
            return None
        ticks, samples = self._air.read(num_bytes // ITEM_BYTES)
        parts = np.clip(np.rint(samples.view(np.float32) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        if self._has_time:
            header = packet.get_header()
            header.pkt_type = PacketType.DATA_WITH_TS
            packet.set_header(header)
            packet.set_timestamp(ticks)
        packet.set_payload_bytes(parts.astype("<i2").tobytes())
        return packet

    def close(self) -> None:
        """The stream ended."""
        self._air.end()


class Sink:
    """Takes packets of the host."""

    def __init__(self, air: Air, has_time: bool) -> None:
        self._air, self._has_time = air, has_time

    def accept_packet(self, packet: Any) -> None:
        """One packet of samples; the last one of a burst says so."""
        payload = bytes(packet.get_payload_bytes())
        parts = np.frombuffer(payload[: len(payload) // ITEM_BYTES * ITEM_BYTES], dtype="<i2")
        ticks = packet.get_timestamp() if self._has_time else None
        self._air.write((parts.astype(np.float32) / FULL_SCALE).view(np.complex64), ticks)
        if packet.get_header().eob:
            self._air.end_burst()

    def close(self) -> None:
        """The stream ended; a burst in it has ended before, or has an underflow."""
