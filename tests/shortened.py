"""Shared by tests: presets cut down to what a test has time for, and what a run of them found."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from testbed.experiment.load import preset_text


def shortened(path: Path, preset: str, short: Mapping[str, Mapping[str, Any]], *gone: str, **changes: Any) -> Path:
    """Write a preset with other values in some tables, and without others; keywords replace keys, TABLE__KEY."""
    data = tomllib.loads(preset_text(preset))
    for table, values in short.items():
        data[table].update(values)
    for name, value in changes.items():
        table, key = name.split("__")
        data[table][key] = value
    for table in gone:
        del data[table]
    path.write_text(tomli_w.dumps(data), encoding="utf-8")
    return path


def results_of(run: Path) -> dict[str, Any]:
    """What a run found."""
    found: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return found
