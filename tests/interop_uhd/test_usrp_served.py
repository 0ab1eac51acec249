"""`isac serve` lends a USRP to who runs NumPy 2: the server beside UHD and NumPy 1, the client in the project's own."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from tests.interop_uhd.simulated_usrp import (
    CONFIGURATION,
    REPOSITORY,
    SimulatedUsrp,
    clean_environment,
    need_uhd,
    project_python,
    simulated_usrp,
)

pytestmark = pytest.mark.interop_uhd

BAND = {"name": "lab", "low_hz": 2.39e9, "high_hz": 2.41e9, "max_power_dbm": 10.0, "basis": "simulated, no antenna"}
WATCHDOG_S = 1.0
CLIENT = """
import json, sys
import numpy as np
from testbed.radio.remote import RemoteRadio
from tests.interop_uhd.signals import SETTINGS, check_heard, ofdm_frame, receive

radio = RemoteRadio(sys.argv[1], "radio1")
realised = radio.configure(SETTINGS)
frame = ofdm_frame()
radio.transmit(frame)
for _ in range(10):
    heard = receive(radio, frame)
    check_heard(heard, frame, offset=0)
print(json.dumps({
    "numpy": np.__version__, "model": radio.limits.model, "simulated": radio.limits.simulated,
    "tx_gain_db": realised.tx_gain_db, "continuity": heard.continuity, "start": heard.start,
}), flush=True)
sys.stdin.read()
radio.close()
"""


@pytest.fixture(scope="module")
def usrp() -> Iterator[SimulatedUsrp]:
    need_uhd()
    with simulated_usrp("--clock") as found:
        yield found


def serve_command(usrp: SimulatedUsrp, folder: Path) -> list[str]:
    """`isac serve` for the simulated device, beside UHD."""
    file = folder / "radio.toml"
    row = {"name": "radio1", "radio": usrp.resource, "device": str(CONFIGURATION)}
    safety = {"bands": [BAND], "watchdog_s": WATCHDOG_S}
    file.write_text(tomli_w.dumps({"endpoint": "tcp://127.0.0.1:0", "nodes": [row], "safety": safety}))
    return [sys.executable, "-m", "testbed", "serve", str(file), "--until-stdin-closes"]


@contextlib.contextmanager
def served(usrp: SimulatedUsrp, folder: Path) -> Iterator[str]:
    """The device is lent; yields the endpoint."""
    child = subprocess.Popen(
        [*serve_command(usrp, folder), "--transmit"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    try:
        line = child.stdout.readline()
        assert line.startswith("listening on "), (line, child.communicate()[1])
        yield line.removeprefix("listening on ").strip()
    finally:
        with contextlib.suppress(OSError, ValueError):
            child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)  # it gives the device back
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


@contextlib.contextmanager
def client(endpoint: str) -> Iterator["subprocess.Popen[str]"]:
    """A program of the project's own environment, which has no UHD."""
    child = subprocess.Popen(
        [project_python(), "-c", CLIENT, endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**clean_environment(), "PYTHONPATH": str(REPOSITORY)}, cwd=REPOSITORY,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def wait_until_silent(usrp: SimulatedUsrp, timeout_s: float = 10.0) -> float:
    """Seconds until the device transmits no more, at its lowest gain."""
    began = time.monotonic()
    while (state := usrp.say())["transmitting"] or state["tx_gain_db"] != 0.0:
        assert time.monotonic() - began < timeout_s, state
        time.sleep(0.02)
    return time.monotonic() - began


def test_without_consent_it_is_not_served_for_nobody_can_tell_a_simulator(usrp: SimulatedUsrp, tmp_path: Path) -> None:
    done = subprocess.run(
        serve_command(usrp, tmp_path), capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: radio1: would transmit on air, and nobody agreed to that")


def test_a_client_with_numpy_2_hears_its_frame_and_leaves_silence(usrp: SimulatedUsrp, tmp_path: Path) -> None:
    with served(usrp, tmp_path) as endpoint, client(endpoint) as child:
        assert child.stdin is not None and child.stdout is not None
        told = json.loads(child.stdout.readline())
        assert told.pop("numpy").startswith("2.")
        assert told.pop("start") > 0
        assert told == {"model": "USRP e320", "simulated": False, "tx_gain_db": 80.0, "continuity": "reported"}
        assert usrp.say()["transmitting"]
        child.stdin.close()
        assert child.wait(20) == 0
        wait_until_silent(usrp)


def test_a_client_that_is_killed_leaves_silence_and_the_device_to_the_next(usrp: SimulatedUsrp, tmp_path: Path) -> None:
    with served(usrp, tmp_path) as endpoint:
        for _ in range(2):
            with client(endpoint) as child:
                assert child.stdout is not None
                assert json.loads(child.stdout.readline())
                assert usrp.say()["transmitting"]
                child.kill()
                assert wait_until_silent(usrp) < WATCHDOG_S + 2.0
