"""Device configurations: check them, show what one says, print what must be set. Nothing is ever set."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.command import EXIT_FAILURE, fail, new_app
from testbed.errors import ConfigError
from testbed.verbs.options import JsonOption

if TYPE_CHECKING:
    from testbed.radio.devices.config import Device

NameArgument = Annotated[str, typer.Argument(help="Name of a configuration, or path of its file.", metavar="NAME")]

app = new_app("device", "What must be true of a board before it is used: check it, show it, print how to get there.")


@app.command()
def check(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, .toml, .calibration.toml or .ftr files; all named ones if not given.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Check device configurations, calibrations and filters; every fault is one line.

    Example: isac device check firmware_configs/pluto/pluto-rev-c.toml
    """
    from testbed.radio.devices.calibration import load_calibration
    from testbed.radio.devices.config import CALIBRATION_SUFFIX, device_names, load_device
    from testbed.radio.devices.fir import read_ftr

    faults, names = [], files or list(device_names())
    if not names:
        raise ConfigError("device check: no configuration found; give files")
    for name in names:
        try:
            if name.endswith(".ftr"):
                read_ftr(Path(name))
            elif name.endswith(CALIBRATION_SUFFIX):
                load_calibration(Path(name))
            else:
                load_device(name)
        except ConfigError as exc:
            faults.append(str(exc))
    if faults:
        fail("; ".join(faults), EXIT_FAILURE)
    print(f"{len(names)} in order")


@app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show what a configuration says, all that it extends included, and the calibration beside it.

    Example: isac device show pluto-rev-c
    """
    from testbed.radio.devices.config import load_device

    device = load_device(name)
    if as_json:
        told = {
            "name": device.name,
            "file": str(device.path),
            "extends": list(device.chain[1:]),
            "sha256": device.sha256,
        }
        print(json.dumps(told | {"device": device.resolved(), "calibration": _calibration(device)}, indent=1))
        return
    print(f"{device.name}: {device.config.title}")
    print(f"file {device.path}")
    if len(device.chain) > 1:
        print(f"extends {', '.join(device.chain[1:])}")
    print(f"sha256 {device.sha256}")
    for table, content in device.resolved().items():
        if isinstance(content, dict):
            print(f"[{table}]")
            for key, value in content.items():
                if value is not None and value != {}:
                    print(f"  {key} = {json.dumps(value)}")
        elif content is not None and table not in ("title",):
            print(f"{table} = {json.dumps(content)}")
    if device.ftr is not None:
        low_hz, high_hz = device.ftr.sample_rate_hz
        print(f"filter: {device.ftr.num_taps} taps, {low_hz / 1e6:.4f}..{high_hz / 1e6:.4f} Msps")
    calibration = _calibration(device)
    print("calibration: " + ("none" if calibration is None else f"of {calibration['date']}"))


@app.command()
def commands(name: NameArgument) -> None:
    """Print the commands that make a board and its host what a configuration says. None of them is run.

    Example: isac device commands pluto-rev-c
    """
    from testbed.radio.devices.commands import commands as lines_of
    from testbed.radio.devices.config import load_device

    for line in lines_of(load_device(name)):
        print(line)


def _calibration(device: "Device") -> dict[str, object] | None:
    """What stands beside a configuration, or nothing."""
    from testbed.radio.devices.calibration import load_calibration

    if not device.calibration_path.is_file():
        return None
    found: dict[str, object] = load_calibration(device.calibration_path).model_dump(mode="json")
    return found
