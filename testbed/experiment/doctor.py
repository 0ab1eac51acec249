"""What this host has and lacks for experiments, and how to get it. Looks only; changes nothing.

Every check imports what it looks at by itself, and nothing that may bring the process down: UHD's module, which may be
built for another NumPy, is imported by a process of its own.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from testbed.errors import RadioUnavailable
from testbed.radio.usrp.uhd_library import RECIPE

Status = Literal["ok", "missing", "wrong"]

MIN_PYTHON = (3, 11)
RULE_FOLDERS = ("/etc/udev/rules.d", "/lib/udev/rules.d", "/usr/lib/udev/rules.d")
PLUTO_USB = ("0456", "b673")
RULE = 'SUBSYSTEM=="usb", ATTRS{idVendor}=="0456", ATTRS{idProduct}=="b673", MODE="0666"'
_TRY_UHD = """
import numpy
from testbed.radio.usrp import uhd_library
try:
    print(f"UHD {uhd_library.version(uhd_library.load())} beside NumPy {numpy.__version__}")
except Exception as exc:
    print(exc)
"""
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Status
    found: str
    needed_for: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.status:8}{self.name:12}{self.found} ({self.needed_for}){remedy}"


def examine() -> list[Check]:
    """All checks, in the order in which one would set a host up."""
    checks: tuple[Callable[[], Check], ...] = (
        _python,
        _numba,
        _cache,
        _libiio,
        _pylibiio,
        _pyadi,
        _udev,
        _uhd,
        _gnuradio,
        _chromium,
    )
    return [check() for check in checks]


def _python() -> Check:
    found, needed_for = f"{platform.python_version()} at {_short(sys.executable)}", "everything"
    if sys.version_info >= MIN_PYTHON:
        return Check("Python", "ok", found, needed_for)
    least = ".".join(map(str, MIN_PYTHON))
    return Check("Python", "wrong", found, needed_for, f"install Python {least} or newer: apt-get install python3")


def _numba() -> Check:
    needed_for = "a fast emulator; without it, plain NumPy, several times slower"
    remedy = "pip install numba, or unset ISAC_PLAIN_NUMPY and NUMBA_DISABLE_JIT"
    try:
        import numba

        compiled = numba.njit(lambda x: x + 1)
        if compiled(1) != 2 or not compiled.signatures:
            return Check("numba", "wrong", f"{numba.__version__}, does not compile", needed_for, remedy)
    except Exception as exc:  # a broken LLVM raises what it likes
        status: Status = "missing" if isinstance(exc, ModuleNotFoundError) else "wrong"
        return Check("numba", status, " ".join(str(exc).split())[:120], needed_for, remedy)
    return Check("numba", "ok", f"{numba.__version__}, compiles", needed_for)


def _cache() -> Check:
    needed_for = "compiling once instead of at every start"
    folder = _cache_folder()
    if os.access(folder, os.W_OK):
        return Check("cache", "ok", f"{_short(folder)} is writable", needed_for)
    remedy = "set NUMBA_CACHE_DIR to a folder that is yours"
    return Check("cache", "wrong", f"{_short(folder)} is not writable", needed_for, remedy)


def _cache_folder() -> Path:
    """Where compiled kernels are kept, or the nearest folder above that exists."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        folder = Path(named)
    else:
        spec = importlib.util.find_spec("sim")  # looked for, never imported: the kernels are the world's
        places = None if spec is None else spec.submodule_search_locations
        folder = Path(next(iter(places))) / "__pycache__" if places else Path.home() / ".cache"
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _libiio() -> Check:
    needed_for = "ADALM-Pluto"
    import ctypes.util

    from testbed.radio.pluto import libiio

    library = ctypes.util.find_library("iio")
    if library is None:
        return Check("libiio", "missing", "no C library", needed_for, "apt-get install libiio0 (make deps)")
    try:
        version = libiio.load("iio").version
    except RadioUnavailable as exc:
        return Check("libiio", "wrong", library, needed_for, str(exc).removeprefix("Pluto: "))
    return Check("libiio", "ok", f"{version[0]}.{version[1]} as {library}", needed_for)


def _pylibiio() -> Check:
    return _package("pylibiio", lambda version: version.startswith("0.") and version >= "0.25", "pylibiio==0.25")


def _pyadi() -> Check:
    return _package("pyadi-iio", lambda version: True, "pyadi-iio==0.0.21 pylibiio==0.25")


def _package(name: str, is_good: Callable[[str], bool], pins: str) -> Check:
    needed_for = "ADALM-Pluto"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "missing", "not installed", needed_for, f"pip install {pins}")
    if not is_good(version):
        return Check(name, "wrong", f"{version}, which needs libiio 1.x", needed_for, f"pip install {pins}")
    return Check(name, "ok", version, needed_for)


def _udev() -> Check:
    needed_for = "ADALM-Pluto on USB without being root"
    for folder in map(Path, RULE_FOLDERS):
        for rule in sorted(folder.glob("*.rules")) if folder.is_dir() else ():
            try:
                text = rule.read_text(encoding="utf-8", errors="replace").lower()
            except OSError:  # not for us to read, or a link that leads nowhere
                continue
            # the distribution's rule asks the tool whether a device is one
            if all(number in text for number in PLUTO_USB) or ("iio_info" in text and shutil.which("iio_info")):
                return Check("udev rule", "ok", str(rule), needed_for)
    remedy = f"apt-get install libiio0 libiio-utils; or write '{RULE}' to /etc/udev/rules.d/53-adi-plutosdr-usb.rules"
    return Check("udev rule", "missing", "no rule for 0456:b673", needed_for, remedy)


def _uhd() -> Check:
    needed_for = "USRP"
    if importlib.util.find_spec("uhd") is None:
        tool = _said("uhd_config_info", "--version")
        found = f"{tool}, but not in this Python" if tool else "not installed"
        return Check("UHD", "missing", found, needed_for, RECIPE)
    try:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(
            [sys.executable, "-c", _TRY_UHD],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=environment,
        )
        told = (done.stdout.strip().splitlines() or ["it brings the process down"])[-1]
    except (OSError, subprocess.TimeoutExpired) as exc:
        told = " ".join(str(exc).split())
    if told.startswith("UHD "):
        return Check("UHD", "ok", told.removeprefix("UHD "), needed_for)
    return Check("UHD", "wrong", told.split(";")[0].removeprefix("USRP: ")[:160], needed_for, RECIPE)


def _gnuradio() -> Check:
    needed_for = "flowgraphs against the emulator; a process of its own, any Python"
    version = _said("gnuradio-config-info", "--version")
    if version:
        return Check("GNU Radio", "ok", version, needed_for)
    return Check("GNU Radio", "missing", "not installed", needed_for, "apt-get install gnuradio")


def _chromium() -> Check:
    needed_for = "one test of the report"
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if found:
        return Check("browser", "ok", found, needed_for)
    return Check("browser", "missing", "no chromium", needed_for, "apt-get install chromium (make deps)")


def _said(*command: str) -> str:
    """First line that a program prints, or nothing where it is not there."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stdout.splitlines() if re.search(r"\d", line)]
    return lines[0].strip()[:80] if done.returncode == 0 and lines else ""


def _short(path: str | Path) -> str:
    """A path as a user writes it: his home as ~."""
    home, text = str(Path.home()), str(path)
    return f"~{text.removeprefix(home)}" if home != "/" and text.startswith(home + "/") else text
