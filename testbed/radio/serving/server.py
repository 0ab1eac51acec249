"""`isac serve`: radios of this machine behind the wire, each for one client at a time.

Beside the operations of the emulator (hello, status, configure, transmit, receive, mute, condition), `hello` gives a
hold, which later requests show, and tells `watchdog_s` and whether the radio is `buffered`; with `look` it gives the
limits alone. `attend` is a sign of life and tells how often the radio was muted for want of one (`mutings`), `refresh`
drops what a real radio received so far, `leave` mutes and ends the hold. A lost connection does that, too.

Requests are answered one after the other: a radio that hangs holds up the others of its server, not their muting by the
guard. Radios that must not wait for each other get a server each.
"""

import errno
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import zmq
from numpy.typing import NDArray
from zmq.utils.monitor import recv_monitor_message

from testbed.device import Settings
from testbed.errors import ConfigError, IsacError, RadioError, SafetyRefused, SampleLoss
from testbed.radio.base import Conditioned, Radio
from testbed.radio.keys import load_client_keys, load_server_keys
from testbed.radio.remote import WireClient
from testbed.radio.resources import conditions_endpoint, open_resource
from testbed.radio.router import bind_router, next_message
from testbed.radio.safety import Guard, GuardedRadio
from testbed.radio.serving.file import ServedFile, ServedTable
from testbed.radio.serving.lending import Lent
from testbed.radio.wire import MAX_RECEIVE_SAMPLES, WireError, is_whole, pack, shown, unpack

HEARTBEAT_MS = (1000, 5000)  # without an answer between the libraries a host or process that stands still is lost
LOOK_AGAIN_S, LOOK_FOR_S = 0.05, 1.0  # whose connection it was that closed
PAUSE_S = 0.25  # at most, between looks at the watchdogs

log = logging.getLogger(__name__)

Reply = tuple[dict[str, Any], NDArray[Any] | None]


class RadioServer:
    """Serves the radios of a file until stopped. A malformed message gets an error reply."""

    def __init__(self, served: ServedFile) -> None:
        """Open all radios, silence them, and bind.

        Raises:
            ConfigError: a radio, keys or the endpoint cannot be used as the file says.
            SafetyRefused: a radio would transmit on air, and nobody agreed to that.
            RadioError: a radio is not there.
        """
        self._served = served
        self._guard = Guard(served.safety)
        self._lent: dict[str, Lent] = {}
        self._look_until_s = 0.0
        keys = None if served.keys is None else load_server_keys(Path(served.keys))
        try:
            for row in served.nodes:
                self._lent[row.name] = Lent(
                    row.name,
                    lambda row=row: self._opened(row),  # type: ignore[misc]
                    transmits=row.transmits,
                    watchdog_s=served.safety.watchdog_s,
                    idle_timeout_s=served.idle_timeout_s,
                )
            self._upstreams = self._find_upstreams()
            self._air = self._find_air()
            patience_ms = min(max(round(served.safety.watchdog_s * 500), HEARTBEAT_MS[0]), HEARTBEAT_MS[1])
            options: dict[int, int] = {
                zmq.ROUTER_MANDATORY: 1,  # tells who is gone
                zmq.HEARTBEAT_IVL: patience_ms // 5,
                zmq.HEARTBEAT_TIMEOUT: patience_ms,
            }
            self._context, self._socket = bind_router(served.endpoint, keys, options)
        except BaseException:
            self._silence()
            raise
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.endpoint: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def lines(self) -> list[str]:
        """What is served, for people."""
        rows = zip(self._served.nodes, self._lent.values(), strict=True)
        return [f"{row.name} {self.endpoint} {row.radio} {lent.limits.model}" for row, lent in rows]

    def serve(self, until_stdin_closes: bool = False) -> None:
        """Answer requests until interrupted, or until standard input closes: then the parent has ended."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        if until_stdin_closes:
            poller.register(sys.stdin.fileno(), zmq.POLLIN)
        pause_s = min(self._served.safety.watchdog_s / 4, PAUSE_S)
        while True:
            is_looking = time.monotonic() < self._look_until_s
            ready = dict(poller.poll(round((LOOK_AGAIN_S if is_looking else pause_s) * 1e3)))
            if self._socket in ready:
                self._answer_one()
            while self._monitor.poll(0):
                recv_monitor_message(self._monitor)  # does not tell whose connection it was
                self._look_until_s, is_looking = time.monotonic() + LOOK_FOR_S, True
            if is_looking:
                self._take_back_from_the_gone()
            for lent in self._lent.values():
                lent.mind(is_late=self._socket in ready)
            if until_stdin_closes and sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 1):
                return

    def close(self) -> None:
        """Mute and release all radios, then the endpoint.

        Raises:
            RadioError: naming the radios that did not answer while being muted and may still transmit.
        """
        try:
            self._silence()
        finally:
            if not self._socket.closed:
                self._socket.disable_monitor()
                self._monitor.close()
                self._socket.close()
                self._context.term()

    def _silence(self) -> None:
        try:
            loud = [one.name for one in self._lent.values() if not one.close() and one.limits.num_tx > 0]
        finally:
            self._guard.close()  # and what an interrupt left on the air
        if loud:
            raise RadioError(
                f"{', '.join(loud)}: did not answer while being muted and may still transmit; switch them off by hand"
            )

    def _opened(self, row: ServedTable) -> Radio:
        radio = open_resource(row.radio, row.name, row.options(self._served.timeout_s))
        if radio.limits.simulated:
            return radio
        guarded = GuardedRadio(radio, self._guard)
        if row.transmits and radio.limits.num_tx > 0 and not self._served.safety.transmit:
            guarded.close()
            raise SafetyRefused(
                f"{row.name}: would transmit on air, and nobody agreed to that; pass --transmit, write transmit = true "
                f"in [safety] of the server's file, or transmits = false for a radio that only receives"
            )
        return guarded

    # -- the air of simulated radios ---------------------------------------------------------------------------------

    def _find_upstreams(self) -> list[tuple[str, str | None]]:
        """Who sets the conditions of the simulated radios here: endpoints, and their keys."""
        found = []
        for row, lent in zip(self._served.nodes, self._lent.values(), strict=True):
            endpoint = conditions_endpoint(lent.radio, row.radio) if lent.limits.simulated else None
            if endpoint is not None:
                found.append((endpoint, row.keys))
        return list(dict.fromkeys(found))

    def _find_air(self) -> str:
        airs = {str(self._ask(upstream, {"op": "status"}).get("air")) for upstream in self._upstreams}
        if any(lent.is_replay for lent in self._lent.values()):
            airs.add(uuid.uuid4().hex)
        if len(airs) > 1:
            raise ConfigError(
                "nodes: simulated radios of several emulators or replays share no air; start a server for each"
            )
        return next(iter(airs), "")

    def _ask(self, upstream: tuple[str, str | None], header: dict[str, Any]) -> dict[str, Any]:
        endpoint, keys = upstream
        client = WireClient(
            endpoint, self._served.timeout_s, None if keys is None else load_client_keys(Path(keys))
        )  # for each request: conditions are rare, and a server that was started again is found
        try:
            return client.request(header)
        finally:
            client.close()

    # -- clients -----------------------------------------------------------------------------------------------------

    def _take_back_from_the_gone(self) -> None:
        for lent in self._lent.values():
            if lent.holder is not None and not self._is_there(lent.holder):
                lent.take_back("its connection was lost")

    def _is_there(self, identity: bytes) -> bool:
        """Whether a client is connected; he drops this reply, for he never asks number 0."""
        return self._send(identity, pack({"ok": "attend", "seq": 0}))

    def _send(self, identity: bytes, message: list[Any]) -> bool:
        """Send, unless he is gone: then False. Who reads nothing has his replies dropped."""
        try:
            self._socket.send_multipart([identity, *message], zmq.DONTWAIT)
        except zmq.Again:
            pass
        except zmq.ZMQError as exc:
            if exc.errno != errno.EHOSTUNREACH:
                raise
            return False
        return True

    def _answer_one(self) -> None:
        identity, parts, address = next_message(self._socket)
        seq: Any = None
        try:
            header, samples = unpack(parts)
            seq = header.get("seq") if is_whole(header.get("seq")) else None
            reply, payload = self._handle(header, samples, identity, address)
            message = pack({**reply, "seq": seq}, payload)
        except (IsacError, ValueError) as exc:
            log.debug("refused: %s", exc)
            lost = {"num_lost": exc.num_lost} if isinstance(exc, SampleLoss) else {}
            message = pack({"error": _line(exc), "kind": type(exc).__name__, "seq": seq, **lost})
        except Exception as exc:  # a fault of ours must not leave radios alone
            log.exception("internal error")
            text = f"internal error of the server ({type(exc).__name__}: {_line(exc)}); its log has the traceback"
            message = pack({"error": text, "kind": "RadioError", "seq": seq})
        if not self._send(identity, message):
            self._take_back_from_the_gone()

    def _handle(self, header: dict[str, Any], samples: NDArray[Any] | None, identity: bytes, address: str) -> Reply:
        for_all: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status": self._status,
            "condition": self._condition,
        }
        for_holders: dict[str, Callable[[Lent, dict[str, Any], NDArray[Any] | None], Reply]] = {
            "attend": self._attend,
            "configure": self._configure,
            "transmit": self._transmit,
            "receive": self._receive,
            "refresh": self._refresh,
            "mute": self._mute,
            "leave": self._leave,
        }
        op = header.get("op")
        if not isinstance(op, str) or op not in ("hello", *for_all, *for_holders):
            raise WireError(f"op {shown(op)}; must be one of {', '.join(('hello', *for_all, *for_holders))}")
        if op in for_all:
            return for_all[op](header), None
        lent = self._node(header)
        if op == "hello":
            return self._hello(lent, header, identity, address), None
        if op in ("mute", "leave") and lent.is_over(header.get("hold")):
            return {"ok": op}, None  # it was muted when that hold ended
        lent.require(identity, header.get("hold"))
        with self._guard.call():  # the controller is alive, which radio it asks about or not
            return for_holders[op](lent, header, samples)

    def _node(self, header: dict[str, Any]) -> Lent:
        node = _text(header, "node")
        if node not in self._lent:
            raise RadioError(f"node '{node[:80]}': not here; nodes here: {', '.join(self._lent)}")
        return self._lent[node]

    def _hello(self, lent: Lent, header: dict[str, Any], identity: bytes, address: str) -> dict[str, Any]:
        if header.get("look") is True:
            return {"ok": "hello", "limits": lent.limits.to_dict()}
        if lent.holder is not None and not self._is_there(lent.holder):
            lent.take_back("its connection was lost")
        return {"ok": "hello", **lent.lend(identity, address)}

    def _status(self, header: dict[str, Any]) -> dict[str, Any]:
        there = self._ask(self._upstreams[0], {"op": "status"}) if self._upstreams else {}
        return {
            "ok": "status",
            "transmitting": {name: one.is_transmitting for name, one in self._lent.items() if one.limits.num_tx > 0},
            "held": {name: one.held_by for name, one in self._lent.items()},
            "air": self._air,
            **{key: there[key] for key in ("epoch", "condition", "seed") if key in there},
        }

    def _condition(self, header: dict[str, Any]) -> dict[str, Any]:
        wish: dict[str, Any] = {key: header[key] for key in ("op", "condition", "epoch") if key in header}
        condition = _text(header, "condition")
        replays = [lent.radio for lent in self._lent.values() if lent.is_replay]
        if not self._upstreams and not replays:
            raise RadioError("condition: these radios are real; on air targets are moved by hand")
        for replay in replays:
            cast(Conditioned, replay).set_condition(condition)
        told = self._ask(self._upstreams[0], wish) if self._upstreams else {}
        return {"ok": "condition", **{key: told[key] for key in ("epoch",) if key in told}}

    def _attend(self, lent: Lent, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        self._guard.resume()
        return {"ok": "attend", "mutings": lent.attend()}, None

    def _configure(self, lent: Lent, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        return {
            "ok": "configure",
            "settings": lent.configure(Settings.from_dict(header.get("settings"))).to_dict(),
        }, None

    def _transmit(self, lent: Lent, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        if samples is None or samples.dtype != np.complex64:
            raise WireError("transmit needs cf32 samples")
        lent.transmit(samples)
        return {"ok": "transmit"}, None

    def _receive(self, lent: Lent, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        num_samples = header.get("num_samples")
        if not is_whole(num_samples):
            raise WireError(f"num_samples {shown(num_samples)}; must be a whole number")
        if not 1 <= num_samples <= MAX_RECEIVE_SAMPLES:
            raise RadioError(
                f"{lent.name}: {shown(num_samples)} samples asked for; must be 1..{MAX_RECEIVE_SAMPLES} per request"
            )
        got = lent.receive(num_samples)
        told = {"underflows": got.num_underflows} if got.num_underflows else {}
        return {
            "ok": "receive",
            "epoch": got.epoch,
            "start": got.start,
            "clip_count": got.clip_count,
            "continuity": got.continuity,
            **told,
        }, got.raw

    def _refresh(self, lent: Lent, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        lent.refresh()
        return {"ok": "refresh"}, None

    def _mute(self, lent: Lent, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        lent.mute()
        return {"ok": "mute"}, None

    def _leave(self, lent: Lent, header: dict[str, Any], samples: NDArray[Any] | None) -> Reply:
        lent.mute()
        lent.take_back("its client left")
        return {"ok": "leave"}, None


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:1000]


def _text(header: dict[str, Any], key: str) -> str:
    value = header.get(key)
    if not isinstance(value, str):
        raise RadioError(f"{key} {shown(value)}; must be text")
    return value
