"""What is looked for in a recording depends on how often what is sent repeats in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.faults import Fault, Faults
from sim.scene import load_scene
from sim.world import World
from testbed.capture import NodeCapture, load
from testbed.device import Limits, Reception, Settings
from testbed.experiment import reception as module
from testbed.experiment.acquire import acquire, transmit
from testbed.units import undb
from tests.scenes import comp_experiment

NUM_FRAMES = 20  # of different data before anything repeats
BUFFER_LEN = NUM_FRAMES * 640


class Unsure:
    """A radio straight on a world, which cannot tell of losses, and suffers some."""

    def __init__(self, world: World, name: str, *faults: Fault) -> None:
        self.world, self.name, self._faults = world, name, Faults(faults)

    @property
    def limits(self) -> Limits:
        return self.world.limits(self.name)

    def configure(self, wanted: Settings) -> Settings:
        return self.world.configure(self.name, wanted)

    def transmit(self, samples: np.ndarray) -> None:
        self.world.transmit(self.name, samples)

    def receive(self, num_samples: int) -> Reception:
        return replace(self._faults.receive(self.world, self.name, num_samples), continuity="unknown")

    def mute(self) -> None:
        self.world.mute(self.name)

    def close(self) -> None:
        self.mute()


def recorded(folder: Path, num_samples: int, *faults: Fault) -> NodeCapture:
    """Of bs1, while all nodes repeat a buffer of many frames."""
    experiment, world = comp_experiment(num_data_frames=NUM_FRAMES), World(load_scene("comp"))
    radios = [Unsure(world, row.name, *faults) for row in experiment.receivers]
    frame = experiment.waveform.frame(undb(np.full(3, -4.5)))
    sent = transmit(radios, frame, experiment, dict.fromkeys((radio.name for radio in radios), 40.0))
    acquire(folder / "a.h5", radios[:1], experiment, sent, "all", num_samples, {}, {})
    return load(folder / "a.h5").node("bs1")


@pytest.mark.parametrize("num_samples", [BUFFER_LEN + 640, 4 * BUFFER_LEN - 1])
def test_a_buffer_that_repeats_too_seldom_is_not_looked_for_and_stays_unverified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_samples: int
) -> None:
    def hear(*_: object) -> None:
        raise AssertionError("looked for arrivals, which takes long and tells nothing")

    monkeypatch.setattr(module, "hear", hear)

    node = recorded(tmp_path, num_samples)

    assert set(node.chunks["continuity"]) == {b"unknown"}
    assert [notice.kind for notice in node.notices] == ["unverified"]


def test_a_buffer_that_repeats_four_times_tells_of_losses(tmp_path: Path) -> None:
    loss = Fault(kind="unreported_loss", node="bs1", at_sample=2 * BUFFER_LEN + 100, num_samples=17)

    whole = recorded(tmp_path, 4 * BUFFER_LEN)
    lossy = recorded(tmp_path, 4 * BUFFER_LEN, loss)

    assert set(whole.chunks["continuity"]) == {b"verified"}
    assert (whole.attempts, whole.notices) == (1, ())
    assert (lossy.attempts, [notice.kind for notice in lossy.notices]) == (2, ["shifted"])


def test_what_no_reception_holds_four_times_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 3 * BUFFER_LEN)  # and what the one before left: fewer than four
    monkeypatch.setattr(module, "hear", lambda *_: pytest.fail("looked for arrivals"))

    assert set(recorded(tmp_path, 9 * BUFFER_LEN).chunks["continuity"]) == {b"unknown"}
