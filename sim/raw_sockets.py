"""The sockets of raw sample ports: one per antenna port and direction, each with a queue of samples.

Nothing in here blocks: `pump` moves what can be moved now, `wants` says what to wait for.
"""

import contextlib
import logging
import time
from dataclasses import dataclass

import numpy as np
import zmq
from numpy.typing import NDArray
from zmq.utils.monitor import recv_monitor_message

from sim.sample_fifo import SampleFifo
from testbed.errors import ConfigError

SAMPLE_BYTES = 8
MAX_REPLY_SAMPLES = 61_440  # a tenth of srsRAN Project's receive buffer, which an over-long message would break
FIFO_SAMPLES = 1 << 18  # of a queue; a transmit port's may hold one more message
MAX_MESSAGE_BYTES = SAMPLE_BYTES * 3_072_000  # the longest of srsRAN 4G; a longer one closes its connection
QUEUED_MESSAGES = 16  # ZMQ's own default of 1000 messages would be seconds of samples
# Asking for items, as GNU Radio does: its older versions read four bytes in any case, and srsRAN ignores what they say.
REQUEST = MAX_REPLY_SAMPLES.to_bytes(4, "little")
MAX_MESSAGES_AT_ONCE = 64  # per port, before the others have their turn
MAX_PARTS = 3  # identity, delimiter, request
HANDSHAKE_MS = 10_000  # a connection that has not introduced itself by then is closed
RECONNECT_S = 0.1
ANSWER_AGAIN_MS = 1.0
ASK_AGAIN_S = 1e-3  # after a reply without samples
LINE_EVERY_S = 1.0  # complaints of one port
EVENTS = (
    zmq.Event.CONNECTED | zmq.Event.ACCEPTED | zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED | zmq.Event.CLOSED
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PortSpec:
    """One direction of one antenna port of a node."""

    node: str
    channel: int
    endpoint: str
    direction: str  # rx: what the node hears; tx: what it sends

    @property
    def label(self) -> str:
        """How log lines call it."""
        return f"--raw-{self.direction} {self.node}" + (f":{self.channel}" if self.channel else "")


class _Link:
    """A socket of one port that knows when its peer is lost, and complains in at most a line per second.

    A transmit port's link connects again by itself, and only once it is empty: ZMQ's own way would leave a question
    without an answer where a peer was restarted, and give up for good on one that once spoke another pattern.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", kind: int, port: PortSpec) -> None:
        self.port = port
        self._context, self._kind = context, kind
        self._said_at = -np.inf
        self._unsaid = 0
        self._open()

    def _open(self) -> None:
        port = self.port
        self.lost = False  # nothing will come any more but what lies in the socket
        self._opened_at = time.monotonic()
        self._strangers = 0  # connections that have not shown yet that they speak the pattern
        self.socket: zmq.Socket[bytes] = self._context.socket(self._kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self.socket.setsockopt(zmq.SNDHWM, QUEUED_MESSAGES)
        self.socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        if self._kind == zmq.ROUTER:
            self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # tell of a reply that cannot be delivered
        self.monitor: zmq.Socket[bytes] = self.socket.get_monitor_socket(EVENTS)
        try:
            if port.direction == "rx":
                self.socket.bind(port.endpoint)
            else:
                self.socket.connect(port.endpoint)
        except zmq.ZMQError as exc:
            self.close()
            verb, advice = ("bound", "choose another port or 0") if port.direction == "rx" else ("used", "correct it")
            raise ConfigError(f"{port.label}: {port.endpoint} cannot be {verb} ({exc}); {advice}") from exc
        self.endpoint: str = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close()

    def reopen(self) -> bool:
        """A new socket in place of a lost and empty one; False when it is too early to try again."""
        if time.monotonic() - self._opened_at < RECONNECT_S:
            return False
        self.close()
        self._open()
        return True

    def receive(self) -> list[bytes] | None:
        """Parts of the next message, of those beyond `MAX_PARTS` only their number; None when there is none yet."""
        try:
            parts = [self.socket.recv(zmq.NOBLOCK)]
        except zmq.Again:
            return None
        while self.socket.getsockopt(zmq.RCVMORE):
            part = self.socket.recv()
            parts.append(part if len(parts) < MAX_PARTS else b"")
        return parts

    def hear(self) -> None:
        """Note who came and went."""
        while self.monitor.poll(0):
            event = recv_monitor_message(self.monitor)["event"]
            if event in (zmq.Event.CONNECTED, zmq.Event.ACCEPTED):
                self._strangers += 1
            elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self._strangers -= 1
            elif event == zmq.Event.DISCONNECTED and self._strangers:
                self._strangers -= 1
                self.complain(
                    f"the peer at {self.endpoint} speaks another ZMQ pattern; check --raw-pattern and the peer's block"
                )
            elif event == zmq.Event.DISCONNECTED:
                log.info("%s: the peer at %s went away", self.port.label, self.endpoint)
            if event in (zmq.Event.DISCONNECTED, zmq.Event.CLOSED):
                self.lost = True

    def complain(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said_at < LINE_EVERY_S:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} lines left out)" if self._unsaid else ""
        log.warning("%s: %s%s", self.port.label, text, more)
        self._said_at, self._unsaid = now, 0


class TransmitPort:
    """What an emulated transmitter shall send, asked or taken from a peer that binds."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", port: PortSpec, pattern: str) -> None:
        self.port = port
        self.fifo = SampleFifo(2 * FIFO_SAMPLES)
        self._asks = pattern == "reqrep"
        self._asked = False
        self._ask_at = 0.0
        self.link = _Link(context, zmq.REQ if self._asks else zmq.PULL, port)

    def pump(self) -> bool:
        """Take what has come as long as there is room, and ask for more; whether anything came."""
        self.link.hear()
        came = False
        for _ in range(MAX_MESSAGES_AT_ONCE):
            if len(self.fifo) >= FIFO_SAMPLES:
                return came
            self._ask()
            got = self.link.receive() if self._asked or not self._asks else None
            if got is None:
                if self.link.lost and self.link.reopen():  # lost before the socket was found empty: it stays empty
                    self._asked = False
                    self._ask()
                return came
            self._asked = False
            if self._accept(got):
                came = True
            elif self._asks:
                self._ask_at = time.monotonic() + ASK_AGAIN_S
        return came

    def wants(self) -> int:
        """What to poll the socket for."""
        return zmq.POLLIN if len(self.fifo) < FIFO_SAMPLES and (self._asked or not self._asks) else 0

    def waits_ms(self) -> float:
        """Time until the peer is to be asked again."""
        due = self._asks and not self._asked and not self.link.lost and len(self.fifo) < FIFO_SAMPLES
        return max(0.0, 1e3 * (self._ask_at - time.monotonic())) if due else np.inf

    def _ask(self) -> None:
        if self._asks and not self._asked and not self.link.lost and time.monotonic() >= self._ask_at:
            with contextlib.suppress(zmq.Again):
                self.link.socket.send(REQUEST, zmq.NOBLOCK)
                self._asked = True

    def _accept(self, parts: list[bytes]) -> bool:
        message = parts[0]
        if len(parts) != 1:
            self.link.complain(
                f"message of {len(parts)} parts refused, its samples are lost; a message is one part of complex64 "
                "samples, send no key and no envelope"
            )
            return False
        if len(message) % SAMPLE_BYTES:
            self.link.complain(
                f"message of {len(message)} bytes refused, its samples are lost; complex64 samples have "
                f"{SAMPLE_BYTES} bytes each, set the block's type to complex and its pass_tags to False"
            )
            return False
        samples = np.frombuffer(message, dtype="<c8").astype(np.complex64, copy=False)
        with np.errstate(all="ignore"):
            suspicious = not np.isfinite(samples.view(np.float32).sum())
        if suspicious:
            finite = np.isfinite(samples)
            if not finite.all():
                self.link.complain(
                    f"{samples.size - np.count_nonzero(finite)} of {samples.size} samples are not finite numbers; "
                    "zeros are sent in their place"
                )
                samples = np.where(finite, samples, np.complex64(0))
        self.fifo.append(samples)
        return samples.size > 0


class ReceivePort:
    """What an emulated receiver hears, for a peer that connects.

    The REP side is a ROUTER that answers one request after the other: a REP socket drops a reply without a word where
    its peer is gone, and also, between two polls, where its count of what the peer has read is late.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", port: PortSpec, pattern: str) -> None:
        self.port = port
        self.fifo = SampleFifo(2 * FIFO_SAMPLES)
        self._answers = pattern == "reqrep"
        self._asker: bytes | None = None  # whose request is not answered yet
        self._wanted = MAX_REPLY_SAMPLES
        self.link = _Link(context, zmq.ROUTER if self._answers else zmq.PUSH, port)

    @property
    def room(self) -> int:
        """Samples that may still be offered."""
        return FIFO_SAMPLES - len(self.fifo)

    def pump(self) -> bool:
        """Hand over what is wanted and there; whether anything went."""
        self.link.hear()
        went = False
        for _ in range(MAX_MESSAGES_AT_ONCE):
            if not self._is_asked():
                break
            block = self.fifo.peek(self._wanted)
            if not block.size or not self._send(block):  # never an empty reply: the answer waits for samples
                break
            went = True
        return went

    def wants(self) -> int:
        """What to poll the socket for."""
        if self._answers:
            return zmq.POLLIN if self._asker is None else 0
        return zmq.POLLOUT if len(self.fifo) else 0

    def waits_ms(self) -> float:
        """Time until an answer that could not be sent is to be tried again."""
        return ANSWER_AGAIN_MS if self._asker is not None and len(self.fifo) else np.inf

    def _is_asked(self) -> bool:
        while self._answers and self._asker is None:
            parts = self.link.receive()
            if parts is None:
                return False
            if len(parts) == MAX_PARTS and not parts[1]:
                self._asker, self._wanted = parts[0], _item_limit(parts[2])
            else:
                self.link.complain("request refused: it is no single message of a REQ socket")
        return True

    def _send(self, block: NDArray[np.complex64]) -> bool:
        message = block.astype("<c8", copy=False).data
        try:
            if self._asker is None:
                self.link.socket.send(message, zmq.NOBLOCK)
            else:
                self.link.socket.send_multipart([self._asker, b"", message], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as exc:
            if exc.errno != zmq.EHOSTUNREACH:
                raise
            self._asker = None  # who asked is gone; the samples stay for who asks next
            return True
        self.fifo.drop(block.size)
        self._asker = None
        return True


def _item_limit(request: bytes) -> int:
    """A request of four bytes or more says how many items at most; a shorter one, or 0, asks for what there is."""
    asked = int.from_bytes(request[:4], "little") if len(request) >= 4 else 0
    return min(asked or MAX_REPLY_SAMPLES, MAX_REPLY_SAMPLES)
