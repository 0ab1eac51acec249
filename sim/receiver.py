"""A receiver's front end: what happens to the arriving field before the converter."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.channel import Rails, add_noise
from sim.noise import Purpose, unit_noise
from sim.propagation import ScenePath
from sim.scene import Scene
from testbed.device import Limits, Settings
from testbed.units import thermal_noise_dbm, undb


def front_end(
    scene: Scene,
    index: int,
    rails: Rails,
    absolute: int,
    settings: Settings,
    limits: Limits,
    tx_noise: float | NDArray[np.float32],
) -> int:
    """Transmitter noise, phase noise, IQ imbalance, receiver noise, DC and early clipping, in place.

    Args:
        scene: of the receiver.
        index: of the receiver's node.
        rails: what arrives, in sqrt(milliwatt), shape (num_rx, 2, n).
        absolute: index of the first sample, never used twice.
        settings: realised.
        limits: of the receiver's radio.
        tx_noise: amplitude of the own transmitter's noise at the receiver, of all samples or of each, shape (n,); all
            channels hear the same noise, each by its own calibration, as they hear the leakage.

    Returns:
        How many samples were clipped here.
    """
    node, seed = scene.nodes[index], scene.seed
    impairments = node.impairments
    if np.any(tx_noise):
        sent = unit_noise(seed, index, absolute, rails.shape[2], purpose=Purpose.TRANSMITTER) * np.float32(tx_noise)
        for channel, factor in zip(rails, node.array.calibration(seed, index, len(rails)), strict=True):
            heard = np.complex64(factor) * sent
            channel[0] += heard.real
            channel[1] += heard.imag
    if impairments.changes_received:
        arrived, rate_hz = _samples(rails), settings.sample_rate_hz
        received = impairments.receive(arrived, first=absolute, seed=seed, node_idx=index, sample_rate_hz=rate_hz)
        rails[:, 0], rails[:, 1] = received.real, received.imag
    noise = float(np.sqrt(undb(thermal_noise_dbm(settings.sample_rate_hz, node.noise_figure_db))))
    for channel in range(len(rails)):
        add_noise(rails[channel], seed, index, channel, Purpose.RECEIVER, absolute, noise)
    full_scale = limits.rx_amplitude(settings.rx_gain_db)
    if impairments.dc_offset:
        dc = impairments.dc_offset * full_scale
        rails += np.array([dc.real, dc.imag], dtype=np.float32)[:, None]
    if impairments.clip_dbfs is None:
        return 0
    clipped, clip_count = impairments.clip(_samples(rails), full_scale)
    rails[:, 0], rails[:, 1] = clipped.real, clipped.imag
    return clip_count


def transmitter_noise(scene: Scene, index: int, paths: Sequence[ScenePath]) -> float:
    """Amplitude at the receiver of its own transmitter's noise, per amplitude that it sends.

    White stays white through delays; leakage and taps scale it, as if no two of them came within a sample.

    Args:
        scene: of the node.
        index: of the node.
        paths: to its receiver.
    """
    dbc = scene.nodes[index].tx_noise_dbc
    if dbc is None:
        return 0.0
    leakage = sum(abs(path.gain) ** 2 for path in paths if path.kind == "self")
    return float(np.sqrt(undb(dbc) * leakage))


def _samples(rails: Rails) -> NDArray[np.complex64]:
    return rails[:, 0] + np.complex64(1j) * rails[:, 1]
