"""Experiments over radio servers and replays, in processes of their own: the answers are those of the air itself."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from testbed.capture import load
from testbed.config import validate
from testbed.errors import IsacError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import RunResults
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.comp.step import Step
from testbed.experiment.load import load_experiment
from testbed.radio.remote import RemoteRadio
from testbed.verbs.replaying import replay
from tests.airs import NODES, served_process
from tests.emulator import emulator_process, environment, request
from tests.scenes import comp_text

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

POWERS_DBM = (-6.5, -4.5)
FRAMES = 300


def comp_on(radios: dict[str, str] | str, frames: int = FRAMES) -> dict[str, Any]:
    """The preset's power axis on radios by node."""
    data = comp_text() | {"power": {"axis_dbm": list(POWERS_DBM)}}
    data["capture"]["num_frames"] = frames
    data["detection"]["statistic"] = "cfar"
    del data["loop"], data["emulator"]
    for row in data["nodes"] + data["users"]:
        row["radio"] = radios if isinstance(radios, str) else radios[row["name"]]
    return data


def run_of(data: dict[str, Any], path: Path) -> tuple[CompRun, RunResults]:
    directory = CompRun.create(path, validate(data, CompExperiment, "x"), overwrite=False)
    return directory, run(directory, lambda progress: None, lambda question: False)


@contextlib.contextmanager
def spread(emulator: str) -> Iterator[tuple[dict[str, str], "list[subprocess.Popen[str]]"]]:
    """One base station and all users here, two base stations behind servers of their own."""
    with (
        served_process({"bs2": emulator}) as (second, at_second),
        served_process({"bs3": emulator}) as (third, at_third),
    ):
        yield dict.fromkeys(NODES, emulator) | {"bs2": at_second, "bs3": at_third}, [second, third]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> CompRun:
    """The experiment on the emulator itself."""
    with emulator_process() as (_, endpoint):
        return run_of(comp_on(endpoint), tmp_path_factory.mktemp("direct") / "run")[0]


def statistics(directory: CompRun) -> dict[str, bytes]:
    """Every statistic of every frame that a run detected on, from its captures."""
    from testbed.verbs.stages import detections

    found = {}
    for path in sorted(directory.captures.glob("*.h5")):
        if (capture := load(path)).frame is not None:
            for one in detections(capture):
                assert one.known_noise is not None
                found[f"{path.name}/{one.cell}"] = one.known_noise.tobytes() + one.cfar.tobytes()
    return found


def same_captures(one: CompRun, other: CompRun) -> None:
    names = sorted(path.name for path in one.captures.glob("*.h5"))
    assert names == sorted(path.name for path in other.captures.glob("*.h5"))
    assert len(names) == 1 + len(POWERS_DBM) * 4
    for name in names:
        mine, theirs = load(one.captures / name), load(other.captures / name)
        assert [node.name for node in mine.nodes] == [node.name for node in theirs.nodes]
        for a, b in zip(mine.nodes, theirs.nodes, strict=True):
            np.testing.assert_array_equal(a.raw, b.raw)
            assert (a.settings, a.noise_var) == (b.settings, b.noise_var)
    mine_found = statistics(one)
    assert len(mine_found) == len(POWERS_DBM) * 6
    assert mine_found == statistics(other)


def test_one_base_station_here_and_two_behind_servers_hear_what_all_on_one_air_hear(
    direct: CompRun, tmp_path: Path
) -> None:
    with emulator_process() as (_, emulator), spread(emulator) as (radios, _):
        directory, results = run_of(comp_on(radios), tmp_path / "run")
        assert not any(request(emulator, op="status")["transmitting"].values())  # type: ignore[attr-defined]
    assert results.axis is not None
    assert results.axis.verdict.consistent, results.axis.verdict
    same_captures(direct, directory)


def test_a_run_on_replays_of_a_run_detects_the_same_bit_for_bit(direct: CompRun, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(tomli_w.dumps(comp_on(f"replay:{direct.path}")))
    directory = CompRun.create(tmp_path / "run", load_experiment(str(tmp_path / "x.toml")), overwrite=False)
    results = run(directory, lambda progress: None, lambda question: False)
    assert results.axis is not None and results.axis.verdict.consistent
    same_captures(direct, directory)
    assert str(tmp_path) not in str(load(directory.captures / "muted.h5").experiment)


def test_a_run_on_a_served_replay_needs_no_hardware_and_begins_at_the_beginning(
    direct: CompRun, tmp_path: Path
) -> None:
    with served_process(dict.fromkeys(NODES, f"replay:{direct.path}")) as (_, endpoint):
        radio = RemoteRadio(endpoint, "bs1")
        assert radio.receive(1000).num_samples == 1000
        radio.close()
        directory, _ = run_of(comp_on(endpoint), tmp_path / "run")
        same_captures(direct, directory)


def test_another_experiment_than_the_captured_one_is_refused_by_its_replay(direct: CompRun, tmp_path: Path) -> None:
    data = comp_on(f"replay:{direct.path}")
    data["waveform"]["data_seed"] = 2
    failed = started(data, tmp_path).communicate(timeout=60)[1]
    (line,) = failed.strip().splitlines()
    assert "this frame is not the one that it was captured with" in line


# The command


def isac(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "testbed", *map(str, arguments)],
        cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_replaying_captures_shows_that_everything_is_the_same(direct: CompRun, tmp_path: Path) -> None:
    paths = [direct.capture_path(Step("points", 0), "all"), direct.capture_path(Step("points", 1), "without:t2")]
    done = isac("replay", *paths, direct.muted_path, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["identical"] for row in rows] == [True] * 3
    assert [len(row["detections"]) for row in rows] == [3, 1, 0]
    assert all(all(row["same_samples"].values()) for row in rows)
    plain = isac("replay", *paths, direct.experiment, cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.count("identical  t2") == 2


def test_replaying_with_an_experiment_of_another_frame_is_one_line(direct: CompRun, tmp_path: Path) -> None:
    path = direct.capture_path(Step("points", 0), "all")
    data = comp_on("tcp://127.0.0.1:1")
    data["waveform"]["data_seed"] = 2
    (tmp_path / "other.toml").write_text(tomli_w.dumps(data))
    done = isac("replay", path, "other.toml", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "this frame is not the one that it was captured with (it differs from that of" in line
    for names, words in (
        ([path, "solo"], "transmitters are bs1, bs2, bs3; the experiment has"),
        (["comp"], "CAPTURE: missing; give a capture file before the experiment"),
        ([path, tmp_path / "none.h5"], "none.h5: no such file"),
        ([path, tmp_path / "none.toml"], "none.toml: no such file"),
    ):
        with pytest.raises(IsacError, match=words):
            replay([str(name) for name in names])


# What is killed in mid-run


def started(data: dict[str, Any], folder: Path) -> "subprocess.Popen[str]":
    (folder / "x.toml").write_text(tomli_w.dumps(data))
    return subprocess.Popen(
        [sys.executable, "-m", "testbed", "run", "x.toml", "--out", "run"],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_the_air(emulator: str, child: "subprocess.Popen[str]") -> None:
    """Until all base stations transmit."""
    deadline = time.monotonic() + 60
    while not all(request(emulator, op="status")["transmitting"].values()):  # type: ignore[attr-defined]
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def still_on(emulator: str, patience_s: float = 5.0) -> list[str]:
    """Who still transmits when there was time to end it."""
    deadline = time.monotonic() + patience_s
    while True:
        on = [node for node, is_on in request(emulator, op="status")["transmitting"].items() if is_on]  # type: ignore[attr-defined]
        if not on or time.monotonic() > deadline:
            return on
        time.sleep(0.05)


def test_a_server_ended_in_mid_run_is_one_line_and_all_are_muted(tmp_path: Path) -> None:
    with emulator_process() as (_, emulator), spread(emulator) as (radios, servers):
        child = started(comp_on(radios, 5000), tmp_path)
        wait_for_the_air(emulator, child)
        servers[0].send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=60)
        (line,) = errors.strip().splitlines()
        assert child.returncode == 1
        assert line.startswith(f"error: {radios['bs2']}: the server ended or closed the connection; start it again")
        assert "isac run --resume run" in line
        assert still_on(emulator, 2.0) == []


def test_a_client_killed_in_mid_run_leaves_silence_and_free_radios(tmp_path: Path) -> None:
    with emulator_process() as (_, emulator):
        with served_process(dict.fromkeys(NODES, emulator)) as (server, endpoint):
            child = started(comp_on(endpoint, 5000), tmp_path)
            wait_for_the_air(emulator, child)
            child.kill()
            child.communicate()
            assert still_on(emulator) == []
            held = request(endpoint, op="status")["held"]
            assert isinstance(held, dict)
            assert set(held.values()) == {None}
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=30)
        lines = errors.strip().splitlines()
        assert sum("taken back and muted; its connection was lost" in line for line in lines) == 3
        assert lines[-1] == "error: interrupted"


def test_a_second_run_on_a_held_radio_is_one_line(tmp_path: Path) -> None:
    with (
        emulator_process() as (_, emulator),
        served_process(dict.fromkeys(NODES, emulator)) as (_, endpoint),
    ):
        child = started(comp_on(endpoint, 5000), tmp_path)
        try:
            wait_for_the_air(emulator, child)
            done = isac("run", "x.toml", "--out", "second", cwd=tmp_path)
            assert done.returncode == 1
            (line,) = done.stderr.strip().splitlines()
            assert line.startswith("error: bs1: held by a client at 127.0.0.1 since ")
            assert "nothing was captured" in line
            assert child.poll() is None
        finally:
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=60)
        assert "transmitters are muted" in errors
        assert still_on(emulator, 2.0) == []
