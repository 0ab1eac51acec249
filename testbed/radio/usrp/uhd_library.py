"""UHD's Python module: found, or explained with the recipe; its device arguments, its version, its errors in one line.

It is imported here and nowhere else, and only when a USRP is wanted. Distributions build it for NumPy 1. Under NumPy 2
its import only warns, and the process crashes when samples flow: so the warning, which NumPy itself writes, is caught,
and the module is refused.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import io
import logging
import os
import re
import sys
from types import ModuleType
from typing import Any

from testbed.errors import ConfigError, RadioError, RadioTimeout, RadioUnavailable

RECIPE = (
    "on Debian or Ubuntu apt-get install python3-uhd uhd-host, then a venv of that Python with --system-site-packages "
    "and 'numpy<2', and `isac serve` in it"
)
GONE = "the device is gone; plug it in again"
MAX_ARGS_CHARS = 1000
_NUMPY_WORDS = "compiled using NumPy 1"  # of NumPy 2 upon a module that was built for NumPy 1
_QUIET = {"UHD_LOG_CONSOLE_LEVEL": "warning", "UHD_LOG_FASTPATH_DISABLE": "1"}  # losses are counted, not printed

# words of UHD's errors, and what they mean to who opens or uses a device; the first that fits
_MEANINGS: tuple[tuple[str, type[RadioError], str], ...] = (
    ("No devices found", RadioUnavailable, "no such device; check cable, power and address (`isac radios`)"),
    ("uhd_images_downloader", RadioUnavailable, "UHD has no images for it; run uhd_images_downloader once"),
    ("Could not find path for image", RadioUnavailable, "UHD has no images for it; run uhd_images_downloader once"),
    ("compatibility number", RadioUnavailable, "its FPGA image does not go with this UHD; run uhd_image_loader"),
    ("FPGA compat", RadioUnavailable, "its FPGA image does not go with this UHD; run uhd_image_loader"),
    ("insufficient permissions", RadioUnavailable, "this user may not open it; install uhd-host's udev rule"),
    ("LIBUSB_ERROR_ACCESS", RadioUnavailable, "this user may not open it; install uhd-host's udev rule"),
    ("Someone tried to claim this device again", RadioUnavailable, "in use by another program; close that one first"),
    ("claimed by another process", RadioUnavailable, "in use by another program; close that one first"),
    ("LIBUSB_ERROR_BUSY", RadioUnavailable, "in use by another program; close that one first"),
    ("PPS", RadioUnavailable, "no pulse per second arrives; check the cable, or set usrp.time_source = 'internal'"),
    ("LIBUSB_ERROR_NO_DEVICE", RadioUnavailable, GONE),
    ("LIBUSB_TRANSFER_NO_DEVICE", RadioUnavailable, GONE),
    ("EnvironmentError: IOError", RadioUnavailable, "the connection to the device is lost; check cable and power"),
    ("OpTimeout", RadioTimeout, "the device does not answer; check cable, power and network"),
    ("timed out", RadioTimeout, "the device does not answer; check cable, power and network"),
    ("no control response", RadioTimeout, "the device does not answer; check cable, power and network"),
)

log = logging.getLogger(__name__)
_refusal = ""  # why the module must not be used: once loaded it stays in the process


def load() -> ModuleType:
    """The module `uhd`, which is safe to use.

    Raises:
        RadioUnavailable: it is missing, broken, or built for another NumPy; the message holds the recipe.
    """
    global _refusal
    if _refusal:
        raise RadioUnavailable(_refusal)
    if "uhd" not in sys.modules and importlib.util.find_spec("uhd") is None:
        raise RadioUnavailable(f"USRP: UHD's Python module is not installed here; {RECIPE}")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            uhd = importlib.import_module("uhd")
            for part in ("uhd.types", "uhd.usrp"):
                importlib.import_module(part)
    except Exception as exc:  # a C extension raises what it likes
        if _NUMPY_WORDS not in told.getvalue() + str(exc):
            raise RadioUnavailable(f"USRP: UHD's Python module cannot be loaded ({one_line(exc)}); {RECIPE}") from exc
    if _NUMPY_WORDS in told.getvalue():
        import numpy as np

        _refusal = (
            f"USRP: UHD's Python module was built for NumPy 1 and would crash beside NumPy {np.__version__}; {RECIPE}"
        )
        raise RadioUnavailable(_refusal)
    if text := told.getvalue().strip():
        log.warning("UHD: %s", " ".join(text.split())[:200])
    return uhd


def version(uhd: Any) -> str:
    """UHD's version, e.g. 4.3.0.0; empty where it does not say. Its Python module says so itself only from 4.8 on."""
    if hasattr(uhd, "get_version_string"):
        return str(uhd.get_version_string())
    with contextlib.suppress(AttributeError, OSError):
        # the library below the module, which is loaded already
        library, text = ctypes.CDLL(uhd.libpyuhd.__file__), ctypes.create_string_buffer(80)
        if library.uhd_get_version_string(text, ctypes.c_size_t(len(text))) == 0:
            return text.value.decode("ascii", "replace")
    return ""


def version_number(text: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 4.3.0.0+ds1-5 gives (4, 3, 0, 0)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def check_args(text: str) -> dict[str, str]:
    """Device arguments 'key=value,key=value', or none.

    Raises:
        ConfigError: one line that says which part is none.
    """
    found: dict[str, str] = {}
    if len(text) > MAX_ARGS_CHARS:
        raise ConfigError(f"uhd: {len(text)} characters of device arguments; at most {MAX_ARGS_CHARS}")
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", key) or not re.fullmatch(r"[\w.:/+-]{1,80}", value):
            raise ConfigError(
                f"{_shown(text)}: found {part[:40]!r}; must be nothing, or device arguments of UHD like "
                f"type=b200,serial=30AB"
            )
        if key in found:
            raise ConfigError(f"{_shown(text)}: {key} stands twice; give it once")
        found[key] = value
    return found


def _shown(text: str) -> str:
    return repr(f"uhd:{text[:80]}")


def find(args: str = "") -> list[dict[str, str]]:
    """Devices that answer, as UHD tells them: type, serial, name, product, addr. Takes some seconds.

    Raises:
        RadioUnavailable: UHD is not installed, or cannot be used.
    """
    uhd = load()
    try:
        return [dict(found.to_dict()) for found in uhd.find(args)]
    except RuntimeError as exc:
        raise explained(exc, "USRP") from exc


def explained(exc: Exception, where: str) -> RadioError:
    """An error of UHD, which is a RuntimeError with a class and a text of C++, in one line of ours."""
    text = one_line(exc)
    for words, kind, meaning in _MEANINGS:
        if words in text:
            return kind(f"{where}: {meaning}")
    return RadioError(f"{where}: UHD refuses ({text}); see `uhd_usrp_probe`")


def one_line(exc: BaseException) -> str:
    """Text of an error, without line ends, not too long."""
    return " ".join(str(exc).split())[:200] or type(exc).__name__
