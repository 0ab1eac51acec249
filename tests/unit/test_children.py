"""Child processes that do not behave: they are stopped in time, and their last words are heard."""

import os
import time
from pathlib import Path

import pytest

from testbed.errors import ConfigError, IsacError, RadioError, RadioUnavailable, SettingOutOfRange
from testbed.experiment import children


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str) -> None:
    """Have a shell script run in place of the emulator."""
    script = folder / "child"
    script.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    script.chmod(0o755)
    monkeypatch.setattr(children.sys, "executable", str(script))
    monkeypatch.setattr(children, "STOP_TIMEOUT_S", 0.3)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_child_that_neither_writes_nor_ends_is_killed_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid", "exec sleep 20")
    monkeypatch.setattr(children, "START_TIMEOUT_S", 0.5)

    began = time.monotonic()
    with (
        pytest.raises(RadioUnavailable, match=r"no sign of life within 0\.5 s"),
        children.emulator("comp", None, tmp_path / "log"),
    ):
        pass

    assert time.monotonic() - began < 10  # not the 20 s the child would take
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_does_not_end_with_its_input_is_killed_after_the_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_in(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid", "echo listening on tcp://127.0.0.1:1", "exec sleep 20")

    began = time.monotonic()
    with children.emulator("comp", None, tmp_path / "log") as endpoint:
        assert endpoint == "tcp://127.0.0.1:1"

    assert time.monotonic() - began < 10
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("kind", [RadioError, RadioUnavailable, SettingOutOfRange])
def test_a_radio_error_after_the_emulators_end_brings_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[RadioError]
) -> None:
    stand_in(
        monkeypatch,
        tmp_path,
        "echo listening on tcp://127.0.0.1:1",
        "echo first >&2",
        "echo 'error: the sky fell' >&2",
        "exit 1",
    )
    original = kind("bs1: gone")

    with pytest.raises(RadioError) as caught, children.emulator("comp", None, tmp_path / "log"):
        raise original

    assert type(caught.value) is kind
    assert str(caught.value) == "bs1: gone; the emulator's last words: the sky fell"
    assert caught.value.__cause__ is original


def test_a_radio_error_while_the_emulator_runs_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, tmp_path, "echo listening on tcp://127.0.0.1:1", "echo a warning >&2", "exec cat >/dev/null")
    original = RadioError("bs1: no")

    with pytest.raises(RadioError) as caught, children.emulator("comp", None, tmp_path / "log"):
        raise original

    assert caught.value is original


def test_an_emulator_that_ended_without_a_word_adds_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, tmp_path, "echo listening on tcp://127.0.0.1:1")
    original = RadioUnavailable("bs1: gone")

    with pytest.raises(RadioUnavailable) as caught, children.emulator("comp", None, tmp_path / "log"):
        raise original

    assert caught.value is original


def test_other_errors_pass_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch, tmp_path, "echo listening on tcp://127.0.0.1:1", "echo words >&2")

    for failure in (ConfigError("comp.toml: no"), ValueError("no"), KeyboardInterrupt()):
        with (
            pytest.raises((IsacError, ValueError, KeyboardInterrupt)) as caught,
            children.emulator("comp", None, tmp_path / "log"),
        ):
            raise failure
        assert caught.value is failure


def test_a_scene_that_cannot_be_used_is_the_childs_own_line(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"^scene 'nowhere': no such file or packaged scene"),
        children.emulator("nowhere", None, tmp_path / "log"),
    ):
        pass


def test_what_a_child_shall_do_otherwise_than_the_scene_says_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    stand_in(
        monkeypatch, tmp_path, f'echo "$@" >> {said}', "echo listening on tcp://127.0.0.1:1", "exec cat > /dev/null"
    )

    with children.emulator("comp", 7, tmp_path / "log", self_isolation_db=52.5):
        pass
    with children.emulator("comp", None, tmp_path / "log"):
        pass
    options = {"self_isolation_db": 52.5, "paths_only": True}
    with children.truth("comp", tmp_path / "a.toml", {}, tmp_path / "t.json", tmp_path / "log", **options) as written:
        written()

    emulator, plain, truth = said.read_text().splitlines()
    assert emulator.endswith("--seed 7 --self-isolation-db 52.5")
    assert plain.endswith("--until-stdin-closes")
    assert truth.endswith("--self-isolation-db 52.5 --paths-only")
