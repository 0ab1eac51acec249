"""Radio software as the raw ports meet it, imitated with pyzmq, and a channel whose output is known to the bit."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import zmq

from sim.raw_ports import RawPorts, parse_port

TIMEOUT_MS = 20_000
SAMPLE_BYTES = 8


def counted(first: int, count: int) -> np.ndarray:
    """Samples that tell their index: n = real + 4096 imag, exact in float32 up to 2^36."""
    index = np.arange(first, first + count)
    return (index % 4096 + 1j * (index // 4096)).astype(np.complex64)


class DelayChannel:
    """Every receiver channel hears the sum of all transmitters: integer delays, small integer gains, no noise."""

    def __init__(self, taps: dict[tuple[str, str], tuple[int, float]], num_rx: int = 1) -> None:
        self._taps = taps  # (tx, rx) -> delay in samples, gain
        self._num_rx = num_rx
        self.tx_names = tuple(dict.fromkeys(tx for tx, _ in taps))
        self.rx_names = tuple(dict.fromkeys(rx for _, rx in taps))
        self._past = {link: np.zeros(delay, dtype=np.complex64) for link, (delay, _) in taps.items()}
        self.block_sizes: list[int] = []

    def advance(self, sent: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        (count,) = {samples.size for samples in sent.values()}
        self.block_sizes.append(count)
        heard = {rx: np.zeros((self._num_rx, count), dtype=np.complex64) for rx in self.rx_names}
        for (tx, rx), (_, gain) in self._taps.items():
            line = np.concatenate([self._past[tx, rx], sent.get(tx, np.zeros(count, dtype=np.complex64))])
            self._past[tx, rx] = line[count:]
            for channel in range(self._num_rx):
                heard[rx][channel] += np.float32(gain * (channel + 1)) * line[:count]
        return heard


@contextlib.contextmanager
def raw_ports(channel: DelayChannel, pattern: str, rx: Sequence[str], tx: Sequence[str]) -> Iterator[RawPorts]:
    """Raw ports served in a thread; `rx` are names, whose ports are free ones, `tx` are NODE=ENDPOINT."""
    specs = [parse_port(f"{name}=tcp://127.0.0.1:0", "rx") for name in rx] + [parse_port(text, "tx") for text in tx]
    ports = RawPorts(channel, specs, pattern)
    thread = threading.Thread(target=ports.serve)
    thread.start()
    try:
        yield ports
    finally:
        ports.stop()
        thread.join()
        ports.close()


def rx_endpoints(ports: RawPorts) -> list[str]:
    """Where the receive ports listen, in the order given."""
    return [port.link.endpoint for port in ports.receive]


@contextlib.contextmanager
def socket_of(kind: int, bind: bool, endpoint: str = "tcp://127.0.0.1:0") -> Iterator[tuple["zmq.Socket[bytes]", str]]:
    """A socket with small queues and a context of its own, and its endpoint."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(kind)
    try:
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            socket.setsockopt(option, 16)
        for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
            socket.setsockopt(option, TIMEOUT_MS)
        socket.setsockopt(zmq.LINGER, 0)
        (socket.bind if bind else socket.connect)(endpoint)
        yield socket, socket.getsockopt_string(zmq.LAST_ENDPOINT)
    finally:
        socket.close()
        context.term()


@contextlib.contextmanager
def transmitter(pattern: str, messages: Iterable[bytes]) -> Iterator[str]:
    """A peer that binds and sends messages, in a thread; yields its endpoint. It stays when it has sent them all."""
    kind = zmq.REP if pattern == "reqrep" else zmq.PUSH
    done = threading.Event()

    def send(socket: "zmq.Socket[bytes]") -> None:
        for message in messages:
            if pattern == "reqrep" and not _until(done, lambda: bool(socket.poll(50, zmq.POLLIN))):
                return
            if pattern == "reqrep":
                assert len(socket.recv()) > 0
            if not _until(done, lambda: bool(socket.poll(50, zmq.POLLOUT))):
                return
            socket.send(message)

    with socket_of(kind, bind=True) as (socket, endpoint):
        thread = threading.Thread(target=send, args=(socket,))
        thread.start()
        try:
            yield endpoint
        finally:
            done.set()
            thread.join()


def _until(done: threading.Event, ready: Callable[[], bool]) -> bool:
    while not done.is_set():
        if ready():
            return True
    return False


@contextlib.contextmanager
def receiver(pattern: str, endpoint: str, request: bytes = b"\xff") -> Iterator["Receiver"]:
    """A peer that connects and takes samples."""
    kind = zmq.REQ if pattern == "reqrep" else zmq.PULL
    with socket_of(kind, bind=False, endpoint=endpoint) as (socket, _):
        yield Receiver(socket, request if pattern == "reqrep" else None)


class Receiver:
    """Takes messages, and keeps what is over for the next time."""

    def __init__(self, socket: "zmq.Socket[bytes]", request: bytes | None) -> None:
        self.socket = socket
        self.request = request
        self.frame_sizes: list[int] = []
        self._left = np.zeros(0, dtype=np.complex64)

    def take(self, count: int) -> np.ndarray:
        """The next `count` samples."""
        pieces, have = [self._left], self._left.size
        while have < count:
            if self.request is not None:
                self.socket.send(self.request)
            message = self.socket.recv()
            assert len(message) % SAMPLE_BYTES == 0
            pieces.append(np.frombuffer(message, dtype="<c8"))
            self.frame_sizes.append(pieces[-1].size)
            have += pieces[-1].size
        samples = np.concatenate(pieces)
        self._left = samples[count:]
        return samples[:count]


def frames(num_samples: int, sizes: Iterator[int], first: int = 0) -> Iterator[bytes]:
    """Counted samples as messages of the given sizes."""
    at = 0
    while at < num_samples:
        size = min(next(sizes), num_samples - at)
        yield counted(first + at, size).tobytes()
        at += size


def odd_sizes(seed: int, largest: int = 20_000) -> Iterator[int]:
    """Frame sizes without a pattern, many of them small."""
    rng = np.random.default_rng(seed)
    while True:
        yield int(largest ** rng.random())


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Until it holds, or fail."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
