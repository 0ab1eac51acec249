"""The wire: ZMQ multipart messages of a JSON header and raw little-endian samples. Never pickle.

Part 0 is a UTF-8 JSON object {"v", "op" or "ok" or "error", "node", "seq", ..., "shape", "dtype"}; part 1, present when
"dtype" is, holds the samples: "ci16" interleaved int16 with a last axis of 2, "cf32" complex64. Sizes are checked
against the bytes that came before anything is allocated from them.
"""

import ipaddress
import json
import reprlib
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from testbed.errors import ConfigError, RadioError

VERSION = 1
MAX_MESSAGE_BYTES = 64 << 20  # also given to ZMQ_MAXMSGSIZE: a longer message closes its connection
MAX_HEADER_BYTES = 1 << 16
MAX_HEADER_DEPTH = 16  # of lists and tables; far below what would exhaust the stack of whoever shows a value
MAX_RECEIVE_SAMPLES = 1 << 18  # per request and channel, a megabyte of ci16; clients ask for half of it
MAX_PARTS = 2
DTYPES: dict[str, np.dtype[Any]] = {"ci16": np.dtype("<i2"), "cf32": np.dtype("<c8")}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60


class WireError(RadioError):
    """A message that does not follow the wire's rules; usual cause: another program or version on this port."""


def pack(header: dict[str, Any], samples: NDArray[Any] | None = None) -> list[Any]:
    """Header and optional samples as message parts; the array is sent without a copy where it is contiguous."""
    head = {"v": VERSION, **header}
    if samples is None:
        return [_encode(head)]
    name = "ci16" if samples.dtype.kind == "i" else "cf32"
    payload = np.ascontiguousarray(samples, dtype=DTYPES[name])
    head |= {"shape": list(payload.shape), "dtype": name}
    return [_encode(head), payload.data if payload.size else b""]


def unpack(parts: list[bytes]) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """Message parts to header and samples (read-only view of the payload).

    Raises:
        WireError: anything that is not a message of this version; one line that names the fault.
    """
    if not 1 <= len(parts) <= MAX_PARTS:
        raise WireError(f"message of {len(parts)} parts; expected a header and at most one payload")
    if len(parts[0]) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(parts[0])} bytes; at most {MAX_HEADER_BYTES}")
    try:
        header = json.loads(parts[0].decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise WireError("header is not JSON text") from None
    if not isinstance(header, dict):
        raise WireError("header is not a JSON object")
    if _is_deep(header):
        raise WireError(f"header nested deeper than {MAX_HEADER_DEPTH} levels")
    if not is_whole(header.get("v")) or header["v"] != VERSION:
        raise WireError(f"wire version {shown(header.get('v'))}; this side speaks {VERSION}")
    if "dtype" not in header:
        if len(parts) == 2:
            raise WireError("payload without dtype and shape in the header")
        return header, None
    if len(parts) != 2:
        raise WireError("header announces samples, but there is no payload")
    return header, _samples(header, parts[1])


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value of a header is a whole number; JSON's true is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value of a header as it stands in an error: one line, short whatever was sent."""
    return _SHORT.repr(value)[:120]


def endpoint_host(endpoint: str) -> str:
    """Host of a `tcp://HOST:PORT` endpoint; ConfigError when it is not one."""
    try:
        url = urlsplit(endpoint)
        if url.scheme == "tcp" and url.hostname and url.port is not None and not url.path:
            return url.hostname
    except ValueError:
        pass
    raise ConfigError(f"endpoint '{endpoint}': must read tcp://HOST:PORT, e.g. tcp://127.0.0.1:5555")


def require_loopback(endpoint: str) -> None:
    """ConfigError unless the endpoint binds a loopback address: without keys, whoever can connect is obeyed."""
    host = endpoint_host(endpoint)
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"endpoint '{endpoint}': only loopback addresses may be bound without keys; use tcp://127.0.0.1:PORT, or "
            "give keys (`isac keys` makes them)"
        )


def _is_deep(header: dict[str, Any]) -> bool:
    level: list[Any] = [header]
    for _ in range(MAX_HEADER_DEPTH):
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def _encode(header: dict[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _samples(header: dict[str, Any], payload: bytes) -> NDArray[Any]:
    name, shape = header["dtype"], header.get("shape")
    if not isinstance(name, str) or name not in DTYPES:
        raise WireError(f"dtype {shown(name)}; must be one of {', '.join(DTYPES)}")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 3
        or not all(is_whole(n) and 0 <= n <= MAX_MESSAGE_BYTES for n in shape)
    ):
        raise WireError(f"shape {shown(shape)}; must be one to three whole numbers up to {MAX_MESSAGE_BYTES}")
    if name == "ci16" and shape[-1] != 2:
        raise WireError(f"shape {shape}: ci16 needs a last axis of 2 (in-phase, quadrature)")
    wanted = DTYPES[name].itemsize
    for n in shape:
        wanted *= n
    if wanted != len(payload):
        raise WireError(f"payload of {len(payload)} bytes; shape {shape} of {name} needs {wanted}")
    return np.frombuffer(payload, dtype=DTYPES[name]).reshape(shape)
