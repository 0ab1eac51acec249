"""Shared by tests: the real emulator process, and radios on it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from testbed.device import Settings
from testbed.radio.remote import RemoteRadio, WireClient

SETTINGS = Settings(carrier_hz=3.5e9, sample_rate_hz=20e6, tx_gain_db=-10.0, rx_gain_db=40.0)


@contextlib.contextmanager
def emulator_process(scene: str | Path = "comp", *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The emulator in a process of its own; yields it and its endpoint."""
    command = [sys.executable, "-m", "sim", "emulate", str(scene), "--until-stdin-closes", *arguments]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        line = child.stdout.readline().decode()
        assert line.startswith("listening on "), line
        yield child, line.removeprefix("listening on ").strip()
    finally:
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@contextlib.contextmanager
def remote_radio(endpoint: str, node: str = "bs1", *, configured: bool = True) -> Iterator[RemoteRadio]:
    """A radio on an emulator, closed at the end."""
    radio = RemoteRadio(endpoint, node, timeout_s=10.0)
    try:
        if configured:
            radio.configure(SETTINGS)
        yield radio
    finally:
        radio.close()


def request(endpoint: str, **header: object) -> dict[str, object]:
    """One request on a connection of its own."""
    client = WireClient(endpoint, timeout_s=10.0)
    try:
        return client.request(dict(header))
    finally:
        client.close()


def tone(num_tx: int = 1, size: int = 640, amplitude: float = 0.5) -> np.ndarray:
    """A repeated tone of one period, shape (num_tx, size)."""
    wave = amplitude * np.exp(2j * np.pi * np.arange(size) / size)
    return np.tile(wave, (num_tx, 1)).astype(np.complex64)


def environment(**extra: str) -> dict[str, str]:
    """The environment of a command-line test: no colours, fixed width."""
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", "TERM": "dumb", **extra}
