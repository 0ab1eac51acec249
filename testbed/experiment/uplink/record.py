"""What a run of the uplink leaves on disk beside what every run does.

captures/detector<power>_{muted,calibration,h0,h1}.h5   the detector's axis, direct channels as they stand
captures/rates<power>_<seed>_{all,empty}.h5             rates and the paper's detector, direct channels redrawn
captures/loop<round>_...                                the same of a round
detector.h5   axis/<power> and loop/<round>: statistics of every block, weights of their laws, what was measured
rates.json    a row per power and seed
loop.json     a round per entry
truth.json    emulated runs only: mean gains of paths, noise
results.json  points, rates, rounds, verdicts
"""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from testbed.config import StrictModel
from testbed.documents import read_document, write_document
from testbed.errors import CaptureError
from testbed.experiment.record import RunDirectory
from testbed.measurement import Estimate


class CombinerRates(StrictModel):
    """Links of all users with one way of combining; SINRs are linear, rates in bit/s/Hz."""

    sinr: tuple[Estimate, ...]  # measured, data-aided: 1 / mean |e|^2
    formula: tuple[Estimate, ...]  # (40): 1 / mean (1 / gamma)
    rate: tuple[Estimate, ...]
    sum_rate: Estimate


class PaperCounts(StrictModel):
    """The paper's detector at one nominal probability of false alarm."""

    pfa: float
    alarms: Estimate  # share of blocks without the target
    detections: Estimate  # share of blocks with it
    model_alarms: float  # what the Gaussian model of the receiver says (E2)
    model_pod: float  # what the paper's model promises


class RatesRow(StrictModel):
    """One power vector, one seed of the data."""

    power_dbm: float  # nominal, per element
    seed: int
    pilot_power: tuple[float, ...]  # milliwatt per element
    data_power: tuple[float, ...]
    direct_gain: tuple[Estimate, ...]  # beta
    noise_var: float
    links: dict[str, CombinerRates]  # mrc, zf, optimal
    bound: tuple[float, ...]  # (7), bit/s/Hz per user
    bit_error_rate: tuple[Estimate, ...]  # optimal combiner
    block_error_rate: tuple[Estimate, ...]
    erased: Estimate  # share of blocks with a wrong word
    paper: tuple[PaperCounts, ...] = ()


class RatesFile(StrictModel):
    """All rows of an axis."""

    rows: tuple[RatesRow, ...] = ()


class LoopRound(StrictModel):
    """One round: what was transmitted and measured, and what comes next."""

    index: int
    pilot_power: tuple[float, ...]  # milliwatt per element
    data_power: tuple[float, ...]
    rows: tuple[RatesRow, ...]  # a row per seed
    echo_gain: tuple[Estimate, ...]  # eta, as measured; assumed where there is no detector
    sensing_sinr: float  # gamma_s by the measured statistics
    predicted_sum_rate: float  # bound (8) by the measured statistics
    status: str
    next_pilot_power: tuple[float, ...]
    next_data_power: tuple[float, ...]
    next_sum_rate: float  # bound (8) of the next powers
    alternating_sum_rate: float  # what Algorithm 1 reaches from the same start
    note: str = ""


class LoopFile(StrictModel):
    """All rounds."""

    rounds: tuple[LoopRound, ...] = ()


class DetectorStatistics(StrictModel):
    """What is known of one power of the detector besides its statistics."""

    power_dbm: float
    noise_var: Estimate  # muted capture
    true_noise_var: float | None
    residual_noise_var: Estimate  # whole-block fit with the target off
    echo_gain: tuple[Estimate, ...]  # measured, with the target on
    designed_gain: tuple[float, ...]  # for which the detector is made
    true_gain: tuple[float, ...] | None
    kept: tuple[float, ...]  # of the echo, by the guard
    sync_stderr_samples: float


class UplinkRun(RunDirectory):
    """Paths and files of one run of the uplink."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.detector = path / "detector.h5"
        self.rates = path / "rates.json"
        self.loop = path / "loop.json"

    def load_rates(self) -> RatesFile:
        """Rows that are there."""
        if not self.rates.exists():
            return RatesFile()
        return read_document(self.rates, RatesFile, "the rates of a run", "run the experiment again")

    def load_loop(self) -> LoopFile:
        """Rounds that are there."""
        if not self.loop.exists():
            return LoopFile()
        return read_document(self.loop, LoopFile, "the rounds of a run", "run the experiment again")

    def save_rates(self, rates: RatesFile) -> None:
        """Write rates.json."""
        write_document(self.rates, rates.model_dump(mode="json"))

    def save_loop(self, loop: LoopFile) -> None:
        """Write loop.json."""
        write_document(self.loop, loop.model_dump(mode="json"))

    def write_detector(self, key: str, about: DetectorStatistics, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Store under axis/<power> or loop/<round>; the attribute says that all is there."""
        with h5py.File(self.detector, "a") as file:
            if key in file:
                del file[key]
            group = file.create_group(key)
            for name, values in arrays.items():
                group[name] = values
            group.attrs["about"] = about.model_dump_json()

    def read_detector(self, key: str) -> tuple[DetectorStatistics, dict[str, NDArray[np.float64]]] | None:
        """Read one back; None where there is none."""
        if not self.detector.exists():
            return None
        try:
            with h5py.File(self.detector, "r") as file:
                if key not in file or "about" not in file[key].attrs:
                    return None
                group = file[key]
                arrays = {f"{kind}/{name}": group[kind][name][()] for kind in group for name in group[kind]}
                return DetectorStatistics.model_validate_json(group.attrs["about"]), arrays
        except (OSError, ValueError) as exc:
            raise CaptureError(f"{self.detector}: {key} cannot be read ({exc}); remove it to judge again") from exc
