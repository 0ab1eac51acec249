"""The link budget of localisation: levels and clipping at the cap, and the range error to expect at equal powers."""

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
from testbed.experiment.levels import receiver_levels
from testbed.experiment.localization.config import LocalizationExperiment
from testbed.sensing.model import Path, cell_paths, nuisance_paths, time_columns
from testbed.units import SPEED_OF_LIGHT_MPS, db, undb
from testbed.waveform.shift import rms_bandwidth

_FRAMES_LOOKED_AT = 16  # of a buffer of many: levels show in a few, and `isac check` answers at once


@dataclass(frozen=True)
class StationBudget:
    """What one base station should see with all of them at the cap."""

    node: str
    rx_gain_db: float
    noise_dbm: float
    noise_lsb: float  # rms per rail
    self_inr_db: float  # in the sampled band
    direct_inr_db: float  # of the other base stations together
    echo_snr_db: float  # of the own echo, in the sampled band
    peak_dbfs: float  # largest rail, noise peak included
    range_m: float  # of the target, by the survey
    range_std_m: float  # bound of a frame in free space, others as white interference, no residual self-interference


@dataclass(frozen=True)
class LocalizationBudget(RunBudget):
    """The budget of a run; `faults` forbid it, `notes` do not."""

    frame_len: int
    power_dbm: float
    stations: tuple[StationBudget, ...]
    users: tuple[UserBudget, ...]


def link_budget(experiment: LocalizationExperiment, limits: Mapping[str, Limits] | None = None) -> LocalizationBudget:
    """Budget of an experiment; `limits` by name as the radios report them, else as the experiment assumes them."""
    limits = limits or assumed_limits(experiment)
    some = experiment.shortened(_FRAMES_LOOKED_AT)
    sent, faults = on_air(some, limits)
    stations = []
    for node in experiment.node_names:
        station, found = _station(some, limits, node, sent)
        stations.append(station)
        faults += [text for text in found if text not in faults]
    users = []
    for index in range(len(experiment.users)):
        user, more = user_budget(some, limits, index, sent)
        users.append(user)
        faults += more
    num_samples = total_samples(experiment)
    rate = EMULATED_SAMPLES_PER_S / 4 if is_simulated(limits) else experiment.waveform.numerology.sample_rate_hz
    return LocalizationBudget(
        frame_len=experiment.waveform.frame_len,
        power_dbm=experiment.highest_equal_power_dbm,
        stations=tuple(stations),
        users=tuple(users),
        num_samples=num_samples,
        disk_bytes=disk_bytes(experiment, num_samples),
        memory_bytes=memory_bytes(experiment),
        duration_s=num_samples / rate,
        faults=tuple(faults),
        notes=_notes(experiment),
    )


def total_samples(experiment: LocalizationExperiment) -> int:
    """Samples a run captures: muted, every base station alone, and all of them at equal powers and at the solver's."""
    alone = len(experiment.nodes) * experiment.identification.samples_per_capture
    contrast = 0 if experiment.contrast is None else experiment.contrast.samples_per_capture
    both = 2 * (experiment.samples_per_capture + contrast)
    return len(experiment.receivers) * (experiment.muted_samples + alone + both)


def _notes(experiment: LocalizationExperiment) -> tuple[str, ...]:
    notes = []
    if experiment.waveform.num_data_frames < experiment.capture.num_frames and len(experiment.nodes) > 1:
        notes.append(
            f"waveform.num_data_frames = {experiment.waveform.num_data_frames} frames of different data for "
            f"capture.num_frames = {experiment.capture.num_frames} trials: the interference of other base stations "
            f"repeats with them, a bias that no spread shows; the verdict will tell"
        )
    if len(experiment.nodes) < 3:
        notes.append("fewer than three base stations: the target's mirror image fits as well, no position is judged")
    return tuple(notes)


def _station(
    experiment: LocalizationExperiment, limits: Mapping[str, Limits], node: str, sent: NDArray[np.complex128]
) -> tuple[StationBudget, tuple[str, ...]]:
    survey, numerology = experiment.survey, experiment.waveform.numerology
    rx, offsets = survey.node_names.index(node), np.zeros(len(survey.nodes))
    here = experiment.target.model_copy(update={"node": node})
    echoes = cell_paths(survey, here, numerology.sample_rate_hz)
    paths = [*echoes, *nuisance_paths(survey, here, numerology.sample_rate_hz)]
    gains = [path_gain(experiment, rx, path) for path in paths]
    arrived = {path: h * row for path, h, row in zip(paths, gains, time_columns(paths, sent, offsets), strict=True)}
    levels = receiver_levels(experiment, limits[node], node, np.sum(list(arrived.values()), axis=0))
    noise = undb(levels.noise_dbm) + (levels.full_scale / limits[node].rx_full_scale) ** 2 / 6

    def power(wanted: list[Path]) -> float:
        return sum(float(np.mean(np.abs(arrived[path]) ** 2)) for path in wanted)

    def over_noise_db(value: float) -> float:
        return db(value / undb(levels.noise_dbm)) if value > 0 else float("-inf")

    own = next(path for path in echoes if path.tx == rx)
    other_direct = power([path for path in paths if path.kind == "direct"])
    foreign = power([path for path in paths if path.tx != rx])
    density = numerology.fft_size / numerology.num_subcarriers  # signals fill the used elements only
    sinr = power([own]) * density / (foreign * density + noise)
    elements = experiment.observations.num_observations(numerology)
    bandwidth = float(rms_bandwidth(sent[rx]))
    # Fisher information of a delay: 2 N SINR (2 pi b)^2, b the rms bandwidth in cycles per sample
    delay_std = 1 / np.sqrt(2 * elements * sinr * (2 * np.pi * bandwidth) ** 2)
    metre = SPEED_OF_LIGHT_MPS / 2 / numerology.sample_rate_hz
    budget = StationBudget(
        node=node,
        rx_gain_db=levels.rx_gain_db,
        noise_dbm=levels.noise_dbm,
        noise_lsb=levels.noise_lsb,
        self_inr_db=over_noise_db(power([path for path in paths if path.kind == "self"])),
        direct_inr_db=over_noise_db(other_direct),
        echo_snr_db=over_noise_db(power([own])),
        peak_dbfs=levels.peak_dbfs,
        range_m=own.delay_samples * metre,
        range_std_m=float(metre * delay_std),
    )
    return budget, levels.faults
