"""Raw ports of the emulator's process: the echo of a scene, and what its command line refuses."""

import itertools
import signal as signals
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zmq

from sim.scene import load_scene
from sim.stream import StreamChannel
from tests.emulator import emulator_process, environment, request
from tests.interop.echo import SCENE, check_echo, echo_emulator, find_echo, signal
from tests.interop.peers import receiver, socket_of, transmitter

pytestmark = pytest.mark.emulated

NUM_SAMPLES = 1_000_000
RAW = ["--raw-sample-rate-hz", "20e6", "--raw-carrier-hz", "3.5e9"]


@pytest.mark.parametrize("pattern", ["reqrep", "pushpull"])
def test_a_peer_hears_its_echo_with_the_right_delay_and_gain_and_no_sample_missing(
    pattern: str, tmp_path: Path
) -> None:
    endless = np.tile(signal(), 3)
    sizes = itertools.cycle([1, 1777, 8192, 40, 5])

    def messages():
        at = 0
        for size in sizes:
            yield endless[at : at + size].tobytes()
            at = (at + size) % signal().size

    with (
        transmitter(pattern, messages()) as source,
        echo_emulator(tmp_path, pattern, source) as endpoint,
        receiver(pattern, endpoint) as peer,
    ):
        check_echo(peer.take(NUM_SAMPLES))


@pytest.mark.parametrize("fault", ["lost", "doubled"])
def test_the_check_of_the_echo_notices_one_sample_too_few_or_too_many(fault: str, tmp_path: Path) -> None:
    (tmp_path / "echo.toml").write_text(SCENE)
    channel = StreamChannel(load_scene(str(tmp_path / "echo.toml")), 20e6, 3.5e9, rx_gain_db=60.0)
    heard = channel.advance({"r": np.tile(signal(), 60)})["r"][0]
    check_echo(heard)
    at = 50 * signal().size
    broken = np.delete(heard, at) if fault == "lost" else np.insert(heard, at, heard[at])
    with pytest.raises(AssertionError):
        check_echo(broken)
    assert find_echo(broken).noise_var[-1] > 100 * find_echo(heard).noise_var[-1]


REFUSED = [
    (["--raw-rx", "bs1"], "--raw-rx 'bs1': must read NODE=tcp://HOST:PORT"),
    (["--raw-rx", "bs1=5001"], "--raw-rx bs1: endpoint '5001': must read tcp://HOST:PORT"),
    (["--raw-rx", "bs1=tcp://0.0.0.0:5001"], "--raw-rx bs1: 'tcp://0.0.0.0:5001' is no loopback address"),
    (["--raw-rx", "bs9=tcp://127.0.0.1:0"], "--raw-rx bs9: not in this scene; nodes here: bs1, bs2, bs3, u1"),
    (["--raw-rx", "bs1:1=tcp://127.0.0.1:0"], "--raw-rx bs1:1: bs1 has 1 receive channels; channels count from 0"),
    (["--raw-tx", "bs1=tcp://127.0.0.1:5000"], "--raw-rx: none given"),
    (["--raw-rx", "bs1=tcp://127.0.0.1:0"] * 2, "--raw-rx bs1: given twice"),
    (
        ["--raw-rx", "bs1=tcp://127.0.0.1:0", "--raw-tx", "u1=tcp://127.0.0.1:5000"],
        "--raw-tx u1: u1 has 0 transmit channels",
    ),
    (
        ["--raw-rx", "bs1=tcp://127.0.0.1:5001", "--raw-tx", "bs1=tcp://127.0.0.1:5001"],
        "--raw-tx bs1: tcp://127.0.0.1:5001 serves another port already",
    ),
    (
        ["--raw-rx", "bs1=tcp://127.0.0.1:0", "--raw-tx", "bs1=tcp://no-such-host.invalid:5000"],
        "--raw-tx bs1: host of 'tcp://no-such-host.invalid:5000' is not known",
    ),
    (["--raw-rx", "bs1=tcp://127.0.0.1:0", "--raw-pattern", "pubsub"], "--raw-pattern 'pubsub': must be reqrep or"),
    (["--raw-rx", "bs1=tcp://127.0.0.1:0", "--raw-rx-gain-db", "90"], "rx_gain_db: 90 dB is outside"),
    (["--raw-rx", "bs1=tcp://127.0.0.1:0", "--raw-sample-rate-hz", "1"], "sample_rate_hz: 1 Hz is outside"),
]


def emulate(*options: str) -> "subprocess.CompletedProcess[str]":
    """The command's end; it fails before it serves."""
    command = [sys.executable, "-m", "sim", "emulate", "comp", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_a_raw_port_that_cannot_be_is_refused_in_one_line(options: list[str], words: str) -> None:
    done = emulate(*RAW, *options)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {words}") or words in line
    assert done.stdout == ""


@pytest.mark.parametrize("left_out", ["--raw-sample-rate-hz", "--raw-carrier-hz"])
def test_raw_ports_need_a_sample_rate_and_a_carrier(left_out: str) -> None:
    at = RAW.index(left_out)
    done = emulate("--raw-rx", "bs1=tcp://127.0.0.1:0", *RAW[:at], *RAW[at + 2 :])
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {left_out}: not given; raw samples do not tell it")


def test_the_wire_is_served_beside_the_raw_ports_and_both_end_together() -> None:
    with emulator_process("comp", *RAW, "--raw-rx", "bs1=tcp://127.0.0.1:0") as (child, wire):
        assert child.stdout is not None
        _, endpoint = child.stdout.readline().decode().rsplit(" ", 1)
        with receiver("reqrep", endpoint.strip()) as peer:
            assert peer.take(1000).size == 1000
            assert request(wire, op="status")["ok"] == "status"
            assert peer.take(200_000).size == 200_000
        child.send_signal(signals.SIGTERM)
        assert child.wait(20) == 130


def test_a_fault_of_the_channel_ends_the_emulator_with_an_error() -> None:
    program = (
        "import sim.stream, sys\n"
        "def fail(self, sent): raise ZeroDivisionError('division by zero')\n"
        "sim.stream.StreamChannel.advance = fail\n"
        "from sim.__main__ import main\n"
        "main()\n"
    )
    options = ["emulate", "comp", *RAW, "--raw-rx", "bs1=tcp://127.0.0.1:0"]
    done = subprocess.run(
        [sys.executable, "-c", program, *options], capture_output=True, text=True, timeout=60, env=environment()
    )
    assert done.returncode == 1
    assert "raw ports: internal error" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr


def test_a_port_in_use_is_refused() -> None:
    with socket_of(zmq.REP, bind=True) as (_, taken):
        done = emulate(*RAW, "--raw-rx", f"bs1={taken}")
    assert done.returncode == 1
    assert f"error: --raw-rx bs1: {taken} cannot be bound" in done.stderr
