"""When the frames of all nodes reach one node of a cooperative network: start, and the first path of every node.

The whole capture is folded at the frame's period, and all nodes' first paths, self or direct, are fitted to it jointly
(`sync`). A target's echoes are left out: they pull first paths by .003 of a sample at most where the echo can be told
from them, and by .009 where it cannot and the link is not used (tested); a frame tells a path to .016 at best.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.capture import NodeCapture
from testbed.errors import CaptureError, SyncError
from testbed.sensing.cooperative_capture import Network
from testbed.sensing.model import Path
from testbed.sensing.sync import Sync, synchronise
from testbed.units import SPEED_OF_LIGHT_MPS


@dataclass(frozen=True, eq=False)
class Arrivals:
    """First paths at one node."""

    start: int  # first sample of the first whole frame of its own
    first_samples: NDArray[np.float64]  # arrival of every node's frame after `start`; NaN if dead, shape (num_nodes,)
    stderr_samples: NDArray[np.float64]  # shape (num_nodes,)
    frames: NDArray[np.complex64]  # from `start` on, shape (num_frames, frame_len)


def node_arrivals(network: Network, node: NodeCapture) -> Arrivals:
    """First paths of all live nodes at a node.

    Args:
        network: of the capture.
        node: what the node received.

    Raises:
        CaptureError: no whole frame.
        SyncError: a node's frame is not found, or nodes begin their frames so far apart that slots overlap.
    """
    samples, rx = node.samples[0], network.node_names.index(node.name)
    away = np.linalg.norm(network.node_position_m - network.node_position_m[rx], axis=1)
    direct = away / SPEED_OF_LIGHT_MPS * network.sample_rate_hz
    paths = [
        Path(tx, "self" if tx == rx else "direct", None, float(delay))
        for tx, delay in enumerate(direct)
        if network.live[tx]
    ]
    sync = synchronise(samples, network.frame.samples, paths, rx, name=node.name, names=network.node_names)
    _check_slots(network, sync, rx)
    frames = whole_frames(samples, sync.start, network.design.frame_len, node.name)
    return Arrivals(sync.start, sync.offset_samples + direct, sync.stderr_samples, frames)


def whole_frames(samples: NDArray[np.complex64], start: int, frame_len: int, name: str) -> NDArray[np.complex64]:
    """Samples cut into frames from `start` on, shape (num_frames, frame_len).

    Raises:
        CaptureError: there is no whole one.
    """
    num_frames = (samples.size - start) // frame_len
    if num_frames < 1:
        raise CaptureError(f"{name}: {samples.size} samples hold no whole frame; capture one more than wanted")
    return samples[start : start + num_frames * frame_len].reshape(num_frames, frame_len)


def _check_slots(network: Network, sync: Sync, rx: int) -> None:
    """A slot is its node's alone only where all begin their frames together, to within a part of the guard."""
    apart = np.nan_to_num(sync.offset_samples - sync.offset_samples[rx])
    most = network.design.guard_len / 4
    if np.max(np.abs(apart)) > most:
        worst, name = int(np.argmax(np.abs(apart))), network.node_names[rx]
        raise SyncError(
            f"{name}: {network.node_names[worst]} begins its frame {apart[worst]:.1f} samples after {name}; must be "
            f"within {most:g}, or slots run into each other; start the nodes together"
        )
