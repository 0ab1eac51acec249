"""Experiment files: found by path or name, read, and tied to what they name beside them."""

import importlib
from importlib import resources
from pathlib import Path
from typing import Any

from testbed.config import read_toml, validate
from testbed.errors import ConfigError
from testbed.experiment.config import Experiment
from testbed.experiment.devices import with_devices
from testbed.experiment.tables import Row
from testbed.radio.resources import REPLAY

KINDS = {  # of experiments, and the models of their files
    "comp": "testbed.experiment.comp.config:CompExperiment",
    "localization": "testbed.experiment.localization.config:LocalizationExperiment",
    "uplink": "testbed.experiment.uplink.config:UplinkExperiment",
    "cooperative": "testbed.experiment.cooperative.config:CooperativeExperiment",
}


def presets() -> list[str]:
    """Names of the packaged experiments."""
    folder = resources.files("testbed.experiment") / "presets"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """Text of a packaged experiment, with its comments."""
    if name not in presets():
        raise ConfigError(f"preset '{name}': unknown; presets are {', '.join(presets())}")
    return (resources.files("testbed.experiment") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


def experiment_path(name_or_path: str) -> Path:
    """Path of an experiment: an existing or .toml path, else a preset's name."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        return path
    if name_or_path not in presets():
        raise ConfigError(
            f"experiment '{name_or_path}': no such file or preset; presets are {', '.join(presets())}; "
            f"'isac init' writes one to edit"
        )
    return Path(str(resources.files("testbed.experiment") / "presets" / f"{name_or_path}.toml"))


def validate_experiment(data: dict[str, Any], origin: str) -> Experiment:
    """An experiment of the kind that the data name; `origin` names them in errors.

    Raises:
        ConfigError: one line per fault with the dotted key.
    """
    kind = data.get("kind", "comp")
    if kind not in KINDS:
        raise ConfigError(f"{origin}: kind: found {kind!r}; must be one of {', '.join(KINDS)}")
    module, name = KINDS[kind].split(":")
    model: type[Experiment] = getattr(importlib.import_module(module), name)
    return validate(data, model, origin)


def load_experiment(name_or_path: str) -> Experiment:
    """Read an experiment; scenes, folders of keys, filters, devices and captures given as paths are relative to it.

    What a device says of a radio is checked against the experiment, and takes the place of what it leaves open.

    Raises:
        ConfigError: one line per fault with the dotted key.
    """
    path = experiment_path(name_or_path)
    experiment = validate_experiment(read_toml(path), str(path))
    if experiment.emulator is not None and experiment.emulator.scene.endswith(".toml"):
        scene = Path(experiment.emulator.scene)
        scene = scene if scene.is_absolute() else path.parent / scene
        if not scene.is_file():
            raise ConfigError(f"{path}: emulator.scene: {scene}: no such file; give a path or the name of a scene")
        emulator = experiment.emulator.model_copy(update={"scene": str(scene.resolve())})
        experiment = experiment.model_copy(update={"emulator": emulator})
    # whether a folder of keys is there is seen when its radio is opened; who only reads captures needs none
    nodes, users = (
        tuple(_with_paths(row, path.parent) for row in rows) for rows in (experiment.nodes, experiment.users)
    )
    experiment = experiment.model_copy(update={"nodes": nodes, "users": users})
    if all(row.device is None for row in experiment.receivers):
        return experiment
    try:
        return with_devices(experiment)
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from None


def _with_paths(row: Row, folder: Path) -> Row:
    keys = None if row.keys is None else str((folder / row.keys).resolve())
    fir = row.fir if row.fir in ("standard", "keep") else str((folder / row.fir).resolve())
    radio, device = row.radio, row.device
    if radio.startswith(REPLAY):
        radio = REPLAY + str((folder / radio.removeprefix(REPLAY)).resolve())
    if device is not None and device.endswith(".toml"):
        device = str((folder / device).resolve())
    # copied key by key: what the file left open is still known to be so
    found = {"keys": keys, "fir": fir, "radio": radio, "device": device}
    return row.model_copy(update={key: value for key, value in found.items() if value != getattr(row, key)})
