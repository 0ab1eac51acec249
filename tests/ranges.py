"""For tests of ranging: the reference scene of localisation in a world without a socket, and synthetic captures."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.propagation import scene_paths
from sim.scene import Scene
from sim.world import World
from testbed.capture import Capture, NodeCapture
from testbed.config import validate
from testbed.device import Settings
from testbed.experiment.acquire import setup_document
from testbed.experiment.comp.config import CompExperiment
from testbed.measurement import Estimate
from testbed.radio.gains import realise
from testbed.sensing.ranging import Ranging
from testbed.units import SPEED_OF_LIGHT_MPS, undb
from testbed.waveform.frame import Frame, FrameDesign
from testbed.waveform.shift import cyclic_shift
from tests.scenes import RX_GAIN_DB, comp_text, loss_record

USERS = {"u1": (14.0, 53.0), "u2": (-19.0, -41.0), "u3": (22.0, -60.0)}
SERVING = {"u1": "bs1", "u2": "bs2", "u3": "bs3"}
USER_RX_GAIN_DB = 43.0  # 1 LSB = noise rms per rail
NODES = {"bs1": (0.0, 69.282), "bs2": (-60.0, -34.641), "bs3": (60.0, -34.641)}
TARGET_M, REFLECTOR_M = (5.0, 20.0), (-55.0, -15.0)
RANGE_M = {name: float(np.hypot(at[0] - TARGET_M[0], at[1] - TARGET_M[1])) for name, at in NODES.items()}
RATE_HZ, CARRIER_HZ = 20e6, 3.5e9
METRE = SPEED_OF_LIGHT_MPS / 2 / RATE_HZ  # of range per sample


def frame_design(num_data_frames: int, num_data_symbols: int, **changes: Any) -> FrameDesign:
    """The reference frame, shorter or longer."""
    keys = {"num_pilot_symbols": 3, "num_data_frames": num_data_frames, "num_data_symbols": num_data_symbols}
    return validate(comp_text()["waveform"] | keys | changes, FrameDesign, "waveform")


def localization_experiment(
    num_data_frames: int = 40, num_data_symbols: int = 60, *, users: bool = False, **waveform: Any
) -> CompExperiment:
    """One target that every base station ranges; users are those of the CoMP preset, at the same places."""
    data = comp_text()
    keys = {"num_pilot_symbols": 3, "num_data_frames": num_data_frames, "num_data_symbols": num_data_symbols}
    data["waveform"] |= keys | waveform
    data["cells"] = [{"name": "t1", "node": "bs1", "position_m": list(TARGET_M)}]
    data["reflectors"] = [{"name": "mast", "position_m": list(REFLECTOR_M)}]
    for key in ("requirements", "allocation", "loop", *([] if users else ["users"])):
        data.pop(key, None)
    return validate(data, CompExperiment, "localization")


def localization_scene(isolation_db: float = 65.0, *, seed: int = 1, users: bool = False, **target: Any) -> Scene:
    """The reference scene of localisation; keywords replace keys of the target."""
    nodes = [
        {
            "name": name,
            "position_m": list(at),
            "antenna_gain_dbi": 6.0,
            "noise_figure_db": 8.0,
            "self_isolation_db": isolation_db,
            "start_offset_samples": 1234.37,
            "tx_noise_dbc": -35.0,
            "path_loss": {"reference_db": 43.3, "exponent": 3.0},
        }
        for name, at in NODES.items()
    ]
    listeners = [
        {
            "name": name,
            "position_m": list(at),
            "num_tx": 0,
            "noise_figure_db": 5.0,
            "receive_offset_samples": 97,
            "path_loss": {"reference_db": 43.3, "exponent": 3.0},
        }
        for name, at in USERS.items()
    ]
    data = {
        "seed": seed,
        "phases": "random",
        "hardware": {"tx_full_scale_dbm": 25.0},
        "nodes": nodes + (listeners if users else []),
        "targets": [{"name": "t1", "position_m": list(TARGET_M), "rcs_m2": 50.0} | target],
        "clutter": [{"name": "mast", "position_m": list(REFLECTOR_M), "rcs_m2": 3.0}],
    }
    return validate(data, Scene, "localization")


def capture_localization(
    experiment: CompExperiment,
    scene: Scene | None = None,
    *,
    power_dbm: float | tuple[float, ...] = 10.0,
    num_frames: int | None = None,
    condition: str = "all",
    listening: tuple[str, ...] = tuple(NODES),
    epoch: int | None = None,
) -> Capture:
    """What a run would have stored; one pass of the buffer unless told otherwise.

    -inf dBm silences a node. Captures of one scene share their noise unless each has an epoch of its own.
    """
    world, design = World(scene or localization_scene()), experiment.waveform
    wanted = design.frame(undb(np.broadcast_to(np.asarray(power_dbm, float), len(NODES))))
    on_air, settings = np.zeros_like(wanted.samples), {}
    for row, name in enumerate(experiment.node_names):
        plan, sent, on_air[row] = realise(wanted.samples[row], world.limits(name))
        settings[name] = world.configure(name, Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, RX_GAIN_DB))
        if plan.scale > 0:
            world.transmit(name, sent[None])
    for name in world.scene.node_names[len(NODES) :]:
        settings[name] = world.configure(name, Settings(CARRIER_HZ, RATE_HZ, -89.75, USER_RX_GAIN_DB))
    world.set_condition(condition, epoch)
    count = (1 + (design.num_data_frames if num_frames is None else num_frames)) * design.frame_len
    nodes = []
    for name in listening:
        got = world.receive(name, count)
        nodes.append(NodeCapture(name, got.raw, settings[name], world.limits(name), loss_record([got])))
    frame = Frame(on_air, wanted.pilot_power, wanted.data_power) if np.any(on_air) else None
    setup = setup_document(experiment)
    return Capture(condition, experiment.node_names, frame, tuple(nodes), setup, experiment.resolved(), True)


def identification_captures(
    experiment: CompExperiment, scene: Scene, *, power_dbm: float = 10.0, epoch: int = 1000
) -> tuple[Capture, dict[str, Capture]]:
    """Nobody on the air, and each base station alone; all nodes and users of the scene listen."""
    listening = scene.node_names
    silent = capture_localization(experiment, scene, power_dbm=-np.inf, listening=listening, epoch=epoch)
    alone = {}
    for row, name in enumerate(NODES):
        power = tuple(power_dbm if k == row else -np.inf for k in range(len(NODES)))
        alone[name] = capture_localization(
            experiment, scene, power_dbm=power, listening=listening, epoch=epoch + 50 * (row + 1)
        )
    return silent, alone


def arrival_gain(scene: Scene, rx: int, tx: int, *kinds: str) -> float:
    """True gain of all paths of a pair, or of some kinds: per used element over mean power in time."""
    f = np.r_[-26:0, 1:27] / 64
    paths = [path for path in scene_paths(scene, rx, CARRIER_HZ, RATE_HZ) if path.tx == tx]
    response = sum(
        path.gain * np.exp(-2j * np.pi * f * path.delay_samples) for path in paths if path.kind in kinds or not kinds
    )
    return float(np.mean(np.abs(response) ** 2)) * 64 / 52


def ranging_of(node: str, range_m: NDArray[np.float64], crlb_m: float | NDArray[np.float64], **changes: Any) -> Ranging:
    """Ranges that nothing was captured for; keywords replace fields."""
    M, none = len(range_m), Estimate.exact(0.0)
    fields: dict[str, Any] = {field.name: none for field in dataclasses.fields(Ranging)}
    fields |= {
        "node": node,
        "range_m": range_m,
        "crlb_m": np.broadcast_to(np.asarray(crlb_m, dtype=np.float64), M),
        "drift_m": np.zeros(M),
        "outlier": np.zeros(M, dtype=bool),
        "range_std_m": Estimate(value=float(np.std(range_m, ddof=1)), stderr=0.0, count=M),
        "outliers_predicted": 0.0,
        "doppler_hz": None,
        "frame_idx": np.arange(M),
        "num_data": M,
        "independent": True,
    }
    return Ranging(**fields | changes)


@dataclass(frozen=True)
class Synthetic:
    """A capture of one node alone, by numpy: self path 30 dB over noise, a reflector, an echo, white noise."""

    samples: NDArray[np.complex128]
    frames: NDArray[np.complex128]  # (1, buffer_len)
    range_m: float  # true


def synthetic(
    design: FrameDesign, integrated_db: float, rng: np.random.Generator, reflector_samples: float | None = None
) -> Synthetic:
    """An echo of a given integrated SNR per frame, at a random range of 30 to 110 m; unit noise."""
    sent = design.frame(np.ones(3)).samples[:1]
    delay, latency = rng.uniform(4.0, 14.7), rng.uniform(0.0, design.buffer_len)
    elements = design.num_data_symbols * design.numerology.num_subcarriers
    per_element = np.mean(np.abs(sent) ** 2) * design.numerology.fft_size / design.numerology.num_subcarriers
    a = np.sqrt(10 ** (integrated_db / 10) / elements / per_element)
    phases = np.exp(2j * np.pi * rng.random(3))
    y = 30 * phases[0] * cyclic_shift(sent[0], latency) + a * phases[1] * cyclic_shift(sent[0], latency + delay)
    if reflector_samples is not None:
        y += 0.3 * phases[2] * cyclic_shift(sent[0], latency + reflector_samples)
    y = np.concatenate([y, y[: design.frame_len]])
    y += (rng.standard_normal(y.size) + 1j * rng.standard_normal(y.size)) / np.sqrt(2)
    return Synthetic(y, sent, METRE * delay)
