"""Contestants in other processes: GNU Radio, and the emulator behind its wire. They start at the first call."""

import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import tomli_w

from sim.scene import Scene
from testbed.device import Settings
from testbed.radio.remote import RemoteRadio
from tests.bench.harness import Spent
from tests.emulator import emulator_process

GNURADIO_SAMPLES = 4_000_000  # of one flowgraph: a quarter of a second, beside which its start is nothing
_open = contextlib.ExitStack()  # child processes, until this one ends
atexit.register(_open.close)


@cache
def gnuradio_python() -> str | None:
    """The distribution's interpreter, if it has GNU Radio; ours is a virtual environment."""
    python = shutil.which("python3", path=os.defpath)
    if python is None:
        return None
    found = subprocess.run([python, "-c", "from gnuradio import channels"], capture_output=True, env=_environment())
    return python if found.returncode == 0 else None


def gnuradio_model(num_samples: int) -> Callable[[], Spent] | None:
    """GNU Radio's channel model, for the time of `num_samples`; None where it is not installed."""
    if gnuradio_python() is None:
        return None

    def call() -> Spent:
        child = _gnuradio()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{GNURADIO_SAMPLES}\n")
        child.stdin.flush()
        cpu_s, wall_s = map(float, child.stdout.readline().split())
        share = num_samples / GNURADIO_SAMPLES
        return Spent(cpu_s * share, wall_s * share)

    return call


@cache
def _gnuradio() -> "subprocess.Popen[str]":
    python = gnuradio_python()
    assert python is not None
    child = _open.enter_context(
        subprocess.Popen(
            [python, str(Path(__file__).with_name("gnuradio_model.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment(),
        )
    )  # fmt: skip
    _open.callback(child.kill)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


class Served:
    """A scene's first node behind the wire, in a process of its own; calls give the CPU time of that process."""

    def __init__(self, scene: Scene, settings: Settings, frame: np.ndarray, num_samples: int, count_as: int) -> None:
        """Nothing starts yet. `num_samples` are transferred per call, its cost is told for `count_as` of them."""
        self._scene, self._settings, self._frame = scene, settings, frame
        self._num_samples, self._share = num_samples, count_as / num_samples
        self._started: tuple[int, RemoteRadio] | None = None

    def __call__(self) -> Spent:
        pid, radio = self._started or self._start()
        cpu_began, wall_began = process_cpu_s(pid), time.perf_counter()
        radio.receive(self._num_samples)
        cpu_s, wall_s = process_cpu_s(pid) - cpu_began, time.perf_counter() - wall_began
        return Spent(cpu_s * self._share, wall_s * self._share)

    def _start(self) -> tuple[int, RemoteRadio]:
        folder = Path(_open.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "scene.toml"
        path.write_text(tomli_w.dumps(self._scene.model_dump()), encoding="utf-8")
        child, endpoint = _open.enter_context(emulator_process(path))
        radio = RemoteRadio(endpoint, self._scene.node_names[0])
        _open.callback(radio.close)
        radio.configure(self._settings)
        radio.transmit(self._frame)
        self._started = child.pid, radio
        return self._started


def process_cpu_s(pid: int) -> float:
    """CPU time of another process, all its threads: what /proc/PID/stat tells, in nanoseconds instead of ticks.

    Linux; the clock is that of clock_getcpuclockid(3), whose number is made of the process's.
    """
    return time.clock_gettime(~pid << 3 | 2)
