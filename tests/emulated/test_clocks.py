"""Users on clocks of their own, through the real emulator and wire: with the correction, and without.

Seeds are fixed; tolerances are in the instrument's standard errors.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tomli_w

from sim.truth import truth
from testbed.capture import load
from testbed.config import validate
from testbed.errors import SyncError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.gather import RunResults
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.comp.step import Step
from testbed.experiment.report.page import write_report
from testbed.measurement import Measurement, load_measurements
from testbed.sensing.measure import measure
from testbed.units import db
from tests.emulator import emulator_process
from tests.scenes import comp_experiment, comp_scene, comp_text, scene_with_user_clocks

pytestmark = [pytest.mark.emulated]

CLOCK_PPM, CFO_HZ = 2.0, 100.0  # of the users: -7100 Hz between the nodes' carriers and theirs
STDERRS = 4.5


def experiment_at(endpoint: str, shared_reference: bool | Literal["nodes"]) -> CompExperiment:
    """One power of the preset, 300 frames, on a server that is already there: no truth file tells of such clocks."""
    data = comp_text()
    del data["loop"], data["emulator"]
    data["shared_reference"] = shared_reference
    data["power"]["axis_dbm"] = [-5.0]
    data["capture"]["num_frames"] = 300
    for table in ("nodes", "users"):
        data[table] = [row | {"radio": endpoint} for row in data[table]]
    return validate(data, CompExperiment, "clocks")


def run_with(
    folder: Path, shared_reference: bool | Literal["nodes"], **clock: float
) -> tuple[CompRun, CompExperiment, RunResults]:
    """A run whose users have another clock."""
    scene = folder / "scene.toml"
    scene.write_text(tomli_w.dumps(scene_with_user_clocks(**clock).model_dump(mode="json")), encoding="utf-8")
    with emulator_process(scene) as (_, endpoint):
        experiment = experiment_at(endpoint, shared_reference)
        directory = CompRun.create(folder / "run", experiment, overwrite=False)
        return directory, experiment, run(directory, lambda progress: None, lambda question: False)


def measured_and_true(directory: CompRun) -> tuple[Measurement, Measurement]:
    """What was measured, and the truth of the same scene on one clock."""
    measured, session = load_measurements(directory.measurements).points[0], directory.load_session()
    assert session is not None
    return measured, truth(comp_scene(), comp_experiment(), session.rx_gain_db, [list(measured.power)]).points[0]


def true_sinr(exact: Measurement, user: str) -> float:
    """P_o gram_oo / (t^T gram t + sigma^2), t without the serving node."""
    response = exact.communication[user]
    drive, own = np.sqrt(exact.power), np.array(exact.node_names) == response.serving
    gram = np.array(response.gram)
    others = np.where(own, 0.0, drive)
    return float((drive**2 * gram.diagonal())[own].sum() / (others @ gram @ others + exact.noise_var[user].value))


def test_users_on_their_own_clock_measure_their_links_as_they_are(tmp_path: Path) -> None:
    directory, experiment, results = run_with(tmp_path, "nodes", clock_ppm=CLOCK_PPM, cfo_hz=CFO_HZ)

    measured, exact = measured_and_true(directory)
    assert set(measured.links) == {"u1", "u2", "u3"}
    for user, link in measured.links.items():
        assert abs(db(link.data_sinr.value / true_sinr(exact, user))) < 0.1
        assert abs(db(link.pilot_sinr.value / true_sinr(exact, user))) < 0.15
    for row in measured.clocks:
        is_user = row.rx in measured.links
        assert row.status == ("corrected" if is_user else "ignored")
        true_hz = -(CLOCK_PPM * 1e-6 * 3.5e9 + CFO_HZ) if is_user else 0.0
        assert abs(row.cfo_hz.value - true_hz) < STDERRS * row.cfo_hz.stderr, row
        assert abs(row.clock_ppm.value + (CLOCK_PPM if is_user else 0.0)) < STDERRS * row.clock_ppm.stderr, row
    # base stations are on the reference: detection is what it was
    assert results.consistent
    # stored captures give the same bits again
    again = measure(load(directory.capture_path(Step("points", 0), "all")))
    assert again.measurement.links == measured.links
    page = write_report(directory, experiment, results).read_text(encoding="utf-8")
    assert "Reference clock: shared by the nodes; users have their own." in page
    assert "<h2>Clocks</h2>" in page
    assert "corrected" in page
    assert "−7100" in page
    assert "phases turn" not in page


def test_an_offset_that_nobody_looks_for_costs_sinr_and_the_report_warns(tmp_path: Path) -> None:
    directory, experiment, results = run_with(tmp_path, True, cfo_hz=8.0)

    measured, exact = measured_and_true(directory)
    assert db(measured.links["u1"].data_sinr.value / true_sinr(exact, "u1")) < -1.0
    page = write_report(directory, experiment, results).read_text(encoding="utf-8")
    (left,) = [row.left_hz for row in measured.clocks if (row.rx, row.tx) == ("u1", "bs1")]
    assert abs(left.value + 8.0) < STDERRS * left.stderr
    assert page.count("u1: phases turn from frame to frame, of bs1 by ") == 1
    assert "though they are said to share its reference" in page
    assert "bs1: phases turn" not in page


def test_a_large_offset_that_nobody_looks_for_ends_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(SyncError, match=r"u\d: no frame of bs\d .* carriers are off \(bs1 by -7100 Hz"):
        run_with(tmp_path, True, clock_ppm=CLOCK_PPM, cfo_hz=CFO_HZ)
