"""All links of a cooperative network, one capture, every frame a trial: profiles over delay, and how good each link is.

Per frame and link there is J over the excess of the echo's path (`cooperative_slots`), divided by the noise: all ranges
and positions, of any subset of nodes, come from it. All frames together say

    noise    sigma2 per receiver, from the scatter of frames about their mean
    place    of the target, by direct maximum likelihood over all links: where links are evaluated
    kappa    ||(I - P_D) x||^2 / ||x||^2: a target near the line between two nodes hides its echo under the direct path;
             a link below MIN_KAPPA is not used
    sinr     |a|^2 ||(I - P_D) x||^2 / sigma2, integrated over a frame
    bound    var(path length) = c^2 sigma2 / (2 |a|^2 ||(I - P_[D x]) x'||^2), of a frame

Differs from the paper, where SINR_ij = a_i b_j: what D leaves of an echo depends on the pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.cooperative_capture import Network, network_of
from testbed.sensing.cooperative_columns import ArrivedFrames
from testbed.sensing.cooperative_search import Area, Profiles, search
from testbed.sensing.cooperative_slots import PER_SAMPLE, SlotLink, slot_link
from testbed.sensing.cooperative_timing import node_arrivals
from testbed.sensing.detect import clipping_warnings
from testbed.sensing.model import MIN_KAPPA
from testbed.units import SPEED_OF_LIGHT_MPS

MAX_EXCESS_SAMPLES = 40.0  # of an echo behind the first path that is looked for: 600 m at 20 MS/s
_LEAST_EXCESS_SAMPLES = 4.0


@dataclass(frozen=True, eq=False)
class Links:
    """Links of a capture; K of them, M frames."""

    node_names: tuple[str, ...]
    node_position_m: NDArray[np.float64]  # surveyed, shape (num_nodes, 2)
    sensing_share: float
    pairs: NDArray[np.int64]  # transmitter and receiver of every link, shape (K, 2)
    profiles: Profiles  # J / sigma2 of every link and frame
    area: Area  # in which the target was looked for
    place_m: NDArray[np.float64]  # of the target, all frames together, shape (2,)
    kappa: NDArray[np.float64]  # there, shape (K,)
    information: NDArray[np.float64]  # share of the knowledge of the delay that D leaves, shape (K,)
    sinr: NDArray[np.float64]  # integrated, linear; negative by chance where there is no echo, shape (K,)
    sinr_stderr: NDArray[np.float64]  # shape (K,)
    path_var_m2: NDArray[np.float64]  # bound of a path length per frame, inf without an echo, shape (K,)
    misfit: NDArray[np.float64]  # energy of the mean frame that D and x miss, over what noise puts there, shape (K,)
    noise_var: dict[str, Estimate]  # per receiver, per complex sample, milliwatt
    first_samples: NDArray[np.float64]  # arrival of first paths [transmitter, receiver] after the receiver's start
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """M."""
        return self.profiles.num_frames

    def chosen(self, nodes: Sequence[int] | None = None, min_sinr: float = 0.0) -> NDArray[np.bool_]:
        """Links that count, shape (K,): an echo clear of the first path, between nodes of a set, and this strong.

        Args:
            nodes: the set, each of which sends and receives; all if None.
            min_sinr: integrated, linear.

        Raises:
            ValueError: a node that there is not.
        """
        known = range(len(self.node_names))
        if nodes is not None and not set(nodes) <= set(known):
            raise ValueError(f"nodes {list(nodes)}; must be of 0..{len(known) - 1}")
        inside = np.isin(self.pairs, list(known if nodes is None else nodes)).all(axis=1)
        return inside & (self.kappa >= MIN_KAPPA) & (self.sinr >= min_sinr) & np.isfinite(self.path_var_m2)

    def as_matrix(self, values: NDArray[np.float64], missing: float = np.inf) -> NDArray[np.float64]:
        """Values of links (K,) as [transmitter, receiver]; `missing` where there is no link."""
        matrix = np.full((len(self.node_names), len(self.node_names)), missing)
        matrix[self.pairs[:, 0], self.pairs[:, 1]] = values
        return matrix

    def path_var_matrix(self) -> NDArray[np.float64]:
        """Bounds of path lengths [transmitter, receiver], m^2; inf where a link is not used or not there."""
        return self.as_matrix(np.where(self.chosen(), self.path_var_m2, np.inf))


def measure_links(
    capture: Capture, area: Area | None = None, *, max_excess_samples: float = MAX_EXCESS_SAMPLES
) -> Links:
    """Links from the nodes that sense to the nodes that the capture holds, whether in the sensing cluster or not.

    Args:
        capture: with the target on, at least two frames and one more.
        area: in which the target is; the nodes' bounding box if None.
        max_excess_samples: of an echo behind the first path.

    Raises:
        CaptureError: not of a cooperative experiment, no slots on the air, no receiver, or too few frames.
        SyncError: frames are not found, or slots run into each other.
        ValueError: an excess that the guard does not hold.
    """
    network = network_of(capture)
    senders, receivers = _senders(network), _receivers(network, capture)
    if not _LEAST_EXCESS_SAMPLES <= max_excess_samples <= network.design.guard_len:
        raise ValueError(
            f"max_excess_samples {max_excess_samples:g}; must lie in {_LEAST_EXCESS_SAMPLES:g}.."
            f"{network.design.guard_len}, the guard of a slot"
        )
    num_delays = round(max_excess_samples * PER_SAMPLE) + 1
    first = np.full((len(network.node_names), len(network.node_names)), np.nan)
    made: list[SlotLink] = []
    for rx in receivers:
        arrivals = node_arrivals(network, capture.node(network.node_names[rx]))
        if len(arrivals.frames) < 2:
            raise CaptureError(f"{network.node_names[rx]}: holds one whole frame; noise needs at least two")
        first[:, rx] = arrivals.first_samples
        arrived = ArrivedFrames.of(network.frame.samples, arrivals.first_samples)
        made += [
            slot_link(arrived, arrivals.frames, network.design.slot_window(tx), tx, rx, num_delays) for tx in senders
        ]
    noise = _noise(made)
    warnings = [note for rx in receivers for note in clipping_warnings(capture.node(network.node_names[rx]))]
    return _evaluated(network, made, noise, area or Area.around(network.node_position_m), first, tuple(warnings))


def _evaluated(
    network: Network,
    made: Sequence[SlotLink],
    noise: dict[int, Estimate],
    area: Area,
    first_samples: NDArray[np.float64],
    warnings: tuple[str, ...],
) -> Links:
    """Links divided by their noise and evaluated where all frames together see the target."""
    pairs, q = np.array([(link.tx, link.rx) for link in made]), network.node_position_m
    sigma2 = np.array([noise[rx].value for rx in pairs[:, 1]])
    num_frames = min(link.num_frames for link in made)
    for link, s in zip(made, sigma2, strict=True):
        np.multiply(link.statistic, np.float32(1 / s), out=link.statistic)  # a capture's are too large for a copy
    metres = SPEED_OF_LIGHT_MPS / network.sample_rate_hz
    ends = (q[pairs[:, 0]], q[pairs[:, 1]], metres, PER_SAMPLE)
    together = Profiles([link.pooled[None] * link.num_frames / s for link, s in zip(made, sigma2, strict=True)], *ends)
    place = search(together, area)[0]
    echoes = [link.at(float(e)) for link, e in zip(made, together.excess_samples(place), strict=True)]
    M = np.array([link.num_frames for link in made])
    sinr = np.array([echo.pooled for echo in echoes]) / sigma2 - 1 / M
    slope = np.array([echo.slope_ratio for echo in echoes])
    expected = sigma2 / M * np.array([link.freedom - 1 for link in made])
    information = 2 * np.maximum(sinr, 0.0) * slope
    path_var = np.divide(metres**2, information, out=np.full(information.shape, np.inf), where=information > 0)
    return Links(
        node_names=network.node_names,
        node_position_m=q,
        sensing_share=network.sharing.sensing_share,
        pairs=pairs,
        profiles=Profiles([link.statistic[:num_frames] for link in made], *ends),
        area=area,
        place_m=place,
        kappa=np.array([echo.kappa for echo in echoes]),
        information=np.array([echo.information for echo in echoes]),
        sinr=sinr,
        sinr_stderr=np.sqrt(2 * np.maximum(sinr, 0.0) / M + 1 / M**2),
        path_var_m2=path_var,
        misfit=np.array([echo.unexplained for echo in echoes]) / expected,
        noise_var={network.node_names[rx]: value for rx, value in noise.items()},
        first_samples=first_samples,
        warnings=warnings,
    )


def _senders(network: Network) -> list[int]:
    if network.sharing.waveform != "slots":
        raise CaptureError(
            f"sharing.waveform: found {network.sharing.waveform}; its slots are empty, and known data sense whatever "
            f"the share; capture with slots to sense"
        )
    share = network.sharing.node_sensing_share
    senders = [tx for tx in range(len(share)) if share[tx] > 0 and network.live[tx]]
    if not senders:
        raise CaptureError("sharing: no live node senses; give sensing_nodes and a sensing_share above 0")
    return senders


def _receivers(network: Network, capture: Capture) -> list[int]:
    held = {node.name for node in capture.nodes}
    receivers = [rx for rx, name in enumerate(network.node_names) if name in held and network.live[rx]]
    if not receivers:
        raise CaptureError("capture: holds none of the nodes that transmit; a range needs a receiver")
    return receivers


def _noise(made: Sequence[SlotLink]) -> dict[int, Estimate]:
    """sigma2 per receiver, pooled over its links."""
    found = {}
    for rx in dict.fromkeys(link.rx for link in made):
        own = [link for link in made if link.rx == rx]
        count = sum((link.num_frames - 1) * link.freedom for link in own)
        value = sum(link.scatter for link in own) / count
        found[rx] = Estimate(value=value, stderr=value / np.sqrt(count), count=count)
    return found
