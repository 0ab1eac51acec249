"""The experiment file of cooperative networks: a sensing axis, users over cluster sizes, a loop, a dead node."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.experiment.config import Experiment
from testbed.sensing.model import Cell
from testbed.units import undb
from testbed.waveform.cooperative import CooperativeDesign, Sharing
from testbed.waveform.observations import Observations, ResourceElements

Share = Annotated[float, Field(ge=0, le=1)]


class SensingTable(StrictModel):
    """Location over the power share of sensing; all nodes sense, sets of them are judged from the same captures."""

    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=1, max_length=100)
    num_trials: int = Field(default=400, ge=2)  # frames per share
    min_sinr_db: float = Field(default=15.0, ge=-60, le=80)  # of links that weighted ranges use
    dead: bool = True  # judge what any one node less would leave, from the same captures


class UsersTable(StrictModel):
    """Users' SINRs over cluster size and power share, predicted and measured."""

    cluster_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, max_length=64)
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(min_length=1, max_length=100)
    waveforms: tuple[Literal["slots", "superposition"], ...] = ("slots", "superposition")
    num_frames: int = Field(default=12, ge=2)  # per point


class CooperativeTable(StrictModel):
    """Powers, requirements and backhaul, and the rounds of the loop."""

    full_power_dbm: float = Field(ge=-150, le=80)  # P of every node, mean over a full symbol
    min_rate_bps_hz: float = Field(default=1.0, gt=0, le=30)  # of every user
    rate_margin_db: float = Field(default=0.3, ge=0, le=20)  # on the SINR
    backhaul_bps_hz: float = Field(default=5.0, gt=0, le=1e6)  # C
    sensing_load_bps_hz: float = Field(default=0.4, ge=0, le=1e6)  # e, of every sensing node
    count_copies: bool = True  # L R + e N <= C; the paper counts R once
    num_trials: int = Field(default=400, ge=2)  # frames of a round
    num_rounds: int = Field(default=2, ge=0, le=100)  # after the first, which has p^c = p^s = 1/2 and all nodes sensing
    dead_node: str | None = None  # silent after the last round, then planned without


class CooperativeExperiment(Experiment):
    """An experiment file of kind `cooperative`."""

    kind: Literal["cooperative"] = "cooperative"
    waveform: CooperativeDesign
    cooperative: CooperativeTable
    sensing: SensingTable | None = None
    user_rates: UsersTable | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CooperativeExperiment":
        if self.waveform.num_stations != len(self.nodes):
            raise ValueError(
                f"waveform.num_stations: found {self.waveform.num_stations} for {len(self.nodes)} nodes; must be alike"
            )
        if self.waveform.num_users != len(self.users):
            raise ValueError(
                f"waveform.num_users: found {self.waveform.num_users} for {len(self.users)} users; must be alike"
            )
        if len({cell.position_m for cell in self.cells}) > 1:
            raise ValueError(f"cells: found {len(self.cells)} places; one target is located, give the place of one")
        if self.shared_reference is not True:
            raise ValueError("shared_reference: cooperative networks need true, links are measured against each other")
        dead = self.cooperative.dead_node
        if dead is not None and dead not in self.node_names:
            raise ValueError(f"cooperative.dead_node: '{dead}' is no node; nodes are {', '.join(self.node_names)}")
        sizes = () if self.user_rates is None else self.user_rates.cluster_sizes
        if sizes and max(sizes) > len(self.nodes):
            raise ValueError(f"user_rates.cluster_sizes: found {max(sizes)}; there are {len(self.nodes)} nodes")
        return self

    @property
    def observations(self) -> Observations:
        """All of a frame."""
        return ResourceElements(symbols=tuple(range(self.waveform.num_symbols)))

    @property
    def target(self) -> Cell:
        """Where the target is expected."""
        return self.survey.cells[0]

    @property
    def highest_equal_power_dbm(self) -> float:
        """Full power: of every node in its slot and in the pilots."""
        return self.cooperative.full_power_dbm

    @property
    def muted_samples(self) -> int:
        """Enough for a noise variance to a few tenths of a percent."""
        return max(20 * self.waveform.frame_len, self.capture.min_muted_samples)

    @property
    def full_power(self) -> tuple[float, ...]:
        """P of every node, milliwatt."""
        return (undb(self.cooperative.full_power_dbm),) * len(self.nodes)

    def sharing(
        self,
        sensing_share: float,
        comm_share: float,
        sensing_nodes: tuple[int, ...] | None = None,
        clusters: tuple[tuple[int, ...], ...] | None = None,
        waveform: Literal["slots", "superposition"] = "slots",
        dead: int | None = None,
    ) -> Sharing:
        """Who senses and who serves; all nodes sense and none serves unless told otherwise."""
        power = tuple(0.0 if node == dead else p for node, p in enumerate(self.full_power))
        everybody = tuple(node for node in range(len(self.nodes)) if node != dead)
        return Sharing(
            full_power=power,
            sensing_share=sensing_share,
            comm_share=comm_share,
            sensing_nodes=everybody if sensing_nodes is None else sensing_nodes,
            clusters=((),) * len(self.users) if clusters is None else clusters,
            waveform=waveform,
        )
