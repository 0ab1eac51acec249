"""The link budget of a cooperative network: levels and clipping at every receiver with all nodes on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from testbed.device import Limits
from testbed.experiment.budget import (
    EMULATED_SAMPLES_PER_S,
    RunBudget,
    UserBudget,
    assumed_limits,
    disk_bytes,
    is_simulated,
    path_gain,
    realised,
    user_budget,
)
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.levels import receiver_levels
from testbed.sensing.model import cell_paths, nuisance_paths, time_columns
from testbed.units import db, undb

BYTES_PER_LINK_AND_FRAME = 1281 * 4 + 640 * 24  # of a profile, and of a slot while it is looked at


@dataclass(frozen=True)
class NodeBudget:
    """What one node should see with all of them on."""

    node: str
    rx_gain_db: float
    noise_dbm: float
    noise_lsb: float  # rms per rail
    self_inr_db: float
    direct_inr_db: float  # strongest
    own_echo_snr_db: float  # in a sample
    peak_dbfs: float


@dataclass(frozen=True)
class CooperativeBudget(RunBudget):
    """The budget of a run; `faults` forbid it, `notes` do not."""

    power_dbm: float
    nodes: tuple[NodeBudget, ...]
    users: tuple[UserBudget, ...]


def link_budget(experiment: CooperativeExperiment, limits: Mapping[str, Limits] | None = None) -> CooperativeBudget:
    """Budget of an experiment; `limits` by name as the radios report them, else as the experiment assumes them."""
    limits = limits or assumed_limits(experiment)
    frame = experiment.waveform.transmission(experiment.sharing(1.0, 0.0))
    sent, faults = realised(experiment, limits, frame.samples)
    survey, numerology = experiment.survey, experiment.waveform.numerology
    offsets, nodes = np.zeros(len(survey.nodes)), []
    for rx, name in enumerate(experiment.node_names):
        here = experiment.target.model_copy(update={"node": name})
        paths = [
            *cell_paths(survey, here, numerology.sample_rate_hz),
            *nuisance_paths(survey, here, numerology.sample_rate_hz),
        ]
        gains = [path_gain(experiment, rx, path) for path in paths]
        arrived = [h * row for h, row in zip(gains, time_columns(paths, sent, offsets), strict=True)]
        levels = receiver_levels(experiment, limits[name], name, np.sum(arrived, axis=0))
        faults += [text for text in levels.faults if text not in faults]
        power = {path: abs(h) ** 2 for path, h in zip(paths, gains, strict=True)}
        full = undb(experiment.highest_equal_power_dbm - levels.noise_dbm)
        nodes.append(
            NodeBudget(
                node=name,
                rx_gain_db=levels.rx_gain_db,
                noise_dbm=levels.noise_dbm,
                noise_lsb=levels.noise_lsb,
                self_inr_db=db(full * max(p for path, p in power.items() if path.kind == "self")),
                direct_inr_db=db(full * max(p for path, p in power.items() if path.kind == "direct")),
                own_echo_snr_db=db(
                    full * next(p for path, p in power.items() if path.kind == "echo" and path.tx == rx)
                ),
                peak_dbfs=levels.peak_dbfs,
            )
        )
    users = []
    for index in range(len(experiment.users)):
        user, more = user_budget(experiment, limits, index, sent)
        users.append(user)
        faults += more
    num_samples, trials = total_samples(experiment)
    rate = EMULATED_SAMPLES_PER_S / 8 if is_simulated(limits) else experiment.waveform.numerology.sample_rate_hz
    return CooperativeBudget(
        power_dbm=experiment.highest_equal_power_dbm,
        nodes=tuple(nodes),
        users=tuple(users),
        num_samples=num_samples,
        disk_bytes=disk_bytes(experiment, num_samples),
        memory_bytes=BYTES_PER_LINK_AND_FRAME * trials * len(experiment.nodes) ** 2,
        duration_s=num_samples / rate,
        faults=tuple(faults),
        notes=(),
    )


def total_samples(experiment: CooperativeExperiment) -> tuple[int, int]:
    """Samples that a run captures, and the frames of its largest capture."""
    frame_len, num_nodes, num_users = experiment.waveform.frame_len, len(experiment.nodes), len(experiment.users)
    everybody = num_nodes + num_users
    total, trials = experiment.muted_samples * everybody, experiment.cooperative.num_trials
    if (sensing := experiment.sensing) is not None:
        total += len(sensing.shares) * (sensing.num_trials + 1) * frame_len * num_nodes
    if (users := experiment.user_rates) is not None:
        points = len(users.cluster_sizes) * len(users.shares) * len(users.waveforms) + 1
        total += points * (users.num_frames + 1) * frame_len * num_users
    table = experiment.cooperative
    rounds = 1 + table.num_rounds + (0 if table.dead_node is None else 2)
    largest = max(trials, 0 if sensing is None else sensing.num_trials)
    return total + rounds * (trials + 1) * frame_len * everybody, largest
