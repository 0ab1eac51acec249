"""The emulator's kernel, in process: noise, static paths from a table, 12-bit conversion; and its parts."""

import numpy as np

from sim.noise import unit_noise
from sim.scene import load_scene
from sim.world import World
from testbed.device import Settings
from tests.bench.harness import Race

NUM_SAMPLES = 1 << 17

world = World(load_scene("comp"))
for name in world.scene.node_names:
    world.configure(name, Settings(carrier_hz=3.5e9, sample_rate_hz=20e6, tx_gain_db=-10.0, rx_gain_db=40.0))
transmitting = [node.name for node in world.scene.nodes if node.num_tx]
frame = 0.1 * np.exp(2j * np.pi * np.random.default_rng(1).random((1, 640)))
for name in transmitting:
    world.transmit(name, frame.astype(np.complex64))
rng = np.random.default_rng(np.random.SFC64(1))
out = np.empty((NUM_SAMPLES, 2), dtype=np.float32)


RACES = [
    Race(
        name="one receiver of the CoMP scene, 15 static paths, 12-bit output",
        limit="NumPy's own noise (SFC64, sequential)",
        contestants={
            "NumPy's own noise (SFC64, sequential)": lambda: rng.standard_normal(out=out, dtype=np.float32),
            "counter-based noise": lambda: unit_noise(1, 0, 12_345, NUM_SAMPLES),
            "emulated reception": lambda: world.receive("bs1", NUM_SAMPLES),
        },
        unit_count=NUM_SAMPLES,
        unit="sample",
    )
]
