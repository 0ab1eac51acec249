"""From a scene to paths: gain, delay and Doppler of leakage, direct, echo and clutter paths."""

from dataclasses import dataclass

import numpy as np

from sim.scene import Scene
from testbed.places import Position, distance_m
from testbed.theory.link import direct_gain, echo_gain
from testbed.units import SPEED_OF_LIGHT_MPS, undb


@dataclass(frozen=True)
class ScenePath:
    """One path from a transmitter to a receiver as it really is."""

    tx: int
    rx: int
    kind: str  # self, direct, echo or clutter
    via: str | None  # name of the target or reflector
    gain: complex  # amplitude, antenna gains included
    delay_samples: float  # without the transmitter's start offset
    doppler_hz: float  # positive for a closing path


def scene_paths(
    scene: Scene, rx: int, carrier_hz: float, sample_rate_hz: float, targets_off: frozenset[str] = frozenset()
) -> tuple[ScenePath, ...]:
    """All paths that end at receiver `rx`, transmitters in scene order.

    Direct paths follow Friis, echoes and clutter the bistatic radar equation; every path has the carrier phase of its
    length. The self path is the node's isolation, at phase 0, without antenna gain. A receiver with a `path_loss` hears
    each transmitter over one direct path of that gain, with the phase and delay of its length, and neither echoes nor
    clutter: a mean path loss stands for all scattering on the way.
    """
    return tuple(
        path
        for tx, node in enumerate(scene.nodes)
        if node.num_tx
        for path in _pair_paths(scene, tx, rx, carrier_hz, sample_rate_hz, targets_off)
    )


def _pair_paths(
    scene: Scene, tx: int, rx: int, carrier_hz: float, sample_rate_hz: float, targets_off: frozenset[str]
) -> list[ScenePath]:
    here, there = scene.nodes[tx], scene.nodes[rx]
    wavelength = SPEED_OF_LIGHT_MPS / carrier_hz
    antennas = undb(here.antenna_gain_dbi + there.antenna_gain_dbi)
    paths = []

    def add(kind: str, via: str | None, power_gain: float, length_m: float, doppler_hz: float = 0.0) -> None:
        gain = np.sqrt(power_gain) * np.exp(-2j * np.pi * (length_m / wavelength % 1.0))
        delay_samples = length_m / SPEED_OF_LIGHT_MPS * sample_rate_hz
        paths.append(ScenePath(tx, rx, kind, via, complex(gain), delay_samples, doppler_hz))

    if tx == rx:
        amplitude = complex(np.sqrt(undb(-there.self_isolation_db)))
        paths.append(ScenePath(tx, rx, "self", None, amplitude, there.self_delay_samples, 0.0))
    else:
        distance = distance_m(here, there)
        loss = there.path_loss
        if loss is not None:
            add("direct", None, antennas * undb(-loss.reference_db) * distance**-loss.exponent, distance)
            return paths
        add("direct", None, direct_gain(distance, wavelength, antennas), distance)
    for target in scene.targets:
        out_m, back_m = (distance_m(node, target) for node in (here, there))
        closing_mps = sum(
            _closing_mps(node.position_m, target.position_m, target.velocity_mps) for node in (here, there)
        )
        if target.name not in targets_off:
            power_gain = echo_gain(out_m, back_m, target.rcs_m2, wavelength, antennas)
            add("echo", target.name, power_gain, out_m + back_m, closing_mps / wavelength)
    for reflector in scene.clutter:
        out_m, back_m = (distance_m(node, reflector) for node in (here, there))
        power_gain = echo_gain(out_m, back_m, reflector.rcs_m2, wavelength, antennas)
        add("clutter", reflector.name, power_gain, out_m + back_m)
    return paths


def _closing_mps(node: Position, target: Position, velocity: Position) -> float:
    towards = np.subtract(node, target)
    return float(np.dot(velocity, towards) / np.linalg.norm(towards))
