"""The repaired detector on captures of one power: its statistics, and the laws they should follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.allocation.beamforming import combiners
from testbed.capture import Capture
from testbed.experiment.uplink.budget import assumed_echo_gains
from testbed.experiment.uplink.config import UplinkExperiment
from testbed.experiment.uplink.record import DetectorStatistics
from testbed.measurement import Estimate, Measurement
from testbed.sensing.uplink_blocks import Blocks, uplink_blocks
from testbed.sensing.uplink_channel import block_channels, pilot_estimates
from testbed.sensing.uplink_decoding import decode_users
from testbed.sensing.uplink_detector import Calibration, EchoDetector, calibrate, echo_detector
from testbed.sensing.uplink_link import user_links
from testbed.sensing.uplink_statistics import echo_gains
from testbed.theory.uplink import UplinkStatistics

DETECTORS = ("plain", "guarded")


@dataclass(frozen=True)
class TrueValues:
    """What the truth file of an emulated run tells."""

    noise_var: float  # effective, at the array
    direct_gain: NDArray[np.float64]  # beta, mean power gain per channel, shape (K,)
    echo_gain: NDArray[np.float64]  # eta, shape (K,)

    @classmethod
    def of(cls, truth: Measurement, experiment: UplinkExperiment) -> "TrueValues":
        """From mean path gains to the array."""
        name = experiment.receiver.name
        found = {
            (path.tx, path.kind): path.power_gain.value
            for path in truth.paths
            if path.rx == name and path.power_gain is not None
        }
        direct, echo = (
            np.array([found.get((node, kind), 0.0) for node in experiment.node_names]) for kind in ("direct", "echo")
        )
        return cls(truth.noise_var[name].value, direct, echo)


def steering(experiment: UplinkExperiment) -> NDArray[np.complex128]:
    """Response of the array to the cell under test, shape (M,)."""
    table = experiment.receiver
    return table.array.steering(table.position_m, experiment.cells[0].position_m, table.num_channels)


def judge_power(
    experiment: UplinkExperiment,
    power_dbm: float,
    noise_var: Estimate,
    captures: Sequence[Capture],
    truth: TrueValues | None,
) -> tuple[DetectorStatistics, dict[str, NDArray[np.generic]]]:
    """Statistics of all blocks of one power, and the weights of their laws.

    The law is that of a receiver which knows the true noise, where a truth file tells it, and designs for the same
    echo; the probability of detection is that of the true echo. A wrong noise variance of the receiver then shows in
    the law as well as in the thresholds.

    Args:
        experiment: resolved.
        power_dbm: nominal.
        noise_var: per element, from a muted capture of this power.
        captures: calibration, H0, H1.
        truth: of an emulated run.
    """
    name = experiment.receiver.name
    calibration_blocks = uplink_blocks(captures[0], name)
    timing = calibration_blocks.timing  # of this transmission: the frames go on as they were
    calibration = calibrate(block_channels(calibration_blocks)[0])
    empty, full = (uplink_blocks(capture, name, timing=timing) for capture in captures[1:])
    h0_channels, residual = block_channels(empty)
    h1_channels, _ = block_channels(full)
    designed, a = np.array(assumed_echo_gains(experiment)), steering(experiment)
    arrays: dict[str, NDArray[np.generic]] = {}
    made: EchoDetector | None = None
    for kind in DETECTORS:
        guarded = kind == "guarded"
        made = echo_detector(calibration_blocks.columns, calibration, a, designed, noise_var.value, guarded=guarded)
        sigma2 = noise_var.value if truth is None else truth.noise_var
        right = echo_detector(calibration_blocks.columns, calibration, a, designed, sigma2, guarded=guarded)
        gains = echo_gains(made, h1_channels)
        eta = np.maximum([gain.value for gain in gains], 1e-300) if truth is None else truth.echo_gain
        real = echo_detector(calibration_blocks.columns, calibration, a, eta, sigma2, guarded=guarded)
        arrays |= {
            f"{kind}/h0": made.statistic(h0_channels),
            f"{kind}/h1": made.statistic(h1_channels),
            f"{kind}/h0_weights": right.h0_weights,
            f"{kind}/h1_weights": right.weights(real.echo_cov),
            f"{kind}/receiver_h0_weights": made.h0_weights,
        }
    assert made is not None, "there are detectors"
    arrays["decoded/h0_right"] = right_blocks(empty, calibration, noise_var.value)
    arrays["decoded/h1_right"] = right_blocks(full, calibration, noise_var.value)
    about = DetectorStatistics(
        power_dbm=power_dbm,
        noise_var=noise_var,
        true_noise_var=None if truth is None else truth.noise_var,
        residual_noise_var=residual,
        echo_gain=gains,
        designed_gain=tuple(float(gain) for gain in designed),
        true_gain=None if truth is None else tuple(float(gain) for gain in truth.echo_gain),
        kept=tuple(float(share) for share in made.kept),
        sync_stderr_samples=float(np.max(timing.stderr_samples)),
    )
    return about, arrays


def right_blocks(blocks: Blocks, calibration: Calibration, noise_var: float) -> NDArray[np.bool_]:
    """Blocks whose code words all pass, decoded with the optimal combiner; with direct channels that stand."""
    M = blocks.elements.shape[1]
    beta = np.mean(np.abs(calibration.channels) ** 2, axis=0)  # per channel, of the one draw there is
    direct = beta[:, None, None] * np.eye(M, dtype=np.complex128)
    known = UplinkStatistics(direct, np.zeros_like(direct), noise_var, blocks.design.num_pilots)
    estimates = pilot_estimates(blocks, known)
    W = combiners(estimates.channels, estimates.disturbance(blocks.data_power), blocks.data_power, "optimal")
    right: NDArray[np.bool_] = decode_users(blocks, user_links(blocks, estimates, W)).right
    return right
