"""The experiment file of the uplink: users that transmit, one receiving array, a detector's axis, rates, a loop."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.experiment.config import Experiment
from testbed.experiment.tables import RadioTable
from testbed.sensing.uplink_array import UniformArray
from testbed.units import undb
from testbed.waveform.observations import Observations, ResourceElements
from testbed.waveform.uplink import UplinkDesign

PowerDbm = Annotated[float, Field(ge=-150, le=80)]  # milliwatt per resource element, in dB


class ArrayTable(RadioTable):
    """The receiver: one radio of several coherent channels, half a wavelength apart as a rule."""

    num_channels: int = Field(ge=1, le=64)
    array: UniformArray = UniformArray()


class DetectorTable(StrictModel):
    """The axis of the detector: direct channels that stand, echoes that are redrawn from block to block."""

    axis_dbm: tuple[PowerDbm, ...] = Field(min_length=1, max_length=100)  # every user's power per element, in turn
    pfa: float = Field(default=1e-3, gt=0, lt=1)
    num_calibration: int = Field(default=1000, ge=2)  # blocks without the target, anew at every power
    num_h0: int = Field(default=2500, ge=1)  # blocks without the target
    num_h1: int = Field(default=2000, ge=1)
    num_muted: int = Field(default=8000, ge=10)  # blocks with nobody on: the noise variance


class RatesTable(StrictModel):
    """Rates against their bounds, and the paper's detector: direct channels redrawn with the echoes."""

    axis_dbm: tuple[PowerDbm, ...] = Field(min_length=1, max_length=100)
    num_seeds: int = Field(default=4, ge=1, le=1000)  # of the data
    num_blocks: int = Field(default=500, ge=2)  # per seed
    num_h0: int = Field(default=1000, ge=1)  # without the target, per seed: of the paper's detector


class UplinkLoopTable(StrictModel):
    """Rounds of measure, allocate, transmit, from equal powers."""

    power_dbm: PowerDbm  # budget: the mean over all elements of a block, per user
    method: Literal["joint", "split", "ao"] = "joint"
    min_rate_bps_hz: float = Field(default=0.8, ge=0, le=30)  # of every user, by the bound (7)
    num_rounds: int = Field(default=2, ge=1, le=100)
    num_seeds: int = Field(default=4, ge=1, le=1000)
    num_blocks: int = Field(default=500, ge=2)  # per seed


class UplinkExperiment(Experiment):
    """An experiment file of kind `uplink`."""

    kind: Literal["uplink"] = "uplink"
    waveform: UplinkDesign
    receiver: ArrayTable
    detector: DetectorTable | None = None
    rates: RatesTable | None = None
    loop: UplinkLoopTable | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "UplinkExperiment":
        if self.users:
            raise ValueError("users: an uplink has none that receive; its users are the nodes, [receiver] hears them")
        if self.waveform.num_users != len(self.nodes):
            raise ValueError(
                f"waveform.num_users: found {self.waveform.num_users} for {len(self.nodes)} nodes; they are the users"
            )
        if self.receiver.name in self.node_names:
            raise ValueError(f"receiver.name: '{self.receiver.name}' is a node's; names must differ")
        if len(self.cells) != 1:
            raise ValueError(f"cells: found {len(self.cells)}; one place is looked at for a target")
        if self.shared_reference is not True:
            raise ValueError("shared_reference: the uplink needs true, users and receiver on one clock")
        if self.receiver.rx_gain_db == "auto" or (
            self.receiver.rx_gain_db is None and self.capture.rx_gain_db == "auto"
        ):
            raise ValueError("receiver.rx_gain_db: found 'auto'; give a gain, it has to be the same in every capture")
        if self.detector is None and self.rates is None and self.loop is None:
            raise ValueError("detector: missing; give [detector], [rates] or [loop]")
        return self

    @property
    def receivers(self) -> tuple[RadioTable, ...]:
        """Every radio: the users, then the receiver."""
        return (*self.nodes, self.receiver)

    @property
    def receiving_table(self) -> str:
        """That of the array."""
        return "receiver"

    @property
    def unsteady(self) -> tuple[str, ...]:
        """Everybody: gains change from block to block."""
        return tuple(row.name for row in self.receivers)

    @property
    def observations(self) -> Observations:
        """All of a block."""
        return ResourceElements(symbols=tuple(range(self.waveform.num_symbols)))

    @property
    def highest_equal_power_dbm(self) -> float:
        """The highest power per element that all users transmit together."""
        axes = [table.axis_dbm for table in (self.detector, self.rates) if table is not None]
        loop = () if self.loop is None else (self.loop.power_dbm,)
        return max(power for axis in (*axes, loop) for power in axis)

    @property
    def highest_power_dbm(self) -> float:
        """The loop may put up to a block's energy into few elements, which the radio's own limit ends."""
        return self.highest_equal_power_dbm

    @property
    def muted_samples(self) -> int:
        """Of the first muted capture."""
        blocks = 1000 if self.detector is None else self.detector.num_muted
        return max(blocks * self.waveform.frame_len, self.capture.min_muted_samples)

    @property
    def energy_mw(self) -> float:
        """E_k of the loop: milliwatt times elements of a block."""
        assert self.loop is not None, "the caller has looked"
        return undb(self.loop.power_dbm) * self.waveform.block_len
