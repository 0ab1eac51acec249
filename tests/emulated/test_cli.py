"""The command line as a user meets it: bad input gives one clear line, exit code not 0, no traceback, and earlier
captures stay whole."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import tomli_w

from testbed.capture import check, load
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.step import Step
from tests.emulator import emulator_process, environment, request

pytestmark = pytest.mark.emulated

TIMEOUT_S = 120


def isac(*arguments: str | Path, cwd: Path, module: str = "testbed") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S)


def start(*arguments: str | Path, cwd: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "testbed", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def one_line(done: "subprocess.CompletedProcess[str]", *words: str, code: int = 1) -> str:
    """The only line on standard error; it holds all `words`."""
    # Python may end by SIGINT itself, which a shell shows as 130 too, where the interrupt met code run by exec
    assert (130 if done.returncode == -signal.SIGINT else done.returncode) == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    return lines[0]


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> dict[int, str]:
    """Direct children of a process with their command lines."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def all_whole(folder: Path) -> int:
    captures = sorted(folder.glob("*.h5"))
    assert captures
    assert [fault for path in captures for fault in check(path)] == []
    return len(captures)


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    assert isac("init", "comp", cwd=tmp_path).returncode == 0
    return tmp_path / "comp.toml"


# edit of the preset, words the one line must hold
BAD_EXPERIMENTS = [
    ("num_frames = 2000", "num_frame = 2000", ("capture.num_frame:", "unknown key", "did you mean 'num_frames'?")),
    ("pfa = 1e-6", "pfa = 2", ("detection.pfa:", "found 2", "less than 1")),
    ("fft_size = 64", 'fft_size = "x"', ("waveform.numerology.fft_size:", "found 'x'")),
    ('scene = "comp" ', 'scene = "gone.toml" ', ("emulator.scene:", "gone.toml", "no such file")),
    ("preamble_roots = [5, 7, 11]", "preamble_roots = [5, 7]", ("preamble_roots", "2 roots for 3 nodes")),
    ("[capture]", "[capture", ("not valid TOML",)),
    ("symbols = [2, 3]", "symbols = [2, 9]", ("detection.observations", "0..7")),
]


@pytest.mark.parametrize(("old", "new", "words"), BAD_EXPERIMENTS)
def test_a_bad_experiment_is_answered_in_one_line_with_the_dotted_key(
    preset: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    text = preset.read_text()
    assert old in text
    preset.write_text(text.replace(old, new))
    for verb in (["check", preset], ["run", preset, "--out", "never"]):
        one_line(isac(*verb, cwd=preset.parent), "comp.toml", *words)
    assert not (preset.parent / "never").exists()


def test_a_missing_scene_is_named_and_leaves_no_run_behind(preset: Path) -> None:
    preset.write_text(preset.read_text().replace('scene = "comp" ', 'scene = "atlantis" '))
    one_line(isac("run", preset, "--out", "run", cwd=preset.parent), "atlantis", "packaged: comp")
    assert not (preset.parent / "run").exists()


def test_a_missing_experiment_and_a_wrong_option_are_told_apart(tmp_path: Path) -> None:
    one_line(isac("check", "gone.toml", cwd=tmp_path), "gone.toml", "no such file")
    one_line(isac("check", "gone", cwd=tmp_path), "presets are comp")
    wrong = isac("check", "comp", "--bogus", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "No such option: --bogus" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_power_beyond_the_radio_and_clipping_are_refused_before_transmitting(preset: Path) -> None:
    refused = isac("run", preset, "--power-dbm", "30", "--frames", "10", "--out", "run", cwd=preset.parent)
    one_line(refused, "link budget", "30.00 dBm needs tx_gain_db", "use at most")
    preset.write_text(preset.read_text().replace("self_isolation_db = 60.0", "self_isolation_db = 30.0"))
    one_line(isac("check", preset, cwd=preset.parent), "clipping", "dB above full scale", "raise the isolation")


def test_a_port_in_use_and_an_open_address_are_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = isac("emulate", "comp", "--endpoint", f"tcp://127.0.0.1:{port}", cwd=tmp_path, module="sim")
        one_line(busy, f"tcp://127.0.0.1:{port}", "in use", "another port")
    open_to_all = isac("emulate", "comp", "--endpoint", "tcp://0.0.0.0:0", cwd=tmp_path, module="sim")
    one_line(open_to_all, "only loopback")


def test_a_capture_cut_short_is_named_by_every_verb_that_reads_it(preset: Path) -> None:
    folder = preset.parent
    assert isac("capture", preset, "--frames", "20", "--out", "a.h5", cwd=folder).returncode == 0
    (folder / "cut.h5").write_bytes((folder / "a.h5").read_bytes()[:200_000])
    for verb in (["detect"], ["file", "check"], ["file", "info"]):
        one_line(isac(*verb, "cut.h5", cwd=folder), "cut.h5", "cut short")
    assert isac("file", "check", "a.h5", cwd=folder).returncode == 0


def test_an_unreachable_radio_is_named_within_its_timeout(preset: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        done = isac("run", external(preset, address), "--out", "run", cwd=preset.parent)
    one_line(done, address, "no answer", "nothing was captured")


def test_killing_the_emulator_in_mid_run_is_one_line_and_earlier_captures_stay_whole(preset: Path) -> None:
    folder = preset.parent
    process = start("run", preset, "--out", "run", cwd=folder)
    wait_for(folder / "run" / "captures" / "000_without_t3.h5", process)
    emulators = [pid for pid, line in children(process.pid).items() if "sim emulate" in line]
    assert len(emulators) == 1
    os.kill(emulators[0], signal.SIGKILL)
    out, err = process.communicate(timeout=TIMEOUT_S)
    line = one_line(subprocess.CompletedProcess([], process.returncode, out, err), "server ended", "captures are whole")
    assert "run" in line
    assert all_whole(folder / "run" / "captures") >= 5  # muted, and one power
    again = isac("report", "run", cwd=folder)
    assert again.returncode == 0, again.stderr


def external(preset: Path, endpoint: str, num_frames: int = 2000) -> Path:
    """The preset on a server that is already there."""
    text = preset.read_text().replace('radio = "emulator"', f'radio = "{endpoint}"')
    text = text.replace("[emulator]\n", "").replace('scene = "comp" ', "# ")
    preset.write_text(text.replace("num_frames = 2000 ", f"num_frames = {num_frames} "))
    return preset


def transmitting(endpoint: str) -> list[str]:
    """Nodes whose transmitter is on."""
    status = request(endpoint, op="status")["transmitting"]
    return [name for name, on in status.items() if on]  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_mutes_says_so_in_one_line_and_keeps_its_captures(preset: Path, number: int) -> None:
    """On an emulator of its own, so that its transmitters can be looked at afterwards."""
    folder = preset.parent
    with emulator_process() as (_, endpoint):
        process = start("run", external(preset, endpoint, 4000), "--out", "run", cwd=folder)
        wait_for(folder / "run" / "captures" / "000_all.h5", process)
        assert transmitting(endpoint)
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_S)
        one_line(subprocess.CompletedProcess([], process.returncode, out, err), "transmitters are muted", code=130)
        assert transmitting(endpoint) == []
    assert all_whole(folder / "run" / "captures") >= 2


def test_a_server_that_stalls_is_not_called_muted(preset: Path) -> None:
    folder = preset.parent
    with emulator_process() as (emulator, endpoint):
        process = start("run", external(preset, endpoint, 4000), "--out", "run", cwd=folder)
        wait_for(folder / "run" / "captures" / "000_all.h5", process)
        emulator.send_signal(signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            emulator.send_signal(signal.SIGCONT)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    one_line(done, "bs3, bs2, bs1: did not answer while being muted and may still transmit")


def test_a_run_on_a_server_that_is_already_there_switches_its_targets_and_judges_as_on_air(preset: Path) -> None:
    with emulator_process("comp", "--seed", "3") as (_, endpoint):
        options = ("--frames", "1000", "--power-dbm", "-5.5", "--out", "run", "--json", "--no-report")
        done = isac("run", external(preset, endpoint), *options, cwd=preset.parent)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["deciding"] == "cfar/measured"
    alarms = results["verdicts"]["cfar/measured"]["false_alarms"][0]
    # 3000 H0 trials at 1e-2: 30 expected; were the targets on, all would be alarms. Beyond 60 has probability 1e-6
    assert alarms["counted"] <= 60
    info = load(preset.parent / "run" / "captures" / "000_all.h5").info
    assert info["emulator_seed"] == 3


def test_an_emulator_table_with_radios_elsewhere_is_refused(preset: Path) -> None:
    preset.write_text(preset.read_text().replace('radio = "emulator"', 'radio = "tcp://127.0.0.1:5555"', 1))
    one_line(isac("check", preset, cwd=preset.parent), "every radio must be 'emulator'")


def test_a_replaced_run_comes_back_when_its_successor_captures_nothing(preset: Path) -> None:
    folder = preset.parent
    quick = ("--frames", "5", "--power-dbm", "-4.5", "--out", "run", "--no-report")
    assert isac("run", preset, *quick, cwd=folder).returncode == 0
    before = (folder / "run" / "captures" / "000_all.h5").read_bytes()
    loud = isac("run", preset, "--power-dbm", "30", "--out", "run", "--overwrite", cwd=folder)
    one_line(loud, "needs tx_gain_db", "run is the earlier run again")
    assert (folder / "run" / "captures" / "000_all.h5").read_bytes() == before
    assert isac("run", "run/experiment.toml", *quick, "--overwrite", cwd=folder).returncode == 0
    assert sorted(p.name for p in folder.iterdir()) == ["comp.toml", "run"]


def test_a_directory_is_no_capture_to_replay(preset: Path) -> None:
    folder = preset.parent
    (folder / "r" / "captures").mkdir(parents=True)
    one_line(isac("replay", "r", cwd=folder), "r: is a directory; give its capture files, e.g. r/captures/*.h5")


def test_a_replay_needs_the_gains_that_it_was_captured_with(preset: Path) -> None:
    folder = preset.parent
    assert isac("capture", "solo", "--out", "a.h5", "--frames", "20", cwd=folder).returncode == 0
    assert isac("init", "solo", cwd=folder).returncode == 0
    data = tomllib.loads((folder / "solo.toml").read_text())
    del data["emulator"]
    for row in (*data["nodes"], *data.get("users", ())):
        row |= {"radio": f"replay:{folder}/a.h5", "rx_gain_db": "auto"}
    (folder / "again.toml").write_text(tomli_w.dumps(data))
    one_line(
        isac("run", "again.toml", "--out", "r", "--frames", "20", cwd=folder),
        "rx_gain_db 'auto' of radio1", "fixed rx_gain_db (`isac file info CAPTURE` shows them)", "nothing was captured",
    )  # fmt: skip


def test_an_existing_capture_is_not_replaced_unless_told(preset: Path) -> None:
    folder = preset.parent
    quick = ("capture", preset, "--frames", "5", "--out", "a.h5")
    assert isac(*quick, cwd=folder).returncode == 0
    one_line(isac(*quick, cwd=folder), "a.h5: exists", "--force")
    assert isac(*quick, "--force", cwd=folder).returncode == 0


# edits of the preset, arguments, words: what once ended in a traceback
ODD = [
    ((), ["run", "comp.toml", "--out", "/dev/null/x"], "cannot be made a run directory"),
    ((("position_m = [33.0, 82.0]", "position_m = [0.0, 69.282]"),), ["check", "comp.toml"], "places must differ"),
    ((("position_m = [5.0, -60.0]", "position_m = [33.0, 82.0]"),), ["check", "comp.toml"], "places must differ"),
    ((("symbols = [2, 3]", ""), ('kind = "resource_elements"', 'kind = "samples"\nstart = 0\ncount = 14')),
     ["check", "comp.toml"], "N - r - Q = -1"),
    ((("num_data_symbols = 6", "num_data_symbols = 4096"), ("fft_size = 64", "fft_size = 16384")),
     ["check", "comp.toml"], "waveform"),
]  # fmt: skip


@pytest.mark.parametrize(("edits", "arguments", "words"), ODD)
def test_odd_input_is_one_line(
    preset: Path, edits: tuple[tuple[str, str], ...], arguments: list[str], words: str
) -> None:
    text = preset.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    preset.write_text(text)
    one_line(isac(*arguments, cwd=preset.parent), words)


def test_statistics_cannot_be_saved_where_there_is_no_directory(preset: Path) -> None:
    folder = preset.parent
    assert isac("capture", preset, "--frames", "5", "--out", "a.h5", cwd=folder).returncode == 0
    one_line(isac("detect", "a.h5", "--save", "nowhere/x.h5", cwd=folder), "nowhere/x.h5", "cannot be written")


def test_the_emulator_does_not_outlive_a_killed_run(preset: Path) -> None:
    process = start("run", preset, "--out", "run", cwd=preset.parent)
    wait_for(preset.parent / "run" / "captures" / "muted.h5", process)
    [emulator] = [pid for pid, line in children(process.pid).items() if "sim emulate" in line]
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{emulator}/cmdline").exists() and Path(f"/proc/{emulator}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the emulator is still there"
        time.sleep(0.05)


def test_run_refuses_to_replace_what_is_no_run_and_a_run_unless_told(preset: Path) -> None:
    folder = preset.parent
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("years of work")
    one_line(isac("run", preset, "--out", "mine", "--overwrite", cwd=folder), "it is no run")
    assert (folder / "mine" / "thesis.txt").exists()
    quick = ("--frames", "5", "--power-dbm", "-4.5", "--out", "run", "--no-report")
    assert isac("run", preset, *quick, cwd=folder).returncode == 0
    one_line(isac("run", preset, *quick, cwd=folder), "--overwrite")
    assert isac("run", preset, *quick, "--overwrite", cwd=folder).returncode == 0


def test_json_goes_to_standard_output_alone(preset: Path) -> None:
    folder = preset.parent
    done = isac("run", preset, "--frames", "300", "--power-dbm", "-5.5", "--out", "run", "--json", cwd=folder)
    results = json.loads(done.stdout)
    assert results["consistent"] in (True, False)
    assert {p["cell"] for p in results["points"]} == {"t1", "t2", "t3"}
    assert Path(folder / results["report"]).is_file()
    assert json.loads(isac("check", preset, "--json", cwd=folder).stdout)["cells"][0]["cell"] == "t1"
    rows = json.loads(isac("detect", "run/captures/000_all.h5", "--json", cwd=folder).stdout)
    stored = CompRun.open(folder / "run").detection(Step("points", 0), "all", "t1")
    assert rows[0]["num_frames"] == stored.known_noise.size == 300
    assert json.loads(isac("file", "info", "run/captures/muted.h5", "--json", cwd=folder).stdout)["simulated"] is True


def test_the_same_seed_repeats_a_run_bit_for_bit_and_the_written_experiment_repeats_it(preset: Path) -> None:
    folder = preset.parent
    options = ("--no-report", "--frames", "50", "--power-dbm", "-5.5", "--noise-seed", "9", "--data-seed", "4")
    assert isac("run", preset, *options, "--out", "a", cwd=folder).returncode == 0
    assert isac("run", "a/experiment.toml", "--out", "b", "--no-report", cwd=folder).returncode == 0
    for name in ("000_all.h5", "000_without_t2.h5", "muted.h5"):
        first, second = load(folder / "a" / "captures" / name), load(folder / "b" / "captures" / name)
        for one, other in zip(first.nodes, second.nodes, strict=True):
            assert one.raw.tobytes() == other.raw.tobytes()
    assert isac("run", preset, *options[:5], "--out", "c", cwd=folder).returncode == 0
    other_seed = load(folder / "c" / "captures" / "muted.h5")
    assert other_seed.nodes[0].raw.tobytes() != load(folder / "a" / "captures" / "muted.h5").nodes[0].raw.tobytes()


def test_automatic_receive_gain_puts_the_noise_at_two_lsb_and_truth_follows_it(preset: Path) -> None:
    preset.write_text(preset.read_text().replace("rx_gain_db = 40.0 ", 'rx_gain_db = "auto" '))
    options = ("--frames", "500", "--power-dbm", "-5.5", "--out", "run", "--json", "--no-report")
    done = isac("run", preset, *options, cwd=preset.parent)
    assert done.returncode == 0, done.stderr
    muted = load(preset.parent / "run" / "captures" / "muted.h5")
    for name in ("bs1", "bs2", "bs3"):
        assert muted.node(name).settings.rx_gain_db in (45.0, 46.0)  # 40 dB is 1.006 LSB; 2 LSB is 6 dB more
    assert muted.node("u1").settings.rx_gain_db == 43.0  # fixed for this one
    assert json.loads(done.stdout)["points"][0]["noncentrality_truth"] > 0


@pytest.mark.parametrize("arguments", [["--help"], ["check", "comp"], ["run", "--help"], ["init", "comp"]])
def test_help_and_check_load_no_heavy_library(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['isac', *{arguments!r}]\n"
        "from testbed.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as exc:\n    assert not exc.code, exc.code\n"
        "heavy = {'cvxpy', 'matplotlib', 'numba', 'h5py', 'scipy'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("HEAVY []")


VERBS = ["init", "check", "run", "capture", "detect", "range", "measure", "allocate", "report", "compare", "sweep",
         "keys", "radios", "doctor", "calibrate", "replay", "serve"]  # fmt: skip
GROUPS = [["file", "check"], ["file", "info"], ["device", "check"], ["device", "show"], ["device", "commands"]]


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS), *GROUPS])
def test_every_verb_has_help_with_an_example(tmp_path: Path, verb: list[str]) -> None:
    done = isac(*verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    if verb:
        assert f"Example: isac {' '.join(verb)}" in " ".join(done.stdout.split())


def test_a_run_in_a_scene_of_ones_own_can_be_moved_and_repeated_and_holds_no_path_of_the_machine(preset: Path) -> None:
    folder = preset.parent
    (folder / "mine").mkdir()
    scene = Path(__file__).parents[2] / "sim" / "scenes" / "comp.toml"
    (folder / "mine" / "yard.toml").write_text(scene.read_text().replace("seed = 1", "seed = 5"))
    preset.write_text(preset.read_text().replace('scene = "comp" ', 'scene = "mine/yard.toml" '))
    options = ("--frames", "20", "--power-dbm", "-4.5", "--no-report")
    assert isac("run", preset, *options, "--out", "a", cwd=folder).returncode == 0
    (folder / "mine" / "yard.toml").unlink()
    (folder / "a").rename(folder / "moved")
    assert isac("report", "moved", cwd=folder).returncode == 0
    assert isac("run", "moved/experiment.toml", "--out", "b", "--no-report", cwd=folder).returncode == 0
    first, second = (load(folder / run / "captures" / "000_all.h5") for run in ("moved", "b"))
    assert first.nodes[0].raw.tobytes() == second.nodes[0].raw.tobytes()
    for path in (folder / "moved").rglob("*"):
        if path.is_file() and path.suffix != ".png":
            assert str(folder).encode() not in path.read_bytes(), path
