"""What a run of a cooperative network leaves on disk beside what every run does.

captures/sensing<share>.h5        all nodes sense, at one power share
captures/users<point>.h5          users at one cluster size, share and waveform
captures/{round,dead}<index>.h5   nodes and users in a round of the loop, or with a dead node
sensing.h5    <share>: square errors of every frame and set of nodes
sensing.json  a row per share
users.json    a row per cluster size, share, waveform and user
loop.json     rounds, and what a dead node made of them
loop.h5       <round>/<user>: channels from all nodes, by which the next round is predicted
truth.json    emulated runs only: paths and noise
results.json
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from testbed.config import StrictModel
from testbed.documents import read_document, write_document
from testbed.errors import CaptureError
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.cooperative.heard import Heard
from testbed.experiment.record import RunDirectory
from testbed.measurement import Estimate
from testbed.sensing.cooperative_channels import UserChannels


class SetResult(StrictModel):
    """Positions by one set of nodes; MSE against the true place."""

    nodes: tuple[int, ...]
    num_links: int
    bound_m2: float | None  # Cramer-Rao; none where the set cannot locate
    direct: Estimate  # mean square error of direct maximum likelihood, m^2


class SensingRow(StrictModel):
    """One power share of sensing."""

    share: float
    all_nodes: SetResult
    weighted: Estimate | None  # mean square error by ranges of links above the level
    weighted_links: int
    weighted_bound_m2: float | None
    weighted_all: Estimate | None  # by ranges of all usable links
    num_usable: int  # of all links
    planned: tuple[SetResult, ...]  # best sets by size, from 3
    nearest: tuple[SetResult, ...]  # nearest nodes, likewise
    random: tuple[SetResult, ...]  # every set of 4 nodes
    dead: tuple[SetResult, ...]  # without one node each
    range_var_m2: tuple[tuple[float | None, ...], ...]  # bounds of path lengths [transmitter, receiver], this share
    place_m: tuple[float, float]  # of the target, all frames together
    warnings: tuple[str, ...] = ()


class SensingFile(StrictModel):
    """All shares."""

    rows: tuple[SensingRow, ...] = ()


class UserRow(StrictModel):
    """One user at one point."""

    user: str
    cluster_size: int
    share: float
    waveform: str
    predicted_sinr: float
    measured_sinr: Estimate
    predicted_rate: float  # bit/s/Hz
    measured_rate: Estimate


class UsersFile(StrictModel):
    """All points."""

    rows: tuple[UserRow, ...] = ()


class CooperativeRound(StrictModel):
    """One round: what was transmitted, predicted, measured, and what comes next."""

    index: int
    dead: str | None  # node that was silent
    sensing_nodes: tuple[int, ...]
    cluster_size: int
    comm_share: float
    clusters: tuple[tuple[int, ...], ...]
    predicted_bound_m2: float | None  # by the plan that is on the air
    located: SetResult
    users: tuple[UserRow, ...]
    range_var_m2: tuple[tuple[float | None, ...], ...]  # bounds of path lengths at all power, as far as ever measured
    plan: dict[str, Any]  # from this round's measurement
    feasible: bool
    note: str = ""


class LoopFile(StrictModel):
    """All rounds."""

    rounds: tuple[CooperativeRound, ...] = ()


class CooperativeRun(RunDirectory):
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.errors = path / "sensing.h5"
        self.sensing = path / "sensing.json"
        self.users = path / "users.json"
        self.loop = path / "loop.json"
        self.heard = path / "loop.h5"

    def load_sensing(self) -> SensingFile:
        """Rows that are there."""
        return self._load(self.sensing, SensingFile, SensingFile())

    def load_users(self) -> UsersFile:
        """Points that are there."""
        return self._load(self.users, UsersFile, UsersFile())

    def load_loop(self) -> LoopFile:
        """Rounds that are there."""
        return self._load(self.loop, LoopFile, LoopFile())

    def save(self, path: Path, document: StrictModel) -> None:
        """Write one of them."""
        write_document(path, document.model_dump(mode="json"))

    def write_errors(self, share_idx: int, errors: dict[str, NDArray[np.float64]]) -> None:
        """Square errors of every frame, per set."""
        with h5py.File(self.errors, "a") as file:
            key = f"{share_idx:03d}"
            if key in file:
                del file[key]
            for name, values in errors.items():
                file[f"{key}/{name}"] = values

    def read_errors(self, share_idx: int) -> dict[str, NDArray[np.float64]]:
        """Read them back."""
        try:
            with h5py.File(self.errors, "r") as file:
                group = file[f"{share_idx:03d}"]
                return {name: group[name][()] for name in group}
        except (OSError, KeyError) as exc:
            raise CaptureError(f"{self.errors}: cannot be read ({exc}); run the experiment again") from exc

    def write_heard(self, index: int, heard: Heard) -> None:
        """Users' channels of a round."""
        with h5py.File(self.heard, "a") as file:
            for channels in heard.channels:
                key = f"{index:03d}/{channels.user}"
                if key in file:
                    del file[key]
                file[f"{key}/channel"] = channels.channel
                file[f"{key}/cover"] = channels.cover
                file[f"{key}/delay_samples"] = channels.delay_samples
                about = {
                    "gain": [gain.model_dump() for gain in channels.gain],
                    "noise_var": channels.noise_var.model_dump(),
                    "start": channels.start,
                    "advance": channels.advance,
                    "num_frames": channels.num_frames,
                    "warnings": channels.warnings,
                }
                file[key].attrs["about"] = json.dumps(about)

    def read_heard(self, index: int, experiment: CooperativeExperiment) -> Heard:
        """Read them back; CaptureError where they are not there."""
        found = []
        try:
            with h5py.File(self.heard, "r") as file:
                for user in experiment.users:
                    group = file[f"{index:03d}/{user.name}"]
                    about = json.loads(group.attrs["about"])
                    found.append(
                        UserChannels(
                            user=user.name,
                            channel=group["channel"][()],
                            gain=tuple(Estimate(**gain) for gain in about["gain"]),
                            noise_var=Estimate(**about["noise_var"]),
                            cover=group["cover"][()],
                            delay_samples=group["delay_samples"][()],
                            start=about["start"],
                            advance=about["advance"],
                            num_frames=about["num_frames"],
                            warnings=tuple(about["warnings"]),
                        )
                    )
        except (OSError, KeyError, ValueError) as exc:
            raise CaptureError(f"{self.heard}: round {index} cannot be read ({exc}); run the experiment again") from exc
        return Heard(tuple(found))

    def _load(self, path: Path, model: Any, empty: Any) -> Any:
        if not path.exists():
            return empty
        return read_document(path, model, "part of a run", "run the experiment again")
