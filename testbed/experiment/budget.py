"""The link budget's common part: what radios are assumed to be, gains of surveyed paths, levels at users, disk, memory.

It rests on the experiment file alone: surveyed geometry, assumed radar cross sections, isolations and noise figures,
and what the radios are (assumed, or as they report). It needs NumPy only, so that `isac check` answers at once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.device import Limits
from testbed.errors import SettingOutOfRange
from testbed.experiment.config import Experiment
from testbed.experiment.devices import NodeDevice, node_devices
from testbed.experiment.levels import receiver_levels
from testbed.experiment.tables import RadioTable, UserTable
from testbed.places import distance_m
from testbed.radio.gains import realise
from testbed.sensing.model import Path, direct_paths, time_columns
from testbed.theory.link import direct_gain, echo_gain
from testbed.units import SPEED_OF_LIGHT_MPS, db, si_bytes, undb

BYTES_PER_RAW_SAMPLE = 4  # two 16-bit integers
BYTES_WHILE_JUDGED = 28  # complex64, a copy of it in double precision, and observations
EMULATED_SAMPLES_PER_S = 10e6  # order of magnitude of capture and detection over the emulator on one core


@dataclass(frozen=True)
class RunBudget:
    """What the budget of every kind of run tells; `faults` forbid the run, `notes` do not."""

    num_samples: int
    disk_bytes: int
    memory_bytes: int  # of the largest capture, while it is judged
    duration_s: float
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    def summary(self) -> str:
        """One line: samples, disk, time."""
        return (
            f"{self.num_samples / 1e6:.1f} M samples, {si_bytes(self.disk_bytes)} on disk, "
            f"{si_bytes(self.memory_bytes)} of memory for the largest capture, about {max(self.duration_s, 1):.0f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json; what does not exist (no other transmitter: no direct path) is null."""
        return {
            key: [_plain(row) for row in value] if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def _plain(row: Any) -> Any:
    if isinstance(row, dict):
        return {key: None if value == float("-inf") else value for key, value in row.items()}
    return row


@dataclass(frozen=True)
class UserBudget:
    """What a user should see at the highest power, in free space: at best."""

    user: str
    node: str  # that serves it
    rx_gain_db: float
    noise_dbm: float
    noise_lsb: float  # rms per rail
    own_snr_db: float  # of the serving node, in the sampled band
    others_inr_db: float  # of all other nodes together
    peak_dbfs: float  # largest rail, noise peak included


def assumed_limits(experiment: Experiment) -> dict[str, Limits]:
    """Every radio by name: as its device configuration says, else as the experiment's `[hardware]` table assumes it."""
    devices = node_devices(experiment)
    return {row.name: _assumed(experiment, devices.get(row.name)) for row in experiment.receivers}


def _assumed(experiment: Experiment, known: NodeDevice | None) -> Limits:
    hardware = (experiment.hardware if known is None else known.hardware).model_dump()
    full_scale = 1 << (hardware.pop("rx_bits") - 1)
    return Limits(
        model="assumed radio",
        simulated=experiment.emulator is not None,
        num_tx=1,
        num_rx=1,
        carrier_min_hz=0.0,
        carrier_max_hz=float("inf"),
        sample_rate_min_hz=0.0,
        sample_rate_max_hz=float("inf"),
        rx_full_scale=full_scale,
        max_transmit_samples=1 << 22,
        tx_steps=() if known is None else known.tx_steps,
        **hardware,
    )


def on_air(experiment: Experiment, limits: Mapping[str, Limits]) -> tuple[NDArray[np.complex128], list[str]]:
    """Frames at the highest equal power as the radios send them, shape (num_nodes, buffer_len), and faults."""
    loudest = experiment.waveform.frame(np.full(len(experiment.nodes), undb(experiment.highest_equal_power_dbm)))
    return realised(experiment, limits, loudest.samples)


def realised(
    experiment: Experiment, limits: Mapping[str, Limits], samples: NDArray[np.complex128]
) -> tuple[NDArray[np.complex128], list[str]]:
    """Frames, shape (num_nodes, buffer_len), as the radios send them, and faults where one cannot."""
    sent, faults = samples.copy(), []
    for row, node in enumerate(experiment.nodes):
        try:
            sent[row] = realise(samples[row], limits[node.name])[2]
        except SettingOutOfRange as exc:
            faults.append(f"{node.name}: {exc}")
    return sent, faults


def is_simulated(limits: Mapping[str, Limits]) -> bool:
    """Whether the air is."""
    return all(each.simulated for each in limits.values())


def disk_bytes(experiment: Experiment, num_samples: int) -> int:
    """What stays, and the largest capture, which is on disk until it is judged."""
    keep, kept = experiment.capture.keep_frames, num_samples
    if keep != "all":
        share = (keep + 1) / (experiment.capture.num_frames + 1) if keep else 0.0
        kept = round(num_samples * min(share, 1.0))
        longest = max(experiment.samples_per_capture, experiment.muted_samples)
        kept = min(kept + len(experiment.receivers) * longest, num_samples)
    return BYTES_PER_RAW_SAMPLE * kept


def memory_bytes(experiment: Experiment) -> int:
    """All nodes' integers, and one node's samples as complex numbers twice over while they are folded and cut."""
    longest = max(experiment.samples_per_capture, experiment.muted_samples)
    judged = BYTES_WHILE_JUDGED * experiment.samples_per_capture
    return len(experiment.receivers) * BYTES_PER_RAW_SAMPLE * longest + judged


def user_budget(
    experiment: Experiment, limits: Mapping[str, Limits], index: int, sent: NDArray[np.complex128]
) -> tuple[UserBudget, tuple[str, ...]]:
    """In free space: what stands between a user and its node is not in the experiment file."""
    survey, numerology, table = experiment.survey, experiment.waveform.numerology, experiment.users[index]
    paths = direct_paths(survey, survey.users[index], numerology.sample_rate_hz)
    gains = np.array([direct_path_gain(experiment, path, table) for path in paths])
    arrived = gains[:, None] * time_columns(paths, sent, np.zeros(len(survey.nodes)))
    levels = receiver_levels(experiment, limits[table.name], table.name, arrived.sum(axis=0))
    power = np.mean(np.abs(arrived) ** 2, axis=1) / undb(levels.noise_dbm)
    own = np.array([node.name == table.node for node in survey.nodes])
    others = float(power[~own].sum())
    budget = UserBudget(
        user=table.name,
        node=table.node,
        rx_gain_db=levels.rx_gain_db,
        noise_dbm=levels.noise_dbm,
        noise_lsb=levels.noise_lsb,
        own_snr_db=db(float(power[own].sum())),
        others_inr_db=db(others) if others > 0 else float("-inf"),
        peak_dbfs=levels.peak_dbfs,
    )
    return budget, levels.faults


def direct_path_gain(experiment: Experiment, path: Path, to: RadioTable) -> complex:
    """Amplitude of a direct path, free space and what is assumed beyond it, with the carrier phase of its length."""
    numerology = experiment.waveform.numerology
    wavelength_m = SPEED_OF_LIGHT_MPS / numerology.carrier_hz
    length_m = path.delay_samples / numerology.sample_rate_hz * SPEED_OF_LIGHT_MPS
    loss_db = to.extra_loss_db if isinstance(to, UserTable) else 0.0
    antennas = undb(experiment.nodes[path.tx].antenna_gain_dbi + to.antenna_gain_dbi - loss_db)
    power = direct_gain(length_m, wavelength_m, antennas)
    return complex(np.sqrt(power) * np.exp(-2j * np.pi * (length_m / wavelength_m % 1.0)))


def path_gain(experiment: Experiment, rx: int, path: Path) -> complex:
    """Assumed amplitude of a path, with the carrier phase of its length."""
    numerology = experiment.waveform.numerology
    here, there = experiment.nodes[path.tx], experiment.nodes[rx]
    wavelength_m = SPEED_OF_LIGHT_MPS / numerology.carrier_hz
    length_m = path.delay_samples / numerology.sample_rate_hz * SPEED_OF_LIGHT_MPS
    antennas = undb(here.antenna_gain_dbi + there.antenna_gain_dbi)
    if path.kind == "self":
        power = undb(-experiment.self_isolation_db(there.name))
    elif path.kind == "direct":
        power = direct_gain(length_m, wavelength_m, antennas)
    else:
        rows = experiment.cells if path.kind == "echo" else experiment.reflectors
        via = next(row for row in rows if row.name == path.via)
        back_m = distance_m(via, there)
        power = echo_gain(length_m - back_m, back_m, via.rcs_m2, wavelength_m, antennas)
    return complex(np.sqrt(power) * np.exp(-2j * np.pi * (length_m / wavelength_m % 1.0)))
