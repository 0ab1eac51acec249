"""Worker processes that are killed, told to stop, or left alone by the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.errors import ConfigError, WorkerLost
from testbed.processes import MAX_ATTEMPTS, Processes
from tests.emulator import environment

TIMEOUT_S = 60.0


def own_pid() -> int:
    return os.getpid()


def hold(folder: Path) -> int:
    """Leave a file for every time it was begun, and take longer than the others of a test."""
    (folder / f"held{len(list(folder.iterdir()))}").touch()
    time.sleep(1.0)
    return len(list(folder.iterdir()))


def die_at_first(folder: Path, attempts: int, number: int = signal.SIGKILL) -> int:
    """Kill the own process in the first attempts."""
    before = len(list(folder.iterdir()))
    (folder / str(before)).touch()
    if before < attempts:
        os.kill(os.getpid(), number)
        time.sleep(TIMEOUT_S)
    return before


def refuse() -> None:
    raise ConfigError("refused")


def function() -> object:
    return lambda: 0


def muted_on_every_way_out(folder: Path) -> None:
    try:
        (folder / "began").write_text(str(os.getpid()))
        time.sleep(TIMEOUT_S)
    finally:
        time.sleep(0.2)
        (folder / "muted").touch()


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_call_of_a_killed_worker_is_run_again_and_the_others_keep_their_workers(
    tmp_path: Path, number: signal.Signals
) -> None:
    bystander, victim = tmp_path / "bystander", tmp_path / "victim"
    bystander.mkdir()
    victim.mkdir()
    with Processes(2) as executor:
        held = executor.submit(hold, bystander)
        wait_until(lambda: list(bystander.iterdir()))
        assert executor.submit(die_at_first, victim, MAX_ATTEMPTS - 1, number).result() == MAX_ATTEMPTS - 1
        assert held.result() == 1


def test_a_call_that_kills_every_worker_fails_and_the_next_one_gets_a_fresh_one(tmp_path: Path) -> None:
    with Processes(1) as executor:
        with pytest.raises(WorkerLost, match="died in mid-work 3 times, the last time by SIGKILL"):
            executor.submit(die_at_first, tmp_path, 100).result()
        assert len(list(tmp_path.iterdir())) == MAX_ATTEMPTS
        assert executor.submit(own_pid).result() != os.getpid()


def test_what_a_call_raises_arrives_with_the_place_it_was_raised_at() -> None:
    with Processes(1) as executor:
        with pytest.raises(ConfigError, match="refused") as caught:
            executor.submit(refuse).result()
        assert "in refuse" in "".join(caught.value.__notes__)
        with pytest.raises(Exception, match="pickle"):
            executor.submit(function).result()
        assert executor.submit(own_pid).exception() is None


def test_leaving_by_an_exception_lets_a_busy_worker_clean_up_and_does_not_run_what_waits(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Processes(1) as executor:
        executor.submit(muted_on_every_way_out, tmp_path)
        waiting = executor.submit(muted_on_every_way_out, other)
        wait_until((tmp_path / "began").exists)
        raise KeyboardInterrupt
    assert (tmp_path / "muted").exists()
    assert waiting.cancelled()
    assert not list(other.iterdir())
    assert time.monotonic() - began < TIMEOUT_S / 2


def test_workers_clean_up_and_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from testbed.processes import Processes
from tests.unit.test_processes import muted_on_every_way_out
if __name__ == "__main__":
    with Processes(1) as executor:
        executor.submit(muted_on_every_way_out, Path({str(tmp_path)!r})).result()
"""
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment(), cwd=Path(__file__).parents[2])
    try:
        wait_until((tmp_path / "began").exists)
        wait_until((tmp_path / "began").read_text)
    finally:
        parent.kill()
        parent.wait()
    worker = int((tmp_path / "began").read_text())
    wait_until(lambda: not runs(worker))
    assert (tmp_path / "muted").exists()


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom testbed.processes import Processes\n"
        "with Processes(1) as executor:\n    executor.submit(os.getpid).result()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 1
    assert "did not start, it ended by status 1; a script that starts some needs" in done.stderr.splitlines()[-1]
