"""For tests of the uplink: its reference scene in a world without a socket, captures made there, and what is true."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.propagation import scene_paths
from sim.scene import Scene, load_scene, with_direct_fading, with_seed
from sim.truth import effective_noise_var
from sim.world import World
from testbed.capture import CHUNK_TABLE, Capture, NodeCapture
from testbed.device import Settings
from testbed.measurement import noise_estimate
from testbed.radio.gains import realise
from testbed.sensing.uplink_array import UniformArray
from testbed.sensing.uplink_blocks import Blocks, uplink_blocks
from testbed.sensing.uplink_channel import block_channels
from testbed.sensing.uplink_detector import Calibration, EchoDetector, calibrate, echo_detector
from testbed.theory.consistency import PodPoints, Verdict, judge
from testbed.theory.uplink import UplinkStatistics
from testbed.units import undb
from testbed.waveform.frame import Frame
from testbed.waveform.numerology import Numerology
from testbed.waveform.uplink import UplinkDesign

CARRIER_HZ, RATE_HZ = 3.5e9, 1e6
NUMEROLOGY = Numerology(carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, fft_size=16, cp_len=4, num_subcarriers=12)
USERS, K, M = ("u1", "u2", "u3", "u4"), 4, 8
RECEIVER, RECEIVER_M, TARGET_M = "bs", (0.0, 0.0), (24.0, 7.0)
RX_GAIN_DB = 56.0  # 1 LSB = noise rms per rail
STEERING = UniformArray().steering(RECEIVER_M, TARGET_M, M)
STATIC, FADING = "run", "block"  # direct paths


def uplink_design(data_seed: int = 1) -> UplinkDesign:
    """The reference frame."""
    return UplinkDesign(numerology=NUMEROLOGY, data_seed=data_seed, num_users=K, num_symbols=9, num_pilots=4)


def uplink_scene(direct: str = STATIC, seed: int = 1) -> Scene:
    """The reference scene."""
    return with_direct_fading(with_seed(load_scene("uplink"), seed), direct)


@dataclass(frozen=True)
class Truth:
    """What the scene says, at the receiver."""

    direct_gain: NDArray[np.float64]  # beta, mean over the fading, (K,)
    echo_gain: NDArray[np.float64]  # eta, (K,)
    noise_var: float  # rounding included
    delay_samples: NDArray[np.float64]  # of direct paths from the begin of a block, (K,)

    @property
    def statistics(self) -> UplinkStatistics:
        echo_cov = self.echo_gain[:, None, None] * np.outer(STEERING, STEERING.conj())
        return UplinkStatistics(self.direct_gain[:, None, None] * np.eye(M), echo_cov, self.noise_var, 4)


def uplink_truth(scene: Scene, rx_gain_db: float = RX_GAIN_DB) -> Truth:
    """True gains, noise and delays."""
    paths = scene_paths(scene, K, CARRIER_HZ, RATE_HZ)
    direct = sorted((p for p in paths if p.kind == "direct"), key=lambda p: p.tx)
    echo = sorted((p for p in paths if p.kind == "echo"), key=lambda p: p.tx)
    return Truth(
        direct_gain=np.array([abs(p.gain) ** 2 for p in direct]),
        echo_gain=np.array([abs(p.gain) ** 2 for p in echo]),
        noise_var=effective_noise_var(scene, K, RATE_HZ, rx_gain_db),
        delay_samples=np.array([scene.nodes[p.tx].start_offset_samples + p.delay_samples for p in direct]),
    )


def capture_uplink(
    scene: Scene,
    design: UplinkDesign,
    pilot_dbm: float | NDArray[np.float64],
    data_dbm: float | NDArray[np.float64] | None = None,
    *,
    num_blocks: int = 500,
    condition: str = "all",
    epoch: int | None = None,
    rx_gain_db: float = RX_GAIN_DB,
) -> Capture:
    """What a run would have stored; -inf dBm mutes everybody. Captures of one scene differ in noise by their epoch."""
    world = World(scene)
    pilot = undb(np.broadcast_to(np.asarray(pilot_dbm, float), K))
    data = pilot if data_dbm is None else undb(np.broadcast_to(np.asarray(data_dbm, float), K))
    wanted = design.frame(pilot, data)
    on_air = np.zeros_like(wanted.samples)
    for row, name in enumerate(USERS):
        plan, sent, on_air[row] = realise(wanted.samples[row], world.limits(name))
        world.configure(name, Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, 0.0))
        if plan.scale > 0:
            world.transmit(name, sent[None])
    settings = world.configure(RECEIVER, Settings(CARRIER_HZ, RATE_HZ, -89.75, rx_gain_db))
    world.set_condition(condition, epoch)
    got = world.receive(RECEIVER, (num_blocks + 1) * design.frame_len)
    node = NodeCapture(RECEIVER, got.raw, settings, world.limits(RECEIVER), np.empty(0, dtype=CHUNK_TABLE))
    frame = Frame(on_air, wanted.pilot_power, wanted.data_power) if np.any(on_air) else None
    setup = {"waveform": design.model_dump(mode="json")}
    return Capture(condition, USERS, frame, (node,), setup, {}, True)


def blocks_of(scene: Scene, design: UplinkDesign, pilot_dbm: float | NDArray[np.float64], **kwargs: object) -> Blocks:
    """Blocks of a capture, frames found and delays fitted."""
    return uplink_blocks(capture_uplink(scene, design, pilot_dbm, **kwargs), RECEIVER)  # type: ignore[arg-type]


def measured_noise(scene: Scene, *, num_blocks: int = 1000, epoch: int = 900):
    """Noise of a muted capture."""
    node = capture_uplink(scene, uplink_design(), -np.inf, num_blocks=num_blocks, epoch=epoch).node(RECEIVER)
    return noise_estimate(node.raw, node.lsb)


@dataclass(frozen=True)
class Detection:
    """Channels of blocks without and with the target, and what the detectors are made of."""

    columns: NDArray[np.complex128]
    calibration: Calibration
    empty: NDArray[np.complex128]  # U of H0 blocks
    target: NDArray[np.complex128]  # U of H1 blocks
    truth: Truth

    def detector(self, noise_var: float, *, guarded: bool) -> EchoDetector:
        return echo_detector(self.columns, self.calibration, STEERING, self.truth.echo_gain, noise_var, guarded=guarded)


def detection(
    scene: Scene,
    power_dbm: float,
    *,
    num_cal: int = 1000,
    num_h0: int = 2500,
    num_h1: int = 2000,
    data_seed: int = 1,
    epoch: int = 100,
    cal_gain_db: float = 0.0,
) -> Detection:
    """Calibration, H0 and H1 captures of one power, each with a timing fit of its own.

    `cal_gain_db`: by how much the users were stronger, for the receiver nobody the wiser, while it calibrated.
    """
    design = uplink_design(data_seed)
    cal = blocks_of(scene, design, power_dbm, num_blocks=num_cal, condition="empty", epoch=epoch)
    h0 = blocks_of(scene, design, power_dbm, num_blocks=num_h0, condition="empty", epoch=epoch + 1)
    h1 = blocks_of(scene, design, power_dbm, num_blocks=num_h1, condition="all", epoch=epoch + 2)
    calibration = calibrate(block_channels(cal)[0])
    calibration = Calibration(calibration.channels * 10 ** (cal_gain_db / 20), calibration.num_blocks)
    channels = [block_channels(blocks)[0] for blocks in (h0, h1)]
    return Detection(h0.columns, calibration, *channels, uplink_truth(scene))


@dataclass(frozen=True)
class Judged:
    """Detections and false alarms of several powers."""

    verdict: Verdict
    survival: NDArray[np.float64]  # of H0 statistics under the true law
    pod: NDArray[np.float64]  # measured at 1e-3, per power
    theory: NDArray[np.float64]

    def pfa(self, nominal: float) -> float:
        return float(np.mean(self.survival <= nominal))


def judged(
    detections: Sequence[Detection],
    noise_var: float,
    *,
    guarded: bool,
    receiver_error: float = 1.0,
    level: float = 0.05,
) -> Judged:
    """The verdict, laws and thresholds from `noise_var`, statistics of a receiver whose noise is wrong by a factor."""
    survival, counts, theory, trials = [], [], [], []
    for one in detections:
        right = one.detector(noise_var, guarded=guarded)
        used = one.detector(noise_var * receiver_error, guarded=guarded)
        survival.append(right.h0_survival(used.statistic(one.empty)))
        counts.append(np.count_nonzero(used.statistic(one.target) > right.threshold(1e-3)))
        theory.append(right.detection_probability(1e-3))
        trials.append(len(one.target))
    n, p = np.array(trials), np.array(theory)
    points = PodPoints(np.array(counts), n, p, p * (1 - p) / n)
    pooled = np.concatenate(survival)
    return Judged(judge(points, pooled, level), pooled, np.array(counts) / n, p)
