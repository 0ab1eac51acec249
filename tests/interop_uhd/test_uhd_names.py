"""What the driver and the stand-in take for UHD's Python module is there: names, numbers, parameters."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.interop_uhd.simulated_usrp import REPOSITORY, need_uhd

pytestmark = pytest.mark.interop_uhd

STAND_IN = REPOSITORY / "tests" / "uhd_stand_in"
DRIVER = sorted((REPOSITORY / "testbed" / "radio" / "usrp").glob("*.py"))
LATER = {"uhd.get_version_string"}  # than 4.3; the driver asks whether it is there
STREAMERS = ("uhd.usrp.RXStreamer", "uhd.usrp.TXStreamer")
METADATA = ("uhd.types.RXMetadata", "uhd.types.TXMetadata", "uhd.types.TXAsyncMetadata")


@functools.cache
def described(path: Path | None) -> dict[str, Any]:
    """UHD, or what stands for it in a folder."""
    need_uhd()
    folders = [str(path)] * (path is not None) + [str(REPOSITORY)]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("describe_uhd.py"))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def offered(path: Path | None) -> dict[str, Any]:
    """Classes and functions by name."""
    api: dict[str, Any] = described(path)["api"]
    return api


def used(*patterns: str) -> set[str]:
    """What the driver's sources have in places; `{direction}` is rx and tx."""
    text = "\n".join(path.read_text() for path in DRIVER)
    found = {name for pattern in patterns for name in re.findall(pattern, text)}
    return {name.replace("{direction}", side) for name in found for side in ("rx", "tx")}


def fits(ours: list[list[Any]], theirs: list[list[list[Any]]]) -> bool:
    """Whether every call that fits our parameters fits one of their overloads; unnamed parameters have any name."""
    for overload in theirs:
        named = all(b[0] in ("", a[0]) or a[0] == "value" for a, b in zip(ours, overload, strict=False))
        optional = all(b[1] or not a[1] for a, b in zip(ours, overload, strict=False))
        if len(ours) <= len(overload) and named and optional and all(b[1] for b in overload[len(ours) :]):
            return True
    return False


def test_the_driver_was_looked_through() -> None:
    assert {"get_time_now", "set_rx_gain", "get_rx_antennas", "get_tx_antennas"} <= used(
        r"\busrp\.(\w+)\(", r"_usrp\.(\w+)\(", r'getattr\(\w*usrp, f"([\w{}]+)"\)'
    )


def test_every_call_of_the_driver_on_a_device_is_there() -> None:
    calls = used(r"\busrp\.(\w+)\(", r"_usrp\.(\w+)\(", r'getattr\(\w*usrp, f"([\w{}]+)"\)')
    there = set(offered(None)["uhd.usrp.MultiUSRP"]["names"]) | {"MultiUSRP", "SubdevSpec", "StreamArgs"}
    assert calls - there == set()


@pytest.mark.parametrize("part", ["types", "usrp"])
def test_every_class_the_driver_names_is_there(part: str) -> None:
    names = used(rf"uhd\.{part}\.(\w+)")
    assert names
    assert {f"uhd.{part}.{name}" for name in names} - offered(None).keys() == set()


@pytest.mark.parametrize(
    ("variable", "classes"), [("streamer", STREAMERS), ("metadata", METADATA), ("message", METADATA)]
)
def test_every_attribute_the_driver_uses_is_there(variable: str, classes: tuple[str, ...]) -> None:
    names = used(rf"\b_?{variable}\.(\w+)")
    assert names
    assert names - {name for found in classes for name in offered(None)[found]["names"]} == set()


def test_the_stand_in_has_no_name_that_uhd_has_not() -> None:
    ours, theirs = offered(STAND_IN), offered(None)
    assert len(ours) > 10
    assert ours.keys() - theirs.keys() <= LATER
    foreign = {
        f"{path}.{name}"
        for path in ours.keys() & theirs.keys()
        for name in set(ours[path].get("names", ())) - set(theirs[path].get("names", ()))
        if ours[path].get("members") is None  # Python's enumerations have attributes of their own
    }
    assert foreign == set()


def test_enumerations_have_the_same_members_with_the_same_numbers() -> None:
    ours, theirs = offered(STAND_IN), offered(None)
    enumerations = {path for path in ours.keys() & theirs.keys() if ours[path].get("members")}
    assert {"uhd.types.RXMetadataErrorCode", "uhd.types.TXMetadataEventCode", "uhd.types.StreamMode"} <= enumerations
    for path in enumerations:
        assert ours[path]["members"] == theirs[path]["members"], path


def test_whatever_can_be_called_on_the_stand_in_can_be_called_so_on_uhd() -> None:
    ours, theirs = offered(STAND_IN), offered(None)
    wrong, count = [], 0
    for path in sorted(ours.keys() & theirs.keys()):
        for name, overloads in ours[path].get("methods", {}).items():
            others = theirs[path].get("methods", {}).get(name)
            if not others:
                continue  # an attribute there, or a text without parameters
            count += 1
            wrong += [f"{path}.{name}{one}: {others}" for one in overloads if not fits(one, others)]
    assert count > 30
    assert wrong == []


def test_the_stand_in_reckons_with_device_times_as_uhd_does() -> None:
    assert len(described(None)["time"]) == 25
    assert described(STAND_IN)["time"] == described(None)["time"]
