"""Acquisition from a radio that loses samples: it retries, and what it stores is contiguous."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.faults import Fault, Faults
from sim.scene import load_scene
from sim.world import World
from testbed.capture import NodeCapture, check, load
from testbed.config import validate
from testbed.device import Continuity, Limits, Reception, Settings
from testbed.errors import RadioError, RadioTimeout, SampleLoss
from testbed.experiment import reception as module
from testbed.experiment.acquire import acquire, mute, open_radios, transmit
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.tables import AcquisitionTable
from testbed.radio.base import Radio
from testbed.radio.safety import SafetyTable
from testbed.units import undb
from tests.emulator import SETTINGS, tone
from tests.scenes import comp_experiment, comp_text


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
def experiment() -> CompExperiment:
    return comp_experiment()


def take(folder: Path, experiment: CompExperiment, radio: WorldRadio, num_samples: int) -> Path:
    assert isinstance(radio, Radio)
    quiet = mute([radio], experiment, {radio.name: 40.0})
    path = folder / "a.h5"
    acquire(path, [radio], experiment, quiet, "muted", num_samples, {}, {})
    return path


def test_a_reception_that_lost_samples_is_repeated(tmp_path: Path, experiment: CompExperiment) -> None:
    radio = WorldRadio(World(load_scene("comp")), "bs1", losses=2)
    path = take(tmp_path, experiment, radio, 5000)
    assert check(path) == []
    assert radio.losses == 0
    [node] = load(path).nodes
    assert node.num_samples == 5000
    assert node.attempts == 3


def test_a_loss_between_blocks_starts_the_recording_again(
    tmp_path: Path, experiment: CompExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 1000)
    radio = WorldRadio(World(load_scene("comp")), "bs1", skip_once_at=2)
    path = take(tmp_path, experiment, radio, 3000)
    assert check(path) == []
    [node] = load(path).nodes
    assert (node.num_samples, node.attempts) == (3000, 2)
    np.testing.assert_array_equal(np.diff(node.chunks["epoch_start"]), 1000)


def test_three_losses_in_a_row_end_the_capture_and_leave_no_final_file(
    tmp_path: Path, experiment: CompExperiment
) -> None:
    radio = WorldRadio(World(load_scene("comp")), "bs1", losses=3)
    with pytest.raises(SampleLoss, match="13 samples lost"):
        take(tmp_path, experiment, radio, 5000)
    assert not (tmp_path / "a.h5").exists()


def test_blocks_with_a_gap_between_them_are_never_stored_as_one_stream(
    tmp_path: Path, experiment: CompExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 1000)
    radio = WorldRadio(World(load_scene("comp")), "bs1", skip=7)
    with pytest.raises(SampleLoss, match="does not follow"):
        take(tmp_path, experiment, radio, 3000)


def test_a_gain_that_comes_back_otherwise_stops_the_transmission(experiment: CompExperiment) -> None:
    world = World(load_scene("comp"))
    radios = [WorldRadio(world, name, gain_error_db=0.25) for name in experiment.node_names]
    with pytest.raises(RadioError, match="came back as"):
        transmit(radios, experiment.waveform.frame(np.ones(3)), experiment, dict.fromkeys(experiment.node_names, 40.0))
    assert not any(world.transmitting().values())


def test_a_silent_node_stays_muted_and_the_frame_on_the_air_has_the_power_asked_for(experiment: CompExperiment) -> None:
    world = World(load_scene("comp"))
    radios = [WorldRadio(world, name) for name in experiment.node_names]
    wanted = experiment.waveform.frame(np.array([0.3, 0.0, 0.7]))
    sent = transmit(radios, wanted, experiment, dict.fromkeys(experiment.node_names, 40.0))
    assert world.transmitting() == {"bs1": True, "bs2": False, "bs3": True}
    assert sent.frame is not None
    # the converter's rounding at 12 bits and 9 dB peak-to-average ratio: below 1e-4 (0.0004 dB)
    np.testing.assert_allclose(sent.frame.power, [0.3, 0.0, 0.7], rtol=1e-4)


class FaultyRadio(WorldRadio):
    """A radio on a world with the faults of a scene."""

    def __init__(self, world: World, name: str, *faults: Fault, continuity: Continuity = "reported") -> None:
        super().__init__(world, name)
        self.faults, self.continuity = Faults(faults), continuity

    def receive(self, num_samples: int) -> Reception:
        if self.faults.answer(self.world, "receive", self.name, num_samples) == "silent":
            raise RadioTimeout(f"{self.name}: no answer")
        got = self.faults.receive(self.world, self.name, num_samples)
        told = self.faults.underflows(self.name)
        return replace(got, continuity=self.continuity, num_underflows=told)


def on_air(
    folder: Path,
    experiment: CompExperiment,
    *faults: Fault,
    power_dbm: float = -4.5,
    continuity: Continuity = "reported",
    listening: str = "bs1",
    num_frames: int = 100,
) -> NodeCapture:
    """A capture of one node while all transmit."""
    world = World(load_scene("comp"))
    radios = [FaultyRadio(world, row.name, *faults, continuity=continuity) for row in experiment.receivers]
    frame = experiment.waveform.frame(undb(np.full(3, power_dbm)))
    sent = transmit(radios, frame, experiment, dict.fromkeys((r.name for r in radios), 40.0))
    [radio] = [radio for radio in radios if radio.name == listening]
    path = folder / "a.h5"
    acquire(path, [radio], experiment, sent, "all", num_frames * 640, {}, {})
    assert check(path) == []
    return load(path).node(listening)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the instrument logs; the world logs its faults as well."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("testbed")]


def doing(**acquisition: Any) -> CompExperiment:
    return comp_experiment().model_copy(update={"acquisition": AcquisitionTable(**acquisition)})


def hole(kind: str = "unreported_loss", at_sample: int = 30_000, num_samples: int = 17, **more: Any) -> Fault:
    return Fault(kind=kind, node="bs1", at_sample=at_sample, num_samples=num_samples, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("continuity", ["reported", "unknown"])
def test_a_loss_that_no_radio_tells_of_is_repeated(
    tmp_path: Path, experiment: CompExperiment, continuity: Continuity
) -> None:
    node = on_air(tmp_path, experiment, hole(), continuity=continuity)
    assert node.attempts == 2
    [notice] = node.notices
    assert (notice.kind, notice.sample_count, notice.attempt) == ("shifted", 17, 1)
    assert abs(notice.sample_start - 30_000) <= 3 * 640
    assert set(node.chunks["continuity"]) == {b"reported" if continuity == "reported" else b"verified"}
    [said] = node.notes()
    assert said.startswith("bs1: 17 samples (modulo the frame) lost near sample ")
    assert said.endswith(", without a report; received again")


def test_a_loss_between_two_receptions_that_no_radio_tells_of_is_found_too(
    tmp_path: Path, experiment: CompExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 10_001)  # no whole number of frames
    node = on_air(tmp_path, experiment, hole(at_sample=20_002), continuity="unknown")
    [notice] = node.notices
    assert (notice.kind, notice.sample_count) == ("shifted", 17)
    assert abs(notice.sample_start - 20_002) <= 640
    assert (node.attempts, set(node.chunks["continuity"])) == (2, {b"verified"})


def test_nothing_is_noticed_where_there_is_no_fault(
    tmp_path: Path, experiment: CompExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SAMPLES", 10_001)
    for power_dbm in (-40.0, -20.0, 0.0):
        node = on_air(tmp_path, experiment, power_dbm=power_dbm, continuity="unknown")
        assert (node.attempts, node.notices) == (1, ())
        assert set(node.chunks["continuity"]) == {b"verified"}


def test_frames_too_weak_to_verify_leave_the_continuity_unknown_and_say_so(
    tmp_path: Path, experiment: CompExperiment
) -> None:
    node = on_air(tmp_path, experiment, power_dbm=-75.0, continuity="unknown")
    assert set(node.chunks["continuity"]) == {b"unknown"}
    warning = "bs1: the radio cannot tell of losses, nor can frames so weak or so few; samples may be missing"
    assert node.notes() == (warning,)
    assert on_air(tmp_path, experiment, power_dbm=-75.0).notes() == ()  # where the radio can


def test_a_muted_capture_is_taken_as_the_radio_gives_it(tmp_path: Path, experiment: CompExperiment) -> None:
    radio = FaultyRadio(World(load_scene("comp")), "bs1", hole(at_sample=100), continuity="unknown")
    [node] = load(take(tmp_path, experiment, radio, 5000)).nodes
    assert (node.attempts, node.notices, set(node.chunks["continuity"])) == (1, (), {b"unknown"})


def test_a_user_with_a_clock_of_its_own_is_taken_as_its_radio_gives_it(tmp_path: Path) -> None:
    data = comp_text() | {"shared_reference": "nodes"}
    lossy = hole(kind="unreported_loss").model_copy(update={"node": "u1"})
    node = on_air(tmp_path, validate(data, CompExperiment, "comp"), lossy, listening="u1", continuity="unknown")
    assert (node.attempts, node.notices, set(node.chunks["continuity"])) == (1, (), {b"unknown"})


def test_a_transmitter_that_pauses_is_noticed_and_named(tmp_path: Path, experiment: CompExperiment) -> None:
    pause = Fault(kind="underflow", node="bs2", at_sample=20_000, num_samples=2000)
    node = on_air(tmp_path, experiment, pause)
    [notice] = node.notices
    assert (node.attempts, notice.kind, notice.node, notice.attempt) == (2, "gap", "bs2", 1)
    assert node.notes()[0].startswith("bs1: bs2 fell silent near sample 1")


def test_an_underflow_that_the_radio_tells_of_counts_as_damage(tmp_path: Path, experiment: CompExperiment) -> None:
    pause = hole(kind="underflow", num_samples=1, reported=True)  # too short to be seen
    node = on_air(tmp_path, experiment, pause)
    [notice] = node.notices
    assert (node.attempts, notice.kind, notice.node) == (2, "underflow", "bs1")


def test_damage_is_kept_where_the_experiment_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = on_air(tmp_path, doing(on_damage="keep"), hole(kind="underflow", num_samples=2000))
    assert (node.attempts, [notice.kind for notice in node.notices]) == (1, ["gap"])
    assert node.notes()[0].endswith("; kept")
    [line] = warned(caplog)
    assert line.endswith("; kept")


@pytest.mark.parametrize(
    ("experiment", "fault"),
    [(doing(on_loss="stop"), hole()), (doing(on_damage="stop"), hole(kind="underflow", num_samples=2000))],
)
def test_a_fault_stops_at_once_where_the_experiment_says_so(
    tmp_path: Path, experiment: CompExperiment, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SampleLoss, match=r"lost without a report|fell silent") as caught:
        on_air(tmp_path, experiment, fault)
    assert "given up" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert warned(caplog) == []
    assert not (tmp_path / "a.h5").exists()


def test_a_radio_that_does_not_answer_is_asked_as_often_as_the_experiment_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stalled = Fault(kind="silent_node", node="bs1", times=4)
    with pytest.raises(RadioTimeout, match="bs1: no answer; given up after 4 attempts"):
        on_air(tmp_path, doing(max_attempts=4), stalled)
    assert warned(caplog) == [f"attempt {n} of 4: bs1: no answer; received again" for n in (1, 2, 3)]
    node = on_air(tmp_path, doing(max_attempts=5), stalled)
    assert (node.attempts, {notice.kind for notice in node.notices}) == (5, {"timeout"})
    assert node.notes() == ("bs1: no answer in time near sample 0; received again",)


def test_what_is_said_of_a_node_is_short_whatever_happened(tmp_path: Path) -> None:
    often = hole(kind="underflow", at_sample=640, num_samples=600, every_samples=6400, times=0)
    node = on_air(tmp_path, doing(on_damage="keep"), often, num_frames=300)
    assert len(node.notices) == 30
    assert len(node.notes()) == 9
    assert node.notes()[-1] == "bs1: 22 more of that kind"


def test_whatever_goes_wrong_in_closing_a_radio_the_others_are_closed(
    experiment: CompExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, closed = World(load_scene("comp")), []

    class Faulty(WorldRadio):
        def close(self) -> None:
            closed.append(self.name)
            if self.name != "bs1":
                raise KeyError("hardwaregain")

    monkeypatch.setattr("testbed.experiment.acquire._opened", lambda row, *_: Faulty(world, row.name))
    with pytest.raises(RadioError, match="bs3, bs2: did not answer while being muted"), open_radios(experiment, None):
        pass
    assert closed == [row.name for row in reversed(experiment.receivers)]


def test_an_interrupt_while_closing_leaves_no_radio_on_the_air(
    experiment: CompExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, closed = World(load_scene("comp")), []

    class Interrupted(WorldRadio):
        @property
        def limits(self) -> Limits:
            return replace(super().limits, simulated=False)

        def close(self) -> None:
            closed.append(self.name)
            if self.name == "bs3":
                raise KeyboardInterrupt

    band = {"name": "lab", "low_hz": 1e9, "high_hz": 9e9, "max_power_dbm": 40.0, "basis": "cabled"}
    table = SafetyTable.model_validate({"transmit": True, "bands": [band]})
    on_air = experiment.model_copy(update={"safety": table})
    monkeypatch.setattr("testbed.experiment.acquire._opened", lambda row, *_: Interrupted(world, row.name))
    with pytest.raises(KeyboardInterrupt), open_radios(on_air, None) as radios:
        for radio in radios[:3]:
            radio.configure(replace(SETTINGS, tx_gain_db=-60.0))
            radio.transmit(tone())
    assert {"bs1", "bs2", "bs3"} <= set(closed)
