"""The link budget of the uplink: levels and clipping at the array, with all users at their highest common power."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from testbed.device import Limits
from testbed.experiment.budget import (
    EMULATED_SAMPLES_PER_S,
    RunBudget,
    assumed_limits,
    direct_path_gain,
    disk_bytes,
    is_simulated,
    on_air,
)
from testbed.experiment.levels import receiver_levels
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.places import distance_m
from testbed.sensing.model import Path, time_columns
from testbed.theory.link import echo_gain
from testbed.units import SPEED_OF_LIGHT_MPS, db, undb

BYTES_PER_BLOCK_ELEMENT = 64  # complex elements of a capture, and what combiners make of them


@dataclass(frozen=True)
class UserBudget:
    """What the array should hear of one user, per channel."""

    user: str
    direct_snr_db: float  # per resource element, in free space: at best
    echo_snr_db: float


@dataclass(frozen=True)
class UplinkBudget(RunBudget):
    """The budget of a run; `faults` forbid it, `notes` do not."""

    power_dbm: float  # per element
    rx_gain_db: float
    noise_dbm: float
    noise_lsb: float  # rms per rail
    peak_dbfs: float
    users: tuple[UserBudget, ...]
    num_samples: int  # of all channels
    disk_bytes: int
    memory_bytes: int
    duration_s: float


def link_budget(experiment: UplinkExperiment, limits: Mapping[str, Limits] | None = None) -> UplinkBudget:
    """Budget of an experiment; `limits` by name as the radios report them, else as the experiment assumes them."""
    limits = limits or assumed_limits(experiment)
    sent, faults = on_air(experiment, limits)
    table, numerology = experiment.receiver, experiment.waveform.numerology
    rate = numerology.sample_rate_hz
    paths = [
        Path(kind="direct", tx=k, via=None, delay_samples=distance_m(node, table) / SPEED_OF_LIGHT_MPS * rate)
        for k, node in enumerate(experiment.nodes)
    ]
    gains = np.array([direct_path_gain(experiment, path, table) for path in paths])
    arrived = gains[:, None] * time_columns(paths, sent, np.zeros(len(paths)))
    levels = receiver_levels(experiment, limits[table.name], table.name, arrived.sum(axis=0))
    power = undb(experiment.highest_equal_power_dbm - levels.noise_dbm)
    users = tuple(
        UserBudget(node.name, db(float(abs(gain) ** 2) * power), db(echo * power))
        for node, gain, echo in zip(experiment.nodes, gains, assumed_echo_gains(experiment), strict=True)
    )
    blocks, largest = num_blocks(experiment)
    num_samples = blocks * experiment.waveform.frame_len * table.num_channels
    elements = largest * experiment.waveform.block_len * table.num_channels
    return UplinkBudget(
        power_dbm=experiment.highest_equal_power_dbm,
        rx_gain_db=levels.rx_gain_db,
        noise_dbm=levels.noise_dbm,
        noise_lsb=levels.noise_lsb,
        peak_dbfs=levels.peak_dbfs,
        users=users,
        num_samples=num_samples,
        disk_bytes=disk_bytes(experiment, num_samples),
        memory_bytes=BYTES_PER_BLOCK_ELEMENT * elements,
        duration_s=num_samples / (EMULATED_SAMPLES_PER_S / 2 if is_simulated(limits) else rate * table.num_channels),
        faults=(*faults, *levels.faults),
        notes=_notes(experiment),
    )


def assumed_echo_gains(experiment: UplinkExperiment) -> list[float]:
    """Mean power gain of every user's echo to one channel: the radar equation, for the target's assumed cross section.

    It is what the detector is designed for.
    """
    cell, receiver = experiment.cells[0], experiment.receiver
    wavelength_m = SPEED_OF_LIGHT_MPS / experiment.waveform.numerology.carrier_hz
    found = []
    for node in experiment.nodes:
        antennas = undb(node.antenna_gain_dbi + receiver.antenna_gain_dbi)
        there_m, back_m = distance_m(node, cell), distance_m(cell, receiver)
        found.append(float(echo_gain(there_m, back_m, cell.rcs_m2, wavelength_m, antennas)))
    return found


def num_blocks(experiment: UplinkExperiment) -> tuple[int, int]:
    """Blocks that a run captures, and those of its largest capture."""
    frame_len = experiment.waveform.frame_len
    sizes = [experiment.muted_samples // frame_len]
    if (detector := experiment.detector) is not None:
        each = [detector.num_muted, detector.num_calibration + 1, detector.num_h0 + 1, detector.num_h1 + 1]
        sizes += each * len(detector.axis_dbm)
        if experiment.loop is not None:
            sizes += each * experiment.loop.num_rounds
    if (rates := experiment.rates) is not None:
        sizes += [rates.num_blocks + 1, rates.num_h0 + 1] * (len(rates.axis_dbm) * rates.num_seeds)
    if (loop := experiment.loop) is not None:
        sizes += [loop.num_blocks + 1] * (loop.num_rounds * loop.num_seeds)
    return sum(sizes), max(sizes)


def _notes(experiment: UplinkExperiment) -> tuple[str, ...]:
    notes = []
    if (table := experiment.detector) is not None:
        if table.num_calibration < 1000:
            notes.append(
                f"detector.num_calibration: {table.num_calibration} blocks; with fewer than 1000 the calibration's own "
                f"noise, common to all blocks judged with it, can turn the verdict"
            )
        if len(table.axis_dbm) * table.num_h0 < 20_000:
            notes.append("fewer than 20,000 H0 blocks in all: the test of false alarms at 1e-3 will be weak")
    if experiment.emulator is None and experiment.rates is not None:
        notes.append("on air nobody redraws channels: rates and bounds are averages over whatever the air does")
    return tuple(notes)
