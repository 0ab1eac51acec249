"""For tests of cooperative sensing: its reference scene in a world without a socket, captures made there, the truth."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.propagation import scene_paths
from sim.scene import Scene, load_scene, with_seed
from sim.truth import effective_noise_var
from sim.world import World
from testbed.capture import Capture, NodeCapture
from testbed.device import Settings
from testbed.radio.gains import realise
from testbed.units import undb
from testbed.waveform.cooperative import CooperativeDesign, Sharing, Waveform
from testbed.waveform.numerology import Numerology
from tests.scenes import loss_record

CARRIER_HZ, RATE_HZ = 3.5e9, 20e6
NUMEROLOGY = Numerology(carrier_hz=CARRIER_HZ, sample_rate_hz=RATE_HZ, fft_size=64, cp_len=16, num_subcarriers=52)
NODE_M = np.array(
    [(40, 60), (75, 25), (-60, -75), (15, 85), (-30, -105), (65, 70), (-110, 20), (-75, 75)], dtype=np.float64
)
USER_M = np.array([(-45, 50), (70, -20), (-20, -70), (40, 50)], dtype=np.float64)
NODES, USERS = tuple(f"n{i}" for i in range(8)), tuple(f"u{i}" for i in range(1, 5))
N, K = len(NODES), len(USERS)
TARGET_M = np.array([-5.0, -8.0])
FULL_DBM = 18.0
RX_GAIN_DB = {name: 40.0 for name in NODES} | {name: 43.0 for name in USERS}  # 1 LSB = noise rms per rail
EVERYBODY = tuple(range(N))
# nodes by path gain to each user, largest first
NEAREST = tuple(tuple(np.argsort(np.linalg.norm(NODE_M - at, axis=1)).tolist()) for at in USER_M)


def cooperative_design(data_seed: int = 1) -> CooperativeDesign:
    """The reference frame."""
    return CooperativeDesign(numerology=NUMEROLOGY, data_seed=data_seed, num_stations=N, num_users=K)


def sharing(
    sensing_share: float = 0.5,
    comm_share: float | None = None,
    *,
    cluster_size: int = 2,
    sensing_nodes: Sequence[int] = EVERYBODY,
    dead: Sequence[int] = (),
    waveform: Waveform = "slots",
) -> Sharing:
    """Every user served by its nearest nodes; the shares make one unless both are given."""
    return Sharing(
        full_power=tuple(0.0 if node in dead else undb(FULL_DBM) for node in range(N)),
        sensing_share=sensing_share,
        comm_share=1 - sensing_share if comm_share is None else comm_share,
        sensing_nodes=tuple(sensing_nodes),
        clusters=tuple(order[:cluster_size] for order in NEAREST),
        waveform=waveform,
    )


def cooperative_scene(seed: int = 1) -> Scene:
    """The reference scene, other noise."""
    return with_seed(load_scene("cooperative"), seed)


def survey() -> dict[str, object]:
    """As an experiment has it."""
    nodes = [{"name": name, "position_m": at.tolist()} for name, at in zip(NODES, NODE_M, strict=True)]
    return {"nodes": nodes}


def capture_cooperative(
    wanted: Sharing,
    *,
    num_frames: int,
    listening: Sequence[str] = NODES,
    scene: Scene | None = None,
    design: CooperativeDesign | None = None,
    condition: str = "all",
    epoch: int | None = None,
) -> Capture:
    """What a run would have stored. Captures of one scene differ in noise by their epoch."""
    world, design = World(scene or cooperative_scene()), design or cooperative_design()
    frame = design.transmission(wanted)
    on_air, settings = np.zeros_like(frame.samples), {}
    for row, name in enumerate(NODES):
        plan, sent, on_air[row] = realise(frame.samples[row], world.limits(name))
        settings[name] = world.configure(name, Settings(CARRIER_HZ, RATE_HZ, plan.tx_gain_db, RX_GAIN_DB[name]))
        if plan.scale > 0:
            world.transmit(name, sent[None])
    for name in USERS:
        settings[name] = world.configure(name, Settings(CARRIER_HZ, RATE_HZ, -89.75, RX_GAIN_DB[name]))
    world.set_condition(condition, epoch)
    taken = []
    for name in listening:
        got = world.receive(name, (num_frames + 1) * design.frame_len)
        taken.append(NodeCapture(name, got.raw, settings[name], world.limits(name), loss_record([got])))
    setup = {
        "survey": survey(),
        "waveform": design.model_dump(mode="json"),
        "sharing": wanted.model_dump(mode="json"),
    }
    sent_frame = type(frame)(on_air, frame.pilot_power, frame.data_power)
    return Capture(condition, NODES, sent_frame, tuple(taken), setup, {}, True)


def noise_var(scene: Scene, name: str) -> float:
    """True, rounding included."""
    return effective_noise_var(scene, scene.node_names.index(name), RATE_HZ, RX_GAIN_DB[name])


def path_gain(scene: Scene, name: str, kind: str) -> NDArray[np.complex128]:
    """Amplitudes of the paths of one kind from every node, 0 where there is none, shape (N,)."""
    gain = np.zeros(N, dtype=np.complex128)
    for path in scene_paths(scene, scene.node_names.index(name), CARRIER_HZ, RATE_HZ):
        if path.kind == kind:
            gain[path.tx] = path.gain
    return gain
