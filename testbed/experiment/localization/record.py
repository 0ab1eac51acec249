"""What a run of localisation leaves on disk beside what every run does.

captures/alone_<node>.h5   one node on the air, the others silent
captures/equal.h5          all at equal powers, and optimum.h5 at the solver's
captures/contrast_*.h5     shorter ones at the same powers, ranged with every node's frames known
identification.json        gains from muted.h5 and the captures of one node alone
allocation.json            the solver's powers
ranges.h5                  <powers>/<known>/<node>: everything ranging found, frame by frame
users.json                 per powers and user: data-aided SINR
truth.json                 emulated runs only: paths and noise
results.json               ranges, positions, predictions, verdict
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from testbed.config import StrictModel
from testbed.documents import read_document
from testbed.errors import CaptureError
from testbed.experiment.record import RunDirectory
from testbed.measurement import Estimate
from testbed.sensing.doppler import RangeDopplerMap
from testbed.sensing.ranging import Ranging

POWERS = ("equal", "optimum")


class UserSinrs(StrictModel):
    """Data-aided SINR of every user, and realised powers, per power vector."""

    power: dict[str, tuple[float, ...]]  # milliwatt, in node order
    sinr: dict[str, dict[str, Estimate]]


class LocalizationRun(RunDirectory):
    """Paths and files of one run of localisation."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.identification = path / "identification.json"
        self.allocation = path / "allocation.json"
        self.ranges = path / "ranges.h5"
        self.users = path / "users.json"

    def alone_path(self, node: str) -> Path:
        """Capture with one node on the air."""
        return self.captures / f"alone_{node}.h5"

    def powers_path(self, powers: str) -> Path:
        """Capture at equal powers, or at the solver's."""
        return self.captures / f"{powers}.h5"

    def contrast_path(self, powers: str) -> Path:
        """Capture for the contrast."""
        return self.captures / f"contrast_{powers}.h5"

    def load_users(self) -> UserSinrs:
        """SINRs that are there."""
        if not self.users.exists():
            return UserSinrs(power={}, sinr={})
        return read_document(self.users, UserSinrs, "users' SINRs of a run", "run the experiment again")

    def write_ranging(self, key: str, ranging: Ranging) -> None:
        """Store under <powers>/<known>/<node>; the last attribute says that all is there."""
        with h5py.File(self.ranges, "a") as file:
            if key in file:
                del file[key]
            group = file.create_group(key)
            for name, value in _fields(ranging):
                if isinstance(value, np.ndarray):
                    group[name] = value
                elif not isinstance(value, RangeDopplerMap):  # a picture; drawn from the capture where it is wanted
                    group.attrs[name] = json.dumps(value, default=_plain)
            group.attrs["complete"] = True

    def read_ranging(self, key: str) -> Ranging:
        """Read one back, its range-Doppler map empty.

        Raises:
            CaptureError: not there, or damaged.
        """
        try:
            with h5py.File(self.ranges, "r") as file:
                group = file[key]
                values: dict[str, Any] = {name: group[name][()] for name in group}
                values |= {name: json.loads(text) for name, text in group.attrs.items() if name != "complete"}
            kinds = {entry.name: entry.type for entry in dataclasses.fields(Ranging)}
            for name, value in values.items():
                if isinstance(value, dict):
                    values[name] = Estimate.model_validate(value)
                elif str(kinds[name]).startswith("tuple"):
                    values[name] = tuple(value)
            nothing = np.zeros(0)
            return Ranging(**values, map=RangeDopplerMap(nothing, nothing, np.zeros((0, 0))))
        except (OSError, KeyError, ValueError, TypeError) as exc:
            raise CaptureError(f"{self.ranges}: {key} cannot be read ({exc}); run the experiment again") from exc

    def has_ranging(self, key: str) -> bool:
        """Whether one is there, complete."""
        if not self.ranges.exists():
            return False
        try:
            with h5py.File(self.ranges, "r") as file:
                return key in file and "complete" in file[key].attrs
        except OSError as exc:
            raise CaptureError(f"{self.ranges}: cannot be read ({exc}); remove it to range again") from exc


def _fields(ranging: Ranging) -> list[tuple[str, Any]]:
    return [(entry.name, getattr(ranging, entry.name)) for entry in dataclasses.fields(ranging)]


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.model_dump(mode="python")
    return value.item()  # a NumPy scalar
