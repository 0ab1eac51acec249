"""The virtual Pluto in a process of its own, through pyadi-iio and libiio: CPU seconds are that process's, walls both.

The goal of the project is a wall rate: 10 million samples per second, received and sent.
"""

import atexit
import contextlib
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from tests.bench.bench_wire import bare
from tests.bench.elsewhere import process_cpu_s
from tests.bench.harness import Race, Result, Spent
from tests.plutos import pluto_process

NUM_SAMPLES = 1 << 18
GOAL_PER_S = 10e6
WAVE = 8000 * np.exp(2j * np.pi * np.random.default_rng(1).random(NUM_SAMPLES))
_open = contextlib.ExitStack()
atexit.register(_open.close)

try:
    import adi
except (ImportError, OSError, AttributeError):  # without libiio, an import raises what it likes
    adi = None


class Board:
    """One radio that sends and hears itself; a server and a client of its own, started at the first call."""

    def __init__(self, cyclic: bool) -> None:
        plutos = _open.enter_context(pluto_process("solo"))
        self.pid = plutos.process.pid
        self.sdr = adi.Pluto(uri=plutos.uris["radio1"])
        _open.callback(self.close)
        self.sdr.sample_rate = 20_000_000
        self.sdr.rx_lo = self.sdr.tx_lo = 2_450_000_000
        self.sdr.gain_control_mode_chan0 = "manual"
        self.sdr.rx_hardwaregain_chan0 = 40
        self.sdr.rx_buffer_size = NUM_SAMPLES
        self.sdr.tx_cyclic_buffer = cyclic
        self.sdr.tx(WAVE[:8192] if cyclic else WAVE)
        self.sdr.rx()

    def close(self) -> None:
        """Buffers before their context."""
        self.sdr.tx_destroy_buffer()
        self.sdr.rx_destroy_buffer()


board = cache(Board)


def measured(cyclic: bool, call: Callable[[Any], object]) -> Callable[[], Spent] | None:
    """CPU time of the server, wall time of the call."""
    if adi is None:
        return None

    def run() -> Spent:
        here = board(cyclic)
        cpu_began, wall_began = process_cpu_s(here.pid), time.perf_counter()
        call(here.sdr)
        return Spent(process_cpu_s(here.pid) - cpu_began, time.perf_counter() - wall_began)

    return run


def both(sdr: Any) -> None:
    """As many samples sent as received."""
    sdr._txbuf.push()
    sdr._rxbuf.refill()


def remark(results: dict[str, Result]) -> str:
    """Whether the wall rates reach the goal."""
    rates = {name: result.wall_rate for name, result in results.items() if name != "kernel"}
    slow = [f"{name} {rate / 1e6:.1f} MS/s" for name, rate in rates.items() if rate < GOAL_PER_S]
    return f"goal of {GOAL_PER_S / 1e6:g} MS/s of wall: " + ("missed by " + ", ".join(slow) if slow else "met by all")


def kernel() -> None:
    """Rendering, noise and conversion alone, of a scene like this one."""
    for _ in range(NUM_SAMPLES // (1 << 16)):
        bare(False)()


RACES = [
    Race(
        name="through a virtual Pluto: leakage, a target, a post; 12-bit samples",
        limit="kernel",
        contestants={
            "kernel": kernel,
            "pyadi-iio rx, cyclic tx": measured(True, lambda sdr: sdr.rx()),
            "libiio refill, cyclic tx": measured(True, lambda sdr: sdr._rxbuf.refill()),
            "pyadi-iio tx": measured(False, lambda sdr: sdr.tx(WAVE)),
            "libiio push and refill": measured(False, both),
        },
        unit_count=NUM_SAMPLES,
        unit="sample",
        remark=remark,
    )
]
