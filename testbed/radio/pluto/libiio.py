"""libiio and pyadi-iio: found, or explained with the recipe; a context, or one line that says why there is none.

Both are imported here and nowhere else, and only when a Pluto is wanted. What is wrong with an installation does not
come as an ImportError: pylibiio 0.25 without its C library raises AttributeError, pylibiio 1.0 FileNotFoundError.
"""

import contextlib
import ctypes
import errno
import functools
import importlib
import ipaddress
import math
import os
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from testbed.errors import ConfigError, RadioTimeout, RadioUnavailable

PORT = 30431  # of iiod
PINS = "pyadi-iio==0.0.21 pylibiio==0.25"
RECIPE = f"install them: apt-get install libiio0, then pip install {PINS}"
MIN_LIBIIO = (0, 21)  # older ones lack what pylibiio 0.25 calls
_MAX_REPLY_BYTES = 256
_GONE = {  # what libiio reports of a device or server that is no longer there
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ENOTCONN,
    errno.ENODEV,
    errno.ENXIO,
    errno.EBADF,
    errno.ESHUTDOWN,
    errno.EIO,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}
_LATE = {errno.ETIMEDOUT, errno.EAGAIN}
_ABSENT = {errno.ENODEV, errno.ENXIO, errno.ENOENT}


def load(name: str) -> ModuleType:
    """Module `iio` or `adi`, with a libiio below it that both can work with.

    Raises:
        RadioUnavailable: something is missing or of a wrong version; the message holds the recipe.
    """
    try:
        with quiet():
            iio = importlib.import_module("iio")
            module = iio if name == "iio" else importlib.import_module(name)
    except ModuleNotFoundError as exc:
        package = "pylibiio" if exc.name == "iio" else "pyadi-iio"
        raise RadioUnavailable(f"Pluto: the Python package {package} is not installed; {RECIPE}") from exc
    except (ImportError, OSError, AttributeError) as exc:
        raise RadioUnavailable(f"Pluto: {_broken(exc)}") from exc
    found = tuple(iio.version[:2])
    if found[0] >= 1:
        raise RadioUnavailable(
            f"Pluto: libiio {found[0]}.{found[1]} found; pyadi-iio 0.0.21 sends cyclic buffers of a wrong length with "
            f"1.x, 0.x is needed; {RECIPE}"
        )
    if found < MIN_LIBIIO:
        least = ".".join(map(str, MIN_LIBIIO))
        raise RadioUnavailable(f"Pluto: libiio {found[0]}.{found[1]} is too old, at least {least} is needed; {RECIPE}")
    return module


def _broken(exc: Exception) -> str:
    text = " ".join(str(exc).split())
    if "version 1.x required" in text or isinstance(exc, FileNotFoundError):
        return f"pylibiio 1.x cannot work with the libiio 0.x of the distribution ({text}); {RECIPE}"
    if "undefined symbol" in text and "get_backends_count" not in text:
        return f"the libiio of this system is too old for pylibiio 0.25 ({text}); {RECIPE}"
    if isinstance(exc, AttributeError | OSError):
        return f"the C library libiio is missing ({text}); {RECIPE}"
    return f"pyadi-iio cannot be imported ({text}); {RECIPE}"


def check_uri(uri: str) -> str:
    """A URI as libiio takes it: ip:HOST[:PORT], usb: or usb:BUS.DEVICE.INTERFACE; ConfigError if it is none."""
    kind, colon, rest = uri.partition(":")
    host, port = address(uri) if kind == "ip" and rest else ("", 0)
    good = (kind == "usb" and colon) or (kind == "ip" and host and 0 < port < 1 << 16)
    if not good or any(c.isspace() or not c.isascii() for c in uri):
        raise ConfigError(
            f"pluto:{uri}: must read pluto:ip:HOST, pluto:ip:HOST:PORT, pluto:usb: or pluto:usb:BUS.DEVICE.INTERFACE, "
            f"e.g. pluto:ip:192.168.2.1; `isac radios` lists what is there"
        )
    return uri


def address(uri: str) -> tuple[str, int]:
    """Host and port of an ip: URI; port 0 where it is no number. An IPv6 address with a port stands in brackets."""
    rest = uri.removeprefix("ip:")
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    elif rest.count(":") > 1:
        host, port = rest, ""
    else:
        host, _, port = rest.partition(":")
    return host, int(port) if port.isdecimal() else (0 if port else PORT)


def is_loopback(uri: str) -> bool:
    """Whether a URI leads to a server on this very machine, by its loopback address."""
    if not uri.startswith("ip:"):
        return False
    host = address(uri)[0]
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def is_simulated(uri: str, attributes: Mapping[str, str]) -> bool:
    """Whether what is sent there never reaches an antenna: a virtual board that says so, on this very machine.

    Neither alone is proof: a loopback address may be a tunnel to a real board, and a far server may say anything.
    """
    return is_loopback(uri) and attributes.get("simulated", "").startswith("isac-sim")


def probe(uri: str, timeout_s: float) -> str:
    """Version of the iiod behind an ip: URI, asked on a connection of our own; empty for other URIs.

    libiio waits 5 s for a server that does not answer, whatever timeout it was given; this does not.

    Raises:
        RadioUnavailable: nobody takes connections there, or it is no iiod.
        RadioTimeout: somebody does, and does not answer.
    """
    if not uri.startswith("ip:"):
        return ""
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection(address(uri), timeout_s) as link:
            link.sendall(b"VERSION\r\n")
            reply = b""
            while not reply.endswith(b"\n") and len(reply) < _MAX_REPLY_BYTES:
                link.settimeout(max(deadline - time.monotonic(), 1e-3))
                part = link.recv(64)
                if not part:
                    break
                reply += part
    except TimeoutError:
        raise RadioTimeout(f"{uri}: no answer within {timeout_s:g} s; is it switched on and free?") from None
    except OSError as exc:
        raise RadioUnavailable(f"{uri}: {why(exc, uri)}") from exc
    except UnicodeError:  # part of a name that is empty or too long
        raise RadioUnavailable(f"{uri}: {why(socket.gaierror(), uri)}") from None
    words = reply.decode("ascii", "replace").strip()
    if not words or not words[0].isdigit():
        raise RadioUnavailable(f"{uri}: what answers there is no iiod ({words[:40]!r}); check the address")
    return words


def open_context(uri: str, timeout_s: float) -> Any:
    """A libiio context.

    Raises:
        RadioUnavailable: no such device, or it is in use, or we may not touch it.
        RadioTimeout: it does not answer.
    """
    iio = load("iio")
    probe(uri, timeout_s)
    try:
        with quiet():
            context = iio.Context(uri)
            context.set_timeout(max(1, math.ceil(timeout_s * 1e3)))
    except OSError as exc:
        raise RadioUnavailable(f"{uri}: {why(exc, uri)}") from exc
    return context


def why(exc: OSError, uri: str) -> str:
    """What an error of libiio means to who opens a device, and what to do."""
    usb = uri.startswith("usb")
    number = exc.errno or 0
    if isinstance(exc, socket.gaierror):
        return "this name is not known on the network; give the address, e.g. pluto:ip:192.168.2.1"
    if number == errno.EBUSY:
        return "in use by another program; close that one first"
    if number in (errno.EACCES, errno.EPERM):
        return (
            "this user may not open it; install the udev rule of libiio (`isac doctor` shows it) and plug it in again"
        )
    if number == errno.ECONNREFUSED:
        return "the machine is there, but no iiod runs on it; is it a Pluto, or `isac-sim pluto` still running?"
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT):
        return "no such machine on the network; check cable and address (`isac radios`)"
    if number in _ABSENT:
        return f"no such device{' on USB' if usb else ''}; check the cable (`isac radios` lists what is there)"
    if number == errno.EINVAL and usb:
        return "not one Pluto on USB; with several give pluto:usb:BUS.DEVICE.INTERFACE (`isac radios`)"
    return f"cannot be opened ({os.strerror(number) if number else exc}); `isac radios` lists what is there"


def is_late(exc: OSError) -> bool:
    """Whether an error says that no answer came in time."""
    return exc.errno in _LATE


def is_absent(exc: OSError) -> bool:
    """Whether an error says that there is no such device, and not only that it failed."""
    return exc.errno in _ABSENT


def is_gone(exc: OSError) -> bool:
    """Whether an error says that the device or its server is no longer there. A late answer over IP looks the same."""
    return exc.errno in _GONE


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_before: int | None = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, what C libraries print on their own standard error is dropped: our one line says it better.

    Only their `FILE *stderr` is exchanged; what Python prints goes its own way.
    """
    _swap_stderr(+1)
    try:
        yield
    finally:
        _swap_stderr(-1)


def bare(exc: OSError) -> OSError:
    """An error without what its frames hold: they would keep buffers of libiio alive beyond their context."""
    with quiet():
        traceback.clear_frames(exc.__traceback__)
        return exc.with_traceback(None)


def _swap_stderr(step: int) -> None:
    global _quiet_depth, _quiet_before
    with _quiet_lock, contextlib.suppress(ValueError):  # where a C library has no such symbol
        stderr = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
        _quiet_depth += step
        if step > 0 and _quiet_depth == 1:
            _quiet_before, stderr.value = stderr.value, _null_file()
        elif step < 0 and _quiet_depth == 0:
            stderr.value = _quiet_before


@functools.cache
def _null_file() -> int | None:
    opened = ctypes.CDLL(None).fopen
    opened.restype = ctypes.c_void_p
    file: int | None = opened(os.devnull.encode(), b"w")
    return file


def scan() -> dict[str, str]:
    """What libiio finds by itself, on USB and by its own announcement on the network: description by URI."""
    iio = load("iio")
    with quiet():
        found: dict[str, str] = iio.scan_contexts()
    return found
