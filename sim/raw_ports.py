"""Raw sample ports: bare complex64 over ZMQ, as GNU Radio's zeromq blocks and both srsRANs speak it.

Roles are theirs: who sends samples binds, who receives them connects. So a receive port of ours (what an emulated
receiver hears) binds, and a transmit port of ours (what an emulated transmitter shall send) connects to the peer.

    pattern    receive port, we bind                transmit port, we connect
    reqrep     REP: a request, then samples         REQ: we ask, the peer's REP sends what it has
    pushpull   PUSH                                 PULL

A message is one part of little-endian float32 I, Q, I, Q, ... of any length: no header, no count, no time. The n-th
sample of a port is time n on every port. All ports go in lock-step: N samples are taken from every transmit port, go
through the channel, and N are offered to every receive port, or nothing moves. A peer that stalls stalls time; nothing
is lost, and no queue grows beyond its cap.
"""

import ipaddress
import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import zmq
from numpy.typing import NDArray

from sim.pacing import StreamPacer
from sim.raw_sockets import PortSpec, ReceivePort, TransmitPort
from sim.scene import Scene
from testbed.errors import ConfigError
from testbed.radio.wire import endpoint_host

PATTERNS = ("reqrep", "pushpull")
MAX_TICK_SAMPLES = 1 << 15  # larger blocks leave the caches and make no tick cheaper
STALLED_S = 10.0
POLL_MS = 100  # how soon a stop is noticed
PACED_POLL_MS = 2  # and how finely paced samples are cut

log = logging.getLogger(__name__)


class BlockChannel(Protocol):
    """What the ports need of a channel; `sim.stream.StreamChannel` is one."""

    @property
    def tx_names(self) -> tuple[str, ...]:
        """Nodes that have a transmitter."""

    def advance(self, sent: Mapping[str, NDArray[np.complex64]]) -> Mapping[str, NDArray[np.complex64]]:
        """Samples (n,) of transmitters in; per receiver (num_rx, n) out. A missing transmitter is silent."""


def parse_port(text: str, direction: str) -> PortSpec:
    """`NODE[:CHANNEL]=tcp://HOST:PORT` of an option --raw-rx or --raw-tx.

    Raises:
        ConfigError: it does not read so, or a receive port would bind an address that is not loopback.
    """
    match = re.fullmatch(r"([A-Za-z0-9_-]+)(?::(\d{1,3}))?=(.+)", text)
    if match is None:
        raise ConfigError(
            f"--raw-{direction} '{text}': must read NODE=tcp://HOST:PORT, or NODE:CHANNEL=tcp://HOST:PORT, "
            f"e.g. bs1=tcp://127.0.0.1:5001"
        )
    node, channel, endpoint = match[1], int(match[2] or 0), match[3]
    try:
        host = endpoint_host(endpoint)
        address = socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0]
    except ConfigError as exc:
        raise ConfigError(f"--raw-{direction} {node}: {exc}") from None
    except OSError as exc:
        raise ConfigError(
            f"--raw-{direction} {node}: host of '{endpoint}' is not known ({exc.strerror}); correct it"
        ) from None
    if direction == "rx" and not ipaddress.ip_address(address).is_loopback:
        raise ConfigError(
            f"--raw-rx {node}: '{endpoint}' is no loopback address; raw ports know no keys, use tcp://127.0.0.1:PORT"
        )
    return PortSpec(node, channel, endpoint, direction)


def check_ports(scene: Scene, ports: Sequence[PortSpec]) -> None:
    """ConfigError unless every port is one that the scene has, none stands twice, and something listens."""
    if not any(port.direction == "rx" for port in ports):
        raise ConfigError("--raw-rx: none given; raw ports need at least one receiver, e.g. bs1=tcp://127.0.0.1:5001")
    if not any(node.num_tx for node in scene.nodes):
        raise ConfigError("nodes: none of this scene transmits; raw ports need a transmitter, set num_tx = 1 of one")
    seen: set[tuple[str, int, str]] = set()
    endpoints: set[str] = set()
    for port in ports:
        if port.node not in scene.node_names:
            raise ConfigError(f"{port.label}: not in this scene; nodes here: {', '.join(scene.node_names)}")
        node = scene.nodes[scene.node_names.index(port.node)]
        count = node.num_rx if port.direction == "rx" else node.num_tx
        if port.channel >= count:
            name = "receive" if port.direction == "rx" else "transmit"
            raise ConfigError(f"{port.label}: {port.node} has {count} {name} channels; channels count from 0")
        if (port.node, port.channel, port.direction) in seen:
            raise ConfigError(f"{port.label}: given twice; one port has one peer")
        if port.endpoint in endpoints and not port.endpoint.endswith(":0"):
            raise ConfigError(f"{port.label}: {port.endpoint} serves another port already; every port needs its own")
        seen.add((port.node, port.channel, port.direction))
        endpoints.add(port.endpoint)


def _check_pattern(pattern: str) -> None:
    if pattern not in PATTERNS:
        raise ConfigError(f"--raw-pattern '{pattern}': must be {' or '.join(PATTERNS)}")


class RawPorts:
    """All raw ports of a world and the loop that serves them."""

    def __init__(
        self,
        channel: BlockChannel,
        ports: Sequence[PortSpec],
        pattern: str = "reqrep",
        pacer: StreamPacer | None = None,
    ) -> None:
        """Bind and connect; nothing moves before `serve`. At least one port, at least one of them a receiver's.

        Raises:
            ConfigError: an endpoint cannot be bound or used.
        """
        _check_pattern(pattern)
        self.num_samples = 0  # that every port has exchanged with the channel
        self.pacer = pacer
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._channel = channel
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stop = threading.Event()
        self.transmit: list[TransmitPort] = []
        self.receive: list[ReceivePort] = []
        try:
            for port in ports:
                if port.direction == "rx":
                    self.receive.append(ReceivePort(self._context, port, pattern))
                else:
                    self.transmit.append(TransmitPort(self._context, port, pattern))
        except ConfigError:
            self.close()
            raise

    def lines(self) -> list[str]:
        """A line per port that tells its endpoint, for whoever starts the peers."""
        return [f"{port.port.label.removeprefix('--')} {port.link.endpoint}" for port in self._all]

    @property
    def _all(self) -> list[TransmitPort | ReceivePort]:
        return [*self.transmit, *self.receive]

    def stop(self) -> None:
        """Let `serve` return; from any thread."""
        self._stop.set()

    def close(self) -> None:
        """Close all sockets; after `serve` has returned."""
        for port in self._all:
            port.link.close()
        self._context.term()

    def start(self) -> None:
        """Serve in a thread of its own, until the `with` block ends. A failure there interrupts the main thread."""
        self._thread = threading.Thread(target=self._serve_or_fail, name="raw ports", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self.close()
        if self._failure is not None:
            raise self._failure from None

    def _serve_or_fail(self) -> None:
        try:
            self.serve()
        except Exception as exc:
            log.exception("raw ports: internal error")
            self._failure = exc
            # a real signal, which also wakes a poll
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def serve(self) -> None:
        """Exchange samples until stopped."""
        moved_at, told = time.monotonic(), False
        while not self._stop.is_set():
            busy = False
            for port in self._all:
                busy |= port.pump()
            ticked = self._tick()
            now = time.monotonic()
            if ticked:
                moved_at, told = now, False
            elif now - moved_at > STALLED_S and not told:
                log.warning("raw ports: time stands at sample %d; %s", self.num_samples, self._who_stalls())
                told = True
            if not busy and not ticked:
                self._wait()

    def _tick(self) -> bool:
        """Move all ports on by as many samples as they all can; whether there were any."""
        count = min(
            MAX_TICK_SAMPLES,
            *(len(port.fifo) for port in self.transmit),
            *(port.room for port in self.receive),
        )
        if self.pacer is not None:
            count = self.pacer.room(count)
        if count == 0:
            return False
        sent = {port.port.node: port.fifo.take(count) for port in self.transmit}
        if not sent:  # a block has the length of what is sent
            sent = {self._channel.tx_names[0]: np.zeros(count, dtype=np.complex64)}
        heard = self._channel.advance(sent)
        for port in self.receive:
            port.fifo.append(heard[port.port.node][port.port.channel])
        if self.pacer is not None:
            self.pacer.made(count)
        self.num_samples += count
        return True

    def _wait(self) -> None:
        sockets: list[tuple[Any, int]] = [(port.link.monitor, zmq.POLLIN) for port in self._all]
        sockets += [(port.link.socket, port.wants()) for port in self._all if port.wants()]
        due_ms = min(port.waits_ms() for port in self._all)
        longest_ms = POLL_MS if self.pacer is None else PACED_POLL_MS
        zmq.zmq_poll(sockets, int(np.ceil(min(due_ms, longest_ms))))

    def _who_stalls(self) -> str:
        silent = [port for port in self.transmit if not len(port.fifo)]
        full = [port for port in self.receive if not port.room]
        causes = [f"{port.port.label}: no samples from {port.link.endpoint}" for port in silent]
        causes += [f"{port.port.label}: nobody takes samples at {port.link.endpoint}" for port in full]
        return "; ".join(causes)


def open_raw_ports(
    scene: Scene,
    ports: Sequence[PortSpec],
    pattern: str,
    sample_rate_hz: float | None,
    carrier_hz: float | None,
    tx_gain_db: float = 0.0,
    rx_gain_db: float = 0.0,
    realtime: bool = False,
) -> RawPorts:
    """The raw ports of a scene, with all its targets; with `realtime` no faster than the wall clock.

    Raises:
        ConfigError: a port that the scene does not have, or no sample rate or carrier.
        SettingOutOfRange: the scene's radios cannot be set so.
    """
    from sim.stream import StreamChannel

    check_ports(scene, ports)
    _check_pattern(pattern)
    if sample_rate_hz is None or carrier_hz is None:
        missing, example = ("sample-rate", "1e6") if sample_rate_hz is None else ("carrier", "3.5e9")
        raise ConfigError(f"--raw-{missing}-hz: not given; raw samples do not tell it, e.g. {example}")
    channel = StreamChannel(scene, sample_rate_hz, carrier_hz, tx_gain_db=tx_gain_db, rx_gain_db=rx_gain_db)
    return RawPorts(channel, ports, pattern, StreamPacer(sample_rate_hz) if realtime else None)
