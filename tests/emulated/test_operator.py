"""The operator of a run on air, at a real terminal: he is asked so that he can read it, and silence is no answer."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w

from testbed.allocation.base import equal_power
from testbed.errors import IsacError, SafetyRefused
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.load import load_experiment
from testbed.experiment.single import capture_once
from testbed.units import undb
from tests.airs import usrp_air
from tests.emulator import environment
from tests.scenes import comp_text
from tests.uhd_stand_in.install import FOLDER

pytestmark = pytest.mark.emulated

TIMEOUT_S = 60
PAIRS = (("bs1", "u1"), ("bs2", "u2"), ("bs3", "u3"))
QUESTION = "condition 'all': put every target in its cell, then confirm"
HERE = {"PYTHONPATH": f"{FOLDER}{os.pathsep}{FOLDER.parents[1]}", "UHD_STAND_IN_AIR": json.dumps({"boards": PAIRS})}
BAND = {"name": "lab", "low_hz": 3.48e9, "high_hz": 3.52e9, "max_power_dbm": 0.0, "basis": "cabled, 60 dB attenuators"}

# A bar that would be drawn over the question many times a second, and something that is shown when it has gone on
SHOW = """
from testbed.experiment.display import Display
from testbed.experiment.progress import Progress
from testbed.verbs.options import ask
with Display(1000, quiet=False) as display:
    display.notify(Progress("before", 100))
    with display.paused():
        answer = ask("is it so")
    display.notify(Progress("behind", 100))
    display._bar.refresh()
    display.notify(Progress("behind", lines=(f"he said {answer}",)))
"""


class Terminal:
    """A process at a terminal, and what it showed."""

    def __init__(self, process: "subprocess.Popen[bytes]", terminal: int) -> None:
        self.process, self._terminal = process, terminal
        self.shown = ""

    def read(self, seconds: float) -> str:
        """What is shown in this time, or until it ends."""
        got, end = "", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._terminal], [], [], left)[0]:
                break
            try:
                block = os.read(self._terminal, 65536)
            except OSError:  # the process has ended
                break
            got += block.decode()
        self.shown += got
        return got

    def until(self, words: str) -> str:
        """Everything shown up to and with these words since the last call."""
        began, deadline = len(self.shown), time.monotonic() + TIMEOUT_S
        while words not in self.shown[began:]:
            assert time.monotonic() < deadline and self.process.poll() is None, self.shown
            self.read(0.1)
        return self.shown[began:]

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        """Its exit code."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self.read(0.1)
        self.read(0.2)
        return int(self.process.returncode)


@contextmanager
def at_a_terminal(*command: str, cwd: Path) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    # a session of its own whose terminal this is, so that Ctrl-C is a signal as it is for people
    child = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", child, sys.executable, *command],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, start_new_session=True,
        env=environment(**HERE, TERM="xterm", COLUMNS="200"),
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def on_air(path: Path, *, rx_gain_db: float | str = "auto", **band: float) -> Path:
    """The preset's axis at one power on three boards of two channels."""
    data = comp_text() | {"power": {"axis_dbm": [-6.0]}, "safety": {"transmit": True, "bands": [BAND | band]}}
    data["capture"] |= {"num_frames": 20, "rx_gain_db": rx_gain_db}
    data["detection"]["statistic"] = "cfar"
    del data["loop"], data["emulator"]
    for row in data["nodes"] + data["users"]:
        pair = next(pair for pair in PAIRS if row["name"] in pair)
        row |= {"radio": f"uhd:serial={''.join(pair).upper()}", "device": "b210", "channel": pair.index(row["name"])}
        row["rx_gain_db"] = rx_gain_db
    path.write_text(tomli_w.dumps(data))
    return path


def test_no_bar_is_drawn_over_a_question_and_an_empty_answer_asks_again(tmp_path: Path) -> None:
    with at_a_terminal("-c", SHOW, cwd=tmp_path) as terminal:
        before = terminal.until("is it so [y/n]: ")
        assert "before" in before
        assert terminal.read(1.0) == ""  # the bar is drawn ten times a second
        # on an empty line of its own: the cursor went back to the bar's beginning and erased it
        assert re.search(r"\r(\x1b\[1A)?\x1b\[2Kis it so", before), before
        for nothing in ("\r", "  \r", "what\r"):
            terminal.type(nothing)
            assert terminal.until("is it so [y/n]: ").count("is it so") == 1
        terminal.type("y\r")
        assert "behind" in terminal.until("he said True")  # the bar went on, and then its line
        assert terminal.end() == 0


def test_a_run_on_air_waits_for_its_operator_and_a_refusal_leaves_nothing(tmp_path: Path) -> None:
    model = on_air(tmp_path / "x.toml")
    with at_a_terminal("-m", "testbed", "run", str(model), "--out", "r", cwd=tmp_path) as terminal:
        terminal.until(f"{QUESTION} [y/n]: ")
        assert terminal.read(1.0) == ""
        terminal.type("\r")
        terminal.until(f"{QUESTION} [y/n]: ")
        terminal.type("n\r")
        assert terminal.end() == 1
    assert "not confirmed; the run ends here" in terminal.shown
    assert "nothing was captured" in terminal.shown
    assert not (tmp_path / "r").exists()


def test_ctrl_c_at_the_question_ends_like_anywhere_else_and_the_earlier_run_comes_back(tmp_path: Path) -> None:
    model = on_air(tmp_path / "x.toml")
    CompRun.create(tmp_path / "r", load_experiment(str(model)), overwrite=False)
    (tmp_path / "r" / "mine").write_text("of the earlier run")
    with at_a_terminal("-m", "testbed", "run", str(model), "--out", "r", "--overwrite", cwd=tmp_path) as terminal:
        terminal.until(f"{QUESTION} [y/n]: ")
        terminal.type("\x03")
        assert terminal.end() == 130
    last = terminal.shown.strip().splitlines()[-1]
    assert last == (
        "error: interrupted; transmitters are muted; nothing was captured; r is the earlier run again"
    )  # on a line of its own
    assert (tmp_path / "r" / "mine").exists()
    assert not (tmp_path / "r.old").exists()


@pytest.mark.parametrize("closed", [False, True], ids=["no terminal", "closed"])
def test_where_nobody_can_answer_a_run_says_so_and_leaves_nothing(tmp_path: Path, closed: bool) -> None:
    model = on_air(tmp_path / "x.toml")
    command = [sys.executable, "-m", "testbed", "run", str(model), "--out", "r"]
    if closed:
        command = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(**HERE), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {QUESTION}: nobody can answer, standard input is no terminal; ")
    assert line.endswith("nothing was captured")
    assert not (tmp_path / "r").exists()


# Before anybody is asked


def judged(model: Path, folder: Path) -> str:
    """Why a run may not be, or nothing where it comes to its first question; nothing was captured in either case."""
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return False

    with usrp_air(*PAIRS) as air, pytest.raises(IsacError) as caught:
        run(CompRun.create(folder, load_experiment(str(model)), overwrite=False), lambda progress: None, ask)
    assert not any(air.transmitting().values())
    assert not list(folder.glob("captures/*.h5"))
    if asked:
        assert "not confirmed" in str(caught.value)
        return ""
    assert isinstance(caught.value, SafetyRefused)
    return str(caught.value)


@pytest.mark.parametrize("rx_gain_db", ["auto", 60.0])
def test_what_may_not_be_transmitted_is_refused_before_anybody_moves_a_target(
    tmp_path: Path, rx_gain_db: float | str
) -> None:
    model = tmp_path / "x.toml"
    said = judged(on_air(model, rx_gain_db=rx_gain_db, max_power_dbm=-8.0), tmp_path / "loud")
    assert "the band lab allows -8 and 4 dBm" in said
    said = judged(on_air(model, rx_gain_db=rx_gain_db, high_hz=3.501e9), tmp_path / "wide")
    assert "which no band of [safety] holds" in said
    # the run transmits -6 dBm, and on the converter's grid a trifle more or less
    assert judged(on_air(model, rx_gain_db=rx_gain_db, max_power_dbm=-5.99), tmp_path / "allowed") == ""


def test_a_loop_is_refused_for_its_first_round_and_not_for_what_it_might_come_to(tmp_path: Path) -> None:
    model = on_air(tmp_path / "x.toml", rx_gain_db=60.0, max_power_dbm=-3.9)
    data = tomllib.loads(model.read_text())
    data["loop"], data["allocation"] = comp_text()["loop"], comp_text()["allocation"] | {"budget_dbm": -4.0}
    model.write_text(tomli_w.dumps(data))
    experiment = load_experiment(str(model))
    assert experiment.highest_power_dbm > -3.9 > experiment.highest_equal_power_dbm
    assert judged(model, tmp_path / "run") == ""


def test_a_single_capture_is_judged_by_its_own_powers_and_a_muted_one_by_none(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return False

    experiment = load_experiment(str(on_air(tmp_path / "x.toml", rx_gain_db=60.0, max_power_dbm=-8.0)))
    cases = (("all", -6.0, SafetyRefused), ("all", -9.0, IsacError), ("muted", -6.0, IsacError))
    for condition, power_dbm, error in cases:
        asked.clear()
        with usrp_air(*PAIRS), pytest.raises(error):
            capture_once(experiment, tmp_path / "a.h5", condition, equal_power(3 * undb(power_dbm), 3), ask, {})
        assert bool(asked) == (error is IsacError)
