"""The emulator in a process of its own, through ZMQ: what of the kernel's rate is left per CPU second of that process.

The client is `RemoteRadio`; its CPU time does not count, nor does the transfer's wall time.
"""

from functools import cache

import numpy as np

from sim.channel import add_noise, arrivals, convert, render
from sim.noise import Purpose
from sim.propagation import scene_paths
from sim.scene import Scene, load_scene
from sim.world import World
from testbed.config import validate
from testbed.device import Settings
from testbed.units import thermal_noise_dbm, undb
from tests.bench.elsewhere import Served
from tests.bench.harness import Race

NUM_SAMPLES = 1 << 16
TRANSFER = 1 << 23  # samples per transfer, as a capture of many frames; the start of a transfer is nothing beside it
SETTINGS = Settings(carrier_hz=2.45e9, sample_rate_hz=20e6, tx_gain_db=0.0, rx_gain_db=40.0)
FRAME = 0.3 * np.exp(2j * np.pi * np.random.default_rng(1).random((1, 8192))).astype(np.complex64)
MOST = 2.5  # 0.40 of the kernel's rate


def scene(moving: bool) -> Scene:
    """One radio, its leakage, and three targets."""
    data = load_scene("solo").model_dump()
    velocities = [(20.0, -5.0), (-13.0, 8.0), (4.0, 25.0)]
    data["targets"] = [
        {
            "name": f"t{i + 1}",
            "position_m": (26.0 + 31.0 * i, 12.0 + 7.0 * i),
            "rcs_m2": 10.0,
            "velocity_mps": velocity if moving else (0.0, 0.0),
        }
        for i, velocity in enumerate(velocities)
    ]
    data["clutter"] = []
    return validate(data, Scene, "one radio and three targets")


class Bare:
    """Rendering, noise and conversion alone, of what the scene's radio hears."""

    def __init__(self, moving: bool) -> None:
        here = scene(moving)
        rate_hz, carrier_hz = SETTINGS.sample_rate_hz, SETTINGS.carrier_hz
        self.limits, node = here.limits(0), here.nodes[0]
        buffer = FRAME[0].astype(np.complex128) * self.limits.tx_amplitude(SETTINGS.tx_gain_db)
        paths = scene_paths(here, 0, carrier_hz, rate_hz)
        self.sources = arrivals(paths, [buffer], [node.start_offset_samples], rate_hz, carrier_hz)
        self.noise = float(np.sqrt(undb(thermal_noise_dbm(rate_hz, node.noise_figure_db))))
        self.rails = np.empty((1, 2, NUM_SAMPLES), dtype=np.float32)
        self.at = 0

    def __call__(self) -> None:
        self.rails[...] = 0.0
        render(self.sources, self.at, self.rails)
        add_noise(self.rails[0], 1, 0, 0, Purpose.RECEIVER, self.at, self.noise)
        convert(self.rails[0], self.limits.rx_amplitude(SETTINGS.rx_gain_db), self.limits.rx_full_scale)
        self.at += NUM_SAMPLES


class InProcess:
    """A world without a socket."""

    def __init__(self, moving: bool) -> None:
        self.world = World(scene(moving))
        self.node = self.world.scene.node_names[0]
        self.world.configure(self.node, SETTINGS)
        self.world.transmit(self.node, FRAME)

    def __call__(self) -> None:
        self.world.receive(self.node, NUM_SAMPLES)


bare, in_process = cache(Bare), cache(InProcess)  # made at their first call


def race(moving: bool) -> Race:
    """One scene behind the wire."""
    return Race(
        name=f"through ZMQ: leakage and 3 {'moving' if moving else 'static'} targets, fresh noise, 12-bit output",
        limit="kernel",
        contestants={
            "kernel": lambda: bare(moving)(),
            "World.receive": lambda: in_process(moving)(),
            "through ZMQ": Served(scene(moving), SETTINGS, FRAME, TRANSFER, NUM_SAMPLES),
        },
        unit_count=NUM_SAMPLES,
        unit="sample",
        goals={"through ZMQ": (0, MOST)},
    )


RACES = [race(moving=False), race(moving=True)]
