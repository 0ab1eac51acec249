"""Shared by tests: virtual Plutos in a process of their own, and the real client libraries to use them with."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Plutos:
    """Where virtual Plutos listen."""

    process: "subprocess.Popen[bytes]"
    control: str
    uris: dict[str, str]  # by the nodes of a board, e.g. bs1,u1


@contextlib.contextmanager
def pluto_process(scene: str | Path = "solo", *arguments: str) -> Iterator[Plutos]:
    """The command; ends with the block."""
    command = [sys.executable, "-m", "sim", "pluto", str(scene), "--until-stdin-closes", "--json", *arguments]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        assert line, "the server ended at once"
        told = json.loads(line)
        yield Plutos(child, told["control"], {",".join(row["nodes"]): row["uri"] for row in told["boards"]})
    finally:
        with contextlib.suppress(OSError):
            child.stdin.close()
        child.kill()
        child.wait()
        child.stdout.close()


def import_adi() -> Any:
    """pyadi-iio; skips the test where it or libiio is missing. Without the C library an import raises what it likes."""
    try:
        import adi
    except (ImportError, OSError, AttributeError) as exc:
        pytest.skip(f"pyadi-iio or libiio not installed ({type(exc).__name__})")
    return adi


def white_frame(size: int, seed: int = 0) -> np.ndarray:
    """A frame with a flat spectrum in the middle 80 % and nothing beside, rms 1; shape (size,)."""
    rng = np.random.default_rng(seed)
    bins = np.arange(size)
    used = np.minimum(bins, size - bins) < 0.4 * size
    spectrum = np.where(used, np.exp(2j * np.pi * rng.random(size)), 0)
    frame = np.fft.ifft(spectrum)
    return frame / np.sqrt(np.mean(np.abs(frame) ** 2))


def delay_and_gain(heard: np.ndarray, frame: np.ndarray) -> tuple[float, complex]:
    """Delay in samples and gain of the strongest copy of a repeated frame.

    Args:
        heard: whole periods.
        frame: what was sent, over the used bins of `white_frame`.
    """
    folded = heard.reshape(-1, frame.size).mean(axis=0)
    sent, got = np.fft.fft(frame), np.fft.fft(folded)
    used = np.abs(sent) > 1e-6 * np.abs(sent).max()
    channel = np.where(used, got * np.conj(sent), 0)
    coarse = int(np.argmax(np.abs(np.fft.ifft(channel))))
    k = np.fft.fftfreq(frame.size) * frame.size
    delay = float(coarse)
    for span in (1.0, 0.05, 0.0025):
        delays = delay + span * np.linspace(-1, 1, 41)
        turned = np.exp(2j * np.pi / frame.size * np.outer(delays, k[used]))
        delay = float(delays[int(np.argmax(np.abs(turned @ channel[used])))])
    gain = np.sum(channel * np.exp(2j * np.pi * k * delay / frame.size)) / np.sum(np.abs(sent) ** 2)
    return delay, complex(gain)
