"""The scene file: where nodes, targets and clutter really are, what the radios really are, and the seed of the noise.

A scene belongs to the world. The instrument never reads one; it hears it.
"""

from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sim.antenna import LinearArray, Sector
from sim.fading import Fading
from sim.faults import Fault, check_faults
from sim.impairments import Impairments
from testbed.config import StrictModel, load, validate
from testbed.device import Limits
from testbed.errors import ConfigError
from testbed.places import Place, Position, check_places, distance_m

MAX_ISOLATION_DB = 300.0  # as good as no leakage


@model_serializer(mode="wrap")
def _without_none(self: StrictModel, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
    """What is not given is left out: TOML has no null."""
    return {key: value for key, value in plain(self).items() if value is not None}


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
    reports_loss: bool = True  # as UHD does; libiio does not


class PathLoss(StrictModel):
    """Mean path loss reference_db + 10 exponent log10(d / 1 m), the scattering of all surroundings included."""

    reference_db: float = Field(ge=0)  # at 1 m, without antennas
    exponent: float = Field(gt=0)  # 2 in free space
    # steady over scattered power, -inf for Rayleigh; none: no scattering
    rician_k_db: float | None = Field(default=None, le=100, allow_inf_nan=True)
    echoes: bool = False  # the node hears echoes and clutter besides; a transmitter always does

    _as_in_a_file = _without_none


class Tap(StrictModel):
    """A further path of a node's leakage."""

    delay_samples: float  # after the leakage itself
    gain_db: float = Field(le=0)  # relative to it
    phase_deg: float = 0.0


class SceneNode(Place):
    """A node as it really is. One without a transmitter (num_tx = 0) is a user: it only receives."""

    num_tx: int = Field(default=1, ge=0, le=1)
    num_rx: int = Field(default=1, ge=0, le=64)
    antenna_gain_dbi: float = 0.0
    sector: Sector | None = None  # none: the antenna's gain in all directions
    array: LinearArray = LinearArray()  # of the receive channels
    noise_figure_db: float = Field(ge=0)
    self_isolation_db: float = Field(default=60.0, ge=0)  # transmit port to receive port of the node
    self_delay_samples: float = 0.0  # of the leakage
    self_taps: tuple[Tap, ...] = Field(default=(), max_length=64)
    tx_noise_dbc: float | None = Field(default=None, le=0)  # white, fresh at every sample, heard through leakage only
    start_offset_samples: float = Field(default=0.0, ge=0)  # start of the transmit buffer after the epoch begins
    receive_offset_samples: int = Field(default=0, ge=0, lt=1 << 32)  # first received sample after the epoch begins
    path_loss: PathLoss | None = None  # of direct paths to this node, in place of free space
    impairments: Impairments = Impairments()

    _as_in_a_file = _without_none

    @property
    def hears_echoes(self) -> bool:
        """Whether echoes and clutter reach the node beside direct paths."""
        return self.path_loss is None or self.num_tx > 0 or self.path_loss.echoes


class Target(Place):
    """A target that can be switched off: a point, or scatterers that share its cross section."""

    rcs_m2: float = Field(ge=0)
    velocity_mps: Position | None = None  # in a straight line, from position_m at the begin of every epoch
    num_scatterers: int = Field(default=1, ge=1, le=256)
    size_m: Position | None = None  # edges of the box that scatterers are drawn in, about position_m

    _as_in_a_file = _without_none


class Clutter(Place):
    """A static reflector that is always there."""

    rcs_m2: float = Field(ge=0)


class Scene(StrictModel):
    """The world of an emulated run."""

    title: str = ""
    seed: int = Field(ge=0, lt=1 << 64)  # of all that is drawn
    # of what is drawn once and stands as long as the scene does: phases of paths, scatterers of a target, errors of an
    # array; the seed if not given. `--seed` leaves it alone: it draws other noise in the same world
    layout_seed: int | None = Field(default=None, ge=0, lt=1 << 64)
    phases: Literal["geometry", "random"] = "geometry"  # of paths: that of their length, or drawn from the seed
    hardware: Hardware = Hardware()
    nodes: tuple[SceneNode, ...] = Field(min_length=1, max_length=64)
    targets: tuple[Target, ...] = ()
    clutter: tuple[Clutter, ...] = ()
    fading: Fading | None = None
    faults: tuple[Fault, ...] = ()

    _as_in_a_file = _without_none

    @model_validator(mode="after")
    def _names(self) -> "Scene":
        check_places({"nodes": self.nodes, "targets": self.targets, "clutter": self.clutter})
        for i, target in enumerate(self.targets):
            if target.velocity_mps is not None and len(target.velocity_mps) != len(target.position_m):
                raise ValueError(f"targets[{i}].velocity_mps: needs as many coordinates as position_m")
            if target.size_m is not None and len(target.size_m) != len(target.position_m):
                raise ValueError(f"targets[{i}].size_m: needs as many coordinates as position_m")
            if target.num_scatterers > 1 and target.size_m is None:
                raise ValueError(f"targets[{i}].size_m: {target.num_scatterers} scatterers need a box; give its edges")
            if target.num_scatterers == 1 and target.size_m is not None:
                raise ValueError(f"targets[{i}].num_scatterers: a point has no size; give more than 1, or no size_m")
        for i, node in enumerate(self.nodes):
            self._check_path_loss(i, node)
        self._check_fading()
        check_faults(self.faults, {node.name: (node.num_tx, node.num_rx) for node in self.nodes})
        return self

    def _check_fading(self) -> None:
        if self.fading is None:
            return
        if self.fading.direct == "block" and not any(
            n.path_loss and n.path_loss.rician_k_db is not None for n in self.nodes
        ):
            raise ValueError(
                "fading.direct: 'block', but no node has a path_loss with rician_k_db; there is nothing to fade"
            )
        for i, node in enumerate(self.nodes):
            if node.impairments.random_start:
                raise ValueError(
                    f"nodes[{i}].impairments.random_start: blocks of fading are cut where {node.name}'s frames begin, "
                    f"which a random start moves; remove it or the fading table"
                )

    def _check_path_loss(self, node_idx: int, node: SceneNode) -> None:
        if node.path_loss is None:
            return
        for other in self.nodes:
            distance = distance_m(node, other)
            if other.num_tx > 0 and other is not node and distance < 1.0:
                raise ValueError(
                    f"nodes[{node_idx}].position_m: {node.name} is {distance:.3g} m from {other.name}; its path loss "
                    f"holds from 1 m on, move it away"
                )

    @property
    def standing_seed(self) -> int:
        """Of what is drawn once for a scene."""
        return self.seed if self.layout_seed is None else self.layout_seed

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names in scene order; the order is part of the noise's key."""
        return tuple(node.name for node in self.nodes)

    def limits(self, node_idx: int) -> Limits:
        """What the radio of a node can do."""
        hardware, node = self.hardware.model_dump(), self.nodes[node_idx]
        full_scale = 1 << (hardware.pop("rx_bits") - 1)
        del hardware["reports_loss"]  # a matter of every reception
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


def with_seed(scene: Scene, seed: int) -> Scene:
    """The same world with other noise, and other fading."""
    return scene.model_copy(update={"seed": seed, "layout_seed": scene.standing_seed})


def with_self_isolation(scene: Scene, isolation_db: float) -> Scene:
    """The scene with another isolation of every node that transmits and receives.

    Raises:
        ConfigError: out of range, or no node does both.
    """
    if not 0 <= isolation_db <= MAX_ISOLATION_DB:  # a NaN is refused here as well
        raise ConfigError(f"--self-isolation-db {isolation_db:g}: must be 0 to {MAX_ISOLATION_DB:g} dB")
    leaking = [node.num_tx > 0 and node.num_rx > 0 for node in scene.nodes]
    if not any(leaking):
        raise ConfigError("--self-isolation-db: no node of the scene transmits and receives; leave it out")
    change = {"self_isolation_db": isolation_db}
    nodes = [n.model_copy(update=change) if leaks else n for n, leaks in zip(scene.nodes, leaking, strict=True)]
    changed = scene.model_copy(update={"nodes": tuple(nodes)})
    return validate(changed.model_dump(), Scene, "scene")


def with_direct_fading(scene: Scene, direct: str) -> Scene:
    """The scene with direct paths that keep their gains (`run`), or are redrawn every `block`; echoes as they were.

    Raises:
        ConfigError: another word, or a scene without fading or without scattered direct paths.
    """
    if direct not in ("run", "block"):
        raise ConfigError(f"--direct-fading {direct[:40]}: must be run or block")
    if scene.fading is None:
        raise ConfigError("--direct-fading: the scene has no [fading] table, which says how long a block is")
    fading = scene.fading.model_copy(update={"direct": direct})
    return validate(scene.model_copy(update={"fading": fading}).model_dump(), Scene, "scene")
