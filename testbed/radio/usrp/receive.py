"""Reception from a USRP: one continuous stream from a named device time into a ring, and every loss reported.

A thread takes blocks from UHD as long as there is room, so a reader may come late by as much as the ring holds. Where
nobody reads and the ring is full, the stream is stopped ("parked"): what is in the ring is still given out, then it
begins anew. UHD tells a loss by an error between two blocks, or not at all: the device time of every block is compared
with the number of samples before it, and a block is given out only when the time of the next one has confirmed it.
"""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import RadioError, RadioTimeout, SampleLoss
from testbed.radio.usrp.clock import Lead, time_spec
from testbed.radio.usrp.uhd_library import explained, one_line

RING_S = 1.0  # how long nobody need read
RING_BYTES = 128 << 20  # of all channels
BLOCK_S = 2e-3  # taken at a time, in whole packets
_RECV_S = 0.1
_DRAIN_S = 2.0  # at most
_BEHIND_S = 0.5  # for the first samples behind a loss, which tell how many it was

log = logging.getLogger(__name__)


class MustRestart(Exception):
    """The stream does not hold what is asked for: it was parked, or others have read on."""


@dataclass(frozen=True)
class End:
    """Why a stream gives no more."""

    text: str  # what was found, and what to do; empty: parked
    num_lost: int = 0
    interrupted: bool = False
    kind: type[RadioError] = SampleLoss


class Stream:
    """A stream of all receiving channels of a board, from its start to its end."""

    def __init__(
        self,
        uhd: Any,
        streamer: Any,
        channels: tuple[int, ...],
        reader: int,
        *,
        epoch: int,
        rate_hz: float,
        start: int | None,
        due_in_s: float,
        lead: Lead,
    ) -> None:
        """Start it; called by who commands the device.

        Args:
            uhd: the module.
            streamer: of these channels, with samples of format sc16.
            channels: of the board.
            reader: the channel that is about to be read; until it is, the stream is not parked.
            epoch: its number.
            rate_hz: sample rate.
            start: device time of the first sample, in samples; None: at once, on a device without a clock.
            due_in_s: how far away that is.
            lead: lengthened where the start comes too late.
        """
        self.channels, self.epoch = channels, epoch
        self._uhd, self._rate_hz, self._start, self._lead = uhd, rate_hz, start, lead
        self._streamer: Any = streamer
        packet = max(int(streamer.get_max_num_samps()), 1)
        self._block_len = packet * max(1, int(BLOCK_S * rate_hz) // packet)
        room = min(RING_S * rate_hz, RING_BYTES / (4 * len(channels)))
        self._room = max(int(room), 4 * self._block_len)
        self._changed = threading.Condition()
        self._blocks: deque[tuple[int, NDArray[np.uint32]]] = deque()  # first sample, words (channels, n)
        self._head = 0  # samples that came and are confirmed
        self._positions = dict.fromkeys(channels, 0)  # of readers
        self._reading = {reader}
        self._end: End | None = None
        self._stopping = False
        command = uhd.types.StreamCMD(uhd.types.StreamMode.start_cont)
        command.stream_now = start is None
        if start is not None:
            command.time_spec = time_spec(uhd, start, rate_hz)
        streamer.issue_stream_cmd(command)
        self._due_s = time.monotonic() + due_in_s
        self._thread = threading.Thread(target=self._run, name="isac-usrp rx", daemon=True)
        self._thread.start()

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, channel: int, num_samples: int, name: str, timeout_s: float) -> tuple[NDArray[np.int16], int]:
        """The next samples (n, 2) of a channel, and the number of the first one in this stream.

        Args:
            channel: of the board.
            num_samples: exactly so many.
            name: of the radio, for errors.
            timeout_s: within which samples must come, once the stream is due.

        Raises:
            MustRestart: it cannot give them; nothing was taken.
            SampleLoss: it ended in between.
            RadioTimeout: nothing came.
            RadioError: what UHD raised.
        """
        row, out, filled = self.channels.index(channel), np.empty(num_samples, dtype=np.uint32), 0
        with self._changed:
            self._reading.add(channel)
            try:
                start = self._positions[channel]
                is_parked = self._end is not None and not self._end.text
                if start < self._first() or (is_parked and self._head - start < num_samples):
                    raise MustRestart
                deadline = max(self._due_s, time.monotonic()) + timeout_s
                while True:
                    taken = self._take(row, start + filled, out[filled:])
                    filled += taken
                    if taken:
                        self._positions[channel] = start + filled
                        self._drop(min(self._positions.values()))
                        self._changed.notify_all()
                        deadline = max(deadline, time.monotonic() + timeout_s)
                    if filled == num_samples:
                        return out.view(np.int16).reshape(-1, 2), start
                    if self._end is not None:
                        raise self._loss(self._end, name, filled, num_samples)
                    left_s = deadline - time.monotonic()
                    if left_s <= 0 or not self._changed.wait(left_s):
                        raise RadioTimeout(
                            f"{name}: no answer within {timeout_s:g} s: the device sends no samples ({filled} of "
                            f"{num_samples} came); check its cable, or open it again"
                        )
            finally:
                self._reading.discard(channel)

    def _take(self, row: int, position: int, out: NDArray[np.uint32]) -> int:
        filled = 0
        for first, words in self._blocks:
            begin = position + filled - first
            if begin >= words.shape[1]:
                continue
            taken = min(words.shape[1] - begin, out.size - filled)
            out[filled : filled + taken] = words[row, begin : begin + taken]
            filled += taken
            if filled == out.size:
                break
        return filled

    def _loss(self, end: End, name: str, filled: int, num_samples: int) -> RadioError:
        if end.interrupted:
            return SampleLoss(f"{name}: interrupted after {filled} of {num_samples} samples; {end.text}")
        if end.kind is not SampleLoss:
            return end.kind(f"{name}: {end.text}")
        return SampleLoss(f"{name}: {end.text}", num_lost=end.num_lost)

    # -- end -----------------------------------------------------------------------------------------------------------

    def interrupt(self, why: str) -> None:
        """Give nothing more, whatever is in the ring; does not wait."""
        with self._changed:
            self._end = End(why, interrupted=True)
            self._stopping = True
            self._blocks.clear()
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Wait until the device is silent and the thread gone; whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            end = self._pump()
        except RuntimeError as exc:
            found = explained(exc, "receiving")
            end = End(str(found), kind=type(found))
        except Exception as exc:
            log.exception("receiving from a USRP")
            end = End(f"internal error ({one_line(exc)})", kind=RadioError)
        with self._changed:
            if self._end is None:
                self._end = end
            self._changed.notify_all()
        try:
            self._halt()
        except RuntimeError as exc:
            log.warning("%s", explained(exc, "stopping a stream"))
        self._streamer = None  # whoever still holds this stream must not hold up the next one

    def _pump(self) -> End:
        codes, metadata = self._uhd.types.RXMetadataErrorCode, self._uhd.types.RXMetadata()
        expected, held = 0, None
        while not self._stopping:
            words = np.empty((len(self.channels), self._block_len), dtype=np.uint32)
            count = self._streamer.recv(words, metadata, _RECV_S)
            if metadata.error_code == codes.timeout:
                continue  # who reads knows how long that may go on
            if metadata.error_code != codes.none:
                return self._fault(metadata, expected)
            if count == 0:
                continue
            if self._start is not None:
                came = metadata.time_spec.to_ticks(self._rate_hz) - self._start
                if expected == 0 and came < 0:
                    continue  # of a stream before this one
                if came != expected:
                    lost = came - expected
                    return End(
                        f"device time jumps by {lost} samples near sample {expected} of the epoch, and no loss was "
                        f"reported; check cable and network",
                        max(lost, 0),
                    )
            if held is not None and not self._add(held):
                break
            held, expected = words[:, :count], expected + count
            if self._start is None:  # no time will ever confirm it
                if not self._add(held):
                    break
                held = None
        return End("the radio was changed", interrupted=True)

    def _add(self, words: NDArray[np.uint32]) -> bool:
        """Put samples into the ring; False where it is full and nobody reads, or gives nothing more."""
        with self._changed:
            while self._end is None and self._head - self._first() + words.shape[1] > self._room:
                waiting = [self._positions[channel] for channel in self._reading]
                # a channel that nobody reads any more must not hold up the others
                if self._drop(min(waiting) if waiting else max(self._positions.values())):
                    continue
                if not waiting:
                    self._end = End("")  # parked, before anybody begins to read
                    return False
                self._changed.wait(_RECV_S)
            if self._end is not None:
                return False
            self._blocks.append((self._head, words))
            self._head += words.shape[1]
            self._changed.notify_all()
            return True

    def _first(self) -> int:
        return self._blocks[0][0] if self._blocks else self._head

    def _drop(self, before: int) -> bool:
        """Forget blocks that end before a sample; whether there were any."""
        count = len(self._blocks)
        while self._blocks and self._blocks[0][0] + self._blocks[0][1].shape[1] <= before:
            self._blocks.popleft()
        return len(self._blocks) < count

    def _fault(self, metadata: Any, expected: int) -> End:
        """What an error of UHD means."""
        codes, code = self._uhd.types.RXMetadataErrorCode, metadata.error_code
        where, rate = f"near sample {expected} of the epoch", f"{self._rate_hz / 1e6:.6g} MS/s"
        if code == codes.overflow:
            in_transport = metadata.out_of_sequence  # read before the metadata is used again
            lost = self._count_lost(metadata, expected)
            told = f"{lost} samples lost" if lost else "samples lost, nobody knows how many,"
            if in_transport:
                return End(
                    f"packets out of sequence, {told} {where} between device and host; check cable and network, MTU "
                    f"and net.core.rmem_max (`isac device commands`)",
                    lost,
                )
            return End(
                f"overflow, {told} {where}: the host is too slow for {rate}; lower the sample rate, or raise "
                f"usrp.num_recv_frames",
                lost,
            )
        if code == codes.late:
            lead_s = self._lead.seconds
            self._lead.lengthen()
            return End(
                f"the command to start came too late for its device time ({lead_s:g} s ahead); receive again, the next "
                f"one is given {self._lead.seconds:g} s"
            )
        if code == codes.broken_chain:
            return End(f"the device expected another stream command (broken chain) {where}; receive again")
        if code == codes.alignment:
            return End(
                f"the channels could not be aligned in time {where}; receive again, and lower the sample rate if that "
                f"comes again"
            )
        if code == codes.bad_packet:
            return End(f"a packet could not be read {where}; check cable and network")
        told = " ".join(str(metadata.strerror()).split())
        return End(f"UHD reports {told} {where}; receive again")

    def _count_lost(self, metadata: Any, expected: int) -> int:
        """Samples between the last good one and the next, by the device time of that; 0 where none comes."""
        if self._start is None:
            return 0
        codes, deadline = self._uhd.types.RXMetadataErrorCode, time.monotonic() + _BEHIND_S
        words = np.empty((len(self.channels), self._block_len), dtype=np.uint32)
        while time.monotonic() < deadline and not self._stopping:
            count = self._streamer.recv(words, metadata, _RECV_S)
            if count and metadata.error_code == codes.none:
                came = metadata.time_spec.to_ticks(self._rate_hz) - self._start
                return max(int(came) - expected, 0)
        return 0

    def _halt(self) -> None:
        """Stop the device and take what is still under way, so that the next stream begins with its own samples."""
        types = self._uhd.types
        self._streamer.issue_stream_cmd(types.StreamCMD(types.StreamMode.stop_cont))
        words = np.empty((len(self.channels), self._block_len), dtype=np.uint32)
        metadata, deadline = types.RXMetadata(), max(self._due_s, time.monotonic()) + _DRAIN_S
        while time.monotonic() < deadline:
            self._streamer.recv(words, metadata, _RECV_S)
            if metadata.end_of_burst:
                return
            # a start that was still to come is carried out before the stop
            if metadata.error_code == types.RXMetadataErrorCode.timeout and time.monotonic() > self._due_s + _RECV_S:
                return
