"""SINR and rate of a user that several nodes serve: predicted from its channels, and measured with known data.

The nodes S that serve send the same symbols d under covers c_l[m], without aligned phases; others send their own:

    h_eff[m, k] = sqrt(p^c) sum_S h_l[k] c_l[m],    |h_eff|^2 is p^c G_S on average over m, whatever the phases
    SINR = p^c G_S / (I + sigma2)                   G_S, G_I: sums of g over serving and other live nodes
    R    = mean over (m, k) of log2(1 + |h_eff[m, k]|^2 / (I + sigma2))      at most log2(1 + SINR)

    slots            I = p^c G_I
    superposition    I = sum over others of (p^c + p_l^s) g_l + sum over serving nodes of p_l^s g_l where their known
                     sensing symbols are not cancelled; p_l^s is 0 outside the sensing cluster

Measured: |h_eff|^2 over the mean square of what h_eff d, and cancelled sensing symbols, leave of the block, over all
elements and frames. Interference repeats with the frame: one block has as many draws of it as elements, and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.cooperative_capture import network_of
from testbed.sensing.cooperative_channels import UserChannels
from testbed.sensing.cooperative_timing import whole_frames
from testbed.waveform.cooperative import Sharing
from testbed.waveform.ofdm import resource_elements

Cancelled = Literal["none", "serving", "all"]  # whose superposed sensing symbols a user takes off


@dataclass(frozen=True)
class PredictedLink:
    """Linear, and bit/s/Hz; no prelog."""

    sinr: float
    rate_bps_hz: float


@dataclass(frozen=True, eq=False)
class UserLink:
    """A user's block, measured."""

    user: str
    cluster: tuple[int, ...]
    sinr: Estimate  # its count is that of the block's elements
    rate_bps_hz: Estimate
    predicted: PredictedLink  # for the same sharing, from the same capture's pilots


def predict_link(
    channels: UserChannels, sharing: Sharing, user_idx: int, cancelled: Cancelled = "serving"
) -> PredictedLink:
    """What a user will have under a sharing, from channels measured under any.

    Args:
        channels: of the user.
        sharing: of which shares, cluster and waveform count; powers are those that the channels were measured at, but
            for nodes whose power is 0: these are silent.
        user_idx: whose cluster is meant.
        cancelled: of superposed sensing symbols.

    Raises:
        ValueError: a sharing for another number of nodes, or a user that it does not have.
    """
    live = sharing.live
    if live.size != len(channels.channel) or not 0 <= user_idx < len(sharing.clusters):
        raise ValueError(
            f"sharing: found {live.size} nodes and {len(sharing.clusters)} clusters; the channels are of "
            f"{len(channels.channel)} nodes, and the user is number {user_idx}"
        )
    serving = [node for node in sharing.clusters[user_idx] if live[node]]
    served = np.isin(np.arange(live.size), serving)
    others = np.where(served, 0.0, sharing.comm_share) + _heard_sensing(sharing, served, cancelled)
    disturbance = float(np.where(live, others, 0.0) @ channels.power) + channels.noise_var.value
    signal = sharing.comm_share * float(channels.power[served].sum())
    strength = np.abs(_effective(channels, sharing.comm_share, serving)) ** 2
    return PredictedLink(signal / disturbance, float(np.mean(np.log2(1 + strength / disturbance))))


def measure_link(capture: Capture, channels: UserChannels, user_idx: int, cancelled: Cancelled = "serving") -> UserLink:
    """A user's link in its block, from the data that it is known to have been sent.

    Args:
        capture: holds the user.
        channels: of this user in this capture.
        user_idx: which block is the user's.
        cancelled: of superposed sensing symbols.

    Raises:
        CaptureError: not of a cooperative experiment, or no such block.
    """
    network = network_of(capture)
    design, sharing = network.design, network.sharing
    if not 0 <= user_idx < design.num_users:
        raise CaptureError(f"{channels.user}: block {user_idx}; the waveform has 0..{design.num_users - 1}")
    samples = capture.node(channels.user).samples[0]
    frames = whole_frames(samples, channels.start, design.frame_len, channels.user)
    y = resource_elements(frames, design.numerology, design.block_symbol_idx(user_idx), channels.advance)
    cluster = sharing.clusters[user_idx]
    serving = [node for node in cluster if network.live[node]]
    h = _effective(channels, sharing.comm_share, serving)
    left = y - h * design.user_elements[user_idx]
    if sharing.waveform == "superposition" and cancelled != "none":
        share = sharing.node_sensing_share
        for node in serving if cancelled == "serving" else np.flatnonzero(network.live):
            left -= np.sqrt(share[node]) * channels.channel[node] * design.sensing_elements[node, user_idx]
    disturbance, strength, count = float(np.mean(np.abs(left) ** 2)), np.abs(h) ** 2, h.size
    sinr = float(np.mean(strength)) / disturbance
    ratio = strength / disturbance
    rate = float(np.mean(np.log2(1 + ratio)))
    slope = float(np.mean(ratio / (1 + ratio))) / np.log(2)  # of the rate, by the logarithm of the disturbance
    return UserLink(
        user=channels.user,
        cluster=cluster,
        sinr=Estimate(value=sinr, stderr=sinr / np.sqrt(count), count=count),
        rate_bps_hz=Estimate(value=rate, stderr=slope / np.sqrt(count), count=count),
        predicted=predict_link(channels, sharing, user_idx, cancelled),
    )


def _heard_sensing(sharing: Sharing, served: NDArray[np.bool_], cancelled: Cancelled) -> NDArray[np.float64] | float:
    """Share of every node's superposed sensing symbols that disturbs the user."""
    if sharing.waveform == "slots" or cancelled == "all":
        return 0.0
    return np.where(served & (cancelled == "serving"), 0.0, sharing.node_sensing_share)


def _effective(channels: UserChannels, comm_share: float, serving: Sequence[int]) -> NDArray[np.complex128]:
    """h_eff, shape (n, K)."""
    total: NDArray[np.complex128] = channels.cover[serving].T @ channels.channel[serving]
    return np.sqrt(comm_share) * total
