"""Faults on request, on the real emulator process: a run notices each, and goes on to the same result or stops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from sim.faults import Fault
from testbed.capture import NodeCapture, check, load
from testbed.config import validate
from testbed.errors import RadioError, RadioUnavailable, SampleLoss
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import RunResults, gather
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.comp.step import Step
from testbed.experiment.conditions import step_epoch
from testbed.experiment.report.page import write_report
from tests.emulator import emulator_process, request
from tests.scenes import comp_scene, comp_text

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

ALL = step_epoch(Step("points", 0).serial)  # H1 of the first power; the H0 captures follow
NUM_FRAMES = 300  # a capture is two requests on the wire
EVERYONE = ("bs1", "bs2", "bs3", "u1", "u2", "u3")


def scene_file(folder: Path, faults: Sequence[Fault], reports_loss: bool = True) -> Path:
    data = comp_scene().model_dump(mode="json")
    data["hardware"]["reports_loss"] = reports_loss
    data["faults"] = [fault.model_dump(mode="json") for fault in faults]
    path = folder / "scene.toml"
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path


def experiment_on(
    scene: Path, *, num_frames: int = NUM_FRAMES, endpoint: str | None = None, **acquisition: Any
) -> CompExperiment:
    """The CoMP preset at one power without the loop, on an emulator of its own or at `endpoint`."""
    data = comp_text()
    del data["loop"]
    data["power"]["axis_dbm"] = [-4.5]
    data["capture"]["num_frames"] = num_frames
    data["verdict"] = {"level": 1e-3}  # the samples received again differ from run to run; a false verdict in 1000
    data["acquisition"] = {"timeout_s": 2.0} | acquisition
    data["emulator"] = {"scene": str(scene)}
    if endpoint is not None:
        del data["emulator"]
        for table in ("nodes", "users"):
            data[table] = [row | {"radio": endpoint} for row in data[table]]
    return validate(data, CompExperiment, "faults")


def start(folder: Path, experiment: CompExperiment) -> tuple[CompRun, RunResults]:
    directory = CompRun.create(folder / "run", experiment, overwrite=False)
    return directory, run(directory, lambda progress: None, lambda question: False)


def run_with(folder: Path, *faults: Fault, reports_loss: bool = True, **acquisition: Any) -> CompRun:
    """A run that has faults and finishes; its verdict and its files are checked."""
    experiment = experiment_on(scene_file(folder, faults, reports_loss), **acquisition)
    directory, results = start(folder, experiment)
    assert results.axis is not None
    assert results.axis.verdict.consistent
    for path in directory.captures.glob("*.h5"):
        assert check(path) == []
    return directory


@pytest.fixture(scope="module")
def faultless(tmp_path_factory: pytest.TempPathFactory) -> CompRun:
    """The same run without faults, three times as long."""
    folder = tmp_path_factory.mktemp("faultless")
    return start(folder, experiment_on(scene_file(folder, ()), num_frames=3 * NUM_FRAMES))[0]


def capture_of(directory: CompRun, node: str, condition: str = "all") -> NodeCapture:
    return load(directory.capture_path(Step("points", 0), condition)).node(node)


def assert_as_without_the_fault(
    directory: CompRun, faultless: CompRun, node: str, condition: str = "all", hidden: int = 0
) -> None:
    """What is stored is what the faultless world gives at the same samples of the same epoch, bit for bit."""
    stored, reference = (capture_of(run, node, condition) for run in (directory, faultless))
    assert stored.num_samples == (NUM_FRAMES + 1) * 640
    assert set(stored.chunks["epoch"]) == set(reference.chunks["epoch"])
    first = int(stored.chunks["epoch_start"][0]) + hidden
    assert first + stored.num_samples <= reference.num_samples
    np.testing.assert_array_equal(stored.raw, reference.raw[:, first : first + stored.num_samples])


def kinds(node: NodeCapture) -> list[tuple[str, int]]:
    return [(notice.kind, notice.sample_count) for notice in node.notices]


def report_of(directory: CompRun) -> str:
    experiment = experiment_of(directory)
    return write_report(directory, experiment, gather(directory, experiment)).read_text(encoding="utf-8")


def experiment_of(directory: CompRun) -> CompExperiment:
    from testbed.experiment.load import load_experiment

    return load_experiment(str(directory.experiment))


def test_a_reported_loss_is_received_again(
    tmp_path: Path, faultless: CompRun, caplog: pytest.LogCaptureFixture
) -> None:
    lossy = Fault(kind="reported_loss", node="bs1", from_epoch=ALL, at_sample=150_000, num_samples=1234)
    directory = run_with(tmp_path, lossy)
    node = capture_of(directory, "bs1")
    assert (node.attempts, kinds(node)) == (2, [("lost", 1234)])
    assert int(node.chunks["epoch_start"][0]) == 151_234
    assert_as_without_the_fault(directory, faultless, "bs1")
    for name in EVERYONE[1:]:
        assert (capture_of(directory, name).attempts, kinds(capture_of(directory, name))) == (1, [])
        assert_as_without_the_fault(directory, faultless, name)
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line == (f"attempt 1 of 3: bs1: overflow, 1234 samples lost at sample 150000 of epoch {ALL}; received again")
    assert "bs1: 1234 samples lost near sample 0, as the radio reported; received again" in report_of(directory)


def test_an_unreported_loss_is_seen_by_the_frames_and_received_again(tmp_path: Path, faultless: CompRun) -> None:
    lossy = Fault(kind="unreported_loss", node="bs2", from_epoch=ALL, at_sample=100_000, num_samples=700)
    directory = run_with(tmp_path, lossy, reports_loss=False)
    node = capture_of(directory, "bs2")
    assert (node.attempts, kinds(node)) == (2, [("shifted", 60)])  # 700 samples, modulo the frame of 640
    assert abs(node.notices[0].sample_start - 100_000) < (NUM_FRAMES // 64 + 2) * 640
    assert set(node.chunks["continuity"]) == {b"verified"}
    assert_as_without_the_fault(directory, faultless, "bs2", hidden=700)
    assert set(capture_of(directory, "u1").chunks["continuity"]) == {b"verified"}
    [muted] = {bytes(c) for node in load(directory.muted_path).nodes for c in node.chunks["continuity"]}
    assert muted == b"unknown"
    assert "bs2: 60 samples (modulo the frame) lost near sample" in report_of(directory)


def test_a_loss_of_whole_frames_is_not_seen_and_does_no_harm(tmp_path: Path) -> None:
    lossy = Fault(kind="unreported_loss", node="bs2", from_epoch=ALL, at_sample=100_000, num_samples=7 * 640)
    node = capture_of(run_with(tmp_path, lossy, reports_loss=False), "bs2")
    assert (node.attempts, kinds(node), set(node.chunks["continuity"])) == (1, [], {b"verified"})


@pytest.mark.parametrize("reported", [False, True])
def test_an_underflow_is_seen_by_every_receiver_and_received_again(
    tmp_path: Path, faultless: CompRun, reported: bool
) -> None:
    gap = Fault(kind="underflow", node="bs2", from_epoch=ALL, at_sample=50_000, num_samples=3000, reported=reported)
    directory = run_with(tmp_path, gap)
    for name in EVERYONE:
        node = capture_of(directory, name)
        told = [("underflow", 0)] if reported and name == "bs2" else []
        assert node.attempts == 2, name
        assert kinds(node)[: len(told)] == told, name
        [seen] = [notice for notice in node.notices if notice.kind == "gap"]
        assert (seen.node, seen.attempt) == ("bs2", 1)
        assert abs(seen.sample_start - 50_000) < 2000
        assert 3000 - 640 <= seen.sample_count <= 3000 + 2 * 640
        assert_as_without_the_fault(directory, faultless, name)
    assert "bs1: bs2 fell silent near sample 4" in report_of(directory)


def test_a_late_start_is_seen_and_received_again(tmp_path: Path, faultless: CompRun) -> None:
    late = Fault(kind="late_start", node="bs1", from_epoch=ALL, num_samples=5000)
    directory = run_with(tmp_path, late)
    for name in ("bs1", "bs2", "u1"):
        node = capture_of(directory, name)
        assert node.attempts == 2, name
        [seen] = node.notices
        assert (seen.kind, seen.node, seen.sample_start) == ("gap", "bs1", 0)
        assert_as_without_the_fault(directory, faultless, name)


def test_a_damaged_capture_is_kept_with_a_warning_where_the_experiment_says_so(tmp_path: Path) -> None:
    gap = Fault(kind="underflow", node="bs2", from_epoch=ALL, at_sample=50_000, num_samples=3000)
    directory = run_with(tmp_path, gap, on_damage="keep")
    node = capture_of(directory, "bs2")
    assert (node.attempts, int(node.chunks["epoch_start"][0])) == (1, 0)
    assert [notice.kind for notice in node.notices] == ["gap"]
    assert "; kept" in report_of(directory)


def test_a_node_that_once_does_not_answer_is_asked_again(tmp_path: Path, faultless: CompRun) -> None:
    stalled = Fault(kind="silent_node", node="bs3", from_epoch=ALL)
    directory = run_with(tmp_path, stalled)
    node = capture_of(directory, "bs3")
    assert (node.attempts, kinds(node)) == (2, [("timeout", 0)])
    assert_as_without_the_fault(directory, faultless, "bs3")


def stopped(folder: Path, fault: Fault, **acquisition: Any) -> tuple[str, dict[str, bool]]:
    """A run that a fault ends: its line, and who transmits afterwards."""
    with emulator_process(scene_file(folder, [fault])) as (_, endpoint):
        experiment = experiment_on(folder / "scene.toml", endpoint=endpoint, **acquisition)
        directory = CompRun.create(folder / "run", experiment, overwrite=False)
        with pytest.raises(RadioError) as caught:
            run(directory, lambda progress: None, lambda question: False)
        on: Any = request(endpoint, op="status")["transmitting"]
    assert check(directory.muted_path) == []
    assert "1 captures are whole" in directory.leave()
    line = str(caught.value)
    assert "\n" not in line
    return line, on


def test_a_loss_in_every_attempt_stops_the_run_and_mutes(tmp_path: Path) -> None:
    fault = Fault(
        kind="reported_loss", node="bs1", from_epoch=ALL, at_sample=90_000, num_samples=5, every_samples=90_000, times=0
    )
    line, on = stopped(tmp_path, fault)
    assert "bs1: overflow, 5 samples lost at sample 270000" in line
    assert "given up after 3 attempts" in line
    assert not any(on.values())


def test_a_loss_stops_the_run_at_once_where_the_experiment_says_so(tmp_path: Path) -> None:
    fault = Fault(kind="reported_loss", node="bs1", from_epoch=ALL, at_sample=90_000, num_samples=5)
    line, on = stopped(tmp_path, fault, on_loss="stop")
    assert line == f"bs1: overflow, 5 samples lost at sample 90000 of epoch {ALL}"
    assert not any(on.values())


def test_an_underflow_stops_the_run_at_once_where_the_experiment_says_so(tmp_path: Path) -> None:
    fault = Fault(kind="underflow", node="bs1", from_epoch=ALL, at_sample=90_000, num_samples=500)
    line, on = stopped(tmp_path, fault, on_damage="stop")
    assert "bs1: transmitters fell silent (bs1 near sample 8" in line
    assert not any(on.values())


def test_a_node_that_never_answers_again_is_named_and_the_others_are_muted(tmp_path: Path) -> None:
    line, on = stopped(tmp_path, Fault(kind="silent_node", node="bs1", from_epoch=ALL, times=0), max_attempts=2)
    assert line == "bs1: did not answer while being muted and may still transmit; switch them off by hand"
    assert on == {"bs1": True, "bs2": False, "bs3": False}


def test_a_cut_connection_stops_the_run_and_mutes_over_a_new_one(tmp_path: Path) -> None:
    line, on = stopped(tmp_path, Fault(kind="cut", node="bs1", from_epoch=ALL, at_sample=150_000))
    assert "the server ended or closed the connection" in line
    assert not any(on.values())


def test_what_a_fault_stopped_goes_on_to_the_result_of_a_run_without_it(tmp_path: Path) -> None:
    fault = Fault(kind="cut", node="bs2", from_epoch=ALL + 2, at_sample=1000)
    reference = run_with(tmp_path_for(tmp_path, "without"))
    folder = tmp_path_for(tmp_path, "with")
    experiment = experiment_on(scene_file(folder, [fault]))
    directory = CompRun.create(folder / "run", experiment, overwrite=False)
    with pytest.raises(RadioUnavailable):
        run(directory, lambda progress: None, lambda question: False)
    (directory.path / "scene" / "scene.toml").write_bytes((tmp_path / "without" / "scene.toml").read_bytes())
    run(directory, lambda progress: None, lambda question: False)
    for condition in experiment.conditions:
        cell = "t1" if condition == "all" else condition.removeprefix("without:")
        ours, theirs = (r.detection(Step("points", 0), condition, cell) for r in (directory, reference))
        np.testing.assert_array_equal(ours.known_noise, theirs.known_noise)
        np.testing.assert_array_equal(ours.cfar, theirs.cfar)


def tmp_path_for(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def test_a_fault_while_muted_is_noticed_too(tmp_path: Path) -> None:
    lossy = Fault(kind="reported_loss", node="u2", at_sample=4000, num_samples=9)
    directory = run_with(tmp_path, lossy)
    node = load(directory.muted_path).node("u2")
    assert (node.attempts, kinds(node)) == (2, [("lost", 9)])


def test_loss_error_carries_its_number_over_the_wire(tmp_path: Path) -> None:
    from tests.emulator import remote_radio

    lossy = Fault(kind="reported_loss", node="bs1", at_sample=10, num_samples=77)
    with (
        emulator_process(scene_file(tmp_path, [lossy])) as (_, endpoint),
        remote_radio(endpoint) as radio,
        pytest.raises(SampleLoss, match="77 samples lost") as caught,
    ):
        radio.receive(100)
    assert caught.value.num_lost == 77
