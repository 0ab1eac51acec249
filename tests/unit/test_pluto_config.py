"""Plutos and permission to transmit in the experiment file."""

import json

import pytest
import tomli_w

from testbed.config import validate
from testbed.errors import ConfigError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.load import load_experiment
from tests.scenes import comp_text


def on_plutos(num_boards=3):
    """The CoMP preset on 2R2T boards, or on six of one channel: only the radio lines differ."""
    data = comp_text()
    del data["emulator"]
    for i, row in enumerate(data["nodes"]):
        row["radio"] = f"pluto:ip:192.168.{2 + i}.1"
    for i, row in enumerate(data["users"]):
        row["radio"] = f"pluto:ip:192.168.{2 + i if num_boards == 3 else 5 + i}.1"
        row["channel"] = 1 if num_boards == 3 else 0
    return data


def fault_of(data):
    with pytest.raises(ConfigError) as caught:
        validate(data, CompExperiment, "my.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("my.toml: ")


@pytest.mark.parametrize("num_boards", [3, 6])
def test_comp_runs_on_three_boards_of_two_channels_or_on_six_of_one(num_boards):
    experiment = validate(on_plutos(num_boards), CompExperiment, "x")
    assert len({row.radio for row in experiment.receivers}) == num_boards
    assert experiment.statistic == "cfar"
    assert not experiment.safety.transmit
    assert experiment.safety.bands == ()


def test_a_channel_serves_one_node():
    data = on_plutos()
    data["users"][0]["channel"] = 0
    assert fault_of(data) == "nodes: channel 0 of pluto:ip:192.168.2.1 is given twice; a channel serves one node"


BAND = {"name": "lab", "low_hz": 3.4e9, "high_hz": 3.6e9, "max_power_dbm": 0.0, "basis": "cabled, 40 dB"}
SAFETY_FAULTS = [
    ({"transmitt": True}, "safety.transmitt: unknown key; did you mean 'transmit'?"),
    ({"transmit": "yes"}, "safety.transmit: found 'yes'; must be a valid boolean"),
    ({"watchdog_s": 0.0}, "safety.watchdog_s: found 0"),
    ({"bands": [{**BAND, "max_power": 1.0}]}, "safety.bands[0].max_power: unknown key; did you mean 'max_power_dbm'?"),
    ({"bands": [{k: v for k, v in BAND.items() if k != "basis"}]}, "safety.bands[0].basis: missing; it must be given"),
    ({"bands": [{**BAND, "low_hz": 4e9}]}, "safety.bands[0]: low_hz: found 4e+09, not below high_hz = 3.6e+09"),
]


@pytest.mark.parametrize(("table", "message"), SAFETY_FAULTS)
def test_a_fault_of_the_safety_table_is_one_line_with_its_dotted_key(table, message):
    assert fault_of(on_plutos() | {"safety": table}).startswith(message)


def test_a_band_is_kept_with_the_experiment():
    experiment = validate(on_plutos() | {"safety": {"transmit": True, "bands": [BAND]}}, CompExperiment, "x")
    assert experiment.safety.bands[0].peak_dbm == 12.0
    assert validate(experiment.resolved(), CompExperiment, "x").safety == experiment.safety


def test_a_filter_stands_beside_the_experiment_and_its_place_on_this_machine_changes_nothing(tmp_path):
    data = on_plutos()
    data["nodes"][0]["fir"] = "own.ftr"
    found = {}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.toml").write_text(tomli_w.dumps(data))
        found[folder] = load_experiment(str(tmp_path / folder / "x.toml"))
    assert found["a"].nodes[0].fir == str((tmp_path / "a" / "own.ftr").resolve())
    assert found["a"].nodes[1].fir == "standard"
    assert found["a"].sha256 == found["b"].sha256
    assert str(tmp_path) not in json.dumps(found["a"].resolved())


def test_consent_on_the_command_line_is_part_of_the_experiment(tmp_path):
    from testbed.verbs.options import resolved

    path = tmp_path / "x.toml"
    path.write_text(tomli_w.dumps(on_plutos()))
    assert not resolved(str(path)).safety.transmit
    assert resolved(str(path), transmit=True).safety.transmit
