"""Truth of paths: with which delay, gain and phase what is sent reaches a receiver, and over which noise.

It takes neither powers nor observations, so it can also tell of radios whose transmitters are noisy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.propagation import ScenePath, scene_paths
from sim.scene import Scene
from testbed.measurement import Estimate, Measurement, PathMeasurement
from testbed.waveform.frame import BufferDesign
from testbed.waveform.shift import cyclic_shift


@dataclass(frozen=True)
class HeardPaths:
    """The paths from the experiment's nodes to one receiver."""

    paths: tuple[ScenePath, ...]
    tx: NDArray[np.int64]  # of every path, in node order of the experiment
    gain: NDArray[np.complex128]  # amplitude of every path
    delay_samples: NDArray[np.float64]  # after the first whole sample of the reference frame, modulo what repeats

    def columns(self, frames: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """Frames (num_nodes, frame_len) as every path delays them, shape (num_paths, frame_len)."""
        return cyclic_shift(frames[self.tx], self.delay_samples)


def heard_paths(
    scene: Scene, waveform: BufferDesign, node_names: Sequence[str], receiver: str, reference: str
) -> HeardPaths:
    """Paths to a receiver; time counts from the first path of the reference's frame, rounded to a whole sample.

    Reference is the receiver itself, or the node that serves it.
    """
    numerology = waveform.numerology
    index = [scene.node_names.index(name) for name in node_names]
    rx = scene.node_names.index(receiver)
    arriving = scene_paths(scene, rx, numerology.carrier_hz, numerology.sample_rate_hz)
    paths = tuple(path for path in arriving if path.tx in index)
    arrival = np.array([scene.nodes[path.tx].start_offset_samples + path.delay_samples for path in paths])
    first = next(
        k for k, path in enumerate(paths) if scene.nodes[path.tx].name == reference and path.kind in ("self", "direct")
    )
    delays = arrival - round(float(arrival[first]))
    return HeardPaths(
        paths=paths,
        tx=np.array([index.index(path.tx) for path in paths]),
        gain=np.array([path.gain for path in paths]),
        delay_samples=delays - waveform.buffer_len * np.round(delays / waveform.buffer_len),
    )


def path_measurements(scene: Scene, heard: HeardPaths) -> list[PathMeasurement]:
    """The same in the type of a measurement."""
    return [
        PathMeasurement(
            tx=scene.nodes[path.tx].name,
            rx=scene.nodes[path.rx].name,
            kind=path.kind,
            via=path.via,
            delay_samples=Estimate.exact(delay),
            power_gain=Estimate.exact(abs(path.gain) ** 2),
            phase_rad=Estimate.exact(float(np.angle(path.gain))),
        )
        for path, delay in zip(heard.paths, heard.delay_samples, strict=True)
    ]


def path_truth(
    scene: Scene,
    waveform: BufferDesign,
    node_names: Sequence[str],
    references: Mapping[str, str],
    noise_var: Mapping[str, Estimate],
    *,
    with_phases: bool = True,
) -> Measurement:
    """Paths and noise of a static scene; powers, which no path depends on, are told as 0.

    Args:
        scene: the world.
        waveform: carrier, rate, and after how many samples it repeats.
        node_names: transmitting nodes.
        references: of every receiver the node from whose frame delays count; itself where it transmits.
        noise_var: of every receiver, nobody transmitting.
        with_phases: False where gains fade, and only their mean powers stand.
    """
    paths = [
        path if with_phases else path.model_copy(update={"phase_rad": None})
        for receiver, reference in references.items()
        for path in path_measurements(scene, heard_paths(scene, waveform, node_names, receiver, reference))
    ]
    return Measurement(
        origin="truth",
        node_names=tuple(node_names),
        power=(0.0,) * len(node_names),
        noise_var=dict(noise_var),
        paths=tuple(paths),
    )
