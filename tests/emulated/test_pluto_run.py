"""Experiments on virtual Plutos: only the radio lines differ from the preset, and the answers are the same."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from testbed.allocation.base import equal_power
from testbed.capture import load
from testbed.config import validate
from testbed.errors import IsacError, SafetyRefused
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import RunResults
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.single import capture_once
from testbed.units import undb
from tests.airs import Air, is_silent, need_libiio, pluto_process
from tests.emulator import environment, request
from tests.scenes import comp_text

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

POWERS_DBM = (-6.5, -5.5)
FRAMES = 1000


@pytest.fixture(scope="module")
def air() -> Iterator[Air]:
    """Three boards of two channels: a base station and its user on each."""
    need_libiio()
    with pluto_process("comp", "--board", "bs1,u1", "--board", "bs2,u2", "--board", "bs3,u3") as made:
        yield made


def comp_on(air: Air | None, host: str = "127.0.0.1", **tables: Any) -> dict[str, Any]:
    """The preset's axis, on virtual boards or on the emulator, judged by the same test."""
    data = comp_text() | {"power": {"axis_dbm": list(POWERS_DBM)}} | tables
    data["capture"]["num_frames"] = FRAMES
    data["detection"]["statistic"] = "cfar"
    del data["loop"]
    if air is not None:
        del data["emulator"]
        for row in data["nodes"] + data["users"]:
            row["radio"] = "pluto:" + air.uris[row["name"]].replace("127.0.0.1", host)
            row["channel"] = int(row["name"].startswith("u"))
    return data


def run_of(data: dict[str, Any], path: Path, ask: Callable[[str], bool] = lambda question: False) -> RunResults:
    directory = CompRun.create(path, validate(data, CompExperiment, "x"), overwrite=False)
    return run(directory, lambda progress: None, ask)


def test_comp_on_three_boards_is_consistent_and_detects_as_over_the_wire(air: Air, tmp_path: Path) -> None:
    boards, wire = run_of(comp_on(air), tmp_path / "boards"), run_of(comp_on(None), tmp_path / "wire")
    assert boards.axis is not None and wire.axis is not None
    assert boards.axis.verdict.consistent, boards.axis.verdict
    pairs = list(zip(boards.axis.points, wire.axis.points, strict=True))
    assert len(pairs) == 2 * 3 * 2  # powers, cells, tests
    for mine, theirs in pairs:
        key = ("cell", "power_dbm", "statistic")
        assert [getattr(mine, name) for name in key] == [getattr(theirs, name) for name in key]
        # independent noise: 4 standard errors of the difference, missed by one of six pairs with probability 4e-4
        pooled = (mine.pod + theirs.pod) / 2
        assert abs(mine.pod - theirs.pod) < 4 * np.sqrt(2 * pooled * (1 - pooled) / FRAMES)
    assert all(is_silent(uri) for uri in air.uris.values())


def test_solo_runs_on_one_board(tmp_path: Path) -> None:
    need_libiio()
    with pluto_process("solo") as air:
        subprocess.run(
            [sys.executable, "-m", "testbed", "init", "solo", "--out", "solo.toml"], cwd=tmp_path, check=True
        )
        import tomllib

        data = tomllib.loads((tmp_path / "solo.toml").read_text())
        del data["emulator"]
        (name,) = air.uris
        data["nodes"][0]["radio"] = f"pluto:{air.uris[name]}"
        (tmp_path / "solo.toml").write_text(tomli_w.dumps(data))
        command = [sys.executable, "-m", "testbed", "run", "solo.toml", "--frames", "300", "--out", "run", "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["consistent"]
        assert is_silent(air.uris[name])


def test_boards_that_vanish_in_mid_run_are_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    need_libiio()
    with pluto_process("comp") as own:
        data = comp_on(own)
        for row in data["nodes"] + data["users"]:
            row["channel"] = 0
        data["capture"]["num_frames"] = 5000
        (tmp_path / "x.toml").write_text(tomli_w.dumps(data))
        command = [sys.executable, "-m", "testbed", "run", "x.toml", "--out", "run"]
        child = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        muted = tmp_path / "run" / "captures" / "muted.h5"
        deadline = time.monotonic() + 60
        while not muted.exists() and time.monotonic() < deadline:
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        own.process.kill()
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert len(errors.strip().splitlines()) == 1, errors
    line = errors.strip()
    assert line.startswith("error: ")
    assert "isac run --resume run" in line
    again = subprocess.run(
        [sys.executable, "-m", "testbed", "run", "--resume", "run"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    (line,) = again.stderr.strip().splitlines()
    assert "no iiod runs on it" in line


def test_an_interrupted_run_leaves_every_board_silent(air: Air, tmp_path: Path) -> None:
    data = comp_on(air)
    data["capture"]["num_frames"] = 5000
    (tmp_path / "x.toml").write_text(tomli_w.dumps(data))
    command = [sys.executable, "-m", "testbed", "run", "x.toml", "--out", "run"]
    child = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not all(air.is_transmitting(node) for node in ("bs1", "bs2", "bs3")) and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode in (130, -signal.SIGINT)
    assert "transmitters are muted" in errors
    assert all(is_silent(uri) for uri in air.uris.values())


# An address that leads to this machine and is no loopback address: such a board counts as one on air.
ELSEWHERE = "0.0.0.0"
BAND = {"name": "lab", "low_hz": 3.48e9, "high_hz": 3.52e9, "max_power_dbm": 0.0, "basis": "cabled, 60 dB attenuator"}


def one_capture(air: Air, path: Path, ask: Callable[[str], bool], **tables: Any) -> None:
    experiment = validate(comp_on(air, ELSEWHERE, **tables), CompExperiment, "x")
    power = equal_power(undb(-5.5) * 3, 3)
    capture_once(experiment, path, "without:t1", power, ask, {})


def test_on_air_nothing_is_sent_without_consent_and_a_band(air: Air, tmp_path: Path) -> None:
    for tables, words in (
        ({}, "bs1: would transmit on air, and nobody agreed"),
        ({"safety": {"transmit": True}}, r"no band of \[safety\] holds"),
        ({"safety": {"transmit": True, "bands": [BAND | {"max_power_dbm": -20.0}]}}, "would transmit"),
    ):
        with pytest.raises(SafetyRefused, match=words):
            one_capture(air, tmp_path / "x.h5", lambda question: True, **tables)
        assert not any(air.is_transmitting(node) for node in ("bs1", "bs2", "bs3"))
        assert not (tmp_path / "x.h5").exists()


def test_on_air_the_operator_sets_the_conditions_and_may_say_no(air: Air, tmp_path: Path) -> None:
    asked: list[str] = []

    def operator(question: str) -> bool:
        asked.append(question)
        request(air.control, op="condition", condition="without:t1" if "take target t1" in question else "all")
        return True

    safety = {"safety": {"transmit": True, "bands": [BAND]}}
    one_capture(air, tmp_path / "h0.h5", operator, **safety)
    assert len(asked) == 2
    taken = load(tmp_path / "h0.h5")
    assert not taken.simulated
    assert {node.settings.carrier_hz for node in taken.nodes} == {3500000002.0}
    assert all(is_silent(uri) for uri in air.uris.values())
    with pytest.raises(IsacError, match="not confirmed"):
        one_capture(air, tmp_path / "no.h5", lambda question: False, **safety)
    assert all(is_silent(uri) for uri in air.uris.values())
    request(air.control, op="condition", condition="all")
