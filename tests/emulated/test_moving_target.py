"""Velocity and range of moving targets in the localisation scene, over the wire: random places, speeds and headings."""

from pathlib import Path

import numpy as np
import pytest
import tomli_w

from sim.scene import load_scene
from testbed.experiment import children
from testbed.experiment.acquire import acquire, open_radios, transmit
from testbed.sensing.ranging import RangeOptions, estimate_ranges
from testbed.units import undb
from tests.moving import Motion, MotionErrors, described, drawn_place, drawn_velocity, motion_errors, pooled
from tests.ranges import NODES, localization_experiment
from tests.scenes import RX_GAIN_DB

NUM_FRAMES = 64  # 16.4 ms: a Doppler bin is 61 Hz, 2.61 m/s
POWER_DBM = (4.16, 10.0, 8.79)  # the optimum at 65 dB
ISOLATION_DB = 65.0

pytestmark = pytest.mark.emulated


def ranged(motion: Motion, seed: int, folder: Path) -> dict[str, MotionErrors]:
    """What every base station is off on one capture; data and noise are of the seed, phases of the scene."""
    scene = load_scene("localization")
    document = scene.model_dump(mode="json")
    document["targets"][0] |= {"position_m": motion.place_m.tolist(), "velocity_mps": motion.velocity_mps.tolist()}
    path = folder / "scene.toml"
    path.write_text(tomli_w.dumps(document))
    experiment = localization_experiment(NUM_FRAMES, 60, data_seed=seed)
    frame_len = experiment.waveform.frame_len
    with (
        children.emulator(str(path), seed, folder / "log", ISOLATION_DB) as endpoint,
        open_radios(experiment, endpoint) as radios,
    ):
        frame = experiment.waveform.frame(undb(np.array(POWER_DBM)))
        sent = transmit(radios, frame, experiment, dict.fromkeys(NODES, RX_GAIN_DB))
        num_samples = (NUM_FRAMES + 1) * frame_len
        capture = acquire(folder / "all.h5", radios, experiment, sent, "all", num_samples, {}, {})
    errors = {}
    for name, at in NODES.items():
        first = scene.nodes[scene.node_names.index(name)].receive_offset_samples
        found = estimate_ranges(capture, name, RangeOptions(moving=True))
        errors[name] = motion_errors(found, motion, at, frame_len, first)
    return errors


def errors_at(num_places: int, seed: int, folder: Path) -> dict[str, MotionErrors]:
    """Pooled over random places, speeds and headings."""
    rng = np.random.default_rng(seed)
    motions = [Motion(drawn_place(rng), drawn_velocity(rng)) for _ in range(num_places)]
    each = [ranged(motion, 1000 * seed + trial, folder) for trial, motion in enumerate(motions)]
    errors = {name: pooled([one[name] for one in each]) for name in NODES}
    print(described(errors), flush=True)
    return errors


@pytest.mark.slow
def test_velocity_and_range_of_a_moving_target_are_right_at_a_few_places(tmp_path: Path) -> None:
    # six means, each beyond 4.5 of its standard errors with probability 7e-6 if the chain is right: 4e-5 in all
    for errors in errors_at(4, 1, tmp_path).values():
        assert np.all(np.abs(errors.velocity_bins) < 0.1)
        assert abs(np.mean(errors.velocity_z)) < 4.5 / np.sqrt(errors.velocity_z.size)
        assert abs(np.mean(errors.range_z)) < 4.5 / np.sqrt(errors.range_z.size)
        assert errors.range_z.size > 0.9 * 4 * NUM_FRAMES


@pytest.mark.soak
def test_velocity_and_range_of_a_moving_target_are_free_of_bias_at_40_places(tmp_path: Path) -> None:
    # six means, each beyond 3 standard errors with probability 0.003 if the chain is right: 0.02 in all
    for errors in errors_at(40, 2, tmp_path).values():
        bias, count = np.mean(errors.velocity_bins), errors.velocity_bins.size
        assert np.all(np.abs(errors.velocity_bins) < 0.1)
        assert abs(bias) < 3 * np.std(errors.velocity_bins, ddof=1) / np.sqrt(count)
        assert 0.75 < np.sqrt(np.mean(errors.velocity_z**2)) < 1.25  # 0.11 is one standard deviation
        assert abs(np.mean(errors.range_z)) < 3 / np.sqrt(errors.range_z.size)
        assert 0.9 < np.sqrt(np.mean(errors.range_z**2)) < 1.1  # 0.014 is one
        assert errors.range_z.size > 0.95 * 40 * NUM_FRAMES
