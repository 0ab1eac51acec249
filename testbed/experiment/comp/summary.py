"""A round in numbers: every target and user, predicted beside measured beside true, against what is required."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.feedback import required_sinr, required_snr
from testbed.experiment.comp.law import Law
from testbed.experiment.comp.prediction import comm_sinr, sensing_snr
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.rounds import Round
from testbed.experiment.comp.step import Step
from testbed.measurement import Estimate, Measurement
from testbed.theory.consistency import wilson_interval
from testbed.units import db

RATE_STDERRS = 2.0  # a rate meets its floor if it does so within so many standard errors


@dataclass(frozen=True)
class CellSummary:
    """One target in one round, by the experiment's test. SNRs are lam / (2N), linear."""

    cell: str
    node: str
    num_frames: int
    num_detections: int
    pod: float
    pod_low: float  # 95 % Wilson interval
    pod_high: float
    snr: Estimate
    snr_predicted: Estimate | None  # by the round before
    pod_predicted: float | None
    snr_truth: float | None
    snr_required: float  # without margin
    is_met: bool  # the interval reaches the required PoD
    is_above: bool  # so does the estimate itself


@dataclass(frozen=True)
class UserSummary:
    """One user in one round. SINRs are per used resource element, linear."""

    user: str
    node: str  # that serves it
    sinr: Estimate  # data-aided
    sinr_pilot: Estimate
    sinr_predicted: Estimate | None  # by the round before
    sinr_truth: float | None
    sinr_required: float  # without margin
    rate_bps_hz: Estimate
    rate_predicted_bps_hz: float | None
    symbol_error_rate: Estimate
    bit_error_rate: Estimate
    sinr_decision: Estimate  # decision-directed: too high where symbols are mistaken
    is_met: bool  # rate + 2 standard errors is at or above its floor
    is_above: bool  # so is the estimate itself


@dataclass(frozen=True)
class RoundSummary:
    """One round."""

    index: int
    power_dbm: dict[str, float | None]  # asked for, per node; none where silent
    realised_dbm: dict[str, float | None]
    cells: tuple[CellSummary, ...]
    users: tuple[UserSummary, ...]
    sum_rate_bps_hz: Estimate
    status: str
    note: str
    settled: bool

    @property
    def is_met(self) -> bool:
        """Whether every target and every user has what is required."""
        return all(row.is_met for row in self.cells) and all(row.is_met for row in self.users)

    @property
    def is_above(self) -> bool:
        """Whether every estimate itself is at or above what is required."""
        return all(row.is_above for row in self.cells) and all(row.is_above for row in self.users)

    @property
    def outcome(self) -> str:
        """What the powers do, for 'the powers of round 3 ...'."""
        if not self.is_met:
            return "do NOT meet every requirement"
        if self.is_above:
            return "meet every requirement"
        return "miss no requirement by more than the errors of measurement"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for results.json."""
        plain = asdict(self) | {"is_met": self.is_met}
        plain["cells"] = [_plain(row) for row in self.cells]
        plain["users"] = [_plain(row) for row in self.users]
        return plain | {"sum_rate_bps_hz": self.sum_rate_bps_hz.model_dump()}


def summarise(run: CompRun, experiment: CompExperiment, made: Round, truth: Measurement | None = None) -> RoundSummary:
    """Summary of a round from its record, its measurement and the stored statistics."""
    record, measurement = made.record, made.measurement
    assert experiment.requirements is not None, "a loop has requirements"
    cells = tuple(_cell(run, experiment, made, cell.name, truth) for cell in experiment.cells)
    users = tuple(_user(experiment, made, user.name, truth) for user in experiment.users)
    rates = [user.rate_bps_hz for user in users]
    names = measurement.node_names
    return RoundSummary(
        index=record.index,
        power_dbm=_dbm(names, record.wanted_power),
        realised_dbm=_dbm(names, record.realised_power),
        cells=cells,
        users=users,
        sum_rate_bps_hz=Estimate(
            value=sum(rate.value for rate in rates),
            stderr=float(np.sqrt(sum(rate.stderr**2 for rate in rates))),
            count=min((rate.count for rate in rates), default=0),
        ),
        status=record.status,
        note=record.note,
        settled=record.settled,
    )


def _cell(run: CompRun, experiment: CompExperiment, made: Round, cell: str, truth: Measurement | None) -> CellSummary:
    assert experiment.requirements is not None, "a loop has requirements"
    stored = run.detection(Step("rounds", made.record.index), "all", cell)
    law, values = Law.of(stored, experiment.statistic), getattr(stored, experiment.statistic)
    count = int(np.count_nonzero(values >= law.threshold(experiment.detection.pfa)))
    low, high = wilson_interval(count, values.size)
    lam, per_lam = law.noncentrality(values), 1 / (2 * made.measurement.sensing[cell].num_observations)
    predicted = made.record.predicted
    response = truth.sensing[cell] if truth else None
    return CellSummary(
        cell=cell,
        node=stored.node,
        num_frames=values.size,
        num_detections=count,
        pod=count / values.size,
        pod_low=float(low),
        pod_high=float(high),
        snr=Estimate(value=lam.value * per_lam, stderr=lam.stderr * per_lam, count=lam.count),
        snr_predicted=predicted.sensing_snr[cell] if predicted else None,
        pod_predicted=predicted.pod[cell] if predicted else None,
        snr_truth=sensing_snr(response, np.array(truth.power), truth.noise_var[response.node]).value
        if truth and response
        else None,
        snr_required=required_snr(made.measurement, cell, experiment),
        is_met=bool(high >= experiment.requirements.min_pod),
        is_above=count / values.size >= experiment.requirements.min_pod,
    )


def _user(experiment: CompExperiment, made: Round, user: str, truth: Measurement | None) -> UserSummary:
    assert experiment.requirements is not None, "a loop has requirements"
    link, response = made.measurement.links[user], made.measurement.communication[user]
    sinr, predicted = link.data_sinr, made.record.predicted
    rate = Estimate(
        value=float(np.log2(1 + sinr.value)),
        stderr=float(sinr.stderr / ((1 + sinr.value) * np.log(2))),
        count=sinr.count,
    )
    exact = None
    if truth is not None:
        powers, noise = np.array(truth.power), truth.noise_var[user]
        exact = comm_sinr(truth.communication[user], powers, noise, truth.node_names).value
    assert response.serving is not None, "a user is served"
    return UserSummary(
        user=user,
        node=response.serving,
        sinr=sinr,
        sinr_pilot=link.pilot_sinr,
        sinr_predicted=predicted.comm_sinr[user] if predicted else None,
        sinr_truth=exact,
        sinr_required=required_sinr(experiment),
        rate_bps_hz=rate,
        rate_predicted_bps_hz=predicted.rate_bps_hz[user] if predicted else None,
        symbol_error_rate=link.symbol_error_rate,
        bit_error_rate=link.bit_error_rate,
        sinr_decision=link.decision_sinr,
        is_met=rate.value + RATE_STDERRS * rate.stderr >= experiment.requirements.min_rate_bps_hz,
        is_above=rate.value >= experiment.requirements.min_rate_bps_hz,
    )


def _dbm(names: tuple[str, ...], power: tuple[float, ...]) -> dict[str, float | None]:
    return {name: db(p) if p > 0 else None for name, p in zip(names, power, strict=True)}


def _plain(row: CellSummary | UserSummary) -> dict[str, Any]:
    return {key: value.model_dump() if isinstance(value, Estimate) else value for key, value in vars(row).items()}
