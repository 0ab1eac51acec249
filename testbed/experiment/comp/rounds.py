"""What a round of the loop was: powers asked for and realised, predicted and measured, and what comes next."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from testbed.allocation.base import Allocation, load_allocation, save_allocation
from testbed.config import StrictModel
from testbed.documents import read_document, write_document
from testbed.experiment.comp.prediction import Prediction
from testbed.measurement import Measurement, MeasurementFile, load_measurements, save_measurements

MEASUREMENT, ALLOCATION, ROUND = "measurement.json", "allocation.json", "round.json"


class RoundRecord(StrictModel):
    """One round, without its measurement and proposal, which have files of their own."""

    index: int = Field(ge=0)
    wanted_power: tuple[float, ...]  # milliwatt, per node
    realised_power: tuple[float, ...]  # on the air: after the converter, at the realised gain
    tx_gain_db: dict[str, float]
    predicted: Prediction | None  # from the round before, at the realised powers; none in the first
    status: Literal["optimal", "stationary", "infeasible", "zero_gain"]  # of the proposal
    note: str  # why a proposal was not taken; empty where it was
    next_power: tuple[float, ...]  # milliwatt, per node
    settled: bool  # no power would move by more than one gain step
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Round:
    """A round with its measurement and the solver's proposal."""

    record: RoundRecord
    measurement: Measurement
    proposal: Allocation


def save_round(folder: Path, made: Round, experiment_sha256: str) -> None:
    """Write a round's three files; the one that marks it as finished comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    save_measurements(
        folder / MEASUREMENT, MeasurementFile(experiment_sha256=experiment_sha256, points=(made.measurement,))
    )
    save_allocation(folder / ALLOCATION, made.proposal, made.measurement.node_names)
    write_document(folder / ROUND, made.record.model_dump(mode="json"))


def load_rounds(folder: Path) -> list[Round]:
    """All finished rounds of a run, from the first on."""
    rounds: list[Round] = []
    while (folder / f"{len(rounds):03d}" / ROUND).is_file():
        rounds.append(_load(folder / f"{len(rounds):03d}"))
    return rounds


def _load(folder: Path) -> Round:
    record = read_document(folder / ROUND, RoundRecord, "a round of a run", "run it again")
    return Round(record, load_measurements(folder / MEASUREMENT).points[0], load_allocation(folder / ALLOCATION)[0])
