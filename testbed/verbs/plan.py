"""Before anything is transmitted: write a preset to edit, check an experiment."""

import json
from pathlib import Path
from typing import Annotated

import typer

from testbed.command import EXIT_FAILURE, fail
from testbed.errors import ConfigError
from testbed.verbs.options import ExperimentArgument, JsonOption


def init(
    preset: Annotated[str, typer.Argument(help="Preset to start from.")] = "comp",
    out: Annotated[Path | None, typer.Option(help="File to write; PRESET.toml if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a preset experiment to edit.

    Example: isac init comp --out mine.toml
    """
    from testbed.experiment.load import preset_text

    text, path = preset_text(preset), out or Path(f"{preset}.toml")
    if path.exists() and not force:
        raise ConfigError(f"{path}: exists; pass --force to replace it, or --out for another name")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written ({exc.strerror})") from exc
    print(f"wrote {path}; next: isac check {path}")


def check(experiment: ExperimentArgument, as_json: JsonOption = False) -> None:
    """Check an experiment and print its link budget; nothing is transmitted.

    Example: isac check comp
    """
    from testbed.experiment.devices import node_devices
    from testbed.experiment.load import load_experiment
    from testbed.experiment.procedure import procedure

    model = load_experiment(experiment)
    work, devices = procedure(model), node_devices(model)
    budget = work.budget(model)
    if as_json:
        told = {name: known.provenance() for name, known in devices.items()}
        print(json.dumps(budget.to_dict() | ({"devices": told} if told else {}), indent=1))
    else:
        print(f"{model.title}\n")
        work.print_budget(budget, model)
        for name, known in devices.items():
            made = known.calibration
            print(
                f"{name}: {known.device.name}, {known.device.config.title}; "
                + ("not calibrated" if made is None else f"calibrated {made.made:%Y-%m-%d %H:%M} UTC")
            )
    if budget.faults:
        fail("; ".join(budget.faults), EXIT_FAILURE)
