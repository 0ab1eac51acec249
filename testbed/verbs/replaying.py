"""Stored samples through the acquisition once more."""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.command import EXIT_FAILURE, fail
from testbed.errors import ConfigError
from testbed.verbs.options import JsonOption

if TYPE_CHECKING:
    from testbed.capture import Capture


def replay(
    captures: Annotated[
        list[str],
        typer.Argument(
            help="Capture files; after them, if it is not the one that they hold, an experiment file or preset.",
            metavar="CAPTURE... [EXPERIMENT]",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Play captures as radios, acquire from these as ever, detect again, and compare both bit by bit.

    The replayed radios take only the frames that they were captured with: an experiment that is given must send them.
    Exits with 1 where anything differs.

    Example: isac replay captures/004_all.h5 captures/004_without_t1.h5
    """
    from testbed.experiment.load import load_experiment
    from testbed.experiment.replay import replay_capture

    paths, name = _split(captures)
    if not paths:
        raise ConfigError("CAPTURE: missing; give a capture file before the experiment")
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path}: is a directory; give its capture files, e.g. {_captures(path)}/*.h5")
    experiment = None if name is None else load_experiment(name)
    rows: list[dict[str, Any]] = []
    for path in paths:
        with tempfile.TemporaryDirectory(prefix="isac-") as folder:
            before, again = replay_capture(path, Path(folder) / path.name, experiment)
            rows.append(_compared(path, before, again))
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _print(rows)
    if different := [row["capture"] for row in rows if not row["identical"]]:
        fail(f"{', '.join(different)}: the replay differs from what is stored", EXIT_FAILURE)


def _split(names: list[str]) -> tuple[list[Path], str | None]:
    from testbed.experiment.load import presets

    last = names[-1]
    if last.endswith(".toml") or (last in presets() and not Path(last).exists()):
        return [Path(name) for name in names[:-1]], last
    return [Path(name) for name in names], None


def _captures(folder: Path) -> Path:
    """Where the captures are, of a run or of a folder with captures."""
    return folder / "captures" if (folder / "captures").is_dir() else folder


def _compared(path: Path, before: "Capture", again: "Capture") -> dict[str, Any]:
    import numpy as np

    from testbed.verbs.stages import detections

    same = {
        node.name: node.raw.shape == again.node(node.name).raw.shape
        and bool(np.array_equal(node.raw, again.node(node.name).raw))
        for node in before.nodes
    }
    found = []
    if before.frame is not None and "detection" in before.experiment:
        after = {(one.cell, one.node): one for one in detections(again)}
        for one in detections(before):
            other = after.get((one.cell, one.node))
            identical = (
                other is not None
                and _same_bits(one.cfar, other.cfar)
                and _same_bits(one.known_noise, other.known_noise)
            )
            row = {"cell": one.cell, "node": one.node, "num_frames": one.num_frames, "identical": identical}
            found.append(row)
            for warning in one.warnings:
                print(f"warning: {warning}", file=sys.stderr)
    return {
        "capture": str(path),
        "condition": before.condition,
        "num_samples": {node.name: node.num_samples for node in before.nodes},
        "same_samples": same,
        "detections": found,
        "identical": all(same.values()) and all(row["identical"] for row in found),
    }


def _same_bits(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return bool(one.shape == other.shape and one.tobytes() == other.tobytes())


def _print(rows: list[dict[str, Any]]) -> None:
    words = {True: "identical", False: "DIFFERENT"}
    print("capture                condition      node      samples  replayed   cell   frames  detected again")
    for row in rows:
        by_node = {found["node"]: found for found in row["detections"]}
        for name, count in row["num_samples"].items():
            found = by_node.get(name)
            cell = "-" if found is None else f"{found['cell']:5} {found['num_frames']:7d}  {words[found['identical']]}"
            print(
                f"{Path(row['capture']).name:22} {row['condition']:13}  {name:6} {count:10d}  "
                f"{words[row['same_samples'][name]]}  {cell}"
            )
