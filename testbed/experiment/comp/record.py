"""What a run of CoMP leaves on disk beside what every run does.

captures/*.h5       one per power or round and condition
detections.h5       both statistics of every frame: points/<power>/<condition>/<cell>, rounds/<round>/...; error vectors
                    and some symbols of every user: .../links/<user>
measurements.json   one measurement per power
rounds/<round>/     measurement.json, allocation.json (what the solver proposes next) and round.json, written last
truth.json          per power
truth_rounds.json   the same, per round
results.json        points, rounds and verdicts
"""

from pathlib import Path

import h5py

from testbed.errors import CaptureError
from testbed.experiment.comp.statistics import (
    StoredDetection,
    StoredLink,
    read_detection,
    read_link,
    write_detection,
    write_link,
)
from testbed.experiment.comp.step import Step
from testbed.experiment.record import RunDirectory
from testbed.sensing.detect import Detection
from testbed.sensing.link import Link


class CompRun(RunDirectory):
    """Paths and files of one run of CoMP."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.detections = path / "detections.h5"
        self.truth_rounds = path / "truth_rounds.json"
        self.rounds = path / "rounds"
        self.measurements = path / "measurements.json"

    def capture_path(self, step: Step, condition: str) -> Path:
        """Capture file of a step and condition; ':' does not go into file names."""
        return self.captures / f"{step.stem}_{condition.replace(':', '_')}.h5"

    def round_path(self, index: int) -> Path:
        """Folder of a round."""
        return self.rounds / f"{index:03d}"

    def add_detection(self, step: Step, detection: Detection) -> None:
        """Store the statistics of one capture and cell."""
        write_detection(self.detections, f"{step.key}/{detection.condition}/{detection.cell}", detection)

    def detection(self, step: Step, condition: str, cell: str) -> StoredDetection:
        """Read one back."""
        return read_detection(self.detections, f"{step.key}/{condition}/{cell}")

    def add_link(self, step: Step, link: Link) -> None:
        """Store the error vectors of one user."""
        write_link(self.detections, f"{step.key}/links/{link.user}", link)

    def link(self, step: Step, user: str) -> StoredLink:
        """Read them back."""
        return read_link(self.detections, f"{step.key}/links/{user}")

    def num_finished_points(self) -> int:
        """Powers, from the first on, that were captured and judged under every condition."""
        if not self.detections.exists():
            return 0
        try:
            with h5py.File(self.detections, "r") as file:
                index = 0
                while _is_finished(file, f"points/{index:03d}"):
                    index += 1
                return index
        except OSError as exc:
            raise CaptureError(f"{self.detections}: cannot be read ({exc}); did the run end early?") from exc


def _is_finished(file: h5py.File, point: str) -> bool:
    """`all` is captured first and judged for every cell, so its cells are those that need an H0 of their own."""
    cells = list(file[f"{point}/all"]) if f"{point}/all" in file else []
    # the attribute that is written last; a run may be stopped anywhere
    return bool(cells) and all("derivative_paths" in file.get(f"{point}/without:{c}/{c}", file).attrs for c in cells)
