"""Experiment and scene files: every fault is one line with the dotted key; presets and scenes load."""

import json
import tomllib

import pytest
import tomli_w

from sim.scene import Scene, load_scene, scene_path
from testbed.config import MAX_CONFIG_BYTES, load, validate
from testbed.errors import ConfigError
from testbed.experiment.comp.config import CompExperiment
from testbed.experiment.load import experiment_path, load_experiment, preset_text, presets, validate_experiment
from tests.scenes import comp_experiment, comp_scene, comp_text

GONE = object()  # as a value: take the key away


def changed(data, key, value):
    """Data with the entry of a dotted key replaced; numbers are places in a list."""
    *tables, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    table = data
    for part in tables:
        table = table[part]
    if value is GONE:
        del table[last]
    else:
        table[last] = value
    return data


def fault_of(data, model=CompExperiment):
    """The one line with which data are refused, after the name of the file."""
    with pytest.raises(ConfigError) as caught:
        validate(data, model, "my.toml")
    message = str(caught.value)
    assert message.startswith("my.toml: ")
    assert "\n" not in message
    return message.removeprefix("my.toml: ")


def file_fault(path, read=lambda path: load(path, CompExperiment)):
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Faults of a key. Each line: dotted key, what is put there, how the message begins.

FAULTS = [
    # unknown keys, at the top, in tables, in lists, behind a choice of models
    ("titel", "x", "titel: unknown key; did you mean 'title'?"),
    ("capture.num_frame", 5, "capture.num_frame: unknown key; did you mean 'num_frames'?"),
    ("waveform.numerology.cp_length", 5, "waveform.numerology.cp_length: unknown key; did you mean 'cp_len'?"),
    ("nodes.1.antena_gain_dbi", 5, "nodes[1].antena_gain_dbi: unknown key; did you mean 'antenna_gain_dbi'?"),
    ("detection.observations.symbol", [2], "detection.observations.symbol: unknown key; did you mean 'symbols'?"),
    ("capture.colour", "red", "capture.colour: unknown key; remove it or check its table"),
    # wrong types
    ("capture.num_frames", "many", "capture.num_frames: found 'many'; must be a valid integer"),
    ("capture.num_frames", 2.5, "capture.num_frames: found 2.5; must be a valid integer"),
    ("capture.num_frames", True, "capture.num_frames: found True; must be a valid integer"),
    ("detection.pfa", "1e-6", "detection.pfa: found '1e-6'; must be a valid number"),
    ("capture", 5, "capture: found 5; must be a table"),
    ("nodes.0.position_m", "here", "nodes[0].position_m: found 'here'; must be a list"),
    ("nodes.0.position_m", [0.0, "north"], "nodes[0].position_m[1]: found 'north'; must be a valid number"),
    ("capture.rx_gain_db", "loud", "capture.rx_gain_db: found 'loud'; must be a valid number"),
    ("title", 7, "title: found 7; must be a valid string"),
    ("waveform.modulation", "8psk", "waveform.modulation: found '8psk'; must be 'qpsk', '16qam' or '64qam'"),
    ("detection.observations.kind", "grid", "detection.observations: found"),
    # out of range, not finite
    ("detection.pfa", 0.0, "detection.pfa: found 0.0; must be greater than 0"),
    ("detection.pfa", 1.0, "detection.pfa: found 1.0; must be less than 1"),
    ("detection.pfa", float("nan"), "detection.pfa: found nan; must be"),
    ("power.axis_dbm.3", float("inf"), "power.axis_dbm[3]: found inf; must be"),
    ("power.axis_dbm.0", 81.0, "power.axis_dbm[0]: found 81.0; must be less than or equal to 80"),
    ("power.axis_dbm", [], "power.axis_dbm: found []; must have"),
    ("nodes.0.antenna_gain_dbi", float("inf"), "nodes[0].antenna_gain_dbi: found inf; must be a finite number"),
    ("cells.0.position_m.1", float("nan"), "cells[0].position_m[1]: found nan; must be a finite number"),
    ("nodes.2.noise_figure_db", -1.0, "nodes[2].noise_figure_db: found -1.0; must be greater than or equal to 0"),
    ("nodes.0.position_m", [1.0], "nodes[0].position_m: found [1.0]; must have"),
    ("nodes.0.position_m", [1.0] * 4, "nodes[0].position_m: found [1.0, 1.0, 1.0, 1.0]; must have"),
    ("nodes.0.name", "base station", "nodes[0].name: found 'base station'; must match"),
    ("emulator.seed", -1, "emulator.seed: found -1; must be greater than or equal to 0"),
    ("verdict.level", 0.5, "verdict.level: found 0.5; must be less than 0.5"),
    ("waveform.numerology.fft_size", 4, "waveform.numerology.fft_size: found 4; must be greater than or equal to 8"),
    ("detection.observations.symbols.0", -1, "detection.observations.symbols[0]: found -1; must be greater than"),
    # missing
    ("title", GONE, "title: missing; it must be given"),
    ("detection.pfa", GONE, "detection.pfa: missing; it must be given"),
    ("cells.2.node", GONE, "cells[2].node: missing; it must be given"),
    ("waveform.numerology.fft_size", GONE, "waveform.numerology.fft_size: missing; it must be given"),
    # entries that contradict each other
    ("waveform.preamble_roots", [5, 7], "waveform.preamble_roots: found 2 roots for 3 nodes; give one per node"),
    ("waveform.preamble_roots", [5, 5, 7], "waveform: preamble_roots: found [5, 5, 7]; one different root per node"),
    ("waveform.numerology.cp_len", 65, "waveform.numerology: cp_len: found 65; must be at most fft_size = 64"),
    ("detection.observations.symbols", [2, 8], "detection.observations: end at sample 720 of a frame of 640"),
    ("detection.observations.symbols", [3, 3], "detection.observations.symbols: found [3, 3]; every symbol may stand"),
    ("users.1.node", "bs7", "users[1].node: 'bs7' is no node; nodes are bs1, bs2, bs3"),
    ("users.1.name", "bs1", "users[1].name: 'bs1' is a node's name too; every radio needs its own"),
    ("users.1.radio", "pluto", "users[1].radio: found 'pluto'; must be 'emulator', tcp://HOST:PORT"),
    ("users", GONE, "users: CoMP power allocation needs one for every node; found 0"),
    ("users.2.node", "bs1", "users: CoMP power allocation needs one for every node; found 3 for bs1, bs2, bs1"),
    ("cells.2.node", "bs1", "cells: CoMP power allocation needs one for every node; found 3 for bs1, bs2, bs1"),
    ("requirements", GONE, "loop: needs the tables [requirements] as well"),
    ("allocation", GONE, "loop: needs the tables [allocation] as well"),
    ("requirements.min_pod", 1e-6, "requirements.min_pod: found 1e-06; must be above detection.pfa = 1e-06"),
    ("requirements.min_pod", 1.0, "requirements.min_pod: found 1.0; must be less than 1"),
    ("allocation.method", "magic", "allocation.method: found 'magic'; must be 'ppa', 'newton', 'global', 'equal' or"),
    ("loop.num_rounds", 0, "loop.num_rounds: found 0; must be greater than or equal to 1"),
    ("capture.keep_frames", -1, "capture.keep_frames: found -1; must be"),
    ("acquisition.on_loss", "keep", "acquisition.on_loss: found 'keep'; must be 'retry' or 'stop'"),
    ("acquisition.on_damage", "ignore", "acquisition.on_damage: found 'ignore'; must be 'retry', 'stop' or 'keep'"),
    ("acquisition.max_attempts", 0, "acquisition.max_attempts: found 0; must be greater than or equal to 1"),
    ("acquisition.timeout_s", 0, "acquisition.timeout_s: found 0; must be greater than 0"),
    ("waveform.num_pilot_symbols", 0, "waveform.num_pilot_symbols: found 0; users take their channel from pilots"),
    ("cells.1.node", "bs7", "cells[1].node: 'bs7' is no node; nodes are bs1, bs2, bs3"),
    ("cells.1.name", "t1", "cells[1].name: 't1' stands twice; names must differ"),
    ("nodes.2.name", "bs1", "nodes[2].name: 'bs1' stands twice; names must differ"),
    ("cells.0.position_m", [1.0, 2.0, 3.0], "position_m: some have 2 coordinates, some 3"),
    ("emulator", GONE, "nodes: radio = 'emulator' needs an [emulator] table that names a scene"),
    ("nodes.1.radio", "pluto", "nodes[1].radio: found 'pluto'; must be 'emulator', tcp://HOST:PORT, pluto:ip:HOST"),
    ("nodes.1.radio", "pluto:192.168.2.1", "nodes[1].radio: pluto:192.168.2.1: must read pluto:ip:HOST"),
    ("nodes.1.radio", "pluto:ip:192.168.2.1", "nodes: with an [emulator] table every radio must be 'emulator'"),
    ("nodes.1.channel", 1, "nodes[1].channel: only a Pluto or USRP has channels; remove the line"),
    ("users.1.fir", "keep", "users[1].fir: only a Pluto has filters to load; remove the line"),
    ("nodes.1.channel", 4, "nodes[1].channel: found 4; must be less than or equal to 3"),
    ("nodes.1.calibrated", True, "nodes[1].calibrated: calibrations belong to a device; name it with device"),
    ("nodes.1.radio", "uhd:serial=30AB", "nodes[1].device: missing; a USRP tells neither its powers nor its antennas"),
    (
        "nodes.1.radio",
        "uhd:30AB",
        "nodes[1].radio: 'uhd:30AB': found '30AB'; must be nothing, or device",
    ),
    ("nodes.1.device", "", "nodes[1].device: found ''; "),
    ("nodes.1.keys", "keys", "nodes[1].keys: only a radio at tcp://HOST:PORT has keys; remove the line"),
    ("users.0.keys", "", "users[0].keys: found ''; must"),
    ("users.0.keys", 7, "users[0].keys: found 7; must be a valid string"),
    ("shared_reference", False, "shared_reference: false is not supported"),
]


@pytest.mark.parametrize(("key", "value", "message"), FAULTS)
def test_a_fault_is_one_line_with_its_dotted_key(key, value, message):
    assert fault_of(changed(comp_text(), key, value)).startswith(message)


def test_a_run_of_samples_beyond_the_frame_is_refused():
    run = {"kind": "samples", "start": 600, "count": 41}

    fault = fault_of(changed(comp_text(), "detection.observations", run))

    assert "end at sample 641 of a frame of 640" in fault
    assert validate(changed(comp_text(), "detection.observations", run | {"count": 40}), CompExperiment, "x")


def test_all_faults_of_a_file_are_told_at_once():
    data = changed(changed(comp_text(), "detection.pfa", 2.0), "capture.num_frames", 0)

    fault = fault_of(data)

    assert "detection.pfa: found 2.0" in fault
    assert "capture.num_frames: found 0" in fault


def test_a_long_value_is_shown_short():
    assert len(fault_of(changed(comp_text(), "capture.num_frames", "x" * 10_000))) < 200


SCENE_FAULTS = [
    ("sede", 1, "sede: unknown key; did you mean 'seed'?"),
    ("seed", 1 << 64, "seed: found 18446744073709551616; must be less than"),
    ("nodes.0.start_offset_samples", -0.1, "nodes[0].start_offset_samples: found -0.1; must be"),
    ("nodes.1.name", "bs1", "nodes[1].name: 'bs1' stands twice; names must differ"),
    ("targets.1.name", "t1", "targets[1].name: 't1' stands twice; names must differ"),
    ("clutter.0.position_m", [1.0, 2.0, 3.0], "position_m: some have 2 coordinates, some 3"),
    ("targets.0.velocity_mps", [1.0, 2.0, 3.0], "targets[0].velocity_mps: needs as many coordinates"),
    ("hardware.rx_bits", 24, "hardware.rx_bits: found 24; must be less than or equal to 16"),
]


@pytest.mark.parametrize(("key", "value", "message"), SCENE_FAULTS)
def test_a_fault_of_a_scene_is_one_line_with_its_dotted_key(key, value, message):
    assert fault_of(changed(comp_scene().model_dump(), key, value), Scene).startswith(message)


# Faults of a file


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"title = ", "not valid TOML: Invalid value (at end of document)"),
        (b"title = 'a'\ntitle = 'b'", "not valid TOML"),
        (b"num_frames = " + b"9" * 5000, "not valid TOML"),  # more digits than Python converts
        (b"a = " + b"[" * 100_000, "not valid TOML"),  # deeper than Python recurses
        (b"\xff\xfe\x00", "cannot be read"),
        (b"", "title: missing; it must be given"),
    ],
)
def test_what_is_no_toml_is_one_line(tmp_path, content, fault):
    (tmp_path / "my.toml").write_bytes(content)

    assert fault in file_fault(tmp_path / "my.toml")


def test_a_missing_file_a_directory_and_a_path_through_a_file_are_one_line(tmp_path):
    (tmp_path / "my.toml").touch()

    assert "no such file" in file_fault(tmp_path / "none.toml")
    assert "is a directory" in file_fault(tmp_path)
    assert "cannot be read" in file_fault(tmp_path / "my.toml" / "x.toml")


def test_a_list_of_one_wrong_entry_is_one_fault():
    data = comp_text()
    data["power"] = {"axis_dbm": ["loud"]}
    assert fault_of(data).count("power.axis_dbm") == 1
    data["power"] = {"axis_dbm": []}
    assert "power.axis_dbm: found []; must have at least 1 item" in fault_of(data)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "my.toml").open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte of nothing

    assert f"more than {MAX_CONFIG_BYTES} bytes" in file_fault(tmp_path / "my.toml")


# Presets and scenes


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_by_its_name_and_its_scene_exists(name):
    experiment = load_experiment(name)

    assert experiment == validate_experiment(tomllib.loads(preset_text(name)), name)
    assert experiment.emulator is not None
    scene = load_scene(experiment.emulator.scene)
    assert set(experiment.node_names) <= set(scene.node_names)
    assert {cell.name for cell in experiment.cells} <= {target.name for target in scene.targets}


@pytest.mark.parametrize("path", sorted(scene_path("comp").parent.glob("*.toml")), ids=lambda path: path.stem)
def test_every_packaged_scene_loads_by_its_name(path):
    assert load_scene(path.stem) == load(path, Scene)


def test_the_comp_preset_is_the_reference_experiment():
    # SIGNAL_CHAIN section 8
    experiment = load_experiment("comp")

    assert experiment.power.axis_dbm == tuple(-10.5 + k for k in range(9))
    assert experiment.detection.pfa == 1e-6
    assert experiment.detection.observations.num_observations(experiment.waveform.numerology) == 104
    assert experiment.capture.num_frames == 2000
    assert experiment.conditions == ("all", "without:t1", "without:t2", "without:t3")
    assert experiment.samples_per_capture == 2001 * 640


def test_the_survey_of_the_comp_preset_is_where_the_scene_puts_things():
    survey, scene = load_experiment("comp").survey, load_scene("comp")

    for surveyed, real in (
        ((*survey.nodes, *survey.users), scene.nodes),
        (survey.cells, scene.targets),
        (survey.reflectors, scene.clutter),
    ):
        assert [(a.name, a.position_m) for a in surveyed] == [(b.name, b.position_m) for b in real]


def test_the_muted_capture_is_long_enough_not_to_show_in_the_pooled_statistic():
    # SIGNAL_CHAIN section 4: at least 10 L n_H0 samples, n_H0 all H0 frames of a node: 9 powers of 2000
    experiment = comp_experiment()
    assert experiment.muted_samples == 10 * 3 * 9 * 2000

    longer = experiment.capture.model_copy(update={"min_muted_samples": 1_000_000})
    assert experiment.model_copy(update={"capture": longer}).muted_samples == 1_000_000


@pytest.mark.parametrize("read", [load_experiment, load_scene])
def test_an_unknown_name_is_refused_with_the_names_there_are(read):
    with pytest.raises(ConfigError, match=r"'nowhere': no such file or .*comp"):
        read("nowhere")


def test_a_directory_of_the_same_name_does_not_hide_a_preset_or_scene(tmp_path, monkeypatch):
    # `isac run comp --out comp` makes one
    (tmp_path / "comp").mkdir()
    monkeypatch.chdir(tmp_path)

    assert load_scene("comp") == comp_scene()
    assert load_experiment("comp") == comp_experiment()


# Experiment files that name a scene


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path


def test_a_scene_path_is_relative_to_the_experiment_file(tmp_path, monkeypatch):
    scene = write(tmp_path / "lab" / "worlds" / "my.toml", comp_scene().model_dump(mode="json"))
    experiment = write(tmp_path / "lab" / "e.toml", changed(comp_text(), "emulator.scene", "worlds/my.toml"))
    monkeypatch.chdir(tmp_path)

    assert load_experiment("lab/e.toml").emulator.scene == str(scene)
    assert load_experiment(str(experiment)).emulator.scene == str(scene)


def test_an_absolute_scene_path_stays(tmp_path):
    scene = write(tmp_path / "worlds" / "my.toml", comp_scene().model_dump(mode="json"))
    experiment = write(tmp_path / "lab" / "e.toml", changed(comp_text(), "emulator.scene", str(scene)))

    assert load_experiment(str(experiment)).emulator.scene == str(scene)


def test_a_scene_that_is_not_there_is_named_before_anything_starts(tmp_path):
    experiment = write(tmp_path / "e.toml", changed(comp_text(), "emulator.scene", "gone.toml"))

    fault = file_fault(experiment, lambda path: load_experiment(str(path)))

    assert f"emulator.scene: {tmp_path / 'gone.toml'}: no such file" in fault


def test_an_experiment_file_is_found_with_and_without_its_suffix(tmp_path, monkeypatch):
    write(tmp_path / "e.toml", comp_text())
    write(tmp_path / "plain", comp_text())
    monkeypatch.chdir(tmp_path)

    assert load_experiment("e.toml") == load_experiment("plain") == comp_experiment()
    assert experiment_path("comp").is_file()


def served(**row):
    """The comp experiment on a server that is already there."""
    data = comp_text()
    del data["emulator"]
    rows = {"radio": "tcp://10.0.0.2:5555", **row}
    return data | {table: [old | rows for old in data[table]] for table in ("nodes", "users")}


def test_a_folder_of_keys_is_relative_to_the_experiment_file(tmp_path, monkeypatch):
    experiment = write(tmp_path / "lab" / "e.toml", served(keys="my/keys"))
    monkeypatch.chdir(tmp_path)

    for name in ("lab/e.toml", str(experiment)):
        assert {row.keys for row in load_experiment(name).receivers} == {str(tmp_path / "lab" / "my" / "keys")}


def test_an_absolute_folder_of_keys_stays_and_need_not_be_there_to_read_an_experiment(tmp_path):
    experiment = write(tmp_path / "lab" / "e.toml", served(keys="/nowhere/keys"))

    assert load_experiment(str(experiment)).nodes[0].keys == "/nowhere/keys"


def test_keys_are_no_part_of_what_is_recorded_of_an_experiment(tmp_path):
    without = validate(served(), CompExperiment, "x")
    with_keys = validate(served(keys="/nowhere/keys"), CompExperiment, "x")

    assert with_keys != without
    assert with_keys.sha256 == without.sha256
    assert "keys" not in json.dumps(with_keys.resolved())
    assert validate(with_keys.resolved(), CompExperiment, "x") == without


# Resolved experiments


def test_a_resolved_experiment_written_as_toml_is_the_same_experiment(tmp_path):
    experiment = comp_experiment(data_seed=7)
    document = experiment.model_dump(mode="json", exclude_none=True)  # as CompRun writes it

    again = load(write(tmp_path / "e.toml", document), CompExperiment)

    assert again == experiment
    assert again.sha256 == experiment.sha256


def test_the_hash_changes_with_any_value_and_not_with_the_file():
    hashes = {comp_experiment(data_seed=seed).sha256 for seed in range(5)}

    assert len(hashes) == 5
    assert comp_experiment().sha256 == load_experiment("comp").sha256
    assert len(comp_experiment().sha256) == 64


def test_models_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        comp_experiment().detection.pfa = 0.1
