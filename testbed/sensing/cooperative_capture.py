"""What a capture of a cooperative network says beside its samples: frame, sharing, surveyed places of the nodes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.capture import Capture
from testbed.config import StrictModel, validate
from testbed.errors import CaptureError, ConfigError
from testbed.sensing.model import Survey
from testbed.waveform.cooperative import CooperativeDesign, Sharing
from testbed.waveform.frame import Frame


class _Document(StrictModel):
    """The keys of a capture's setup that are read here."""

    survey: Survey
    waveform: CooperativeDesign
    sharing: Sharing


@dataclass(frozen=True, eq=False)
class Network:
    """A cooperative network while a capture was taken."""

    design: CooperativeDesign
    sharing: Sharing
    frame: Frame  # on the air
    node_names: tuple[str, ...]
    node_position_m: NDArray[np.float64]  # surveyed, shape (num_nodes, 2)

    @property
    def live(self) -> NDArray[np.bool_]:
        """Nodes that transmit, shape (num_nodes,)."""
        live: NDArray[np.bool_] = np.any(self.frame.samples != 0, axis=1)
        return live

    @property
    def sample_rate_hz(self) -> float:
        """Of all radios."""
        return self.design.numerology.sample_rate_hz


def network_of(capture: Capture) -> Network:
    """The network of a capture, whose setup holds `waveform`, `sharing` and `survey`.

    Raises:
        CaptureError: nothing transmitted, a key missing or of another kind of experiment, a frame or survey of other
            nodes, or positions that are not on a plane.
    """
    keys = [key for key in _Document.model_fields if key in capture.setup]
    document: dict[str, Any] = {key: capture.setup[key] for key in keys}
    try:
        setup = validate(document, _Document, "capture: setup")
    except ConfigError as exc:
        raise CaptureError(f"{exc}; this capture is not of a cooperative experiment") from exc
    if capture.frame is None:
        raise CaptureError(f"condition '{capture.condition}': nothing was transmitted; capture with the nodes on")
    design = setup.waveform
    if capture.frame.samples.shape != (design.num_nodes, design.frame_len):
        raise CaptureError(
            f"frame: found shape {capture.frame.samples.shape}; the waveform has {design.num_nodes} nodes and frames "
            f"of {design.frame_len} samples"
        )
    if setup.survey.node_names != capture.tx_names or len(capture.tx_names) != design.num_nodes:
        raise CaptureError(
            f"survey: its nodes {', '.join(setup.survey.node_names)} are not the transmitters "
            f"{', '.join(capture.tx_names)}; survey every node, in node order"
        )
    if len(setup.sharing.full_power) != design.num_nodes or len(setup.sharing.clusters) != design.num_users:
        raise CaptureError(
            f"sharing: found {len(setup.sharing.full_power)} nodes and {len(setup.sharing.clusters)} clusters; the "
            f"waveform has {design.num_nodes} and {design.num_users}"
        )
    places = [node.position_m for node in setup.survey.nodes]
    if any(len(place) != 2 for place in places):
        raise CaptureError("survey: positions have 3 coordinates; cooperative positions are on a plane, give 2")
    return Network(design, setup.sharing, capture.frame, capture.tx_names, np.array(places, dtype=np.float64))
