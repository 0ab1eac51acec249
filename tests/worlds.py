"""Small scenes and worlds for the tests of the simulator, and the check that streams have nothing in common."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.scene import Scene
from sim.world import World
from testbed.config import validate
from testbed.device import Reception, Settings

CARRIER_HZ, RATE_HZ = 3.5e9, 20e6
LIGHT_MPS = 299_792_458.0
WAVELENGTH_M = LIGHT_MPS / CARRIER_HZ
LAGS = range(-3, 4)
FINE = {"rx_bits": 16, "tx_bits": 16}  # rounding 98 dB below full scale: out of the way


def node(name: str, *position_m: float, **values: Any) -> dict[str, Any]:
    """A node of the scene file."""
    return {"name": name, "position_m": list(position_m), "noise_figure_db": 5.0} | values


def scene(nodes: Iterable[dict[str, Any]], *, seed: int = 1, **tables: Any) -> Scene:
    """A scene of 16-bit radios."""
    tables["hardware"] = FINE | tables.get("hardware", {})
    return validate({"seed": seed, "nodes": list(nodes)} | tables, Scene, "scene")


def on_air(
    where: Scene,
    buffers: dict[str, NDArray[np.complexfloating]] | None = None,
    *,
    tx_gain_db: float = 0.0,
    rx_gain_db: float = 40.0,
    rate_hz: float = RATE_HZ,
) -> World:
    """A world of configured radios, some of which repeat a buffer (n,)."""
    world = World(where)
    for name in where.node_names:
        gain_db = tx_gain_db if world.limits(name).num_tx else -89.75
        world.configure(name, Settings(CARRIER_HZ, rate_hz, gain_db, rx_gain_db))
    for name, buffer in (buffers or {}).items():
        world.transmit(name, np.asarray(buffer, dtype=np.complex64)[None])
    return world


def in_root_milliwatt(world: World, name: str, got: Reception, rx_gain_db: float = 40.0) -> NDArray[np.complex128]:
    """What was received, referred to the antenna, shape (num_rx, n)."""
    return got.samples.astype(np.complex128) * world.limits(name).rx_amplitude(rx_gain_db)


def heard(world: World, name: str, count: int, rx_gain_db: float = 40.0) -> NDArray[np.complex128]:
    """The next samples of a node in sqrt(milliwatt), shape (num_rx, n)."""
    return in_root_milliwatt(world, name, world.receive(name, count), rx_gain_db)


def largest_correlation(
    a: NDArray[np.complexfloating], b: NDArray[np.complexfloating], lags: Iterable[int] = LAGS
) -> float:
    """Largest correlation over the lags in standard errors: of a with b, of a with conjugate b, of the envelopes.

    These are 5 numbers per lag. Where the streams are independent each exceeds 5 with a probability of 6e-7, one of
    those of 7 lags with 2e-5.
    """
    worst = 0.0
    for x, y in ((a, b), (a, b.conj()), (np.abs(a), np.abs(b))):
        x, y = x - x.mean(), y - y.mean()
        # a rail of a complex correlation has half its variance
        scale = np.sqrt((2 if np.iscomplexobj(x) else 1) / (np.mean(np.abs(x) ** 2) * np.mean(np.abs(y) ** 2)))
        for lag in lags:
            u, v = (x[lag:], y[: y.size - lag]) if lag >= 0 else (x[:lag], y[-lag:])
            r = np.vdot(u, v) / np.sqrt(u.size) * scale
            worst = max(worst, abs(r.real), abs(r.imag))
    return float(worst)
