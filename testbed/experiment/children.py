"""Child processes of the simulated world. The instrument starts them; it never imports them."""

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from testbed.errors import ConfigError, RadioError, RadioUnavailable

START_TIMEOUT_S = 30.0
TRUTH_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 5.0
LAST_WORDS_TIMEOUT_S = 0.5  # a connection is seen to close a little before its process has ended


@contextlib.contextmanager
def emulator(
    scene: str,
    seed: int | None,
    log: Path,
    self_isolation_db: float | None = None,
    direct_fading: str | None = None,
) -> Iterator[str]:
    """Run the channel emulator for the duration of the block; yields its endpoint.

    Seed, isolation of every node and fading of direct paths are the scene's own where they are None.

    The child ends when its standard input closes, so it cannot outlive this process, and it stands in a session of its
    own, so that Ctrl-C reaches it only after the transmitters were muted.

    Raises:
        ConfigError: the scene cannot be used; the child's own line.
        RadioUnavailable: the child does not start.
        RadioError: as the block raised it; if the child has ended, with the last line of its log.
    """
    command = [sys.executable, "-m", "sim", "emulate", scene, "--endpoint", "tcp://127.0.0.1:0", "--until-stdin-closes"]
    if seed is not None:
        command += ["--seed", str(seed)]
    command += _isolation(self_isolation_db) + ([] if direct_fading is None else ["--direct-fading", direct_fading])
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    try:
        line = _first_line(child)
        if not line.startswith("listening on "):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_TIMEOUT_S)
            raise ConfigError(_last_line(log) or f"emulator: did not start within {START_TIMEOUT_S:g} s; see {log}")
        try:
            yield line.removeprefix("listening on ")
        except RadioError as exc:
            words = _last_words(child, log)
            if not words:
                raise
            raise type(exc)(f"{exc}; the emulator's last words: {words}") from exc
    finally:
        _stop(child)


@contextlib.contextmanager
def truth(
    scene: str,
    experiment: Path,
    rx_gain_db: dict[str, float],
    out: Path,
    log: Path,
    powers: Sequence[Sequence[float]] = (),
    *,
    self_isolation_db: float | None = None,
    paths_only: bool = False,
) -> Iterator[Callable[[], None]]:
    """Have the truth file written while the block runs; yields a function that waits for it.

    One point per power vector in milliwatt, or per power of the experiment's axis where none is given; a single one of
    no power where `paths_only` are wanted. The isolation of every node is the scene's own where it is None.

    That function raises ConfigError with the child's own line when the file cannot be written.
    """
    gains = [f"{name}={gain_db!r}" for name, gain_db in rx_gain_db.items()]
    command = [sys.executable, "-m", "sim", "truth", scene, str(experiment), "--out", str(out)]
    command += [argument for gain in gains for argument in ("--rx-gain-db", gain)]
    command += [argument for row in powers for argument in ("--power-mw", ",".join(repr(float(p)) for p in row))]
    command += _isolation(self_isolation_db) + (["--paths-only"] if paths_only else [])
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
        )

    def wait() -> None:
        try:
            child.wait(TRUTH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ConfigError(f"isac-sim truth: not done within {TRUTH_TIMEOUT_S:g} s; use fewer points") from None
        if child.returncode != 0:
            raise ConfigError(_last_line(log) or f"isac-sim truth: failed with status {child.returncode}; see {log}")

    try:
        yield wait
    finally:
        _stop(child)


def _isolation(self_isolation_db: float | None) -> list[str]:
    return [] if self_isolation_db is None else ["--self-isolation-db", repr(float(self_isolation_db))]


def _first_line(child: "subprocess.Popen[bytes]") -> str:
    assert child.stdout is not None
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=lambda: lines.put(child.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    try:
        return lines.get(timeout=START_TIMEOUT_S).decode().strip()
    except queue.Empty:
        raise RadioUnavailable(f"emulator: no sign of life within {START_TIMEOUT_S:g} s") from None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""


def _last_words(child: "subprocess.Popen[bytes]", log: Path) -> str:
    """Last line of the log of a child that has ended; nothing while it runs."""
    try:
        child.wait(LAST_WORDS_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return ""
    return _last_line(log)


def _stop(child: "subprocess.Popen[bytes]") -> None:
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    try:
        child.wait(STOP_TIMEOUT_S if child.stdin is not None else 0)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        # last: closing waits for the thread that reads a line, and that for the child
        child.stdout.close()
