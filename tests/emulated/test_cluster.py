"""Sweeps on dask workers: a scheduler and two worker processes on the loopback interface, which are killed."""

import contextlib
import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed import dask_cluster
from testbed.dask_cluster import Cluster
from testbed.errors import ClusterLost, ConfigError
from testbed.experiment.sweep_run import fault_of_worker, open_sweep
from testbed.sweep import SweepPoint, grid, run_points
from testbed.trials import run_trials
from tests.emulated.test_loop import cli, command, start, wait_for
from tests.emulator import environment

pytest.importorskip("distributed", reason="dask is not installed: pip install 'isac-testbed[cluster]'")
pytestmark = [pytest.mark.emulated, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0
ALLOWED_FAILURES = 1  # workers that a call may take with it; dask's own limit is 3
AXIS = ("--set", "allocation.budget_dbm=-4,-3", "--set", "loop.num_rounds=2", "--frames", "20")


@contextlib.contextmanager
def dask(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A scheduler or a worker, which finds the functions of these tests."""
    program = f"distributed.cli.dask_{arguments[0]}"
    options = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(ALLOWED_FAILURES)}
    process = subprocess.Popen(
        [sys.executable, "-m", program, *arguments[1:], "--no-dashboard"],
        cwd=ROOT, env=environment() | options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Yields its address and process."""
    import json

    file = folder / "scheduler.json"
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)) as process:
        wait_for(file, process)  # type: ignore[arg-type]
        yield json.loads(file.read_text())["address"], process


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Connecting silences dask's loggers; other tests have theirs as they were."""
    yield
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a scheduler with two workers, which dask's nanny starts anew when they die."""
    with (
        scheduler(tmp_path_factory.mktemp("dask")) as (address, _),
        dask("worker", address, "--nworkers", "2", "--nthreads", "1"),
    ):
        deadline = time.monotonic() + TIMEOUT_S
        while Cluster(address)._num_workers < 2:
            assert time.monotonic() < deadline
        yield address


def square(folder: Path, point: SweepPoint) -> dict[str, Any]:
    """Of points beside the plain ones: one that is refused, one whose worker dies at first, one that always kills."""
    x = point.values["x"]
    if x == 3:
        raise ConfigError("three is\nrefused")
    if (x == 4 and not (folder / "4").exists()) or x == 6:
        (folder / str(x)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    rng = np.random.default_rng(point.index)
    return {"value": x**2, "draws": rng.standard_normal(100).tolist(), "pid": os.getpid()}


def outcome(rng: np.random.Generator, index: int) -> float:
    return float(rng.normal()) + index


def wait_long() -> None:
    time.sleep(TIMEOUT_S)


def test_rows_are_those_of_one_process_and_only_the_point_that_keeps_killing_workers_fails(
    address: str, tmp_path: Path
) -> None:
    points = grid({"x": [1, 2, 3, 4, 5, 6, *range(7, 20)]})
    with Cluster(address) as executor:
        rows = {r.point.index: r for r in run_points(functools.partial(square, tmp_path), points, executor)}
    assert rows[2].error == "three is refused"
    assert rows[5].error.startswith("its worker died in mid-work every time")
    assert [i for i, row in rows.items() if row.result is None] == [2, 5]
    rest = [p for p in points if p.values["x"] not in (3, 6)]
    for row in run_points(functools.partial(square, tmp_path), rest):
        assert row.result is not None
        theirs = rows[row.point.index].result
        assert theirs is not None
        assert {**theirs, "pid": os.getpid()} == row.result
        assert theirs["pid"] != os.getpid()
    with Cluster(address) as executor, pytest.raises(Exception, match="serialize"):
        executor.submit(threading.Lock().acquire).result(TIMEOUT_S)


def test_trials_are_those_of_one_process(address: str) -> None:
    with Cluster(address) as executor:
        found = run_trials(outcome, 50, seed=1, chunk=7, executor=executor)
    np.testing.assert_array_equal(found, run_trials(outcome, 50, seed=1))


def test_a_sweep_that_loses_a_worker_and_is_interrupted_gives_what_one_process_does(
    address: str, tmp_path: Path
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "cluster"
    cli("sweep", "comp", *AXIS, "--out", alone)

    sweeping = start("sweep", "comp", *AXIS, "--out", out, "--scheduler", address)
    wait_for(out / "points" / "0001" / "session.json", sweeping)
    holder = out / "locks" / "0001"
    killed = holder.read_text()
    os.kill(int(killed.split()[1]), signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while holder.read_text() in (killed, ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sweeping.send_signal(signal.SIGINT)
    _, stderr = sweeping.communicate(timeout=TIMEOUT_S)
    assert sweeping.returncode in (130, -signal.SIGINT)
    assert stderr == f"error: interrupted; to go on: isac sweep --resume {out} --scheduler {address}\n"

    cli("sweep", "--resume", out, "--scheduler", address)
    assert (out / "rows.csv").read_bytes() == (alone / "rows.csv").read_bytes()
    verdicts = [(folder / "sweep.json").read_text().replace(str(folder), "") for folder in (alone, out)]
    assert verdicts[0] == verdicts[1]

    sweep = open_sweep(out)
    fault = fault_of_worker(sweep)
    with Cluster(address) as executor:
        executor.check(fault)
        shutil.move(out, tmp_path / "elsewhere")
        with pytest.raises(ConfigError, match=r"worker tcp://.*does not see this sweep in .*all hosts share"):
            executor.check(fault)
        row = next(run_points(functools.partial(run_elsewhere, sweep), sweep.points[:1], executor))
    assert "does not see this sweep" in row.error


def run_elsewhere(sweep: Any, point: SweepPoint) -> dict[str, Any]:
    from testbed.experiment.sweep_run import run_point

    return run_point(sweep, point)


def test_a_scheduler_without_workers_or_with_threads_is_refused_and_one_that_dies_ends_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scheduler(tmp_path) as (address, process):
        monkeypatch.setattr(dask_cluster, "WORKERS_TIMEOUT_S", 0.5)
        with pytest.raises(ConfigError, match=rf"has no worker; start some: dask worker {address} --nthreads 1"):
            Cluster(address)
        monkeypatch.setattr(dask_cluster, "WORKERS_TIMEOUT_S", TIMEOUT_S)
        with (
            dask("worker", address, "--nthreads", "2", "--no-nanny"),
            pytest.raises(ConfigError, match=r"has 2 threads.*--nworkers 2 --nthreads 1"),
        ):
            Cluster(address)
        with dask("worker", address, "--nthreads", "1", "--no-nanny"), Cluster(address) as executor:
            futures = [executor.submit(wait_long) for _ in range(3)]
            process.kill()
            for future in futures:
                with pytest.raises(ClusterLost, match="the scheduler is gone"):
                    future.result(TIMEOUT_S)


def test_no_dask_no_scheduler_and_two_kinds_of_workers_are_one_line_each_and_begin_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s"
    done = command("sweep", "comp", *AXIS, "--out", out, "--workers", "2", "--scheduler", "127.0.0.1:1")
    assert done.returncode == 1
    assert "leave out one, or add workers there: dask worker 127.0.0.1:1 --nworkers 2" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()
    monkeypatch.setattr(dask_cluster, "CONNECT_TIMEOUT_S", 0.5)
    for nowhere in ("tcp://127.0.0.1:1", "no such thing", "udp://127.0.0.1:1"):
        with pytest.raises(ConfigError, match="no dask scheduler answers there"):
            Cluster(nowhere)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"needs dask.distributed .*pip install 'isac-testbed\[cluster\]'"):
        Cluster("tcp://127.0.0.1:1")
    code = "import sys, testbed.dask_cluster, testbed.verbs.sweeping; print({'dask', 'distributed'} & {*sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"
