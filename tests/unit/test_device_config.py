"""Device configurations and filters: what is shipped is in order, and a mistake is one line that says which."""

import ast
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner

from testbed.device import Limits
from testbed.errors import ConfigError, RadioUnavailable
from testbed.experiment.devices import node_device
from testbed.radio.devices import config as device_config
from testbed.radio.devices.commands import commands
from testbed.radio.devices.config import PlutoConfig, UsrpConfig, device_names, load_device
from testbed.radio.devices.fir import Design, Ftr, design_taps, ftr_text, gain_db, read_ftr, response
from testbed.radio.devices.match import check_board
from testbed.verbs.devices import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "firmware_configs"
SHIPPED = sorted(path for path in FOLDER.rglob("*.toml") if not path.name.endswith(".calibration.toml"))
FILTERS = sorted(FOLDER.rglob("*.ftr"))
SCRIPT = runpy.run_path(str(FOLDER / "make_filters.py"))
DESIGNS: tuple[Design, ...] = SCRIPT["DESIGNS"]
runner = CliRunner()


def pluto() -> dict[str, Any]:
    return {
        "kind": "pluto",
        "title": "mine",
        "limits": {
            "num_tx": 1, "num_rx": 1, "carrier_min_hz": 325e6, "carrier_max_hz": 3.8e9, "sample_rate_min_hz": 1e6,
            "sample_rate_max_hz": 20e6, "bandwidth_max_hz": 20e6, "tx_gain_min_db": -89.75, "tx_gain_max_db": 0.0,
            "tx_gain_step_db": 0.25, "rx_gain_min_db": -3.0, "rx_gain_max_db": 71.0, "rx_gain_step_db": 1.0,
            "tx_bits": 12, "rx_bits": 12, "max_input_dbm": 2.5,
        },
        "power": {"tx_full_scale_dbm": 7.0, "rx_full_scale_dbm": 5.0, "noise_figure_db": 8.0, "basis": "power meter"},
        "firmware": {"minimum": "v0.32"},
    }  # fmt: skip


def usrp() -> dict[str, Any]:
    data = pluto()
    data["kind"] = "usrp"
    data["limits"] |= {"tx_gain_min_db": 0.0, "tx_gain_max_db": 89.75, "rx_gain_max_db": 76.0}
    data["usrp"] = {"type": "b200", "master_clock_rate_hz": 40e6, "tx_subdev": "A:A", "rx_subdev": "A:A"}
    return data


def write(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path


def changed(data: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """A dotted key set, or taken away where the value is None."""
    table = data
    *tables, last = key.split(".")
    for name in tables:
        table = table.setdefault(name, {})
    if value is None:
        table.pop(last)
    else:
        table[last] = value
    return data


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_passes_its_schema_and_names_are_unique(path: Path) -> None:
    device = load_device(path)
    assert load_device(path.stem).sha256 == device.sha256
    assert device.config.min_loop_attenuation_db > 0
    assert commands(device)
    assert isinstance(device.config, PlutoConfig if path.parent.name == "pluto" else UsrpConfig)


def test_the_script_makes_the_filters_that_are_there_bit_for_bit() -> None:
    assert [path.name for path in FILTERS] == sorted(design.name for design in DESIGNS)
    for design in DESIGNS:
        assert (FOLDER / "pluto" / design.name).read_bytes() == ftr_text(design).encode()
    assert SCRIPT["main"](["--check"]) == 0


def test_the_script_notices_a_filter_that_is_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SCRIPT["main"].__globals__["FOLDER"] = tmp_path
    try:
        assert SCRIPT["main"]([]) == 0
        changed_file = tmp_path / DESIGNS[0].name
        changed_file.write_text(changed_file.read_text().replace("INT 4", "INT 2"))
        assert SCRIPT["main"](["--check"]) == 1
    finally:
        SCRIPT["main"].__globals__["FOLDER"] = FOLDER / "pluto"
    assert capsys.readouterr().err == f"error: {DESIGNS[0].name}: not what this script makes; run it without --check\n"
    assert SCRIPT["main"](["--all"]) == 2


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
def test_a_filter_keeps_its_promise_by_another_transform(design: Design) -> None:
    """The response once more, by a DFT of the taps as the file has them."""
    ftr = read_ftr(FOLDER / "pluto" / design.name)
    assert ftr.tx_taps == ftr.rx_taps == ftr.rx_taps[::-1]
    assert sum(ftr.rx_taps) == 1 << 16
    size = 1 << 16
    gain = np.abs(np.fft.rfft(ftr.rx_taps, size)) / (1 << 16)
    frequency = np.arange(gain.size) / size * design.change  # in sample rates
    passed = 20 * np.log10(gain[frequency <= design.pass_edge])
    stopped = 20 * np.log10(np.maximum(gain[frequency >= design.stop_edge], 1e-9))
    assert np.ptp(passed) <= design.ripple_db
    assert -stopped.max() >= design.attenuation_db
    assert response(ftr.rx_taps, design.change, design.pass_edge) == pytest.approx(
        (np.ptp(passed), -stopped.max()), abs=0.02
    )


def test_a_filter_that_misses_its_promise_is_not_made() -> None:
    with pytest.raises(ValueError, match=r"hard\.ftr: ripple .* stop band .* dB \(at least 72\); use more taps"):
        design_taps(Design("hard.ftr", 4, 64, 0.42, ripple_db=0.01, attenuation_db=72, beta=7.9))
    with pytest.raises(ValueError, match="130 taps; must be a multiple of 16 up to 128"):
        design_taps(Design("odd.ftr", 4, 130, 0.42, ripple_db=1, attenuation_db=10, beta=7.9))


def test_the_gain_of_one_tap_is_flat_and_of_two_is_a_cosine() -> None:
    frequency = np.linspace(0, 0.4, 9)
    assert gain_db((5,), 4, frequency) == pytest.approx(np.zeros(9))
    assert gain_db((5, 5), 2, frequency) == pytest.approx(20 * np.log10(np.cos(np.pi * frequency / 2)))


@pytest.mark.parametrize(
    ("num_taps", "change", "low_hz", "high_hz"),
    [
        (128, 4, 25e6 / 48, 30.72e6),
        (64, 2, 25e6 / 24, 61.44e6),
        (128, 2, 25e6 / 24, 40e6),
        (96, 2, 25e6 / 24, 160e6 / 3),
        (64, 1, 25e6 / 12, 61.44e6),
    ],
)
def test_sample_rates_of_a_filter_are_those_that_pyadi_has_for_its_own(
    num_taps: int, change: int, low_hz: float, high_hz: float
) -> None:
    """pyadi-iio, as libad9361: 128 taps by 2 up to 40 Msps, 96 up to 53.33, 64 up to 61.44."""
    taps = (0,) * num_taps
    assert Ftr(taps, taps, change, change, 0, -6).sample_rate_hz == pytest.approx((low_hz, high_hz))


HEAD = "TX 3 GAIN 0 INT 4\nRX 3 GAIN -6 DEC 4\n"
TAPS = "100,100\n" * 128


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RX 3 GAIN -6 DEC 4\n" + TAPS, "no line like 'TX 3 GAIN 0 INT 4' before the taps"),
        ("TX 3 GAIN 0 INT 4\n" + TAPS, "no line like 'RX 3 GAIN -6 DEC 4' before the taps"),
        (HEAD + TAPS + "1,1\n", "129 taps; must be a multiple of 16 up to 128"),
        (HEAD, "0 taps; must be a multiple of 16 up to 128"),
        (HEAD + "100\n" * 17, "17 taps; must be a multiple of 16"),
        (HEAD.replace("DEC 4", "DEC 3") + TAPS, "changes the rate by 3; must be 1, 2 or 4"),
        (HEAD.replace("INT 4", "INT 1") + TAPS, "128 taps without a change of rate; at most 64"),
        (HEAD + TAPS.replace("100,100\n", "40000,1\n", 1), "tap 40000; must fit 16 bits"),
        (HEAD.replace("GAIN -6", "GAIN -7") + TAPS, "gains TX 0, RX -7 dB"),
        (HEAD.replace("TX 3", "TX 4") + TAPS, "channels TX 4, RX 3; must be 1, 2, or 3"),
        (HEAD + TAPS + "tail\n", "line 131: found 'tail'; must be a header, or taps TX,RX"),
        (HEAD + TAPS + "1.5,1\n", "line 131: found '1.5,1'"),
        (HEAD + "1" * 5000 + "\n", "line 3: found '1111111111111111111111111111111111111111'; must be a header, or"),
        ("#" * 100_001, "larger than 100000 bytes; not a .ftr file"),
        ("\u00e9" + HEAD, "not plain text"),
    ],
)
def test_a_filter_with_a_mistake_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "own.ftr"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_ftr(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_filter_of_the_makers_wizard_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wizard.ftr"
    clocks = (
        "RTX 983040000 245760000 122880000 61440000 30720000 7680000\nRRX 1 2 3 4 5 6\nBWTX 4236204\nBWRX 4379892\n"
    )
    path.write_text("# Generated\n" + HEAD + clocks + TAPS)
    assert read_ftr(path).num_taps == 128


MISTAKES: list[tuple[Callable[[], dict[str, Any]], str, object, str]] = [
    (pluto, "kind", None, "kind: missing; must be one of pluto, usrp"),
    (pluto, "kind", "hackrf", "kind: found 'hackrf'; must be one of pluto, usrp"),
    (pluto, "limits.carier_min_hz", 1.0, "limits.carier_min_hz: unknown key; did you mean 'carrier_min_hz'?"),
    (pluto, "extra", 1, "extra: unknown key"),
    (pluto, "power", None, "power: missing; it must be given"),
    (pluto, "limits.num_tx", "one", "limits.num_tx: found 'one'; must be a valid integer"),
    (pluto, "limits.carrier_max_hz", 7e9, "limits.carrier_max_hz: found 7000000000; must be 70000000..6000000000"),
    (pluto, "limits.tx_gain_max_db", 3.0, "limits.tx_gain_max_db: found 3; must be -89.75..0 for kind = 'pluto'"),
    (pluto, "limits.rx_bits", 14, "limits.rx_bits: found 14; must be 12..12"),
    (pluto, "limits.num_rx", 3, "limits.num_rx: found 3; must be 1..2"),
    (
        pluto,
        "limits.sample_rate_max_hz",
        80e6,
        "limits.sample_rate_max_hz: found 80000000; must be 520833.3333..61440000",
    ),
    (pluto, "limits.carrier_min_hz", 3.9e9, "carrier_min_hz: found 3900000000, not below carrier_max_hz = 3800000000"),
    (pluto, "limits.carrier_max_hz", 5e9, "beyond that uboot.compatible must be 'ad9364' or 'ad9361', found None"),
    (pluto, "limits.num_rx", 2, "two channels need uboot.mode = '2r2t'; found None"),
    (pluto, "firmware.minimum", "v0.31", "firmware.minimum: found v0.31; the driver needs v0.32"),
    (pluto, "firmware.minimum", "new", "firmware.minimum: found 'new'; must match pattern"),
    (pluto, "firmware.recommended", "v0.30", "recommended: found v0.30, older than minimum = v0.32"),
    (pluto, "uboot.mode", "2r2t", "mode: '2r2t' needs compatible = 'ad9361'; found None"),
    (pluto, "uboot.mode", "3r3t", "uboot.mode: found '3r3t'; must be '1r1t' or '2r2t'"),
    (pluto, "uboot.ipaddr", "$(reboot)", "uboot.ipaddr: found '$(reboot)'; must be an IPv4 address"),
    (pluto, "uboot.ipaddr", "999.1.1.1", "uboot.ipaddr: found '999.1.1.1'; must be an IPv4 address"),
    (pluto, "uboot.ipaddr_host", "10.0.0.1\nreboot", r"uboot.ipaddr_host: found '10.0.0.1\nreboot'; must be"),
    (pluto, "title", "mine\nrm -rf ~", r"title: found 'mine\nrm -rf ~'; must be printable characters on one line"),
    (usrp, "firmware.image", 'HG"; rm -rf ~; "', "firmware.image: found 'HG\"; rm -rf ~; \"'; must match pattern"),
    (usrp, "usrp.addr", "192.168.10.256", "usrp.addr: found '192.168.10.256'; must be an IPv4 address"),
    (usrp, "usrp.addr", "192.168.10.2:49153", "usrp.addr: found '192.168.10.2:49153'; must be a host's name or IP"),
    (pluto, "uboot.xo_correction", 40_100_000, "uboot.xo_correction: found 40100000; must be less than or equal to"),
    (pluto, "fir", "gone.ftr", "gone.ftr: no such file; give the path of a .ftr file"),
    (pluto, "usrp.type", "b200", "usrp: unknown key"),
    (pluto, "calibration.max_age_days", 0, "calibration.max_age_days: found 0; must be greater than 0"),
    (pluto, "extends", "gone", "extends: 'gone': no file gone.toml beside this one"),
    (pluto, "extends", 3, "extends: found 3; must be the name of a configuration"),
    (usrp, "usrp", None, "usrp: missing; it must be given"),
    (usrp, "usrp.type", "x300", "master_clock_rate_hz: found 40000000; a x300 has 1.8432e+08 or 2e+08"),
    (usrp, "usrp.master_clock_rate_hz", 70e6, "master_clock_rate_hz: found 70000000; a b200 has 5e+06..6.144e+07"),
    (usrp, "usrp.master_clock_rate_hz", 10e6, "sample_rate_max_hz: found 20000000, above usrp.master_clock_rate_hz"),
    (usrp, "usrp.clock_source", "gps", "usrp.clock_source: found 'gps'; must be 'internal', 'external' or 'gpsdo'"),
    (usrp, "usrp.rx_subdev", "A", "rx_subdev: found 'A'; must read like 'A:A' or 'A:A A:B'"),
    (usrp, "usrp.rx_subdev", "A:A A:B", "usrp.rx_subdev: found 'A:A A:B'; must name 1 channels, as limits do"),
    (usrp, "usrp.args.serial", "x", "args.serial: has a key of its own in this file"),
    (usrp, "usrp.args.fpga", "a;b", "args.fpga: found 'a;b'; a device argument is of letters"),
    (usrp, "host.mtu", 100, "host.mtu: found 100; must be greater than or equal to 1500"),
    (usrp, "limits.tx_gain_min_db", -10.0, "limits.tx_gain_min_db: found -10; must be 0..100 for kind = 'usrp'"),
]


@pytest.mark.parametrize(
    ("base", "key", "value", "words"), MISTAKES, ids=lambda value: getattr(value, "__name__", str(value))[:30]
)
def test_each_kind_of_mistake_is_one_line_with_its_key(
    tmp_path: Path, base: Callable[[], dict[str, Any]], key: str, value: object, words: str
) -> None:
    path = write(tmp_path / "mine.toml", base())
    load_device(path)
    write(path, changed(base(), key, value))
    with pytest.raises(ConfigError) as caught:
        load_device(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    done = runner.invoke(app, ["check", str(path)])
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line == "error: " + " ".join(str(caught.value).split())


def test_an_x300_needs_an_address_and_two_channels_of_a_b210_a_slower_clock(tmp_path: Path) -> None:
    x300 = changed(usrp(), "usrp.type", "x300")
    with pytest.raises(ConfigError, match=r"usrp\.addr: missing"):
        load_device(write(tmp_path / "x.toml", changed(x300, "usrp.master_clock_rate_hz", 200e6)))
    two = usrp()
    two["limits"] |= {"num_tx": 2, "num_rx": 2}
    two["usrp"] |= {"tx_subdev": "A:A A:B", "rx_subdev": "A:A A:B"}
    with pytest.raises(ConfigError, match="found 40000000; with two channels at most 30720000"):
        load_device(write(tmp_path / "b.toml", two))


def test_what_stands_nearer_wins_and_tables_are_merged(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", pluto())
    write(
        tmp_path / "middle.toml", {"extends": "base", "limits": {"rx_gain_max_db": 60.0}, "power": {"basis": "meter"}}
    )
    leaf = {"extends": "middle.toml", "title": "leaf", "limits": {"rx_gain_max_db": 50.0}}
    device = load_device(write(tmp_path / "leaf.toml", leaf))
    assert device.chain == ("leaf", "middle", "base")
    assert device.config.title == "leaf"
    assert device.config.limits.rx_gain_max_db == 50.0
    assert device.config.limits.carrier_min_hz == 325e6
    assert device.config.power.basis == "meter"
    assert device.config.power.tx_full_scale_dbm == 7.0


def test_a_file_elsewhere_extends_a_shipped_one_by_name(tmp_path: Path) -> None:
    device = load_device(write(tmp_path / "mine.toml", {"extends": "pluto-rev-c", "serial": "104473"}))
    assert device.chain == ("mine", "pluto-rev-c", "pluto")
    assert device.config.limits.num_rx == 2


def test_a_fault_in_a_chain_names_the_chain(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", pluto() | {"serial": "no good"})
    path = write(tmp_path / "leaf.toml", {"extends": "base"})
    with pytest.raises(ConfigError, match=r"leaf\.toml \(extends base\): serial: found 'no good'"):
        load_device(path)


def test_chains_end(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", {"extends": "b"})
    write(tmp_path / "b.toml", {"extends": "a"})
    with pytest.raises(ConfigError, match=r"a circle \(a\.toml -> b\.toml -> a\.toml\)"):
        load_device(tmp_path / "a.toml")
    for k in range(9):
        write(tmp_path / f"c{k}.toml", {"extends": f"c{k + 1}"})
    write(tmp_path / "c9.toml", pluto())
    with pytest.raises(ConfigError, match="a chain of more than 8 files"):
        load_device(tmp_path / "c0.toml")


def test_a_filter_stands_beside_the_file_that_names_it(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (below / "own.ftr").write_text(HEAD + TAPS)
    write(below / "base.toml", pluto() | {"fir": "own.ftr"})
    device = load_device(write(tmp_path / "mine.toml", {"extends": "below/base.toml"}))
    assert device.fir == str(below / "own.ftr")
    wide = pluto() | {"fir": "own.ftr", "extends": "base"}
    wide["limits"]["sample_rate_max_hz"] = 40e6
    with pytest.raises(
        ConfigError, match=r"the filter own\.ftr with 128 taps and DEC 4 goes with 520833.*\.\.30720000"
    ):
        load_device(write(below / "wide.toml", wide))


def test_the_hash_is_of_what_is_said_not_of_how_or_where(tmp_path: Path) -> None:
    first = load_device(write(tmp_path / "first.toml", pluto()))
    write(tmp_path / "base.toml", {k: v for k, v in pluto().items() if k != "power"})
    other = load_device(write(tmp_path / "other.toml", {"extends": "base", "power": pluto()["power"]}))
    assert first.sha256 == other.sha256
    data = pluto()
    data["power"]["tx_full_scale_dbm"] = 7.5
    assert load_device(write(tmp_path / "third.toml", data)).sha256 != first.sha256
    (tmp_path / "own.ftr").write_text(HEAD + TAPS)
    path = write(tmp_path / "filtered.toml", pluto() | {"fir": "own.ftr"})
    before = load_device(path).sha256
    (tmp_path / "own.ftr").write_text(HEAD + TAPS.replace("100,100\n", "101,100\n", 1))
    assert load_device(path).sha256 != before


def test_names_are_looked_for_in_own_folders_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "pluto.toml", pluto())
    monkeypatch.setenv(device_config.FOLDERS_VARIABLE, str(tmp_path))
    assert load_device("pluto").config.title == "mine"
    assert "b210" in device_names()
    with pytest.raises(ConfigError, match=r"device 'plato': no such configuration; there are pluto, .*b210.* give one"):
        load_device("plato")


def test_a_name_is_not_hijacked_by_a_file_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pluto", pluto())
    write(tmp_path / "another", pluto())
    assert load_device("pluto").path == FOLDER / "pluto" / "pluto.toml"
    assert load_device("another").config.title == "mine"
    assert load_device("./pluto").config.title == "mine"
    assert f"file {FOLDER / 'pluto' / 'pluto.toml'}\n" in runner.invoke(app, ["show", "pluto"]).stdout


@pytest.mark.parametrize("part", ["another", "gone"])
def test_a_folder_of_configurations_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    (tmp_path / "another").touch()
    monkeypatch.setenv(device_config.FOLDERS_VARIABLE, str(tmp_path / part))
    with pytest.raises(ConfigError, match=rf"^ISAC_DEVICES: '.*/{part}' is no folder; name folders") as caught:
        load_device("pluto")
    assert "\n" not in str(caught.value)


def test_only_regular_files_are_read_and_no_link_goes_round(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    os.mkfifo(tmp_path / "pipe.ftr")
    os.mkfifo(tmp_path / "pipe.calibration.toml")
    for name in ("loop.toml", "loop.ftr"):
        (tmp_path / name).symlink_to(tmp_path / name)
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "zero.ftr").symlink_to("/dev/zero")
    write(tmp_path / "mine.toml", {"extends": "pluto", "fir": "loop.ftr"})
    for name, words in (
        ("pipe.toml", "is no regular file"), ("pipe.ftr", "is no regular file"),
        ("pipe.calibration.toml", "is no regular file"), ("zero.toml", "is no regular file"),
        ("zero.ftr", "is no regular file"), ("loop.toml", "leads nowhere"), ("loop.ftr", "cannot be read"),
        ("mine.toml", "loop.ftr: leads nowhere"),
    ):  # fmt: skip
        done = runner.invoke(app, ["check", str(tmp_path / name)])
        assert done.exit_code == 1, name
        (line,) = done.stderr.splitlines()
        assert words in line
    with pytest.raises(ConfigError, match=r"loop\.toml: leads nowhere"):
        load_device(tmp_path / "loop.toml")


def test_lines_for_a_shell_have_no_words_of_their_own(tmp_path: Path) -> None:
    data = usrp()
    data["firmware"] |= {"image": "B210"}
    lines = commands(load_device(write(tmp_path / "two\nreboot.toml", data)))
    assert not [line for line in lines if "\n" in line or "None" in line or line.startswith("reboot")]
    assert lines[0] == "# two?reboot: mine"
    assert "# its image is B210; UHD gives one to a device on USB whenever it opens it" in lines
    shipped = commands(load_device("x310-ubx"))
    assert "uhd_image_loader --args type=x300,addr=192.168.40.2,fpga=XG" in shipped


def test_commands_are_printed_and_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    done = runner.invoke(app, ["commands", "pluto-rev-c-external"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    typed = [line for line in lines if line.startswith("fw_setenv")]
    assert typed == [
        "fw_setenv attr_name compatible", "fw_setenv attr_val ad9361", "fw_setenv compatible ad9361",
        "fw_setenv mode 2r2t", "fw_setenv refclk_source external",
    ]  # fmt: skip
    assert lines[lines.index(typed[-1]) + 1] == "reboot"
    host = runner.invoke(app, ["commands", "x310-ubx"]).stdout.splitlines()
    assert "sudo sysctl -w net.core.rmem_max=24862979" in host
    assert any("type=x300,addr=192.168.40.2,master_clock_rate=200000000,num_recv_frames=512" in line for line in host)
    module = ast.parse((ROOT / "testbed/radio/devices/commands.py").read_text())
    imported = {alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names}
    assert not imported & {"os", "subprocess", "socket"}


def test_what_is_shown_is_what_was_resolved() -> None:
    done = runner.invoke(app, ["show", "pluto-20msps"])
    assert done.exit_code == 0
    assert "extends pluto" in done.stdout
    assert "filter: 128 taps, 0.5208..30.7200 Msps" in done.stdout
    assert load_device("pluto-20msps").sha256 in done.stdout
    as_json = runner.invoke(app, ["show", "pluto-20msps", "--json"]).stdout
    assert '"extends": [\n  "pluto"\n ]' in as_json


def test_all_shipped_files_are_checked_by_one_command() -> None:
    done = runner.invoke(app, ["check"])
    assert done.stdout == f"{len(SHIPPED)} in order\n"
    done = runner.invoke(app, ["check", *map(str, FILTERS)])
    assert done.stdout == f"{len(FILTERS)} in order\n"


def test_a_node_takes_hardware_and_filter_from_its_device() -> None:
    node = node_device("bs1", "pluto-20msps", carrier_hz=2.45e9, sample_rate_hz=20e6, rx_gain_db=40.0)
    assert node.hardware.tx_full_scale_dbm == 15.0
    assert node.hardware.model_dump() == {**node.device.config.hardware()}
    assert Path(node.fir).name == "lowpass_4x.ftr"
    assert node.provenance() == {"name": "pluto-20msps", "sha256": node.device.sha256}
    own = node_device("bs1", "pluto-20msps", carrier_hz=2.45e9, sample_rate_hz=20e6, fir="keep")
    assert own.fir == "keep"


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        (
            "pluto",
            {"carrier_hz": 5.8e9},
            "bs1.device: carrier_hz: 5800000000 is outside 325000000..3800000000 of pluto;",
        ),
        ("pluto-20msps", {"sample_rate_hz": 40e6}, "sample_rate_hz: 40000000 is outside 521000..30720000"),
        ("pluto", {"rx_gain_db": 73.0}, "rx_gain_db: 73 is outside -3..71 of pluto"),
        ("pluto", {"channel": 1}, "channel 1: pluto has 1"),
        ("b200", {"radio": "pluto:usb:"}, "radio = 'pluto:usb:', and b200 is a usrp"),
        ("b200", {"sample_rate_hz": 15e6}, "15000000 is no whole part of usrp.master_clock_rate_hz = 40000000"),
    ],
)
def test_what_an_experiment_asks_must_be_within_its_devices(name: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        node_device("bs1", name, **{"carrier_hz": 2.45e9, "sample_rate_hz": 20e6, **asked})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_board_that_is_not_what_its_configuration_says_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.toml", {"extends": str(FOLDER / "pluto" / "pluto-rev-c.toml"), "serial": "104473"})
    node = node_device("bs1", str(path), carrier_hz=2.45e9, sample_rate_hz=20e6)
    limits = Limits(
        "pluto", False, 1, 1, 325e6, 3.8e9, 521e3, 61.44e6, -89.75, 0, 0.25, -3, 71, 1, 12, 2048, 15.0, 10.2, 1 << 20
    )
    with pytest.raises(RadioUnavailable) as caught:
        check_board(node.device, "bs1", limits, {"fw_version": "v0.31-4-g9ceb", "hw_serial": "999"}, 1)
    text = str(caught.value)
    assert text.startswith(
        "bs1: the board is not as mine says: firmware v0.31-4-g9ceb, needs v0.32; serial '999', needs"
    )
    for words in ("1 channels, needs 2", "carrier 325000000..3800000000, needs 70000000..6000000000"):
        assert words in text
    assert "\n" not in text
    with pytest.raises(RadioUnavailable, match=r"^bs1: is a usrp, and the device mine a pluto; name its own device$"):
        check_board(node.device, "bs1", limits, {"kind": "usrp"}, 2)
    wide = Limits(
        "pluto", False, 1, 1, 70e6, 6e9, 521e3, 61.44e6, -89.75, 0, 0.25, -3, 71, 1, 12, 2048, 15.0, 10.2, 1 << 20
    )
    check_board(node.device, "bs1", wide, {"fw_version": "v0.38", "hw_serial": "104473"}, 2)
