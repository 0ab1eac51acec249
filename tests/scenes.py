"""Shared by tests: the CoMP preset, its scene in a world without a socket, and captures made there."""

import hashlib
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sim.scene import Scene, load_scene
from sim.truth import effective_noise_var
from sim.world import World
from testbed.capture import CHUNK_SAMPLES, CHUNK_TABLE, Capture, NodeCapture
from testbed.config import validate
from testbed.device import Reception, Settings
from testbed.experiment.acquire import setup_document
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.load import preset_text
from testbed.measurement import Estimate
from testbed.radio.gains import realise
from testbed.units import undb
from testbed.waveform.frame import Frame

RX_GAIN_DB = 40.0  # 1 LSB = noise rms per rail in the CoMP scene


def comp_text() -> dict[str, Any]:
    """The CoMP preset as parsed TOML, to be changed by a test."""
    return tomllib.loads(preset_text("comp"))


def comp_experiment(**waveform: Any) -> CompExperiment:
    """The CoMP preset; keywords replace keys of its [waveform] table."""
    data = comp_text()
    data["waveform"] |= waveform
    return validate(data, CompExperiment, "comp")


def comp_scene(*, seed: int = 1, **node: Any) -> Scene:
    """The CoMP reference scene; keywords replace keys of every node."""
    data = load_scene("comp").model_dump()
    data["seed"] = seed
    # users have no leakage
    data["nodes"] = [row | node if row["num_tx"] else row for row in data["nodes"]]
    return validate(data, Scene, "comp")


def loss_record(receptions: Iterable[Reception]) -> np.ndarray:
    """The rows a capture file keeps of receptions that follow each other, none across a chunk border."""
    rows, start = [], 0
    for got in receptions:
        at = 0
        while at < got.num_samples:
            size = min(CHUNK_SAMPLES - (start + at) % CHUNK_SAMPLES, got.num_samples - at)
            digest = hashlib.blake2b(got.raw[:, at : at + size].tobytes(), digest_size=16).hexdigest().encode()
            clips = got.clip_count if at == 0 else 0
            rows.append((start + at, size, got.epoch, got.start + at, clips, 0, got.continuity.encode(), digest))
            at += size
        start += got.num_samples
    return np.array(rows, dtype=CHUNK_TABLE)


def capture_comp(
    *,
    power_dbm: float | Sequence[float] = -6.0,
    num_frames: int = 200,
    condition: str = "all",
    scene: Scene | None = None,
    experiment: CompExperiment | None = None,
    listening: tuple[str, ...] = ("bs1", "bs2", "bs3"),
    muted: bool = False,
) -> Capture:
    """What a run would have stored: all nodes transmit their realised frames, `listening` ones receive.

    The noise variance is the true one, thermal noise and LSB^2/6, as if from an endless muted capture.
    """
    experiment = experiment or comp_experiment()
    world = World(scene or comp_scene())
    numerology = experiment.waveform.numerology
    # -inf dBm silences a node
    wanted = experiment.waveform.frame(undb(np.broadcast_to(np.asarray(power_dbm, float), len(experiment.nodes))))
    on_air, settings = np.zeros_like(wanted.samples), {}
    for row, name in enumerate(experiment.node_names):
        plan, sent, on_air[row] = realise(wanted.samples[row], world.limits(name))
        asked = Settings(numerology.carrier_hz, numerology.sample_rate_hz, plan.tx_gain_db, RX_GAIN_DB)
        settings[name] = world.configure(name, asked)
        if not muted and plan.scale > 0:
            world.transmit(name, sent[None])
    for user in experiment.users:
        asked = Settings(numerology.carrier_hz, numerology.sample_rate_hz, -89.75, float(user.rx_gain_db))
        settings[user.name] = world.configure(user.name, asked)
    world.set_condition(condition)
    nodes = []
    for name in listening:
        got = world.receive(name, (num_frames + 1) * wanted.frame_len)
        index = world.scene.node_names.index(name)
        gain_db = settings[name].rx_gain_db
        noise_var = effective_noise_var(world.scene, index, numerology.sample_rate_hz, gain_db)
        nodes.append(
            NodeCapture(
                name, got.raw, settings[name], world.limits(name), loss_record([got]), Estimate.exact(noise_var)
            )
        )
    return Capture(
        condition=condition,
        tx_names=experiment.node_names,
        frame=None if muted else Frame(on_air, wanted.pilot_power, wanted.data_power),
        nodes=tuple(nodes),
        setup=setup_document(experiment),
        experiment=experiment.resolved(),
        simulated=True,
        info={},
    )


def everyone(experiment: CompExperiment | None = None) -> tuple[str, ...]:
    """Names of all receivers."""
    return tuple(row.name for row in (experiment or comp_experiment()).receivers)


def own_clock_experiment(**capture: Any) -> CompExperiment:
    """The CoMP preset with users that have clocks of their own; keywords replace keys of its [capture] table."""
    data = comp_text()
    data["shared_reference"] = "nodes"
    data["capture"] |= capture
    return validate(data, CompExperiment, "comp")


def scene_with_user_clocks(**impairments: Any) -> Scene:
    """The CoMP reference scene, its users on a clock of their own."""
    data = comp_scene().model_dump()
    data["nodes"] = [row if row["num_tx"] else row | {"impairments": impairments} for row in data["nodes"]]
    return validate(data, Scene, "comp")
