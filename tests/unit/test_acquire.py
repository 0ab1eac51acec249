"""Acquisition from a radio that loses samples: it retries, and what it stores is contiguous."""

from pathlib import Path

import numpy as np
import pytest

from sim.scene import load_scene
from sim.world import World
from testbed.capture import check, load
from testbed.device import Limits, Reception, Settings
from testbed.errors import RadioError, SampleLoss
from testbed.experiment import acquire as module
from testbed.experiment.acquire import acquire, mute, transmit
from testbed.experiment.config import Experiment
from testbed.radio.base import Radio
from tests.scenes import comp_experiment


class WorldRadio:
    """A radio straight on a world, with planned faults."""

    def __init__(
        self,
        world: World,
        name: str,
        losses: int = 0,
        skip: int = 0,
        skip_once_at: int | None = None,
        gain_error_db: float = 0.0,
    ) -> None:
        self.world, self._name, self.losses, self.skip, self.gain_error_db = world, name, losses, skip, gain_error_db
        self.skip_once_at, self.calls = skip_once_at, 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> Limits:
        return self.world.limits(self._name)

    def configure(self, wanted: Settings) -> Settings:
        realised = self.world.configure(self._name, wanted)
        return Settings(
            realised.carrier_hz,
            realised.sample_rate_hz,
            realised.tx_gain_db + self.gain_error_db,
            realised.rx_gain_db,
        )

    def transmit(self, samples: np.ndarray) -> None:
        self.world.transmit(self._name, samples)

    def receive(self, num_samples: int) -> Reception:
        if self.losses > 0:
            self.losses -= 1
            self.world.receive(self._name, 13)
            raise SampleLoss("13 samples lost")
        if self.skip or self.calls == self.skip_once_at:
            self.world.receive(self._name, self.skip or 7)
        self.calls += 1
        return self.world.receive(self._name, num_samples)

    def mute(self) -> None:
        self.world.mute(self._name)

    def close(self) -> None:
        self.mute()


@pytest.fixture
def experiment() -> Experiment:
    return comp_experiment()


def take(folder: Path, experiment: Experiment, radio: WorldRadio, num_samples: int) -> Path:
    assert isinstance(radio, Radio)
    quiet = mute([radio], experiment, {radio.name: 40.0})
    path = folder / "a.h5"
    acquire(path, [radio], experiment, quiet, "muted", num_samples, {}, {})
    return path


def test_a_reception_that_lost_samples_is_repeated(tmp_path: Path, experiment: Experiment) -> None:
    radio = WorldRadio(World(load_scene("comp")), "bs1", losses=2)
    path = take(tmp_path, experiment, radio, 5000)
    assert check(path) == []
    assert radio.losses == 0
    [node] = load(path).nodes
    assert node.num_samples == 5000
    assert node.attempts == 3


def test_a_loss_between_blocks_starts_the_recording_again(
    tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 1000)
    radio = WorldRadio(World(load_scene("comp")), "bs1", skip_once_at=2)
    path = take(tmp_path, experiment, radio, 3000)
    assert check(path) == []
    [node] = load(path).nodes
    assert (node.num_samples, node.attempts) == (3000, 2)
    np.testing.assert_array_equal(np.diff(node.chunks["epoch_start"]), 1000)


def test_three_losses_in_a_row_end_the_capture_and_leave_no_final_file(tmp_path: Path, experiment: Experiment) -> None:
    radio = WorldRadio(World(load_scene("comp")), "bs1", losses=3)
    with pytest.raises(SampleLoss, match="13 samples lost"):
        take(tmp_path, experiment, radio, 5000)
    assert not (tmp_path / "a.h5").exists()


def test_blocks_with_a_gap_between_them_are_never_stored_as_one_stream(
    tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 1000)
    radio = WorldRadio(World(load_scene("comp")), "bs1", skip=7)
    with pytest.raises(SampleLoss, match="does not follow"):
        take(tmp_path, experiment, radio, 3000)


def test_a_gain_that_comes_back_otherwise_stops_the_transmission(experiment: Experiment) -> None:
    world = World(load_scene("comp"))
    radios = [WorldRadio(world, name, gain_error_db=0.25) for name in experiment.node_names]
    with pytest.raises(RadioError, match="came back as"):
        transmit(radios, experiment.waveform.frame(np.ones(3)), experiment, dict.fromkeys(experiment.node_names, 40.0))
    assert not any(world.transmitting().values())


def test_a_silent_node_stays_muted_and_the_frame_on_the_air_has_the_power_asked_for(experiment: Experiment) -> None:
    world = World(load_scene("comp"))
    radios = [WorldRadio(world, name) for name in experiment.node_names]
    wanted = experiment.waveform.frame(np.array([0.3, 0.0, 0.7]))
    sent = transmit(radios, wanted, experiment, dict.fromkeys(experiment.node_names, 40.0))
    assert world.transmitting() == {"bs1": True, "bs2": False, "bs3": True}
    assert sent.frame is not None
    # the converter's rounding at 12 bits and 9 dB peak-to-average ratio: below 1e-4 (0.0004 dB)
    np.testing.assert_allclose(sent.frame.power, [0.3, 0.0, 0.7], rtol=1e-4)
