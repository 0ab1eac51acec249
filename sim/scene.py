"""The scene file: where nodes, targets and clutter really are, what the radios really are, and the seed of the noise.

A scene belongs to the world. The instrument never reads one; it hears it.
"""

from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from testbed.config import StrictModel, load
from testbed.device import Limits
from testbed.errors import ConfigError
from testbed.places import Place, Position, check_places, distance_m


class Hardware(StrictModel):
    """The radio every node of the scene has."""

    model: str = "emulated 12-bit radio"
    carrier_min_hz: float = 70e6
    carrier_max_hz: float = 6e9
    sample_rate_min_hz: float = 0.5e6
    sample_rate_max_hz: float = 61.44e6
    tx_gain_min_db: float = -89.75
    tx_gain_max_db: float = 0.0
    tx_gain_step_db: float = Field(default=0.25, gt=0)
    rx_gain_min_db: float = -3.0
    rx_gain_max_db: float = 71.0
    rx_gain_step_db: float = Field(default=1.0, gt=0)
    tx_bits: int = Field(default=12, ge=4, le=16)
    rx_bits: int = Field(default=12, ge=4, le=16)
    tx_full_scale_dbm: float = 15.0
    rx_full_scale_dbm: float = 10.2
    max_transmit_samples: int = Field(default=1 << 22, ge=1, le=1 << 26)


class PathLoss(StrictModel):
    """Mean path loss reference_db + 10 exponent log10(d / 1 m), the scattering of all surroundings included."""

    reference_db: float = Field(ge=0)  # at 1 m, without antennas
    exponent: float = Field(gt=0)  # 2 in free space


class SceneNode(Place):
    """A node as it really is. One without a transmitter (num_tx = 0) is a user: it only receives."""

    num_tx: int = Field(default=1, ge=0, le=1)
    num_rx: int = Field(default=1, ge=0, le=1)
    antenna_gain_dbi: float = 0.0
    noise_figure_db: float = Field(ge=0)
    self_isolation_db: float = Field(default=60.0, ge=0)  # transmit port to receive port of the node
    self_delay_samples: float = 0.0  # of the leakage
    start_offset_samples: float = Field(default=0.0, ge=0)  # start of the transmit buffer after the epoch begins
    receive_offset_samples: int = Field(default=0, ge=0, lt=1 << 32)  # first received sample after the epoch begins
    path_loss: PathLoss | None = None  # hears transmitters by it alone, in place of free space, echoes and clutter

    @model_serializer(mode="wrap")
    def _as_in_a_file(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not given is left out: TOML has no null."""
        return {key: value for key, value in plain(self).items() if value is not None}


class Target(Place):
    """A point target that can be switched off."""

    rcs_m2: float = Field(ge=0)
    velocity_mps: Position = (0.0, 0.0)


class Clutter(Place):
    """A static reflector that is always there."""

    rcs_m2: float = Field(ge=0)


class Scene(StrictModel):
    """The world of an emulated run."""

    title: str = ""
    seed: int = Field(ge=0, lt=1 << 64)  # of the noise
    hardware: Hardware = Hardware()
    nodes: tuple[SceneNode, ...] = Field(min_length=1, max_length=64)
    targets: tuple[Target, ...] = ()
    clutter: tuple[Clutter, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> "Scene":
        check_places({"nodes": self.nodes, "targets": self.targets, "clutter": self.clutter})
        for i, target in enumerate(self.targets):
            if len(target.velocity_mps) != len(target.position_m):
                raise ValueError(f"targets[{i}].velocity_mps: needs as many coordinates as position_m")
        for i, node in enumerate(self.nodes):
            self._check_path_loss(i, node)
        return self

    def _check_path_loss(self, node_idx: int, node: SceneNode) -> None:
        if node.path_loss is None:
            return
        if node.num_tx > 0:
            raise ValueError(
                f"nodes[{node_idx}].path_loss: {node.name} has a transmitter; a mean path loss is for nodes that only "
                f"receive, set num_tx = 0 or remove it"
            )
        for other in self.nodes:
            distance = distance_m(node, other)
            if other.num_tx > 0 and distance < 1.0:
                raise ValueError(
                    f"nodes[{node_idx}].position_m: {node.name} is {distance:.3g} m from {other.name}; its path loss "
                    f"holds from 1 m on, move it away"
                )

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names in scene order; the order is part of the noise's key."""
        return tuple(node.name for node in self.nodes)

    def limits(self, node_idx: int) -> Limits:
        """What the radio of a node can do."""
        hardware, node = self.hardware.model_dump(), self.nodes[node_idx]
        full_scale = 1 << (hardware.pop("rx_bits") - 1)
        return Limits(simulated=True, num_tx=node.num_tx, num_rx=node.num_rx, rx_full_scale=full_scale, **hardware)


def scene_path(name_or_path: str) -> Path:
    """Path of a scene file: an existing path, else the name of a packaged scene."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        return path
    packaged = Path(str(resources.files("sim") / "scenes" / f"{name_or_path}.toml"))
    if packaged.is_file():
        return packaged
    names = sorted(p.stem for p in packaged.parent.glob("*.toml"))
    raise ConfigError(f"scene '{name_or_path}': no such file or packaged scene; packaged: {', '.join(names)}")


def load_scene(name_or_path: str) -> Scene:
    """Read a scene; ConfigError in one line when it cannot be used."""
    return load(scene_path(name_or_path), Scene)
