"""The socket of every server of the wire, with a bound on all that a client can send or make it hold."""

import contextlib
from collections.abc import Mapping

import zmq

from testbed.errors import ConfigError
from testbed.radio.keys import ServerKeys
from testbed.radio.wire import MAX_MESSAGE_BYTES, MAX_PARTS, endpoint_host, require_loopback

# Messages per client and direction; a client asks ahead by a few. Replies that nobody reads are dropped beyond it,
# which bounds what a client can make the server hold to about 16 MiB.
QUEUED_MESSAGES = 16
HANDSHAKE_MS = 10_000  # a connection that has not introduced itself by then is closed
KEEPALIVE_S = 60  # of silence, before the kernel asks whether the other host is still there


def bind_router(
    endpoint: str, keys: ServerKeys | None, options: Mapping[int, int] | None = None
) -> tuple["zmq.Context[zmq.Socket[bytes]]", "zmq.Socket[bytes]"]:
    """A bound ROUTER socket in a context of its own; port 0 takes a free one. With `keys` only their clients connect.

    Raises:
        ConfigError: the endpoint is malformed, in use, or not loopback while there are no keys.
    """
    if keys is None:
        require_loopback(endpoint)
    endpoint_host(endpoint)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()  # of its own: a context has one list of clients
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    bounds: dict[int, int] = {
        zmq.LINGER: 0,
        zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
        zmq.TCP_KEEPALIVE: 1,
        zmq.TCP_KEEPALIVE_IDLE: KEEPALIVE_S,
        zmq.MAXMSGSIZE: MAX_MESSAGE_BYTES,
        zmq.SNDHWM: QUEUED_MESSAGES,
        zmq.RCVHWM: QUEUED_MESSAGES,
    }
    for option, value in (bounds | dict(options or {})).items():
        socket.setsockopt(option, value)
    try:
        if keys is not None:
            keys.protect(socket)
        socket.bind(endpoint)
    except zmq.ZMQError as exc:
        socket.close()
        context.term()
        raise ConfigError(f"endpoint '{endpoint}': cannot be bound ({exc}); choose another port or 0") from exc
    return context, socket


def next_message(socket: "zmq.Socket[bytes]") -> tuple[bytes, list[bytes], str]:
    """Who sent it, its parts, and from which address; of parts that no message of ours has, only the number is kept."""
    identity = socket.recv()
    parts: list[bytes] = []
    address = ""
    while socket.getsockopt(zmq.RCVMORE):
        part = socket.recv(copy=False)
        if not parts:
            with contextlib.suppress(zmq.ZMQError):
                address = str(part.get("Peer-Address"))
        parts.append(part.bytes if len(parts) < MAX_PARTS else b"")
    return identity, parts, address
