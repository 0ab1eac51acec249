"""Sockets of virtual boards: a libiio network context each, on a port of its own on loopback.

libiio opens one connection for a context and one more per buffer; every connection has a thread. Commands are answered
one after the other, whatever they are: nothing that a client sends ends the server, and sizes are checked before there
is room made for them.
"""

import contextlib
import errno
import io
import logging
import socket
import threading
from collections.abc import Callable, Sequence

import numpy as np

from sim.ad9361 import MODELS
from sim.emulator import Emulator
from sim.iiod_protocol import (
    HELP,
    MAX_LINE_BYTES,
    MAX_VALUE_BYTES,
    VERSION,
    Command,
    mask_line,
    number,
    parse,
    refused,
    value,
    values,
    written,
)
from sim.pluto_dma import BITS, RxStream, TxStream
from sim.running_clock import FreeClock, WallClock
from sim.running_world import RunningWorld
from sim.scene import Scene
from sim.virtual_pluto import Board, Nuisances, board_plan
from testbed.errors import ConfigError

HOST = "127.0.0.1"
MAX_CONNECTIONS = 64  # of a board
_DRAIN_BYTES = 1 << 16

log = logging.getLogger(__name__)


def open_boards(
    scene: Scene,
    shared: Sequence[str],
    control: str = "tcp://127.0.0.1:0",
    model: str | None = None,
    nuisances: Nuisances | None = None,
    realtime: bool = False,
) -> tuple[list[Board], Emulator]:
    """All nodes of a scene on boards in one world, and who serves its conditions on the wire.

    Args:
        scene: the world.
        shared: `bs1,u1` for every board with more than one node.
        control: endpoint of the conditions.
        model: of the transceivers; by default the one that has as many channels.
        nuisances: of all boards.
        realtime: whether samples pass as fast as the sample rate says.

    Raises:
        ConfigError: nodes that do not fit, a model that does not exist, or an endpoint that cannot be bound.
    """
    if model is not None and model not in MODELS:
        raise ConfigError(f"--model '{model[:80]}': must be {', '.join(MODELS)}")
    if (scene.hardware.tx_bits, scene.hardware.rx_bits) != (BITS, BITS):
        raise ConfigError(
            f"hardware.tx_bits, rx_bits: {scene.hardware.tx_bits}, {scene.hardware.rx_bits}; a Pluto has {BITS} in both"
        )
    if scene.faults:
        log.warning("faults of the scene are the wire's; virtual Plutos have options for theirs")
    nuisances = nuisances or Nuisances()
    plan = board_plan(scene.node_names, shared)
    world = RunningWorld(nuisances.in_scene(scene), WallClock() if realtime else FreeClock())
    boards = [Board(world, nodes, model, nuisances) for nodes in plan]
    conditions = Emulator(scene, control)
    conditions.world = world
    for board in boards:
        board.control = conditions.endpoint
    return boards, conditions


class PlutoServer:
    """Serves boards from threads of its own until closed."""

    def __init__(self, boards: Sequence[Board], first_port: int = 0) -> None:
        """Bind a port per board, from `first_port` on; 0 takes free ones.

        Raises:
            ConfigError: a port is in use.
        """
        self._listening: list[socket.socket] = []
        self._places: list[threading.Semaphore] = []
        self.uris: list[str] = []
        self.boards = tuple(boards)
        for k in range(len(boards)):
            port = first_port + k if first_port else 0
            try:
                listening = socket.create_server((HOST, port))
            except OSError as exc:
                self.close()
                raise ConfigError(
                    f"--port {port}: cannot be bound ({exc.strerror}); choose another, or 0 for free ones"
                ) from exc
            self._listening.append(listening)
            self.uris.append(f"ip:{HOST}:{listening.getsockname()[1]}")

    def start(self) -> None:
        """Begin to answer."""
        for board, listening in zip(self.boards, self._listening, strict=True):
            thread = threading.Thread(target=self._accept, args=(board, listening), name=board.label, daemon=True)
            thread.start()

    def close(self) -> None:
        """Accept nobody any more. Threads that still serve end with their client, or with the process."""
        for listening in self._listening:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for a client
            listening.close()

    def _accept(self, board: Board, listening: socket.socket) -> None:
        places = threading.Semaphore(MAX_CONNECTIONS)
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            if not places.acquire(blocking=False):
                log.warning("%s: more than %d connections; one refused", board.label, MAX_CONNECTIONS)
                client.close()
                continue
            thread = threading.Thread(target=self._serve, args=(board, client, places), daemon=True)
            thread.start()

    def _serve(self, board: Board, client: socket.socket, places: threading.Semaphore) -> None:
        session = _Session(board, client)
        try:
            session.run()
        except OSError as exc:  # the client is gone
            log.debug("%s: connection lost (%s)", board.label, exc)
        except Exception:
            log.exception("%s: internal error", board.label)
        finally:
            session.close()
            places.release()


class _Session:
    """One connection and the buffers that were opened over it."""

    def __init__(self, board: Board, client: socket.socket) -> None:
        self._board, self._client = board, client
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = io.BufferedReader(socket.SocketIO(client, "r"), 1 << 16)
        self._streams: dict[str, RxStream | TxStream] = {}
        self._masks: dict[str, int] = {}
        self._handlers: dict[str, Callable[[Command], bytes]] = {
            "VERSION": lambda command: VERSION,
            "HELP": lambda command: HELP,
            "PRINT": self._print,
            "TIMEOUT": self._timeout,
            "READ": self._read,
            "WRITE": self._write,
            "OPEN": self._open,
            "CLOSE": self._close,
            "READBUF": self._readbuf,
            "WRITEBUF": self._writebuf,
            "SET": self._set,
            "GETTRIG": self._trigger,
            "SETTRIG": self._trigger,
        }

    def run(self) -> None:
        """Answer until the client leaves."""
        while line := self._reader.readline(MAX_LINE_BYTES):
            if not line.endswith(b"\n"):
                if not self._skip_line():
                    return
                self._client.sendall(number(-errno.EINVAL))
                continue
            try:
                command = parse(line)
                if command is None:
                    continue
                if command.verb == "EXIT":
                    return
                answer = self._handlers.get(command.verb, self._unknown)(command)
            except _Gone:
                return
            except OSError as exc:
                if exc.errno is None or isinstance(exc, ConnectionError):
                    raise
                answer = number(-exc.errno)
            except Exception:  # a fault of ours must not end the connection
                log.exception("%s: internal error upon %r", self._board.label, line[:80])
                answer = number(-errno.EIO)
            if answer:
                self._client.sendall(answer)

    def close(self) -> None:
        """Close what the client left open."""
        for stream in self._streams.values():
            self._board.close(stream)
        self._streams.clear()
        with contextlib.suppress(OSError):
            self._reader.close()
        self._client.close()

    def _skip_line(self) -> bool:
        """Read on to the end of an overlong line; False where the client left first."""
        while piece := self._reader.readline(_DRAIN_BYTES):
            if piece.endswith(b"\n"):
                return True
        return False

    def _unknown(self, command: Command) -> bytes:
        raise refused(errno.EINVAL)  # ZPRINT and BINARY, upon which a client takes the text

    def _print(self, command: Command) -> bytes:
        context = self._board.context().encode()
        return number(len(context)) + context + b"\n"

    def _timeout(self, command: Command) -> bytes:
        self._board.timeout_s = min(command.number, 1 << 31) / 1000 or float(1 << 31)
        return number(0)

    def _read(self, command: Command) -> bytes:
        found = self._board.read(command)
        if command.attribute is None:
            return values(found)
        return value(str(found[0]))

    def _write(self, command: Command) -> bytes:
        if command.number > MAX_VALUE_BYTES:
            raise refused(errno.ENOMEM)  # and what follows is taken for commands, as the daemon does
        text = self._payload(command.number)
        self._board.write(command, written(bytes(text)))
        return number(command.number)

    def _open(self, command: Command) -> bytes:
        device_id = self._board.device(command.device).id
        if device_id in self._streams:
            raise refused(errno.EBUSY)
        self._streams[device_id] = self._board.open(command)
        self._masks[device_id] = command.mask
        return number(0)

    def _close(self, command: Command) -> bytes:
        device_id = self._board.device(command.device).id
        if device_id not in self._streams:
            raise refused(errno.ENXIO)
        self._board.close(self._streams.pop(device_id))
        return number(0)

    def _readbuf(self, command: Command) -> bytes:
        device_id = self._board.device(command.device).id
        stream = self._streams.get(device_id)
        if not isinstance(stream, RxStream):
            raise refused(errno.EBADF)
        left, head = command.number, mask_line(self._masks[device_id])
        sample_bytes = 2 * len(stream.columns)
        while left >= sample_bytes:
            block = stream.read(self._board.timeout_s)
            size = min(block.nbytes, left)  # the rest of a buffer is dropped, as the daemon does
            self._client.sendall(number(size) + head)
            self._client.sendall(block.view(np.uint8).reshape(-1)[:size].data)
            head = b""
            left -= size
        return number(0) if left or command.number < sample_bytes else b""

    def _writebuf(self, command: Command) -> bytes:
        stream = self._streams.get(self._board.device(command.device).id)
        if not isinstance(stream, TxStream):
            raise refused(errno.EBADF)
        sample_bytes = 2 * len(stream.columns)
        left = command.number
        if left < sample_bytes:
            return number(0)
        self._client.sendall(number(0))
        failed = 0
        while left >= sample_bytes:
            size = min(left, stream.num_samples * sample_bytes)
            data = self._payload(size)
            left -= size
            try:
                if not failed:
                    stream.push(memoryview(data)[: size - size % sample_bytes], self._board.timeout_s)
            except OSError as exc:  # told when all has been read: what follows would be taken for commands
                failed = exc.errno or errno.EIO
        self._payload(left)
        return number(-failed if failed else command.number)

    def _set(self, command: Command) -> bytes:
        self._board.set_kernel_buffers(command.device, command.number)
        return number(0)

    def _trigger(self, command: Command) -> bytes:
        self._board.device(command.device)
        raise refused(errno.ENOENT)

    def _payload(self, size: int) -> bytearray:
        """Exactly so many bytes of the client."""
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            got = self._reader.readinto(view[at:])
            if not got:
                raise _Gone
            at += got
        return data


class _Gone(Exception):
    """The client left in the midst of a command."""
