"""`isac radios` and `isac doctor`: what is reachable, what is missing, and never a traceback."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.errors import RadioUnavailable
from testbed.experiment import doctor
from testbed.radio import discovery
from testbed.radio.pluto import libiio
from tests.airs import Air, need_libiio, pluto_process, settings_of
from tests.emulator import emulator_process, environment

pytestmark = pytest.mark.emulated


@pytest.fixture(scope="module")
def air() -> Iterator[Air]:
    need_libiio()
    with pluto_process("comp", "--board", "bs1,u1") as made:
        yield made


def isac(*arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(**extra), check=False)


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_boards_and_servers_are_listed_as_an_experiment_names_them(air: Air) -> None:
    before = settings_of(air.uris["bs1"])
    with emulator_process() as (_, endpoint):
        done = isac("radios", air.uris["bs1"], f"pluto:{air.uris['bs2']}", endpoint, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["radio"]: row for row in json.loads(done.stdout)["radios"]}
    board = rows[f"pluto:{air.uris['bs1']}"]
    assert (board["num_channels"], board["simulated"], board["firmware"]) == (2, True, "v0.38")
    assert rows[f"pluto:{air.uris['bs2']}"]["num_channels"] == 1
    assert rows[endpoint]["nodes"] == ["bs1", "bs2", "bs3"]
    assert rows[endpoint]["simulated"]
    assert settings_of(air.uris["bs1"]) == before  # it looks, and sets nothing


def test_people_read_one_line_per_radio(air: Air) -> None:
    done = isac("radios", air.uris["bs1"])
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if line.startswith(f"pluto:{air.uris['bs1']}: "))
    for word in ("PlutoSDR", "v0.38", "2 channels", "simulated"):
        assert word in line
    assert done.stderr == ""


def test_an_address_without_a_radio_says_why_and_fails(air: Air) -> None:
    port = free_port()
    done = isac("radios", f"ip:127.0.0.1:{port}", f"tcp://127.0.0.1:{port}", air.uris["bs1"])
    assert done.returncode == 1
    assert f"pluto:ip:127.0.0.1:{port}: the machine is there, but no iiod runs on it" in done.stdout
    assert f"tcp://127.0.0.1:{port}: no answer within" in done.stdout
    assert air.uris["bs1"] in done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert (
        isac("radios", "http://x").stderr
        == "error: 'http://x': must be a host, ip:HOST:PORT, usb:, uhd:ARGUMENTS or tcp://HOST:PORT\n"
    )


def test_without_libiio_servers_are_still_listed_and_the_recipe_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise RadioUnavailable("Pluto: the C library libiio is missing; install it")

    monkeypatch.setattr(libiio, "load", missing)
    with emulator_process() as (_, endpoint):
        found, hint = discovery.find_radios([endpoint])
    assert [row.radio for row in found] == [endpoint]
    assert "libiio is missing" in hint


def test_the_doctor_looks_at_everything_and_changes_nothing() -> None:
    done = isac("doctor", "--json")
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert list(checks) == ["Python", "numba", "cache", "libiio", "pylibiio", "pyadi-iio", "udev rule", "UHD",
                            "GNU Radio", "browser"]  # fmt: skip
    assert checks["Python"]["status"] == "ok"
    assert all(check["status"] in ("ok", "missing", "wrong") for check in checks.values())
    assert all(check["remedy"] for check in checks.values() if check["status"] != "ok")
    plain = isac("doctor")
    assert plain.returncode == 0
    assert len(plain.stdout.splitlines()) == len(checks)


def test_the_doctor_tells_what_is_missing_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name, **options: None)
    monkeypatch.setattr(doctor, "RULE_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr("importlib.metadata.version", _installed({"pylibiio": "1.0"}))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    checks = {check.name: check for check in doctor.examine()}
    assert "apt-get install libiio0" in checks["libiio"].remedy
    assert (checks["pylibiio"].status, checks["pyadi-iio"].status) == ("wrong", "missing")
    assert "pip install pylibiio==0.25" in checks["pylibiio"].remedy
    assert "53-adi-plutosdr-usb.rules" in checks["udev rule"].remedy
    assert "apt-get install gnuradio" in checks["GNU Radio"].remedy
    (tmp_path / "50-mine.rules").write_text(doctor.RULE)
    assert {check.name: check for check in doctor.examine()}["udev rule"].status == "ok"


def test_a_rule_that_nobody_may_read_or_that_leads_nowhere_does_not_stop_the_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "RULE_FOLDERS", (str(tmp_path),))
    (tmp_path / "10-gone.rules").symlink_to(tmp_path / "nowhere")
    (tmp_path / "50-mine.rules").write_text(doctor.RULE)
    assert doctor._udev().status == "ok"


def test_the_doctor_sees_a_numba_that_does_not_compile() -> None:
    found = json.loads(isac("doctor", "--json", NUMBA_DISABLE_JIT="1").stdout)
    assert next(check for check in found if check["name"] == "numba")["status"] == "wrong"


def _installed(versions: dict[str, str]) -> object:
    import importlib.metadata

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    return version
