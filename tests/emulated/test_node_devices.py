"""Devices and calibrations that an experiment names: what they replace, what is refused, what a run keeps of them."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner

from testbed.__main__ import app
from testbed.capture import load
from testbed.errors import ConfigError, IsacError, RadioUnavailable
from testbed.experiment.acquire import open_radios
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.run import run
from testbed.experiment.config import document_sha256
from testbed.experiment.devices import node_devices
from testbed.experiment.load import load_experiment
from testbed.experiment.replay import replay_capture
from testbed.radio.devices.calibration import load_calibration, save_calibration
from testbed.radio.devices.config import load_device
from tests.airs import is_silent, need_libiio, pluto_process, settings_of
from tests.scenes import comp_text

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FILTER = ROOT / "firmware_configs" / "pluto" / "sharp_2x.ftr"


def write(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path


def board(folder: Path, **changes: Any) -> Path:
    """A 2R2T board with a filter and reference powers of its own."""
    folder.mkdir(exist_ok=True)
    (folder / FILTER.name).write_bytes(FILTER.read_bytes())
    data: dict[str, Any] = {
        "extends": "pluto-rev-c",
        "title": "the left one",
        "fir": FILTER.name,
        "limits": {"sample_rate_min_hz": 2e6, "sample_rate_max_hz": 20e6},
        "power": {"tx_full_scale_dbm": 7.0, "noise_figure_db": 8.5, "basis": "power meter"},
    }
    return write(folder / "left.toml", data | changes)


def comp_on(uris: dict[str, str], path: Path, **radio: Any) -> Path:
    """The preset's first power on virtual boards, each with the device `left`."""
    data = comp_text() | {"power": {"axis_dbm": [-6.5]}}
    del data["loop"], data["emulator"]
    data["capture"]["num_frames"] = 64
    data["detection"]["statistic"] = "cfar"
    for row in data["nodes"] + data["users"]:
        row |= {"radio": "pluto:" + uris[row["name"]], "channel": int(row["name"].startswith("u"))}
        row |= {"device": "boards/left.toml", **radio}
        row.pop("noise_figure_db", None)
    return write(path, data)


def run_of(experiment: Path, out: Path) -> Path:
    model = load_experiment(str(experiment))
    assert isinstance(model, CompExperiment)
    run(CompRun.create(out, model, overwrite=False), lambda progress: None, lambda question: False)
    return out


def test_a_run_takes_filter_and_powers_of_its_devices_and_keeps_them(tmp_path: Path) -> None:
    need_libiio()
    device = load_device(board(tmp_path / "boards"))
    with pluto_process("comp", "--board", "bs1,u1", "--board", "bs2,u2", "--board", "bs3,u3") as air:
        experiment = comp_on(dict(air.uris), tmp_path / "mine.toml")
        out = run_of(experiment, tmp_path / "run")
        assert {settings_of(uri)["fir"] for uri in air.uris.values()} == {"FIR Rx: 128,2 Tx: 128,2"}
        assert all(is_silent(uri) for uri in air.uris.values())
    capture = load(out / "captures" / "muted.h5")
    assert capture.info["devices"] == {
        name: {"name": "left", "sha256": device.sha256} for name in ("bs1", "bs2", "bs3", "u1", "u2", "u3")
    }
    assert {node.limits.tx_full_scale_dbm for node in capture.nodes} == {7.0}
    # the run lies there with all that it needs, and is the same experiment
    (tmp_path / "boards" / "left.toml").unlink()
    again = load_experiment(str(out / "experiment.toml"))
    assert again.sha256 == document_sha256(capture.experiment)
    assert {known.device.sha256 for known in node_devices(again).values()} == {device.sha256}
    assert {row.noise_figure_db for row in again.nodes} == {8.5}


def test_a_board_that_is_another_one_is_refused_and_is_silent(tmp_path: Path) -> None:
    need_libiio()
    board(tmp_path / "boards", serial="104473")
    with pluto_process("comp", "--board", "bs1,u1", "--board", "bs2,u2", "--board", "bs3,u3") as air:
        experiment = load_experiment(str(comp_on(dict(air.uris), tmp_path / "mine.toml")))
        with pytest.raises(RadioUnavailable) as caught, open_radios(experiment, None):
            pass
        assert "bs1: the board is not as left says: serial '" in str(caught.value)
        assert "needs '104473'" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert is_silent(air.uris["bs1"])


FAULTS = [
    ({"device": "boards/rigth.toml"}, "boards/rigth.toml: no such file"),
    ({"device": "rigth"}, "device 'rigth': no such configuration; there are"),
    ({"device": "pluto", "channel": 0}, "bs1.device: channel 1: pluto has 1"),
    ({"device": "b210"}, "bs1.device: radio = 'pluto:ip:192.0.2.1', and b210 is a usrp"),
    ({"rx_gain_db": 72.0}, "bs1.device: rx_gain_db: 72 is outside -3..62 of left"),
    ({"calibrated": True}, "users[0].calibrated: only who transmits can be calibrated; remove the line"),
    ({"fir": "keep", "device": "b200"}, "bs1.device: radio = 'pluto:ip:192.0.2.1', and b200 is a usrp"),
]


@pytest.mark.parametrize(("change", "words"), FAULTS, ids=[words[:30] for _, words in FAULTS])
def test_a_device_that_does_not_go_with_the_experiment_is_one_line(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    board(tmp_path / "boards")
    change = {key: value for key, value in change.items() if key != "channel"}
    uris = dict.fromkeys(("bs1", "bs2", "bs3", "u1", "u2", "u3"), "ip:192.0.2.1")
    path = comp_on(uris, tmp_path / "mine.toml")
    data = load_toml(path)
    for i, row in enumerate(data["nodes"] + data["users"]):
        row |= {"radio": f"pluto:ip:192.0.2.{1 + i % 3}"} | change
        if words.startswith("bs1.device: channel"):
            row["channel"] = 1 - row["channel"]
    with pytest.raises(ConfigError) as caught:
        node_devices(load_experiment(str(write(path, data))))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def load_toml(path: Path) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(path.read_text())


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def failure(done: Any) -> str:
    """The line of a command that was refused."""
    assert isinstance(done.exception, IsacError), (done.output, done.exception)
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_a_calibration_counts_until_it_no_longer_holds(tmp_path: Path) -> None:
    board(tmp_path / "boards")
    assert invoke("init", "solo", "--out", tmp_path / "mine.toml").exit_code == 0
    data = load_toml(tmp_path / "mine.toml")
    data["nodes"][0] |= {"device": "boards/left.toml", "calibrated": True}
    for key in ("noise_figure_db", "self_isolation_db"):
        data["nodes"][0].pop(key, None)
    mine = write(tmp_path / "mine.toml", data)
    made = tmp_path / "boards" / "left.calibration.toml"

    # not there yet; it can be made all the same
    assert failure(invoke("check", mine)).startswith("radio1.calibrated: ")
    assert invoke("calibrate", mine, "--out", made, "--json").exit_code == 0
    measured = load_calibration(made)
    row = load_experiment(str(mine)).nodes[0]
    assert row.noise_figure_db == measured.noise_figure_db.value != 8.5
    assert row.self_isolation_db == measured.isolation_db.value == pytest.approx(55.0, abs=0.2)
    told = json.loads(invoke("check", mine, "--json").stdout)
    assert told["faults"] == []
    assert told["devices"]["radio1"]["calibrated"] == measured.date
    assert "radio1: left, the left one; calibrated 20" in invoke("check", mine).stdout

    # a run keeps it, and says which
    done = invoke("run", mine, "--frames", 64, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    capture = load(tmp_path / "run" / "captures" / "muted.h5")
    assert capture.info["devices"]["radio1"]["calibrated"] == measured.date
    assert capture.node("radio1").limits.tx_steps == measured.tx_departures
    assert load_calibration(tmp_path / "run" / "devices" / "radio1" / made.name) == measured

    # stale: refused before anything is transmitted, but what was measured stays readable, and it can be made anew
    old = (dt.datetime.now(dt.UTC) - dt.timedelta(days=31)).isoformat(timespec="seconds")
    for place in (made, tmp_path / "run" / "devices" / "radio1" / made.name):
        save_calibration(place, measured.model_copy(update={"date": old}))
    for words in (["check", mine], ["run", mine, "--out", tmp_path / "second"]):
        assert "it is 31.0 days old, at most 30 are allowed" in failure(invoke(*words))
    assert not (tmp_path / "second").exists()
    assert invoke("report", tmp_path / "run").exit_code == 0
    assert invoke("calibrate", mine, "--out", made).exit_code == 0
    assert invoke("check", mine).exit_code == 0

    # foreign: of another board, which shows when the radio is opened
    save_calibration(made, load_calibration(made).model_copy(update={"serial": "another"}))
    done = invoke("run", mine, "--frames", 64, "--out", tmp_path / "third")
    assert "it is of the board with serial 'another', this one has 'node radio1'" in failure(done)


def test_what_a_calibrated_run_captured_can_be_replayed(tmp_path: Path) -> None:
    board(tmp_path / "boards")
    assert invoke("init", "solo", "--out", tmp_path / "mine.toml").exit_code == 0
    data = load_toml(tmp_path / "mine.toml")
    data["nodes"][0] |= {"device": "boards/left.toml", "calibrated": True}
    mine = write(tmp_path / "mine.toml", data)
    made = tmp_path / "boards" / "left.calibration.toml"
    assert invoke("calibrate", mine, "--out", made).exit_code == 0
    # far from the nominal steps: what was not taken into account everywhere would show
    skewed = load_calibration(made)
    loudest = skewed.tx_steps[0].tx_gain_db
    steps = tuple(
        step.model_copy(
            update={"level_db": step.level_db.model_copy(update={"value": 1.03 * (step.tx_gain_db - loudest)})}
        )
        for step in skewed.tx_steps
    )
    save_calibration(made, skewed.model_copy(update={"tx_steps": steps}))
    done = invoke("capture", mine, "--frames", 64, "--power-dbm", -20.0, "--out", tmp_path / "first.h5")
    assert done.exit_code == 0, done.output
    first = load(tmp_path / "first.h5")
    assert first.frame is not None
    sent_dbm = 10 * np.log10(np.mean(np.abs(first.frame.samples[0]) ** 2))
    assert sent_dbm == pytest.approx(-20.0, abs=0.01)
    _, again = replay_capture(tmp_path / "first.h5", tmp_path / "again.h5")
    assert again.frame is not None
    np.testing.assert_array_equal(again.frame.samples, first.frame.samples)
    np.testing.assert_array_equal(again.node("radio1").raw, first.node("radio1").raw)


def test_a_board_that_serves_a_user_as_well_is_calibrated(tmp_path: Path) -> None:
    need_libiio()
    device, made = board(tmp_path / "boards"), tmp_path / "left.calibration.toml"
    with pluto_process("comp", "--board", "bs1,u1", "--board", "bs2,u2", "--board", "bs3,u3") as air:
        experiment = comp_on(dict(air.uris), tmp_path / "mine.toml", device="pluto-rev-c")
        words = ("--node", "bs2", "--device", device, "--power-dbm", -10.0, "--out", made, "--json")
        done = invoke("calibrate", experiment, *words)
        assert done.exit_code == 0, (done.output, done.exception)
        assert all(is_silent(uri) for uri in air.uris.values())
    found = load_calibration(made)
    assert found.conditions.fir == FILTER.name
    # of 60 dB in the scene; the virtual board sends 15 dBm at full scale, and the configuration says 7
    assert found.isolation_db.value == pytest.approx(60.0 - 8.0, abs=0.2)


def test_no_more_of_a_board_is_used_than_its_device_allows(tmp_path: Path) -> None:
    need_libiio()
    quiet = board(tmp_path / "boards")
    quiet.write_text(quiet.read_text().replace("[limits]", "[limits]\ntx_gain_max_db = -40.0"))
    with pluto_process("comp", "--board", "bs1,u1", "--board", "bs2,u2", "--board", "bs3,u3") as air:
        experiment = comp_on(dict(air.uris), tmp_path / "mine.toml")
        told = failure(invoke("capture", experiment, "--power-dbm", -14.0, "--out", tmp_path / "x.h5"))
        assert "bs1: power: -14.00 dBm needs tx_gain_db" in told
        words = ("--node", "bs1", "--power-dbm", 0.0, "--out", tmp_path / "left.calibration.toml")
        assert "above the -40 dB of" in failure(invoke("calibrate", experiment, *words))
        assert all(is_silent(uri) for uri in air.uris.values())


def test_devices_of_one_name_do_not_meet_in_a_run(tmp_path: Path) -> None:
    """Two boards of a kind, each with a calibration beside its configuration, and with filters of one name."""
    data = comp_text() | {"power": {"axis_dbm": [-6.5]}}
    del data["loop"]
    data["capture"]["num_frames"] = 64
    for row, taps in (("bs1", FILTER), ("bs2", FILTER.with_name("lowpass_2x.ftr"))):
        board(tmp_path / row)
        (tmp_path / row / FILTER.name).write_bytes(taps.read_bytes())
        node = next(node for node in data["nodes"] if node["name"] == row)
        node |= {"device": f"{row}/left.toml", "calibrated": True}
    mine = write(tmp_path / "mine.toml", data)
    for row in ("bs1", "bs2"):
        out = tmp_path / row / "left.calibration.toml"
        done = invoke("calibrate", mine, "--node", row, "--power-dbm", -10.0, "--out", out)
        assert done.exit_code == 0, (done.output, done.exception)
    before = node_devices(load_experiment(str(mine)))
    assert before["bs1"].device.sha256 != before["bs2"].device.sha256
    assert before["bs1"].calibration != before["bs2"].calibration
    done = invoke("run", mine, "--out", tmp_path / "run", "--no-report")
    assert done.exit_code == 0, (done.output, done.exception)
    after = node_devices(load_experiment(str(tmp_path / "run" / "experiment.toml")))
    for row in ("bs1", "bs2"):
        assert after[row].provenance() == before[row].provenance()
        assert after[row].calibration == before[row].calibration


def test_a_device_that_cannot_be_copied_leaves_the_earlier_run_where_it_was(tmp_path: Path) -> None:
    board(tmp_path / "boards")
    assert invoke("init", "solo", "--out", tmp_path / "mine.toml").exit_code == 0
    out = tmp_path / "run"
    assert invoke("run", tmp_path / "mine.toml", "--frames", 64, "--out", out, "--no-report").exit_code == 0
    data = load_toml(tmp_path / "mine.toml")
    data["nodes"][0]["device"] = "boards/left.toml"
    model = load_experiment(str(write(tmp_path / "mine.toml", data)))
    (tmp_path / "boards" / "left.toml").unlink()
    with pytest.raises(ConfigError, match=r"left\.toml: no such file"):
        CompRun.create(out, model, overwrite=True)
    assert (out / "captures" / "muted.h5").is_file()
    assert not out.with_name("run.old").exists()
