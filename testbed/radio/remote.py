"""A radio behind the wire: one ZMQ client for every server (the emulator, a served radio)."""

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import zmq
from numpy.typing import NDArray
from zmq.utils.monitor import recv_monitor_message

from testbed import errors
from testbed.device import Continuity, Limits, Reception, Settings, Steps
from testbed.errors import IsacError, RadioError, RadioTimeout, RadioUnavailable, SampleLoss
from testbed.radio.base import check_transmit
from testbed.radio.devices.config import Device
from testbed.radio.devices.match import narrowed
from testbed.radio.keys import ClientKeys
from testbed.radio.wire import MAX_MESSAGE_BYTES, WireError, endpoint_host, pack, unpack

BLOCK_SAMPLES = 1 << 17  # per request: half a megabyte of ci16, pipelined
CLOSING_TIMEOUT_S = 3.0  # twice per radio: a server that stalls must not hold up the muting of the others for long
CREDITS = 4  # requests in flight: the server works ahead while the client stores a block

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)

log = logging.getLogger(__name__)


class WireClient:
    """Requests and replies over one connection, with a deadline and notice of a lost server."""

    def __init__(self, endpoint: str, timeout_s: float = 10.0, keys: ClientKeys | None = None) -> None:
        endpoint_host(endpoint)
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.keys = keys
        self._seq = itertools.count(1)
        self._was_open = False
        self._lost = ""  # why there is no connection any more
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        if keys is not None:
            keys.apply(self._socket)
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(_EVENTS)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._socket.connect(endpoint)

    def request(self, header: dict[str, Any], samples: NDArray[Any] | None = None) -> dict[str, Any]:
        """Send one request and return the header of its reply."""
        return self.collect(self.send(header, samples))[0]

    def send(self, header: dict[str, Any], samples: NDArray[Any] | None = None) -> int:
        """Send a request and return its sequence number for `collect`."""
        if self._socket.closed:
            raise RadioUnavailable(f"{self.endpoint}: this connection was closed")
        if self._lost:
            raise RadioUnavailable(self._lost)
        seq = next(self._seq)
        self._socket.send_multipart(pack({**header, "seq": seq}, samples), copy=False)
        return seq

    def collect(self, seq: int) -> tuple[dict[str, Any], NDArray[Any] | None]:
        """The reply to request `seq`; replies to earlier requests that nobody collected are dropped.

        Raises:
            RadioTimeout: no reply within the timeout.
            RadioUnavailable: the server ended, or refused the connection: it or this client has other keys.
            RadioError: whatever the server reports, as the class it names.
        """
        deadline = time.monotonic() + self.timeout_s
        while True:
            ready = dict(self._poller.poll(max(0, round((deadline - time.monotonic()) * 1e3))))
            if self._socket in ready:
                header, samples = unpack(self._socket.recv_multipart())
                if header.get("seq") is not None and header["seq"] != seq:
                    continue
                if "error" in header:
                    raise _named_error(header)
                return header, samples
            if self._monitor in ready:
                self._note(recv_monitor_message(self._monitor)["event"])
            if not ready:
                raise RadioTimeout(
                    f"{self.endpoint}: no answer within {self.timeout_s:g} s; check that a server runs there"
                )

    def _note(self, event: int) -> None:
        """Take note of what happened to the connection; RadioUnavailable if that is its end."""
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._was_open = True
            return
        if self._was_open:
            reason = "the server ended or closed the connection; start it again"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            reason = (
                "the server does not know this client's key; copy its client.key into the server's folder of keys and "
                "start the server again"
            )
        # which side hangs up first is chance, and with it whether a cause is known; so no line depends on that
        elif self.keys is None:
            reason = (
                "the server hung up on a client without keys; if it asks for them, give the folder with server.key and "
                "client.key_secret: keys = 'DIR' beside radio, or --keys DIR; else check that it still runs"
            )
        else:
            reason = (
                "the server hung up on these keys; copy its server.key again, or, if it was given none, connect without"
            )
        # for good: whoever answers there next knows nothing of this session
        self._lost = f"{self.endpoint}: {reason}"
        raise RadioUnavailable(self._lost)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close()
            self._socket.close()


class RemoteRadio:
    """One node of a server, as a `Radio`.

    The emulator obeys everybody. A served radio (`isac serve`) is held by one client at a time: it gives a hold, which
    every request shows, tells after how much silence it mutes, and whether it keeps samples of before a change.
    """

    def __init__(
        self, endpoint: str, node: str, timeout_s: float = 10.0, keys: ClientKeys | None = None, tx_steps: Steps = ()
    ) -> None:
        self._name = node
        self._lock = threading.RLock()  # a watchdog or a sign of life comes from another thread
        self._hold: dict[str, str] = {}  # shown in every request
        self._underflows = 0  # told of since the last reception
        self._is_open = True
        self._client = WireClient(endpoint, timeout_s, keys)
        try:
            reply = self._client.request({"op": "hello", "node": node})
            limits = Limits.from_dict(reply.get("limits"))
            self._limits = replace(limits, tx_steps=tx_steps or limits.tx_steps)
            if isinstance(hold := reply.get("hold"), str):
                self._hold = {"hold": hold}
            self._patience_s = _seconds(reply, "watchdog_s")
            self._is_buffered = reply.get("buffered") is True
            self._attributes, self._num_channels = _board(reply.get("board"))
        except RadioTimeout as exc:
            self._client.close()
            raise RadioUnavailable(str(exc)) from exc
        except IsacError:
            self._client.close()
            raise

    @property
    def name(self) -> str:
        """Name of the node on the server."""
        return self._name

    @property
    def limits(self) -> Limits:
        """What the radio behind the server can do."""
        return self._limits

    @property
    def attributes(self) -> dict[str, str]:
        """What the radio behind the server says of itself; empty for an emulator."""
        return dict(self._attributes)

    @property
    def num_channels(self) -> int:
        """Of its board; 0 for an emulator."""
        return self._num_channels

    def narrow(self, device: Device) -> None:
        """Use no more of it than a configuration allows."""
        self._limits = narrowed(self._limits, device)

    def configure(self, wanted: Settings) -> Settings:
        """Apply settings; returns the realised ones."""
        reply = self._request({"op": "configure", "node": self._name, "settings": wanted.to_dict()})
        return Settings.from_dict(reply.get("settings"))

    def transmit(self, samples: NDArray[np.complex64]) -> None:
        """Repeat `samples` (num_tx, n); refuses clipping before anything is sent."""
        check_transmit(samples, self._limits, self._name)
        self._request({"op": "transmit", "node": self._name}, samples.astype(np.complex64, copy=False))

    def receive(self, num_samples: int) -> Reception:
        """Exactly `num_samples` contiguous samples of one epoch, fetched in pipelined blocks."""
        if num_samples < 1:
            raise ValueError(f"num_samples: {num_samples}; must be at least 1")
        with self._lock:
            return self._receive(num_samples)

    def _receive(self, num_samples: int) -> Reception:
        sizes = [min(BLOCK_SAMPLES, num_samples - at) for at in range(0, num_samples, BLOCK_SAMPLES)]
        raw = np.empty((self._limits.num_rx, num_samples, 2), dtype=np.int16)
        wanted = iter(sizes)
        pending = deque(self._ask(size) for size in itertools.islice(wanted, CREDITS))
        epoch = start = clip_count = received = 0
        continuity: Continuity = "reported"
        for size in sizes:
            header, block = self._client.collect(pending.popleft())
            pending.extend(self._ask(ahead) for ahead in itertools.islice(wanted, 1))
            if block is None or block.dtype != np.int16 or block.shape != (self._limits.num_rx, size, 2):
                raise SampleLoss(
                    f"{self._name}: asked for {size} samples, got {None if block is None else block.shape}"
                )
            if received == 0:
                epoch, start = _whole(header, "epoch"), _whole(header, "start")
            elif (header.get("epoch"), header.get("start")) != (epoch, start + received):
                raise SampleLoss(
                    f"{self._name}: block at sample {header.get('start')} of epoch {header.get('epoch')} does not "
                    f"follow sample {start + received} of epoch {epoch}; another client changed the radio?"
                )
            raw[:, received : received + size] = block
            clip_count += _whole(header, "clip_count")
            self._note_underflows(header)
            if header.get("continuity", "reported") != "reported":
                continuity = "unknown"  # a radio that cannot tell of samples that it loses
            received += size
        underflows, self._underflows = self._underflows, 0
        return Reception(raw, self._limits.rx_full_scale, epoch, start, clip_count, continuity, underflows)

    @property
    def patience_s(self) -> float | None:
        """Silence after which its server mutes it; None for an emulator."""
        return self._patience_s

    def attend(self, wait: bool = True) -> int | None:
        """A sign of life for its server; returns how often it had muted this radio, None where a call is under way."""
        if not self._lock.acquire(blocking=wait):
            return None
        try:
            return _whole(self._request({"op": "attend", "node": self._name}), "mutings") if self._hold else 0
        finally:
            self._lock.release()

    def refresh(self) -> None:
        """Drop what a real radio received so far; one that is simulated is told of every change."""
        if self._is_buffered:
            self._request({"op": "refresh", "node": self._name})

    def _request(self, header: dict[str, Any], samples: NDArray[Any] | None = None) -> dict[str, Any]:
        with self._lock:
            reply = self._client.request(header | self._hold, samples)
            self._note_underflows(reply)
            return reply

    def _note_underflows(self, reply: dict[str, Any]) -> None:
        """A radio may tell of them with any reply; the next reception hands them on."""
        if "underflows" in reply:
            self._underflows += _whole(reply, "underflows")

    def _ask(self, num_samples: int) -> int:
        return self._client.send({"op": "receive", "node": self._name, "num_samples": num_samples, **self._hold})

    def mute(self) -> None:
        """Stop transmitting."""
        self._request({"op": "mute", "node": self._name})

    def close(self) -> None:
        """Mute and disconnect. A server that is gone has nothing left to mute; one that does not answer raises.

        A connection that was lost, or that an interrupt may have spoilt, is made anew for the muting.
        """
        with self._lock:
            self._close()

    def _close(self) -> None:
        was_open, self._is_open = self._is_open, False
        if not was_open or self._limits.num_tx == 0:
            try:
                if was_open and self._hold:  # the next client need not wait until the server sees this one gone
                    self._client.timeout_s = min(self._client.timeout_s, CLOSING_TIMEOUT_S)
                    self._leave()
            except RadioError as exc:
                log.debug("%s: %s", self._name, exc)
            finally:
                self._client.close()
            return
        try:
            self._client.timeout_s = min(self._client.timeout_s, CLOSING_TIMEOUT_S)
            try:
                self._leave()
            except (RadioTimeout, WireError, RadioUnavailable) as exc:
                # an interrupt may have cut a message in two; a new connection knows nothing of it
                log.debug("%s: %s; once more", self._name, exc)
                self._client.close()
                if isinstance(exc, RadioUnavailable) and not _is_listening(self._client.endpoint):
                    return
                self._client = WireClient(self._client.endpoint, self._client.timeout_s, self._client.keys)
                self._leave()
        except RadioUnavailable as exc:
            log.debug("%s: %s", self._name, exc)
        finally:
            self._client.close()

    def _leave(self) -> None:
        """Mute; give up a hold, which mutes."""
        self._request({"op": "leave" if self._hold else "mute", "node": self._name})


def _is_listening(endpoint: str) -> bool:
    """Whether anybody takes connections there: a lost connection need not be a server that ended."""
    url = urlsplit(endpoint)
    with contextlib.suppress(OSError), socket.create_connection((url.hostname, url.port), CLOSING_TIMEOUT_S):
        return True
    return False


def _whole(header: dict[str, Any], key: str) -> int:
    value = header.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RadioError(f"reply without a whole number '{key}'; versions differ?")
    return value


def _seconds(header: dict[str, Any], key: str) -> float | None:
    value = header.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6 else None


def _board(told: Any) -> tuple[dict[str, str], int]:
    """What a server says of the board, which may be nothing."""
    attributes = told.get("attributes") if isinstance(told, dict) else None
    if not isinstance(attributes, dict):
        return {}, 0
    return {str(key): str(value) for key, value in attributes.items()}, _whole(told, "num_channels")


def _named_error(header: dict[str, Any]) -> IsacError:
    kind = getattr(errors, str(header.get("kind")), RadioError)
    if not (isinstance(kind, type) and issubclass(kind, IsacError)):
        kind = RadioError
    text = str(header["error"])[:1000]
    if issubclass(kind, SampleLoss):
        return kind(text, _whole(header, "num_lost") if "num_lost" in header else 0)
    return kind(text)
