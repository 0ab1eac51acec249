"""The experiment file: all that belongs to the instrument. It never reads the scene; it may name one to be emulated."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from testbed.config import StrictModel, load
from testbed.errors import ConfigError
from testbed.places import Place
from testbed.radio.libiio import check_uri
from testbed.radio.safety import SafetyTable
from testbed.sensing.model import Cell, Reflector, Survey, SurveyNode, SurveyUser
from testbed.units import db
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


class RadioTable(Place):
    """A radio of the network, where the survey puts it."""

    # 'emulator', tcp://HOST:PORT of a server that has a node of this name, pluto:ip:HOST[:PORT] or pluto:usb:
    radio: str = "emulator"
    channel: int = Field(default=0, ge=0, le=1)  # of a Pluto: two of its channels serve two nodes
    fir: str = Field(default="standard", min_length=1)  # filter of a Pluto: 'standard', 'keep', or path of a .ftr file
    keys: str | None = Field(default=None, min_length=1)  # folder of keys for that server (`isac keys`), if it has any
    antenna_gain_dbi: float = 0.0  # for the link budget
    noise_figure_db: float = Field(default=8.0, ge=0, le=60)  # for the link budget
    rx_gain_db: float | Literal["auto"] | None = None  # instead of capture.rx_gain_db


Row = TypeVar("Row", bound=RadioTable)


class NodeTable(RadioTable):
    """A transmitting and receiving node."""

    self_isolation_db: float = Field(default=60.0, ge=0, le=200)  # for the link budget


class UserTable(RadioTable):
    """A receive-only node. It synchronises on the frame of the node that serves it."""

    node: str  # that serves it


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
    """How much is captured, at which receive gain, and how much of it is kept."""

    num_frames: int = Field(ge=1, le=10_000_000)  # trials per power, cell and hypothesis
    rx_gain_db: float | Literal["auto"] = "auto"  # auto: planned from a sounding capture at the highest power
    min_muted_samples: int = Field(default=0, ge=0)  # more than the detector's own need
    # of every capture, once it is judged; 0 keeps statistics only
    keep_frames: Literal["all"] | Annotated[int, Field(ge=0)] = "all"


class AcquisitionTable(StrictModel):
    """What to do about a reception that is not whole."""

    max_attempts: int = Field(default=3, ge=1, le=1000)  # at the samples of a node
    on_loss: Literal["retry", "stop"] = "retry"  # samples were lost, or a radio did not answer
    on_damage: Literal["retry", "stop", "keep"] = "retry"  # a transmitter fell silent; keep: a warning says where
    timeout_s: float = Field(default=10.0, gt=0, le=3600)  # of a radio's answer


class RequirementsTable(StrictModel):
    """What the network has to deliver, to every cell under test and every user."""

    min_pod: float = Field(gt=0, lt=1)  # at detection.pfa, by the experiment's test
    min_rate_bps_hz: float = Field(ge=0, le=30)  # log2(1 + SINR) per used resource element


class AllocationTable(StrictModel):
    """How the transmit power is shared."""

    method: Literal["ppa", "newton", "global", "equal", "random"] = "ppa"
    budget_dbm: float = Field(ge=-150, le=80)  # mean per node: the total, which is shared, is num_nodes times that
    max_power_dbm: float | None = Field(default=None, ge=-150, le=80)  # of any node; a radio's own limit counts as well
    seed: int = Field(default=2, ge=0, lt=1 << 32)  # of 'random'
    # an optimum lies on its constraints and measurements scatter around it (SIGNAL_CHAIN section 4)
    sensing_margin_db: float = Field(default=0.2, ge=0, le=20)
    rate_margin_db: float = Field(default=0.3, ge=0, le=20)  # on the SINR

    @property
    def is_fixed(self) -> bool:
        """Whether the scheme's powers do not depend on what is measured."""
        return self.method in ("equal", "random")


class LoopTable(StrictModel):
    """Rounds of transmit, capture, measure, allocate; the first one transmits with equal powers."""

    num_rounds: int = Field(ge=1, le=1000)  # at most
    until_settled: bool = True  # end earlier when no power would move by more than one gain step


class VerdictTable(StrictModel):
    """The level of the consistency verdict."""

    level: float = Field(default=0.05, gt=0, lt=0.5)


class Experiment(StrictModel):
    """An experiment file."""

    title: str = Field(min_length=1, max_length=200)
    emulator: EmulatorTable | None = None
    waveform: FrameDesign
    nodes: tuple[NodeTable, ...] = Field(min_length=1, max_length=64)
    users: tuple[UserTable, ...] = Field(default=(), max_length=64)
    cells: tuple[CellTable, ...] = Field(min_length=1, max_length=256)
    reflectors: tuple[ReflectorTable, ...] = ()
    hardware: HardwareTable = HardwareTable()
    # true: all radios run from one reference clock; "nodes": users have clocks of their own; false: every radio has
    shared_reference: bool | Literal["nodes"] = True
    detection: DetectionTable
    power: PowerTable | None = None
    capture: CaptureTable
    acquisition: AcquisitionTable = AcquisitionTable()
    requirements: RequirementsTable | None = None
    allocation: AllocationTable | None = None
    loop: LoopTable | None = None
    verdict: VerdictTable = VerdictTable()
    safety: SafetyTable = SafetyTable()  # for radios that are not simulated

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
        self._check_radios()
        self._check_loop()
        if not self.shared_reference and len(self.nodes) > 1:
            raise ValueError(
                "shared_reference: false is not supported for several nodes, whose echoes add up in phase; they must "
                'share one reference clock: true, or "nodes" where users have clocks of their own'
            )
        return self

    def _check_radios(self) -> None:
        for table, rows in (("nodes", self.nodes), ("users", self.users)):
            for i, row in enumerate(rows):
                if row.radio.startswith("pluto:"):
                    try:
                        check_uri(row.radio.removeprefix("pluto:"))
                    except ConfigError as exc:
                        raise ValueError(f"{table}[{i}].radio: {exc}") from None
                elif row.radio != "emulator" and not row.radio.startswith("tcp://"):
                    raise ValueError(
                        f"{table}[{i}].radio: found '{row.radio}'; must be 'emulator', tcp://HOST:PORT, pluto:ip:HOST "
                        f"or pluto:usb:"
                    )
                elif (row.channel, row.fir) != (0, "standard"):
                    raise ValueError(f"{table}[{i}]: only a Pluto has channel and fir; remove the line")
                if row.keys is not None and not row.radio.startswith("tcp://"):
                    raise ValueError(f"{table}[{i}].keys: only a radio at tcp://HOST:PORT has keys; remove the line")
        boards = [(row.radio, row.channel) for row in self.receivers if row.radio.startswith("pluto:")]
        for board in boards:
            if boards.count(board) > 1:
                raise ValueError(f"nodes: channel {board[1]} of {board[0]} is given twice; a channel serves one node")
        emulated = [row.name for row in self.receivers if row.radio == "emulator"]
        if self.emulator is None and emulated:
            raise ValueError("nodes: radio = 'emulator' needs an [emulator] table that names a scene")
        if self.emulator is not None and len(emulated) < len(self.receivers):
            raise ValueError(
                "nodes: with an [emulator] table every radio must be 'emulator'; remove the table to use other servers"
            )

    def _check_loop(self) -> None:
        if self.users and self.waveform.num_pilot_symbols == 0:
            raise ValueError(
                "waveform.num_pilot_symbols: found 0; users take their channel from pilots, give at least 1"
            )
        if self.power is None and self.loop is None:
            raise ValueError("power: missing; give [power] with an axis, or [loop] with rounds, or both")
        if self.loop is None:
            return
        missing = [name for name in ("requirements", "allocation") if getattr(self, name) is None]
        if missing:
            raise ValueError(f"loop: needs the tables {' and '.join(f'[{name}]' for name in missing)} as well")
        assert self.requirements is not None, "looked for above"
        if self.requirements.min_pod <= self.detection.pfa:
            raise ValueError(
                f"requirements.min_pod: found {self.requirements.min_pod:g}; must be above detection.pfa = "
                f"{self.detection.pfa:g}, which no target at all gives"
            )
        for table, rows in (("cells", self.cells), ("users", self.users)):
            served = [row.node for row in rows]
            if sorted(served) != sorted(self.node_names):
                raise ValueError(
                    f"{table}: CoMP power allocation needs one for every node; found {len(served)} for "
                    f"{', '.join(served) or 'none'}, nodes are {', '.join(self.node_names)}"
                )

    @property
    def survey(self) -> Survey:
        """The geometry as surveyed."""
        return Survey(
            nodes=tuple(SurveyNode(name=n.name, position_m=n.position_m) for n in self.nodes),
            users=tuple(SurveyUser(name=u.name, position_m=u.position_m, node=u.node) for u in self.users),
            cells=tuple(Cell(name=c.name, node=c.node, position_m=c.position_m) for c in self.cells),
            reflectors=tuple(Reflector(name=r.name, position_m=r.position_m) for r in self.reflectors),
        )

    @property
    def node_names(self) -> tuple[str, ...]:
        """Names of the transmitting nodes, in node order."""
        return tuple(node.name for node in self.nodes)

    @property
    def receivers(self) -> tuple[NodeTable | UserTable, ...]:
        """Every radio: nodes, then users."""
        return (*self.nodes, *self.users)

    @property
    def own_clocks(self) -> tuple[str, ...]:
        """Receivers that do not run from the reference clock of the nodes."""
        return () if self.shared_reference is True else tuple(user.name for user in self.users)

    @property
    def axis_dbm(self) -> tuple[float, ...]:
        """The power axis; empty where the experiment has none."""
        return () if self.power is None else self.power.axis_dbm

    @property
    def equal_powers_dbm(self) -> tuple[float, ...]:
        """Powers that all nodes transmit together: the axis, or else the loop's first round."""
        if self.axis_dbm:
            return self.axis_dbm
        assert self.allocation is not None, "without an axis there is a loop, and that needs an allocation"
        return (self.allocation.budget_dbm,)

    @property
    def highest_equal_power_dbm(self) -> float:
        """The highest power that all nodes transmit together: of the axis, or at the start of the loop."""
        budget_dbm = (self.allocation.budget_dbm,) if self.loop is not None and self.allocation is not None else ()
        return max(*self.axis_dbm, *budget_dbm, float("-inf"))

    @property
    def highest_power_dbm(self) -> float:
        """The highest power that any node may be given, as far as this file says."""
        highest = list(self.axis_dbm)
        if self.loop is not None and self.allocation is not None:
            shares = self.allocation.method != "equal"
            total_dbm = self.allocation.budget_dbm + (db(len(self.nodes)) if shares else 0.0)
            cap_dbm = self.allocation.max_power_dbm
            highest.append(total_dbm if cap_dbm is None else min(total_dbm, cap_dbm))
        return max(highest)

    def rx_gain_db(self, receiver: str) -> float | Literal["auto"]:
        """Receive gain that the experiment fixes for a node or user, or 'auto'."""
        own = next(row.rx_gain_db for row in self.receivers if row.name == receiver)
        return self.capture.rx_gain_db if own is None else own

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
        # verdicts pool the axis, or the last round alone
        frames = len(self.equal_powers_dbm) * self.capture.num_frames * cells_per_node  # share a node's estimate
        needed = MUTED_SAMPLES_PER_FRAME_AND_NODE * len(self.nodes) * frames
        return max(needed, self.capture.min_muted_samples)

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults included, as plain data; of a scene's path only the name, the rest is this machine's.

        The folders of keys are left out: they are this machine's, and open doors without changing what is behind them.
        """
        data = self.model_dump(mode="json", exclude={"nodes": {"__all__": {"keys"}}, "users": {"__all__": {"keys"}}})
        if data["emulator"] is not None:
            data["emulator"]["scene"] = Path(data["emulator"]["scene"]).name
        for row in (*data["nodes"], *data["users"]):
            row["fir"] = Path(row["fir"]).name
        return data

    @property
    def sha256(self) -> str:
        """Hash of the resolved experiment in canonical JSON."""
        return document_sha256(self.resolved())


def document_sha256(resolved: dict[str, Any]) -> str:
    """Hash of a resolved experiment as plain data."""
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
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
    """Read an experiment; a scene given as a path, folders of keys, and filters become relative to the experiment file.

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
    # whether a folder of keys is there is seen when its radio is opened; who only reads captures needs none
    nodes, users = (
        tuple(_with_paths(row, path.parent) for row in rows) for rows in (experiment.nodes, experiment.users)
    )
    return experiment.model_copy(update={"nodes": nodes, "users": users})


def _with_paths(row: Row, folder: Path) -> Row:
    keys = None if row.keys is None else str((folder / row.keys).resolve())
    fir = row.fir if row.fir in ("standard", "keep") else str((folder / row.fir).resolve())
    return row.model_copy(update={"keys": keys, "fir": fir})
