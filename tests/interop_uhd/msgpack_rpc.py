"""MessagePack-RPC on gevent: as much of a server as the USRP simulator needs, in the place of a package it asks for.

A request is [0, id, method, parameters], its answer [1, id, error, result], and [2, method, parameters] wants none.
"""

from typing import Any

import msgpack

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2
READ_BYTES = 65_536


class RPCServer:
    """Calls methods of itself for whoever connects; those that begin with an underscore are nobody's business."""

    def __init__(self, pack_params: dict[str, Any] | None = None, unpack_params: dict[str, Any] | None = None) -> None:
        self._pack_options = pack_params or {}
        self._unpack_options = unpack_params or {}
        self.client_host, self.client_port = "", 0

    def __call__(self, connection: Any, address: tuple[str, int]) -> None:
        """Serve one connection until its peer closes it."""
        unpacker = msgpack.Unpacker(**self._unpack_options)
        with connection:
            while data := connection.recv(READ_BYTES):
                unpacker.feed(data)
                for message in unpacker:
                    self.client_host, self.client_port = address[:2]
                    answer = self._answer(message)
                    if answer is not None:
                        connection.sendall(msgpack.packb(answer, **self._pack_options))

    def _answer(self, message: Any) -> tuple[int, int, str | None, Any] | None:
        kind = message[0]
        if kind not in (REQUEST, NOTIFICATION):
            raise ValueError(f"message of kind {kind}; must be {REQUEST} or {NOTIFICATION}")
        name, parameters = message[-2:]
        error, result = None, None
        try:
            if name.startswith("_"):
                raise AttributeError(f"no method {name}")
            result = getattr(self, name)(*parameters)
        except Exception as exc:  # whatever it was, it is the peer's to hear
            error = f"{type(exc).__name__}: {exc}"
        return (RESPONSE, message[1], error, result) if kind == REQUEST else None
