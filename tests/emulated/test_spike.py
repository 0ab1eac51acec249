"""A self path 50 dB above the noise, through the real emulator and wire: the H0 law still holds."""

from pathlib import Path

import numpy as np
import pytest
import tomli_w

from sim.scene import Clutter, Scene
from testbed.config import validate
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import gather
from testbed.experiment.comp.law import STATISTICS, Law, Statistic
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.comp.step import Step
from testbed.experiment.report.page import write_report
from testbed.sensing import detect
from testbed.theory import consistency
from tests.emulated.conftest import Run
from tests.scenes import comp_scene, comp_text

pytestmark = [pytest.mark.emulated, pytest.mark.slow]


def run_scene(folder: Path, scene: Scene, isolation_db: float, num_frames: int) -> tuple[CompRun, CompExperiment]:
    """A run at -6 dBm in a scene other than the preset's; the survey stays the preset's."""
    path = folder / "scene.toml"
    path.write_text(tomli_w.dumps(scene.model_dump(mode="json")), encoding="utf-8")
    data = comp_text()
    data["emulator"] = {"scene": str(path)}
    data["power"]["axis_dbm"] = [-6.0]
    del data["loop"]
    data["capture"]["num_frames"] = num_frames
    data["nodes"] = [node | {"self_isolation_db": isolation_db} for node in data["nodes"]]
    experiment = validate(data, CompExperiment, "spike")
    directory = CompRun.create(folder / "run", experiment, overwrite=False)
    run(directory, lambda progress: None, lambda question: False)
    return directory, experiment


def scene_with_fence() -> Scene:
    """An unlisted reflector 1.51 m in front of bs1.

    It arrives 0.2 sample after the leakage, in quadrature, 8 dB above the noise.
    """
    scene = comp_scene()
    near = Clutter(name="fence", position_m=(0.0, 67.771), rcs_m2=1e-3)
    return scene.model_copy(update={"clutter": (*scene.clutter, near)})


def h0_verdict(directory: CompRun, cells: list[str], statistic: Statistic) -> consistency.Verdict:
    """Verdict on the pooled H0 statistic alone, at level 1e-3."""
    stored = [directory.detection(Step("points", 0), f"without:{cell}", cell) for cell in cells]
    nothing = consistency.PodPoints(*(np.zeros(0) for _ in range(4)))
    return consistency.judge(nothing, np.concatenate([Law.of(s, statistic).survival(s) for s in stored]), level=1e-3)


@pytest.mark.parametrize("isolation_db", [37.0, 36.0])
def test_the_h0_law_holds_with_the_self_path_50_db_above_the_noise(tmp_path: Path, isolation_db: float) -> None:
    # 60 dB of isolation give 27 dB over the noise at -6 dBm: 37 dB give 50
    scene = comp_scene(self_isolation_db=isolation_db)
    directory, experiment = run_scene(tmp_path, scene, isolation_db, num_frames=8000)
    for statistic in STATISTICS:
        verdict = h0_verdict(directory, [c.name for c in experiment.cells], statistic)
        assert verdict.num_h0_trials == 24_000
        assert verdict.consistent, (statistic, verdict)


def test_a_leakage_that_is_no_clean_tap_gets_a_derivative_column_and_holds_the_law(tmp_path: Path) -> None:
    directory, experiment = run_scene(tmp_path, scene_with_fence(), 60.0, num_frames=8000)
    stored = directory.detection(Step("points", 0), "without:t1", "t1")
    assert stored.derivative_paths == ("self bs1",)
    assert stored.num_nuisance == 13
    for statistic in STATISTICS:
        verdict = h0_verdict(directory, ["t1"], statistic)
        assert verdict.consistent, (statistic, verdict)
    # what the truth file knows nothing of is judged on the measured curve
    gathered = gather(directory, experiment)
    results = gathered.axis
    assert results is not None
    by_cell = {p.cell: p for p in results.points if p.statistic == "known_noise"}
    assert by_cell["t1"].pod_truth is None
    assert by_cell["t2"].pod_truth is not None
    # three points at level 1e-3
    assert consistency.hochberg_rejects([p for p in results.verdict.p_values.values() if p is not None], 1e-3) is False
    assert "derivative" in " ".join(results.verdict.notes)
    assert "derivative" in write_report(directory, experiment, gathered).read_text(encoding="utf-8")


def test_the_reference_scene_needs_no_derivative_column(comp_run: Run) -> None:
    for index in range(9):
        for cell in comp_run.experiment.cells:
            assert (
                comp_run.directory.detection(Step("points", index), f"without:{cell.name}", cell.name).derivative_paths
                == ()
            )


def test_without_its_derivative_column_that_leakage_breaks_the_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "MAX_LEAK", np.inf)
    directory, _ = run_scene(tmp_path, scene_with_fence(), 60.0, num_frames=8000)
    assert directory.detection(Step("points", 0), "without:t1", "t1").derivative_paths == ()
    assert not h0_verdict(directory, ["t1"], "known_noise").consistent
