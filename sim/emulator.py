"""The ZMQ channel emulator: a world behind the wire. Its time is sample time, as fast as the CPU."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from sim.scene import Scene
from sim.world import World
from testbed.device import Settings
from testbed.errors import ConfigError, IsacError, RadioError
from testbed.radio.wire import MAX_MESSAGE_BYTES, MAX_RECEIVE_SAMPLES, WireError, pack, require_loopback, unpack

# Messages per client and direction; a client asks ahead by a few. Replies that nobody reads are dropped beyond it,
# which bounds what a client can make the server hold to about 16 MiB.
QUEUED_MESSAGES = 16

log = logging.getLogger(__name__)

Reply = tuple[dict[str, Any], NDArray[Any] | None]


class Emulator:
    """Serves a scene's nodes on one endpoint until stopped. A malformed message gets an error reply."""

    def __init__(self, scene: Scene, endpoint: str) -> None:
        """Bind; port 0 takes a free one.

        Raises:
            ConfigError: the endpoint is malformed, not loopback, or in use.
        """
        require_loopback(endpoint)
        self.world = World(scene)
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.SNDHWM, QUEUED_MESSAGES)
        self._socket.setsockopt(zmq.RCVHWM, QUEUED_MESSAGES)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as exc:
            self._socket.close()
            raise ConfigError(f"endpoint '{endpoint}': cannot be bound ({exc}); choose another port or 0") from exc
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def serve(self, until_stdin_closes: bool = False) -> None:
        """Answer requests until interrupted, or until standard input closes: then the parent has ended."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        if until_stdin_closes:
            poller.register(sys.stdin.fileno(), zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._socket in ready:
                self._answer_one()
            elif ready and not os.read(sys.stdin.fileno(), 1):
                return

    def close(self) -> None:
        """Release the endpoint."""
        self._socket.close()

    def _answer_one(self) -> None:
        identity, *parts = self._socket.recv_multipart()
        seq: Any = None
        try:
            header, samples = unpack(parts)
            seq = header.get("seq") if isinstance(header.get("seq"), int) else None
            reply, payload = self._handle(header, samples)
            message = pack({**reply, "seq": seq}, payload)
        except (IsacError, ValueError) as exc:
            log.debug("refused: %s", exc)
            message = pack({"error": str(exc), "kind": type(exc).__name__, "seq": seq})
        except Exception as exc:  # a fault of ours must not end the air of a whole experiment
            log.exception("internal error")
            text = f"internal error of the emulator ({type(exc).__name__}: {exc}); its log has the traceback"
            message = pack({"error": text, "kind": "RadioError", "seq": seq})
        self._socket.send_multipart([identity, *message])

    def _handle(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        operations: dict[str, Callable[[dict[str, Any], NDArray[Any] | None], Reply]] = {
            "hello": self._hello,
            "status": self._status,
            "configure": self._configure,
            "transmit": self._transmit,
            "receive": self._receive,
            "mute": self._mute,
            "condition": self._condition,
        }
        op = header.get("op")
        if not isinstance(op, str) or op not in operations:
            raise WireError(f"op {op!r}; must be one of {', '.join(operations)}")
        return operations[op](header, samples)

    def _hello(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        return {"ok": "hello", "limits": self.world.limits(_text(header, "node")).to_dict()}, None

    def _status(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        world = self.world
        return {
            "ok": "status",
            "epoch": world.epoch,
            "condition": world.condition,
            "transmitting": world.transmitting(),
            "seed": world.scene.seed,
        }, None

    def _configure(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        realised = self.world.configure(_text(header, "node"), Settings.from_dict(header.get("settings")))
        return {"ok": "configure", "settings": realised.to_dict(), "epoch": self.world.epoch}, None

    def _transmit(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        if samples is None or samples.dtype != np.complex64:
            raise WireError("transmit needs cf32 samples")
        self.world.transmit(_text(header, "node"), samples)
        return {"ok": "transmit", "epoch": self.world.epoch}, None

    def _receive(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        num_samples = _whole(header, "num_samples")
        node = _text(header, "node")
        if not 1 <= num_samples <= MAX_RECEIVE_SAMPLES:
            raise RadioError(f"{node}: {num_samples} samples asked for; must be 1..{MAX_RECEIVE_SAMPLES} per request")
        got = self.world.receive(node, num_samples)
        return {"ok": "receive", "epoch": got.epoch, "start": got.start, "clip_count": got.clip_count}, got.raw

    def _mute(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        self.world.mute(_text(header, "node"))
        return {"ok": "mute", "epoch": self.world.epoch}, None

    def _condition(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        epoch = _whole(header, "epoch") if "epoch" in header else None
        self.world.set_condition(_text(header, "condition"), epoch)
        return {"ok": "condition", "epoch": self.world.epoch}, None


def _whole(header: dict[str, Any], key: str) -> int:
    value = header.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WireError(f"{key} {repr(value)[:80]}; must be a whole number")
    return value


def _text(header: dict[str, Any], key: str) -> str:
    value = header.get(key)
    if not isinstance(value, str):
        raise RadioError(f"{key} {value!r}; must be text")
    return value
