"""The experiment file: all that belongs to the instrument. It never reads the scene; it may name one to be emulated."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from testbed.config import StrictModel, load
from testbed.errors import ConfigError
from testbed.places import Place
from testbed.sensing.model import Cell, Reflector, Survey, SurveyNode
from testbed.waveform.frame import FrameDesign
from testbed.waveform.observations import Observations

# noise-only samples per H0 frame that share the estimate, per degree of freedom (SIGNAL_CHAIN section 4)
MUTED_SAMPLES_PER_FRAME_AND_NODE = 10


class HardwareTable(StrictModel):
    """What the radios are assumed to be before one is opened, for the link budget; a run uses what they report."""

    tx_full_scale_dbm: float = 15.0  # full-scale tone at tx_gain_db = 0
    rx_full_scale_dbm: float = 10.2  # power that reaches full scale at rx_gain_db = 0
    rx_bits: int = Field(default=12, ge=4, le=16)
    tx_bits: int = Field(default=12, ge=4, le=16)
    tx_gain_min_db: float = -89.75
    tx_gain_max_db: float = 0.0
    tx_gain_step_db: float = Field(default=0.25, gt=0)
    rx_gain_min_db: float = -3.0
    rx_gain_max_db: float = 71.0
    rx_gain_step_db: float = Field(default=1.0, gt=0)


class EmulatorTable(StrictModel):
    """Runs the experiment on simulated air; the scene is only named for the child process."""

    scene: str  # packaged name, or path relative to the experiment file
    seed: int | None = Field(default=None, ge=0, lt=1 << 64)  # of the noise, instead of the scene's own


class NodeTable(Place):
    """A transmitting and receiving node of the network, where the survey puts it."""

    radio: str = "emulator"  # 'emulator', or tcp://HOST:PORT of a server that has a node of this name
    antenna_gain_dbi: float = 0.0  # for the link budget
    noise_figure_db: float = Field(default=8.0, ge=0, le=60)  # for the link budget
    self_isolation_db: float = Field(default=60.0, ge=0, le=200)  # for the link budget


class CellTable(Place):
    """A cell under test: a hypothesised target that one node judges."""

    node: str
    rcs_m2: float = Field(default=1.0, ge=0)  # assumed, for the link budget


class ReflectorTable(Place):
    """A static reflector the survey lists."""

    rcs_m2: float = Field(default=1.0, ge=0)  # assumed, for the link budget


class DetectionTable(StrictModel):
    """The test and its level."""

    pfa: float = Field(gt=0, lt=1)
    statistic: Literal["known_noise", "cfar"] | None = None  # of the verdict; none: known_noise if emulated, else cfar
    observations: Observations


class PowerTable(StrictModel):
    """The power axis of a run: every node transmits with each of these powers in turn."""

    axis_dbm: tuple[Annotated[float, Field(ge=-150, le=80)], ...] = Field(min_length=1, max_length=1000)  # in turn


class CaptureTable(StrictModel):
    """How much is captured and at which receive gain."""

    num_frames: int = Field(ge=1, le=10_000_000)  # trials per power, cell and hypothesis
    rx_gain_db: float | Literal["auto"] = "auto"  # auto: planned from a sounding capture at the highest power
    min_muted_samples: int = Field(default=0, ge=0)  # more than the detector's own need


class VerdictTable(StrictModel):
    """The level of the consistency verdict."""

    level: float = Field(default=0.05, gt=0, lt=0.5)


class Experiment(StrictModel):
    """An experiment file."""

    title: str = Field(min_length=1, max_length=200)
    emulator: EmulatorTable | None = None
    waveform: FrameDesign
    nodes: tuple[NodeTable, ...] = Field(min_length=1, max_length=64)
    cells: tuple[CellTable, ...] = Field(min_length=1, max_length=256)
    reflectors: tuple[ReflectorTable, ...] = ()
    hardware: HardwareTable = HardwareTable()
    shared_reference: bool = True  # all nodes run from one reference clock
    detection: DetectionTable
    power: PowerTable
    capture: CaptureTable
    verdict: VerdictTable = VerdictTable()

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        _ = self.survey  # names and dimensions
        if len(self.waveform.preamble_roots) != len(self.nodes):
            raise ValueError(
                f"waveform.preamble_roots: found {len(self.waveform.preamble_roots)} roots for {len(self.nodes)} "
                f"nodes; give one per node, in node order"
            )
        last = self.detection.observations.last_sample(self.waveform.numerology)
        if last > self.waveform.frame_len:
            raise ValueError(
                f"detection.observations: end at sample {last} of a frame of {self.waveform.frame_len}; symbols are "
                f"0..{self.waveform.num_symbols - 1}"
            )
        for i, node in enumerate(self.nodes):
            if node.radio != "emulator" and not node.radio.startswith("tcp://"):
                raise ValueError(f"nodes[{i}].radio: found '{node.radio}'; must be 'emulator' or tcp://HOST:PORT")
        emulated = [node.name for node in self.nodes if node.radio == "emulator"]
        if self.emulator is None and emulated:
            raise ValueError("nodes: radio = 'emulator' needs an [emulator] table that names a scene")
        if self.emulator is not None and len(emulated) < len(self.nodes):
            raise ValueError(
                "nodes: with an [emulator] table every radio must be 'emulator'; remove the table to use other servers"
            )
        if not self.shared_reference:
            raise ValueError("shared_reference: false is not supported; nodes must share one reference clock")
        return self

    @property
    def survey(self) -> Survey:
        """The geometry as surveyed."""
        return Survey(
            nodes=tuple(SurveyNode(name=n.name, position_m=n.position_m) for n in self.nodes),
            cells=tuple(Cell(name=c.name, node=c.node, position_m=c.position_m) for c in self.cells),
            reflectors=tuple(Reflector(name=r.name, position_m=r.position_m) for r in self.reflectors),
        )

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names in node order."""
        return tuple(node.name for node in self.nodes)

    @property
    def statistic(self) -> Literal["known_noise", "cfar"]:
        """The test that decides: on air the floor with transmitters on is not the muted one, so F is the default."""
        return self.detection.statistic or ("cfar" if self.emulator is None else "known_noise")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions captured at every power: H1 for all, then H0 of every cell."""
        return ("all", *(f"without:{cell.name}" for cell in self.cells))

    @property
    def samples_per_capture(self) -> int:
        """Samples per node and condition: one frame more than trials, for the unknown start."""
        return (self.capture.num_frames + 1) * self.waveform.frame_len

    @property
    def muted_samples(self) -> int:
        """Samples per node of the muted capture: its error must not show in the pooled H0 statistic."""
        cells_per_node = max(sum(cell.node == node.name for cell in self.cells) for node in self.nodes)
        frames = len(self.power.axis_dbm) * self.capture.num_frames * cells_per_node  # share a node's estimate
        needed = MUTED_SAMPLES_PER_FRAME_AND_NODE * len(self.nodes) * frames
        return max(needed, self.capture.min_muted_samples)

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults included, as plain data; of a scene's path only the name, the rest is this machine's."""
        data = self.model_dump(mode="json")
        if data["emulator"] is not None:
            data["emulator"]["scene"] = Path(data["emulator"]["scene"]).name
        return data

    @property
    def sha256(self) -> str:
        """Hash of the resolved experiment in canonical JSON."""
        text = json.dumps(self.resolved(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


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


def load_experiment(name_or_path: str) -> Experiment:
    """Read an experiment; a scene given as a path becomes relative to the experiment file.

    Raises:
        ConfigError: one line per fault with the dotted key.
    """
    path = experiment_path(name_or_path)
    experiment = load(path, Experiment)
    if experiment.emulator is not None and experiment.emulator.scene.endswith(".toml"):
        scene = Path(experiment.emulator.scene)
        scene = scene if scene.is_absolute() else path.parent / scene
        if not scene.is_file():
            raise ConfigError(f"{path}: emulator.scene: {scene}: no such file; give a path or the name of a scene")
        emulator = experiment.emulator.model_copy(update={"scene": str(scene.resolve())})
        experiment = experiment.model_copy(update={"emulator": emulator})
    return experiment
