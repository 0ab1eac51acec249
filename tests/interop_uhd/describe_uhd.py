"""Prints as JSON what the importable module `uhd` offers: names, members of enumerations with numbers, parameters.

A program, for UHD's own module and for the stand-in alike: both bear one name, so each has a process to itself.
"""

import inspect
import itertools
import json
import re
from typing import Any

import uhd

PARTS = {"uhd": uhd, "uhd.types": uhd.types, "uhd.usrp": uhd.usrp}
SIGNATURE = re.compile(r"^(?:\d+\. )?\w+\((.*)\) -> .*$", re.MULTILINE)  # in the texts that pybind11 makes
UNNAMED = re.compile(r"arg\d+$")
# classes whose objects have more than the class shows
SAMPLES = {
    "uhd.types.DeviceAddr": lambda: uhd.types.DeviceAddr("type=b200"),
    "uhd.types.RXMetadata": lambda: uhd.types.RXMetadata(),
    "uhd.types.TXMetadata": lambda: uhd.types.TXMetadata(),
    "uhd.types.TXAsyncMetadata": lambda: uhd.types.TXAsyncMetadata(),
    "uhd.types.TuneRequest": lambda: uhd.types.TuneRequest(1e9),
    "uhd.types.TuneResult": lambda: uhd.types.TuneResult(),
    "uhd.types.StreamCMD": lambda: uhd.types.StreamCMD(uhd.types.StreamMode.num_done),
    "uhd.types.TimeSpec": lambda: uhd.types.TimeSpec(1.0),
    "uhd.types.SensorValue": lambda: uhd.types.SensorValue("LO", True, "locked", "unlocked"),
    "uhd.usrp.StreamArgs": lambda: uhd.usrp.StreamArgs("sc16", "sc16"),
    "uhd.usrp.SubdevSpec": lambda: uhd.usrp.SubdevSpec("A:A"),
}


def signatures(function: Any) -> list[list[tuple[str, bool]]]:
    """Parameters of every overload, without self: name ('' where it has none), and whether it may be left out."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        found = []
        for text in SIGNATURE.findall(function.__doc__ or ""):
            names = [part.split(":")[0].strip() for part in re.split(r", (?=\w+: )", text) if part]
            optional = [" = " in part for part in re.split(r", (?=\w+: )", text) if part]
            pairs = [("" if UNNAMED.match(name) else name, given) for name, given in zip(names, optional, strict=True)]
            found.append([pair for pair in pairs if pair[0] != "self"])
        return found
    return [[(one.name, one.default is not one.empty) for one in parameters if one.name != "self"]]


def members(found: type) -> dict[str, int] | None:
    """Of an enumeration."""
    if not hasattr(found, "__members__"):
        return None
    return {name: int(getattr(one, "value", one)) for name, one in found.__members__.items()}


def described(path: str, found: Any) -> dict[str, Any]:
    """A class or a function."""
    if not isinstance(found, type):
        return {"signatures": signatures(found)}
    names = dir(SAMPLES[path]()) if path in SAMPLES else dir(found)
    public = {name: getattr(found, name, None) for name in names if not name.startswith("_")}
    return {
        "members": members(found),
        "names": sorted(public),
        "methods": {name: signatures(one) for name, one in public.items() if callable(one)},
    }


def time_arithmetic() -> list[tuple[float | int, ...]]:
    """Device times of some ticks at some rates, there and back, and sums of them."""
    found = []
    for rate_hz, tick in itertools.product(
        (1e6, 20e6, 30.72e6, 61.44e6, 200e6 / 3), (0, 1, 999, 10**6 + 1, 10**15 + 7)
    ):
        at = uhd.types.TimeSpec.from_ticks(tick, rate_hz)
        later = at + uhd.types.TimeSpec(1.75) - uhd.types.TimeSpec(3, 0.5)
        found.append((at.to_ticks(rate_hz), at.get_full_secs(), at.get_frac_secs(), at.get_real_secs(),
                      later.get_full_secs(), later.get_frac_secs(), later.to_ticks(rate_hz)))  # fmt: skip
    return found


def main() -> None:
    """Describe all parts."""
    api: dict[str, Any] = {
        f"{part}.{name}": described(f"{part}.{name}", found)
        for part, module in PARTS.items()
        for name, found in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(found)
        and str(getattr(found, "__module__", "") or "uhd").split(".")[0] == "uhd"
        and callable(found)
    }
    print(json.dumps({"api": api, "time": time_arithmetic()}))


if __name__ == "__main__":
    main()
