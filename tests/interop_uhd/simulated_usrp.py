"""A simulated USRP for tests: the process of `simulator.py`, and radios on it."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed.device import Settings
from testbed.errors import RadioUnavailable
from testbed.radio.devices.config import Device, load_device
from testbed.radio.usrp import uhd_library
from testbed.radio.usrp.radio import UsrpRadio
from tests.interop_uhd.signals import SETTINGS

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
CONFIGURATION = HERE / "e320_simulated.toml"
SERIAL = "FA4EDE7"
PACKET_SAMPLES = 1746  # of a packet as long as the simulator takes
PACKAGES = "python3-uhd, python3-gevent and python3-msgpack"


@dataclass(frozen=True)
class SimulatedUsrp:
    """A simulator that runs."""

    process: "subprocess.Popen[str]"
    args: str  # device arguments

    @property
    def resource(self) -> str:
        """As files name it."""
        return f"uhd:{self.args}"

    @property
    def device(self) -> Device:
        """Its configuration."""
        return load_device(CONFIGURATION)

    def say(self, command: str = "") -> dict[str, Any]:
        """Its state, after a command: 'lose' a packet, 'overflow', 'underflow'."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        state: dict[str, Any] = json.loads(self.process.stdout.readline())
        return state

    @contextlib.contextmanager
    def radio(self, timeout_s: float = 5.0, *, settings: Settings | None = SETTINGS) -> Iterator[UsrpRadio]:
        """Its first channel, configured unless told otherwise."""
        radio = UsrpRadio(self.resource, "radio1", device=self.device, timeout_s=timeout_s)
        try:
            if settings is not None:
                radio.configure(settings)
            yield radio
        finally:
            radio.close()


@functools.cache
def distribution_python() -> str:
    """The interpreter that has the distribution's packages."""
    python = shutil.which("python3", path=os.defpath)
    if python is None:
        pytest.skip("no python3 of the distribution")
    return python


@functools.cache
def project_python() -> str:
    """The interpreter of the project's own environment, which has NumPy 2."""
    python = os.environ.get("ISAC_PROJECT_PYTHON") or str(REPOSITORY / ".venv" / "bin" / "python")
    if shutil.which(python) is None:
        pytest.skip(f"{python} is not there; `make test` makes the project's own environment")
    return python


def clean_environment() -> dict[str, str]:
    """Nothing of our own virtual environment."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


@functools.cache
def need_uhd() -> None:
    """Skip a test where UHD cannot be used in this very process."""
    try:
        uhd_library.load()
    except RadioUnavailable as exc:
        pytest.skip(str(exc))


@contextlib.contextmanager
def simulated_usrp(*arguments: str) -> Iterator[SimulatedUsrp]:
    """A simulator in a process of its own; with '--clock' it has one."""
    command = [distribution_python(), str(HERE / "simulator.py"), *arguments]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=clean_environment(),
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    try:
        line = child.stdout.readline()
        if not line:
            reason = child.stderr.read().strip().splitlines()[-1]
            pytest.skip(f"UHD's simulator does not start ({reason}); it needs {PACKAGES}")
        yield SimulatedUsrp(child, json.loads(line)["args"])
    finally:
        with contextlib.suppress(OSError):
            child.stdin.close()
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()
