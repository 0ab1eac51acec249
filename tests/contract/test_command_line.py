"""What both command lines promise: one line per failure, exit codes, and signals that unwind."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.emulator import environment

APP = """
import time
import typer
from testbed.command import new_app, run_app

app = new_app("app", "For this test.")


@app.callback()
def root() -> None:
    pass


@app.command()
def fail() -> None:
    open("/nonexistent/file")


@app.command()
def wait() -> None:
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("muting", flush=True)
        time.sleep(0.5)
        print("muted", flush=True)


run_app(app)
"""


def isac_sim(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "sim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())


def waiting(preexec: Callable[[], object] | None = None) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", APP, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=preexec,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    return child


def one_line(done: "subprocess.CompletedProcess[str]", status: int) -> str:
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_a_system_error_that_nobody_foresaw_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", APP, "fail"], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    assert one_line(done, 1) == "/nonexistent/file: No such file or directory"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_unwinds(number: signal.Signals) -> None:
    child = waiting()
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (130, "muting\nmuted\n", "error: interrupted\n")


@pytest.mark.parametrize("second", [signal.SIGHUP, signal.SIGTERM])
def test_a_second_hangup_does_not_cut_the_muting_short(second: signal.Signals) -> None:
    child = waiting()
    child.send_signal(signal.SIGHUP)
    assert child.stdout is not None
    assert child.stdout.readline() == "muting\n"
    child.send_signal(second)
    out, _ = child.communicate(timeout=30)
    assert (child.returncode, out) == (130, "muted\n")


def test_a_hangup_is_ignored_under_nohup() -> None:
    child = waiting(lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    child.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.terminate()
    child.communicate(timeout=30)
    assert child.returncode == 130


def test_a_dropped_session_ends_the_emulator_in_order() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "sim", "emulate", "comp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith("listening on ")
    child.send_signal(signal.SIGHUP)
    _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (130, "error: interrupted\n")


@pytest.mark.parametrize("seed", ["18446744073709551616", "-1", "one"])
def test_a_seed_that_is_no_unsigned_64_bit_number_is_wrong_usage(seed: str) -> None:
    done = isac_sim("emulate", "comp", "--seed", seed)
    assert done.returncode == 2
    assert "'--seed'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("gain", ["nan", "inf", "-inf", "90", "-4"])
def test_truth_for_a_gain_the_scene_does_not_have_is_refused(tmp_path: Path, gain: str) -> None:
    done = isac_sim("truth", "comp", "comp", "--rx-gain-db", f"bs1={gain}", "--out", str(tmp_path / "truth.json"))
    assert "dB of bs1 is outside -3..71 dB" in one_line(done, 1)
    assert not (tmp_path / "truth.json").exists()


def test_truth_that_cannot_be_written_is_one_line() -> None:
    done = isac_sim("truth", "comp", "comp", "--out", "/nonexistent/x.json")
    assert one_line(done, 1) == "/nonexistent/x.json: cannot be written (No such file or directory); " + (
        "choose another directory"
    )
