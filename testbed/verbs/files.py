"""Look at capture files."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.command import EXIT_FAILURE, fail
from testbed.verbs.options import JsonOption


def check(paths: Annotated[list[Path], typer.Argument(help="Capture files.")]) -> None:
    """Check that captures are whole: layout, loss record, hash of every chunk.

    Example: isac file check runs/demo/captures/*.h5
    """
    from testbed.capture import check as faults_of

    faults = [fault for path in paths for fault in faults_of(path)]
    if faults:
        fail("; ".join(faults), EXIT_FAILURE)
    print(f"{len(paths)} whole")


def info(path: Annotated[Path, typer.Argument(help="Capture file.")], as_json: JsonOption = False) -> None:
    """Say what a capture holds.

    Example: isac file info runs/demo/captures/004_all.h5
    """
    from testbed.capture import load

    loaded = load(path)
    described: dict[str, Any] = {
        "title": loaded.experiment.get("title"),
        "condition": loaded.condition,
        "simulated": loaded.simulated,
        **loaded.info,
        "transmitters": loaded.tx_names,
        "nodes": {
            node.name: {
                "num_samples": node.num_samples,
                "clipped": int(node.chunks["clip_count"].sum()),
                "lost": int(node.chunks["lost_before"].sum()),
                "attempts": node.attempts,
                "notices": node.notes(),
                "model": node.limits.model,
                **node.settings.to_dict(),
                "noise_var_mw": None if node.noise_var is None else node.noise_var.model_dump(),
            }
            for node in loaded.nodes
        },
    }
    if as_json:
        print(json.dumps(described, indent=1))
        return
    for key, value in described.items():
        if key != "nodes":
            print(f"{key}: {json.dumps(value) if isinstance(value, dict) else value}")
    for name, row in described["nodes"].items():
        notices = row.pop("notices")
        print(f"node {name}: " + ", ".join(f"{k} {v}" for k, v in row.items() if k != "noise_var_mw"))
        for notice in notices:
            print(f"  {notice}")
