"""The experiment file of device-free localisation."""

from typing import Literal

from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.experiment.config import FrameExperiment
from testbed.sensing.model import Cell
from testbed.waveform.frame import FrameDesign

# added to the data seed: gains are identified, and the contrast drawn, with other data than ranges are measured with
_SEED_OF_IDENTIFICATION, _SEED_OF_CONTRAST = 1_000_003, 2_000_003


class LocalizationTable(StrictModel):
    """What the base stations may transmit, what their users need, and how the target is ranged."""

    max_power_dbm: float = Field(ge=-150, le=80)  # of every base station; a radio's own limit counts as well
    min_user_sinr_db: float | None = Field(default=None, ge=-60, le=80)  # of every user; none: they need nothing
    method: Literal["policy", "sca", "lp", "mean_std"] = "policy"
    own_echo: Literal["interference", "signal", "ignore"] = "interference"  # of the target, at the own user
    identification_frames: int = Field(default=20, ge=4, le=65536)  # of each of the K + 1 captures
    known: Literal["own", "all"] = "own"  # whose frames a base station takes out before it ranges
    whiten: bool = True  # divide elements by the rms residual of their subcarrier
    # of a further capture at each power vector, ranged with every node's frames taken out, to report what powers do
    # then: for contrast, where `known` is "own"; 0 for none
    contrast_frames: int = Field(default=40, ge=0, le=65536)
    target_height_m: float = Field(default=0.0, ge=-1e4, le=1e4)  # over the plane of the survey


class LocalizationExperiment(FrameExperiment):
    """An experiment file of kind `localization`."""

    kind: Literal["localization"] = "localization"
    localization: LocalizationTable

    @model_validator(mode="after")
    def _consistent(self) -> "LocalizationExperiment":
        if len({cell.position_m for cell in self.cells}) > 1:
            raise ValueError(f"cells: found {len(self.cells)} places; one target is localised, give the place of one")
        served = [user.node for user in self.users]
        for node in self.node_names:
            if served.count(node) > 1:
                raise ValueError(f"users: {served.count(node)} are served by {node}; localisation has one for a node")
        if self.shared_reference is not True:
            raise ValueError("shared_reference: localisation needs true, gains of users are taken at one clock")
        return self

    @property
    def target(self) -> Cell:
        """Where the target is expected."""
        return self.survey.cells[0]

    @property
    def highest_equal_power_dbm(self) -> float:
        """The cap: equal power is every base station at its cap."""
        return self.localization.max_power_dbm

    @property
    def muted_samples(self) -> int:
        """As many frames as every other capture that gains are identified with."""
        return max(self.localization.identification_frames * self.waveform.frame_len, self.capture.min_muted_samples)

    @property
    def identification(self) -> "LocalizationExperiment":
        """The same experiment with the frames that gains are identified with: fewer, and of other data."""
        return self.shortened(self.localization.identification_frames, _SEED_OF_IDENTIFICATION)

    @property
    def contrast(self) -> "LocalizationExperiment | None":
        """The same experiment with the frames of the contrast, if one is wanted."""
        table = self.localization
        if table.known == "all" or table.contrast_frames == 0 or len(self.nodes) == 1:
            return None
        return self.shortened(table.contrast_frames, _SEED_OF_CONTRAST)

    def shortened(self, num_frames: int, further_seed: int = 0) -> "LocalizationExperiment":
        """The same experiment with captures and buffers of at most so many frames, other data if a seed is added."""
        changed = {
            "num_data_frames": min(self.waveform.num_data_frames, num_frames),
            "data_seed": self.waveform.data_seed + further_seed,
        }
        waveform = FrameDesign(**(self.waveform.model_dump() | changed))
        capture = self.capture.model_copy(update={"num_frames": min(self.capture.num_frames, num_frames)})
        return self.model_copy(update={"waveform": waveform, "capture": capture})

    def user_of(self, node: str) -> str | None:
        """Name of the user that a node serves, if it serves one."""
        return next((user.name for user in self.users if user.node == node), None)
