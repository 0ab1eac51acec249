"""The experiment file of CoMP: a detector, a power axis, and a loop that shares power by measured SINRs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.errors import ConfigError
from testbed.experiment.config import Experiment, FrameExperiment
from testbed.experiment.load import load_experiment
from testbed.units import db
from testbed.waveform.observations import Observations

# noise-only samples per H0 frame that share the estimate, per degree of freedom (SIGNAL_CHAIN section 4)
MUTED_SAMPLES_PER_FRAME_AND_NODE = 10


class DetectionTable(StrictModel):
    """The test and its level."""

    pfa: float = Field(gt=0, lt=1)
    statistic: Literal["known_noise", "cfar"] | None = None  # of the verdict; none: known_noise if emulated, else cfar
    observations: Observations


class PowerTable(StrictModel):
    """The power axis of a run: every node transmits with each of these powers in turn."""

    axis_dbm: tuple[Annotated[float, Field(ge=-150, le=80)], ...] = Field(min_length=1, max_length=1000)  # in turn


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


class CompExperiment(FrameExperiment):
    """An experiment file of kind `comp`."""

    kind: Literal["comp"] = "comp"
    detection: DetectionTable
    power: PowerTable | None = None
    requirements: RequirementsTable | None = None
    allocation: AllocationTable | None = None
    loop: LoopTable | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CompExperiment":
        last = self.detection.observations.last_sample(self.waveform.numerology)
        if last > self.waveform.frame_len:
            raise ValueError(
                f"detection.observations: end at sample {last} of a frame of {self.waveform.frame_len}; symbols are "
                f"0..{self.waveform.num_symbols - 1}"
            )
        self._check_loop()
        return self

    def _check_loop(self) -> None:
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
    def observations(self) -> Observations:
        """The detector's."""
        return self.detection.observations

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

    @property
    def statistic(self) -> Literal["known_noise", "cfar"]:
        """The test that decides: on air the floor with transmitters on is not the muted one, so F is the default."""
        return self.detection.statistic or ("cfar" if self.emulator is None else "known_noise")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions captured at every power: H1 for all, then H0 of every cell."""
        return ("all", *(f"without:{cell.name}" for cell in self.cells))

    @property
    def muted_samples(self) -> int:
        """Samples per node of the muted capture: its error must not show in the pooled H0 statistic."""
        cells_per_node = max(sum(cell.node == node.name for cell in self.cells) for node in self.nodes)
        # verdicts pool the axis, or the last round alone
        frames = len(self.equal_powers_dbm) * self.capture.num_frames * cells_per_node  # share a node's estimate
        needed = MUTED_SAMPLES_PER_FRAME_AND_NODE * len(self.nodes) * frames
        return max(needed, self.capture.min_muted_samples)


def load_comp(name_or_path: str) -> CompExperiment:
    """Read an experiment of kind `comp`.

    Raises:
        ConfigError: one line per fault with the dotted key, or another kind.
    """
    return as_comp(load_experiment(name_or_path), name_or_path)


def as_comp(experiment: Experiment, origin: str) -> CompExperiment:
    """The experiment, if it is of kind `comp`; ConfigError if not."""
    if not isinstance(experiment, CompExperiment):
        raise ConfigError(f"{origin}: is an experiment of kind {experiment.kind}; this needs one of kind comp")
    return experiment
