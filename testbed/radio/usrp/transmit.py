"""Transmission by a USRP: a buffer that repeats from a named device time, kept in step with it.

A thread sends the buffer over and over. The device tells afterwards what went wrong: an underflow, packets lost on the
way, a begin that came too late. Each is counted. From then on samples leave at other times than they should: so the
burst is ended and begun anew at a device time at which the buffer would have begun, had nothing happened.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import RadioTimeout
from testbed.radio.usrp.clock import Lead, next_begin, now, time_spec
from testbed.radio.usrp.uhd_library import explained

CHUNK_SAMPLES = 1 << 16  # sent at a time
CHUNK_S = 5e-3  # and no longer than that, so that it ends soon
_SEND_S = 0.3
_ACK_S = 0.3  # for the last sample to leave, after which the device says so
_ASYNC_S = 0.1

log = logging.getLogger(__name__)


def to_words(samples: NDArray[np.complexfloating]) -> NDArray[np.uint32]:
    """Full scale 1 to words of format sc16, in-phase first: rounded to 16 bits, nothing wraps."""
    half = float(1 << 15)
    rails = np.stack([samples.real, samples.imag], axis=-1).astype(np.float64)
    codes = np.clip(np.rint(rails * half), 1 - half, half - 1).astype(np.int16)
    return np.ascontiguousarray(codes).view(np.uint32)[..., 0]


def chunks(words: NDArray[np.uint32], rate_hz: float) -> list[NDArray[np.uint32]]:
    """A buffer (channels, n) in contiguous pieces: whole periods of a short one, parts of a long one."""
    size, most = words.shape[1], max(min(CHUNK_SAMPLES, int(CHUNK_S * rate_hz)), 1)
    if size <= most:
        return [np.ascontiguousarray(np.tile(words, most // size))]
    count = math.ceil(size / most)
    return [np.ascontiguousarray(piece) for piece in np.array_split(words, count, axis=1)]


class Transmitter:
    """A transmit streamer of some channels of a board, and what is sent through it."""

    def __init__(
        self,
        uhd: Any,
        usrp: Any,
        streamer: Any,
        channels: tuple[int, ...],
        *,
        rate_hz: float,
        timed: bool,
        lead: Lead,
        timeout_s: float,
        troubled: Callable[[int], None],
        failed: Callable[[str], None],
    ) -> None:
        """Mind a streamer; nothing is sent yet.

        Args:
            uhd: the module.
            usrp: the device, asked for its time only.
            streamer: for words of format sc16.
            channels: of the board, in the streamer's order.
            rate_hz: sample rate.
            timed: whether the device has a clock.
            lead: from now to the begin of a burst.
            timeout_s: within which the device must take samples.
            troubled: told a channel whenever its samples did not leave in time.
            failed: told when it did not; nothing is sent any more then.
        """
        self.channels = channels
        self.begin: int | None = None  # device time of the buffer's first sample, in samples
        self.period = 1
        self._uhd, self._rate_hz = uhd, rate_hz
        self._usrp: Any = usrp
        self._streamer: Any = streamer
        self._timed, self._lead, self._timeout_s = timed, lead, timeout_s
        self._troubled, self._failed = troubled, failed
        self._num_troubles = 0
        self._burst: int | None = None  # device time at which the present burst began
        self._acked, self._under_way = threading.Event(), threading.Event()
        self._stopping, self._again, self._closing = False, threading.Event(), False
        self._thread: threading.Thread | None = None
        self._listener = threading.Thread(target=self._listen, name="isac-usrp async", daemon=True)
        self._listener.start()

    def play(self, words: NDArray[np.uint32]) -> None:
        """Repeat words (channels, n); returns when the first of them are on their way."""
        self._stopping, self.begin, self.period = False, None, words.shape[1]
        self._again.clear()
        self._under_way.clear()
        pieces = chunks(words, self._rate_hz)
        self._thread = threading.Thread(target=self._run, args=(pieces,), name="isac-usrp tx", daemon=True)
        self._thread.start()
        if not self._under_way.wait(self._timeout_s + self._lead.seconds):
            raise RadioTimeout(f"no answer within {self._timeout_s:g} s: the device takes no samples to transmit")

    def stop(self) -> bool:
        """End the burst and wait a moment for its last sample; whether the thread ended."""
        thread, self._thread, self._stopping = self._thread, None, True
        if thread is None:
            return True
        thread.join(self._timeout_s)
        if thread.is_alive():
            self._thread = thread
            return False
        self.begin = None
        self._acked.wait(_ACK_S)
        return True

    def close(self) -> bool:
        """Stop, and listen to the device no longer; whether all threads ended."""
        stopped = self.stop()
        self._closing = True
        self._listener.join(self._timeout_s)
        if not stopped or self._listener.is_alive():
            return False
        self._streamer = self._usrp = None  # whoever still holds this must not hold up the next one
        return True

    # -- the thread that sends -----------------------------------------------------------------------------------------

    def _run(self, pieces: Sequence[NDArray[np.uint32]]) -> None:
        problem = ""
        try:
            while not self._stopping:
                self._again.clear()
                start = self._next_begin()
                self._acked.clear()
                try:
                    self._send_burst(pieces, start)
                finally:
                    self._end_burst(pieces[0].shape[0])
                if not self._stopping:
                    self._acked.wait(_ACK_S)
        except RadioTimeout as exc:
            problem = str(exc)
        except RuntimeError as exc:
            problem = str(explained(exc, "transmitting"))
        except Exception as exc:
            log.exception("transmitting on a USRP")
            problem = f"internal error ({exc})"
        if problem:
            self._failed(problem)
        self._under_way.set()

    def _next_begin(self) -> int | None:
        """Device time to begin a burst at: in step with the first one."""
        if not self._timed:
            return None
        earliest = now(self._usrp, self._rate_hz) + self._lead.samples(self._rate_hz)
        if self.begin is None:
            self.begin = earliest
        self._burst = next_begin(self.begin, self.period, earliest)
        return self._burst

    def _send_burst(self, pieces: Sequence[NDArray[np.uint32]], start: int | None) -> None:
        metadata = self._uhd.types.TXMetadata()
        metadata.start_of_burst, metadata.end_of_burst = True, False
        metadata.has_time_spec = start is not None
        if start is not None:
            metadata.time_spec = time_spec(self._uhd, start, self._rate_hz)
        while True:
            for piece in pieces:
                if self._stopping or self._again.is_set():
                    return
                self._send(piece, metadata)
                self._under_way.set()

    def _send(self, piece: NDArray[np.uint32], metadata: Any) -> None:
        """All samples of a piece; what the device does not take in time is given to it again."""
        sent, moved_s = 0, time.monotonic()
        while sent < piece.shape[1] and not self._stopping:
            rest = piece if sent == 0 else np.ascontiguousarray(piece[:, sent:])
            count = self._streamer.send(rest, metadata, _SEND_S)
            if count:
                sent, moved_s = sent + count, time.monotonic()
                # a time belongs to the first packet of a burst
                metadata.has_time_spec = metadata.start_of_burst = False
            elif time.monotonic() - moved_s > self._timeout_s:
                raise RadioTimeout(
                    f"no answer within {self._timeout_s:g} s: the device took {sent} of {piece.shape[1]} samples to "
                    f"transmit, and no more; check its cable, or open it again"
                )

    def _end_burst(self, num_channels: int) -> None:
        metadata = self._uhd.types.TXMetadata()
        metadata.start_of_burst, metadata.has_time_spec, metadata.end_of_burst = False, False, True
        self._streamer.send(np.empty((num_channels, 0), dtype=np.uint32), metadata, _SEND_S)

    # -- the thread that listens ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        message = self._uhd.types.TXAsyncMetadata()
        while not self._closing:
            try:
                if self._streamer.recv_async_msg(message, _ASYNC_S):
                    self._heed(message)
            except RuntimeError as exc:
                log.warning("%s", explained(exc, "transmitting"))
                time.sleep(_ASYNC_S)

    def _heed(self, message: Any) -> None:
        codes, code = self._uhd.types.TXMetadataEventCode, message.event_code
        if code == codes.burst_ack:
            self._acked.set()
            return
        if code == codes.user_payload or code.value == 0:  # 0: a report without an error, which 4.9 knows
            return
        told = {
            codes.underflow: "underflow: the host was too slow",
            codes.underflow_in_packet: "underflow within a packet: the host was too slow",
            codes.seq_error: "packets lost on the way to the device",
            codes.seq_error_in_packet: "packets lost on the way to the device within a burst",
            codes.time_error: "the begin of a burst came too late",
        }.get(code, f"UHD reports {code}")
        hit = [self.channels[message.channel]] if message.channel < len(self.channels) else list(self.channels)
        for channel in hit:
            self._troubled(channel)
        self._num_troubles += 1
        if self._num_troubles & (self._num_troubles - 1) == 0:  # 1, 2, 4, 8, ...
            log.warning("transmitting on channel %s: %s; begun anew in step", hit[0], told)
        burst = self._burst
        if burst is not None and message.has_time_spec and message.time_spec.to_ticks(self._rate_hz) < burst:
            return  # of the burst before, which was ended for it
        if code == codes.time_error:
            self._lead.lengthen()
        self._again.set()
