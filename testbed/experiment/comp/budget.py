"""The link budget before anything is transmitted: SNR, clipping, noise in LSB, predicted PoD, samples, disk, time.

It rests on the experiment file alone: surveyed geometry, assumed radar cross sections, isolations and noise figures,
and what the radios are (assumed, or as they report). It needs NumPy only, so that `isac check` answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits
from testbed.experiment.budget import (
    EMULATED_SAMPLES_PER_S,
    RunBudget,
    UserBudget,
    assumed_limits,
    disk_bytes,
    is_simulated,
    memory_bytes,
    on_air,
    path_gain,
    user_budget,
)
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.levels import receiver_levels
from testbed.sensing.model import Path, cell_paths, nuisance_paths, projection_basis, time_columns
from testbed.theory.marcum import detection_probability_series, glrt_threshold_series
from testbed.units import db, undb
from testbed.waveform.frame import Frame
from testbed.waveform.shift import rms_bandwidth

MIN_RESIDUAL = 3  # complex degrees of freedom: the F statistic has a variance from there on


@dataclass(frozen=True)
class CellBudget:
    """What one cell's node should see at the highest power, and the PoD at every power."""

    cell: str
    node: str
    rx_gain_db: float
    noise_dbm: float
    noise_lsb: float  # rms per rail
    self_inr_db: float  # in the sampled band
    direct_inr_db: float  # strongest
    echo_snr_db: float  # all transmitters, in the sampled band
    peak_dbfs: float  # largest rail, noise peak included
    pod: tuple[float, ...]  # predicted, one per power
    loop_pod: float | None  # predicted at equal powers of the loop's budget


@dataclass(frozen=True)
class Budget(RunBudget):
    """The budget of a run; `faults` forbid it, `notes` do not."""

    frame_len: int
    peak_to_average_db: tuple[float, ...]  # per node, of a rail
    rms_bandwidth: tuple[float, ...]  # per node, cycles per sample
    powers_dbm: tuple[float, ...]
    cells: tuple[CellBudget, ...]
    users: tuple[UserBudget, ...]


def total_samples(experiment: CompExperiment) -> int:
    """Samples a run captures at most: all receivers under H1, the judging node under H0, all receivers muted."""
    per_step = (len(experiment.receivers) + len(experiment.cells)) * experiment.samples_per_capture
    rounds = 0 if experiment.loop is None else experiment.loop.num_rounds
    return (len(experiment.axis_dbm) + rounds) * per_step + len(experiment.receivers) * experiment.muted_samples


def link_budget(experiment: CompExperiment, limits: Mapping[str, Limits] | None = None) -> Budget:
    """Budget of an experiment; `limits` by name as the radios report them, else as the experiment assumes them."""
    limits = limits or assumed_limits(experiment)
    faults: list[str] = []
    powers = experiment.equal_powers_dbm
    sent, found = on_air(experiment, limits)
    faults += found
    unit = experiment.waveform.frame(np.ones(len(experiment.nodes)))
    cells = []
    for index in range(len(experiment.cells)):
        budget, fault = _cell(experiment, limits, index, sent, unit)
        cells.append(budget)
        faults += [text for text in fault if text not in faults]
    users = []
    for index in range(len(experiment.users)):
        user, more = user_budget(experiment, limits, index, sent)
        users.append(user)
        faults += more
    num_samples = total_samples(experiment)
    notes = []
    if len(powers) * experiment.capture.num_frames * len(experiment.cells) < 20_000:
        notes.append("fewer than 20,000 H0 trials in all: the test of false alarms at 1e-3 will be weak")
    if all(p < 0.05 or p > 0.95 for cell in cells for p in cell.pod):
        notes.append("no predicted PoD lies between 0.05 and 0.95: the curve will not be tested; shift the power axis")
    rate = EMULATED_SAMPLES_PER_S if is_simulated(limits) else experiment.waveform.numerology.sample_rate_hz
    return Budget(
        frame_len=unit.frame_len,
        peak_to_average_db=tuple(db(float(ratio)) for ratio in unit.peak_to_average),
        rms_bandwidth=tuple(float(beta) for beta in rms_bandwidth(unit.samples)),
        powers_dbm=powers,
        cells=tuple(cells),
        users=tuple(users),
        num_samples=num_samples,
        disk_bytes=disk_bytes(experiment, num_samples),
        memory_bytes=memory_bytes(experiment),
        duration_s=num_samples / rate,
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _cell(
    experiment: CompExperiment, limits: Mapping[str, Limits], index: int, sent: NDArray[np.complex128], unit: Frame
) -> tuple[CellBudget, list[str]]:
    survey, numerology = experiment.survey, experiment.waveform.numerology
    cell = survey.cells[index]
    rx = survey.node_names.index(cell.node)
    wanted = cell_paths(survey, cell, numerology.sample_rate_hz)
    nuisance = nuisance_paths(survey, cell, numerology.sample_rate_hz)
    gains = {path: path_gain(experiment, rx, path) for path in (*wanted, *nuisance)}
    offsets = np.zeros(len(survey.nodes))

    arrived = {path: gain * row for (path, gain), row in zip(
        gains.items(), time_columns(list(gains), sent, offsets), strict=True)}  # fmt: skip
    levels = receiver_levels(experiment, limits[cell.node], cell.node, np.sum(list(arrived.values()), axis=0))
    faults = list(levels.faults)

    def inr_db(paths: list[Path]) -> float:
        power = sum(float(np.mean(np.abs(arrived[path]) ** 2)) for path in paths)
        return db(power / undb(levels.noise_dbm)) if power > 0 else float("-inf")

    num_residual = experiment.detection.observations.num_observations(numerology) - len(wanted) - len(nuisance)
    if num_residual < MIN_RESIDUAL:
        faults.append(
            f"detection.observations: N - r - Q = {num_residual} at {cell.node}; the F test needs at least "
            f"{MIN_RESIDUAL}; observe more symbols"
        )
    noise_var = undb(levels.noise_dbm) + (levels.full_scale / limits[cell.node].rx_full_scale) ** 2 / 6
    lam = _unit_noncentrality(experiment, wanted, nuisance, gains, unit, offsets) / noise_var
    rank = len(wanted)
    limit = glrt_threshold_series(experiment.detection.pfa, rank)
    pod = [detection_probability_series(lam * undb(p), rank, limit) for p in experiment.equal_powers_dbm]
    loop_pod = None
    if experiment.loop is not None and experiment.allocation is not None:
        start = undb(experiment.allocation.budget_dbm)
        loop_pod = float(detection_probability_series(lam * start, rank, limit))
    direct = [path for path in nuisance if path.kind == "direct"]
    return (
        CellBudget(
            cell=cell.name,
            node=cell.node,
            rx_gain_db=levels.rx_gain_db,
            noise_dbm=levels.noise_dbm,
            noise_lsb=levels.noise_lsb,
            self_inr_db=inr_db([path for path in nuisance if path.kind == "self"]),
            direct_inr_db=max((inr_db([path]) for path in direct), default=float("-inf")),
            echo_snr_db=inr_db(list(wanted)),
            peak_dbfs=levels.peak_dbfs,
            pod=tuple(float(p) for p in pod),
            loop_pod=loop_pod,
        ),
        faults,
    )


def _unit_noncentrality(
    experiment: CompExperiment,
    wanted: tuple[Path, ...],
    nuisance: tuple[Path, ...],
    gains: dict[Path, complex],
    unit: Frame,
    offsets: NDArray[np.float64],
) -> float:
    """2 ||(I - P_D) X h||^2 at one milliwatt per node."""
    observations, numerology = experiment.detection.observations, experiment.waveform.numerology
    X = observations.extract(time_columns(wanted, unit.samples, offsets), numerology).T
    D = observations.extract(time_columns(nuisance, unit.samples, offsets), numerology).T
    echo = X @ np.array([gains[path] for path in wanted])
    U = projection_basis(D)
    return 2 * float(np.sum(np.abs(echo - U @ (U.conj().T @ echo)) ** 2))
