"""TOML files: only what is a file of a sensible size is read, and anything else is one line."""

import os
from pathlib import Path

import pytest

from testbed.config import MAX_CONFIG_BYTES, read_regular, read_toml
from testbed.errors import ConfigError


def test_what_never_ends_or_waits_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name in ("pipe.toml", "zero.toml"):
        with pytest.raises(ConfigError, match=rf"{name}: is no regular file; copy what it holds to one"):
            read_toml(tmp_path / name)


def test_no_more_than_the_limit_and_a_byte_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text("#" * MAX_CONFIG_BYTES)
    assert read_toml(path) == {}
    path.write_text("#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match=r"long\.toml: more than 1000000 bytes; is this a TOML file\?"):
        read_toml(path)
    with path.open("ab") as file:
        file.truncate(1 << 40)  # sparse: takes no room, and would not fit into memory
    assert len(read_regular(path, MAX_CONFIG_BYTES)) == MAX_CONFIG_BYTES + 1


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_lines_end_as_they_do_on_any_system(tmp_path: Path, ends: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(f'a = 1{ends}b = """x{ends}y"""{ends}'.encode())
    assert read_toml(path) == {"a": 1, "b": "x\ny"}


def test_a_link_to_itself_and_a_folder_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    with pytest.raises(ConfigError, match=r"loop\.toml: cannot be read") as caught:
        read_toml(tmp_path / "loop.toml")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="is a directory; give the path of a TOML file"):
        read_toml(tmp_path)
