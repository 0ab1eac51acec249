"""The ZMQ channel emulator: a world behind the wire. Its time is sample time: as fast as the CPU, or paced."""

import heapq
import itertools
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from sim.faults import Answer, Faults
from sim.pacing import Pacer
from sim.scene import Scene
from sim.world import World
from testbed.device import Settings
from testbed.errors import IsacError, RadioError, SampleLoss
from testbed.radio.keys import ServerKeys
from testbed.radio.router import bind_router, next_message
from testbed.radio.wire import MAX_MESSAGE_BYTES, MAX_RECEIVE_SAMPLES, WireError, is_whole, pack, shown, unpack

log = logging.getLogger(__name__)

Reply = tuple[dict[str, Any], NDArray[Any] | None]


class Emulator:
    """Serves a scene's nodes on one endpoint until stopped. A malformed message gets an error reply."""

    def __init__(self, scene: Scene, endpoint: str, keys: ServerKeys | None = None, realtime: bool = False) -> None:
        """Bind; port 0 takes a free one. With `keys` only their clients may connect.

        With `realtime` samples leave no sooner than a radio would have taken them.

        Raises:
            ConfigError: the endpoint is malformed, in use, or not loopback while there are no keys.
        """
        self.air = uuid.uuid4().hex  # by which clients know that servers lead to the same one
        self.world = World(scene)
        self._faults = Faults(scene.faults)
        self.pacer = Pacer() if realtime else None
        self._waiting: list[tuple[float, int, list[Any]]] = []  # replies that are not due yet, a heap
        self._count = itertools.count()
        self._continuity = "reported" if scene.hardware.reports_loss else "unknown"
        self._context, self._socket = bind_router(endpoint, keys)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def serve(self, until_stdin_closes: bool = False) -> None:
        """Answer requests until interrupted, or until standard input closes: then the parent has ended."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        if until_stdin_closes:
            poller.register(sys.stdin.fileno(), zmq.POLLIN)
        while True:
            self._send_due()
            ready = dict(poller.poll(self._patience_ms()))
            if self._socket in ready:
                self._answer_one()
            # also between requests: a client that never pauses must not keep this process alive
            if until_stdin_closes and sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1):
                return

    def close(self) -> None:
        """Release the endpoint."""
        self._socket.close()
        self._context.term()

    def _send_due(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._socket.send_multipart(heapq.heappop(self._waiting)[2])

    def _patience_ms(self) -> int | None:
        """Until the next reply is due; None without end."""
        if not self._waiting:
            return None
        return max(0, int((self._waiting[0][0] - time.monotonic()) * 1e3) + 1)

    def _send(self, message: list[Any], header: dict[str, Any], reply: dict[str, Any], asked: float) -> None:
        """Now, or when the samples that it holds would have been taken."""
        if self.pacer is None or reply.get("ok") != "receive":
            self._socket.send_multipart(message)
            return
        rate_hz = self.world.sample_rate_hz(header["node"])
        due = self.pacer.done(reply["epoch"], reply["start"], header["num_samples"], rate_hz, asked)
        heapq.heappush(self._waiting, (due, next(self._count), message))

    def _answer_one(self) -> None:
        identity, parts, _ = next_message(self._socket)
        asked = time.monotonic()
        header: dict[str, Any] = {}
        reply: dict[str, Any] = {}
        seq: Any = None
        try:
            header, samples = unpack(parts)
            seq = header.get("seq") if is_whole(header.get("seq")) else None
            if (answer := self._answer(header)) != "answer":
                if answer == "cut":
                    self._drop(identity)
                return
            reply, payload = self._handle(header, samples)
            message = pack({**reply, **self._told(header), "seq": seq}, payload)
        except (IsacError, ValueError) as exc:
            log.debug("refused: %s", exc)
            lost = {"num_lost": exc.num_lost} if isinstance(exc, SampleLoss) else {}
            message = pack({"error": _line(exc), "kind": type(exc).__name__, "seq": seq, **lost})
        except Exception as exc:  # a fault of ours must not end the air of a whole experiment
            log.exception("internal error")
            text = f"internal error of the emulator ({type(exc).__name__}: {_line(exc)}); its log has the traceback"
            message = pack({"error": text, "kind": "RadioError", "seq": seq})
        self._send([identity, *message], header, reply, asked)

    def _answer(self, header: dict[str, Any]) -> Answer:
        """Whether a fault of the scene keeps the node that is asked from answering."""
        op, node, num_samples = (header.get(key) for key in ("op", "node", "num_samples"))
        if not isinstance(op, str) or not isinstance(node, str):
            return "answer"
        return self._faults.answer(self.world, op, node, num_samples if is_whole(num_samples) else 0)

    def _told(self, header: dict[str, Any]) -> dict[str, int]:
        """What a radio tells of besides, with whatever reply comes next: underflows of its transmitter."""
        node = header.get("node")
        count = self._faults.underflows(node) if isinstance(node, str) else 0
        return {"underflows": count} if count else {}

    def _drop(self, identity: bytes) -> None:
        """Lose the connection of one client, and no other; what its node transmits stays on the air."""
        # ZMQ lets no server close a connection, but a client does upon a message longer than it takes
        self._socket.send_multipart([identity, bytes(MAX_MESSAGE_BYTES + 1)], copy=False)

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
            raise WireError(f"op {shown(op)}; must be one of {', '.join(operations)}")
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
            "air": self.air,
            "overruns": self.pacer.overruns if self.pacer is not None else 0,
        }, None

    def _configure(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        realised = self.world.configure(_text(header, "node"), Settings.from_dict(header.get("settings")))
        return {"ok": "configure", "settings": realised.to_dict(), "epoch": self.world.epoch}, None

    def _transmit(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        if samples is None or samples.dtype != np.complex64:
            raise WireError("transmit needs cf32 samples")
        node = _text(header, "node")
        self.world.transmit(node, samples)
        self._faults.transmitted(node)
        return {"ok": "transmit", "epoch": self.world.epoch}, None

    def _receive(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        num_samples = _whole(header, "num_samples")
        node = _text(header, "node")
        if not 1 <= num_samples <= MAX_RECEIVE_SAMPLES:
            raise RadioError(
                f"{node[:80]}: {shown(num_samples)} samples asked for; must be 1..{MAX_RECEIVE_SAMPLES} per request"
            )
        got = self._faults.receive(self.world, node, num_samples)
        return {
            "ok": "receive",
            "epoch": got.epoch,
            "start": got.start,
            "clip_count": got.clip_count,
            "continuity": self._continuity,
        }, got.raw

    def _mute(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        self.world.mute(_text(header, "node"))
        return {"ok": "mute", "epoch": self.world.epoch}, None

    def _condition(self, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        epoch = _whole(header, "epoch") if "epoch" in header else None
        self.world.set_condition(_text(header, "condition"), epoch)
        return {"ok": "condition", "epoch": self.world.epoch}, None


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:1000]


def _whole(header: dict[str, Any], key: str) -> int:
    value = header.get(key)
    if not is_whole(value):
        raise WireError(f"{key} {shown(value)}; must be a whole number")
    return value


def _text(header: dict[str, Any], key: str) -> str:
    value = header.get(key)
    if not isinstance(value, str):
        raise RadioError(f"{key} {shown(value)}; must be text")
    return value
