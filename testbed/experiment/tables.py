"""The tables that every experiment file has: radios, their places, what they are assumed to be, how to capture."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field

from testbed.config import StrictModel
from testbed.places import Place


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
    # of every node, instead of the scene's; the link budget counts with it as well
    self_isolation_db: float | None = Field(default=None, ge=0, le=200)
    direct_fading: Literal["run", "block"] | None = None  # whether direct paths keep their gains


class RadioTable(Place):
    """A radio of the network, where the survey puts it."""

    # 'emulator', tcp://HOST:PORT of a server that has a node of this name, pluto:ip:HOST[:PORT], pluto:usb:,
    # uhd:[DEVICE ARGUMENTS], or replay:PATH of captures
    radio: str = "emulator"
    # configuration of its board (`isac device`), by name or path: instead of [hardware], and a USRP cannot do without
    device: str | None = Field(default=None, min_length=1)
    calibrated: bool = False  # true: what `isac calibrate` found about this board counts, and must still hold
    channel: int = Field(default=0, ge=0, le=3)  # of a Pluto or USRP: two of its channels serve two nodes
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
    extra_loss_db: float = Field(default=0.0, ge=0, le=200)  # of paths to it, beyond free space; for the link budget


class CellTable(Place):
    """A cell under test: a hypothesised target that one node judges."""

    node: str
    rcs_m2: float = Field(default=1.0, ge=0)  # assumed, for the link budget


class ReflectorTable(Place):
    """A static reflector the survey lists."""

    rcs_m2: float = Field(default=1.0, ge=0)  # assumed, for the link budget


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


class VerdictTable(StrictModel):
    """The level of the consistency verdict."""

    level: float = Field(default=0.05, gt=0, lt=0.5)
