"""The experiment file: all that belongs to the instrument. It never reads the scene; it may name one to be emulated.

Here is what every experiment has: a network of radios, a survey, a waveform, how to capture. What is done with them is
its `kind`, a paper of its own: `comp`, `localization`; each adds its tables in its package (see `procedure`).
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from testbed.config import StrictModel
from testbed.errors import ConfigError
from testbed.experiment.tables import (
    AcquisitionTable,
    CaptureTable,
    CellTable,
    EmulatorTable,
    HardwareTable,
    NodeTable,
    RadioTable,
    ReflectorTable,
    UserTable,
    VerdictTable,
)
from testbed.radio.resources import BOARDS, PLUTO, REPLAY, USRP, check_resource
from testbed.radio.safety import SafetyTable
from testbed.sensing.model import Cell, Reflector, Survey, SurveyNode, SurveyUser
from testbed.waveform.frame import BufferDesign, FrameDesign
from testbed.waveform.observations import Observations, ResourceElements


class Experiment(StrictModel):
    """What every experiment file has."""

    kind: str = "comp"  # which of KINDS
    title: str = Field(min_length=1, max_length=200)
    emulator: EmulatorTable | None = None
    waveform: BufferDesign  # each kind has a design of its own
    nodes: tuple[NodeTable, ...] = Field(min_length=1, max_length=64)
    users: tuple[UserTable, ...] = Field(default=(), max_length=64)
    cells: tuple[CellTable, ...] = Field(min_length=1, max_length=256)
    reflectors: tuple[ReflectorTable, ...] = ()
    hardware: HardwareTable = HardwareTable()
    # true: all radios run from one reference clock; "nodes": users have clocks of their own; false: every radio has
    shared_reference: bool | Literal["nodes"] = True
    capture: CaptureTable
    acquisition: AcquisitionTable = AcquisitionTable()
    verdict: VerdictTable = VerdictTable()
    safety: SafetyTable = SafetyTable()  # for radios that are not simulated

    @model_validator(mode="after")
    def _network_consistent(self) -> "Experiment":
        _ = self.survey  # names and dimensions
        self._check_radios()
        if not self.shared_reference and len(self.nodes) > 1:
            raise ValueError(
                "shared_reference: false is not supported for several nodes, whose echoes add up in phase; they must "
                'share one reference clock: true, or "nodes" where users have clocks of their own'
            )
        return self

    def _check_radios(self) -> None:
        listeners = self.listeners
        for table, rows in (("nodes", self.nodes), (self.receiving_table, listeners)):
            for i, row in enumerate(rows):
                if row.radio != "emulator":
                    try:
                        check_resource(row.radio, "'emulator', ")
                    except ConfigError as exc:
                        raise ValueError(f"{table}[{i}].radio: {exc}") from None
                if not row.radio.startswith(BOARDS) and row.channel != 0:
                    raise ValueError(f"{table}[{i}].channel: only a Pluto or USRP has channels; remove the line")
                if row.radio.startswith(PLUTO) and row.channel > 1:
                    raise ValueError(f"{table}[{i}].channel: found {row.channel}; a Pluto has 0 and, with 2R2T, 1")
                if not row.radio.startswith(PLUTO) and row.fir != "standard":
                    raise ValueError(f"{table}[{i}].fir: only a Pluto has filters to load; remove the line")
                if row.radio.startswith(USRP) and row.device is None:
                    raise ValueError(
                        f"{table}[{i}].device: missing; a USRP tells neither its powers nor its antennas, name its "
                        f"configuration (`isac device check` lists them)"
                    )
                if row.calibrated and rows is listeners:
                    raise ValueError(f"{table}[{i}].calibrated: only who transmits can be calibrated; remove the line")
                if row.calibrated and row.device is None:
                    raise ValueError(f"{table}[{i}].calibrated: calibrations belong to a device; name it with device")
                if row.keys is not None and not row.radio.startswith("tcp://"):
                    raise ValueError(f"{table}[{i}].keys: only a radio at tcp://HOST:PORT has keys; remove the line")
        ports = [(row.radio, row.device, row.channel) for row in self.receivers if row.radio.startswith(BOARDS)]
        for port in ports:
            if ports.count(port) > 1:
                raise ValueError(f"nodes: channel {port[2]} of {port[0]} is given twice; a channel serves one node")
        emulated = [row.name for row in self.receivers if row.radio == "emulator"]
        if self.emulator is None and emulated:
            raise ValueError("nodes: radio = 'emulator' needs an [emulator] table that names a scene")
        if self.emulator is not None and len(emulated) < len(self.receivers):
            raise ValueError(
                "nodes: with an [emulator] table every radio must be 'emulator'; remove the table to use other servers"
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
    def receivers(self) -> tuple[RadioTable, ...]:
        """Every radio: nodes, then users."""
        return (*self.nodes, *self.users)

    @property
    def listeners(self) -> tuple[RadioTable, ...]:
        """Radios that only receive."""
        return self.receivers[len(self.nodes) :]

    @property
    def receiving_table(self) -> str:
        """Name of the table whose radios only receive."""
        return "users"

    @property
    def own_clocks(self) -> tuple[str, ...]:
        """Receivers that do not run from the reference clock of the nodes."""
        return () if self.shared_reference is True else tuple(user.name for user in self.users)

    @property
    def unsteady(self) -> tuple[str, ...]:
        """Receivers at which frames do not repeat, so that losses of samples cannot be seen by them."""
        return self.own_clocks

    @property
    def observations(self) -> Observations:
        """What of a frame a detector looks at."""
        raise NotImplementedError

    @property
    def highest_equal_power_dbm(self) -> float:
        """The highest power that all nodes transmit together."""
        raise NotImplementedError

    @property
    def highest_power_dbm(self) -> float:
        """The highest power that any node may be given, as far as this file says."""
        return self.highest_equal_power_dbm

    @property
    def equal_powers_dbm(self) -> tuple[float, ...]:
        """Powers that all nodes transmit together."""
        return (self.highest_equal_power_dbm,)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions of the world that are captured."""
        return ("all",)

    def rx_gain_db(self, receiver: str) -> float | Literal["auto"]:
        """Receive gain that the experiment fixes for a node or user, or 'auto'."""
        own = next(row.rx_gain_db for row in self.receivers if row.name == receiver)
        return self.capture.rx_gain_db if own is None else own

    @property
    def samples_per_capture(self) -> int:
        """Samples per node and condition: one frame more than trials, for the unknown start."""
        return (self.capture.num_frames + 1) * self.waveform.frame_len

    @property
    def muted_samples(self) -> int:
        """Samples per receiver of the muted capture."""
        return max(self.samples_per_capture, self.capture.min_muted_samples)

    def self_isolation_db(self, node: str) -> float:
        """Assumed isolation of a node, for the link budget; what an emulated world is told counts."""
        if self.emulator is not None and self.emulator.self_isolation_db is not None:
            return self.emulator.self_isolation_db
        return next(row.self_isolation_db for row in self.nodes if row.name == node)

    def resolved(self) -> dict[str, Any]:
        """Everything, defaults included, as plain data; of a scene's path only the name, the rest is this machine's.

        The folders of keys are left out: they are this machine's, and open doors without changing what is behind them.
        """
        data = self.model_dump(mode="json", exclude={"nodes": {"__all__": {"keys"}}, "users": {"__all__": {"keys"}}})
        if data["emulator"] is not None:
            data["emulator"]["scene"] = Path(data["emulator"]["scene"]).name
        for row in (*data["nodes"], *data["users"]):
            row["fir"] = Path(row["fir"]).name
            # of a device only the name, too; captures tell the hash of what it said
            row["device"] = None if row["device"] is None else Path(row["device"]).stem
            if row["device"] is None:
                del row["device"], row["calibrated"]
            if row["radio"].startswith(REPLAY):
                row["radio"] = REPLAY + Path(row["radio"].removeprefix(REPLAY)).name
        return data

    @property
    def sha256(self) -> str:
        """Hash of the resolved experiment in canonical JSON."""
        return document_sha256(self.resolved())


class FrameExperiment(Experiment):
    """What experiments with frames of preamble, pilots and data have."""

    waveform: FrameDesign

    @model_validator(mode="after")
    def _waveform_consistent(self) -> "FrameExperiment":
        if len(self.waveform.preamble_roots) != len(self.nodes):
            raise ValueError(
                f"waveform.preamble_roots: found {len(self.waveform.preamble_roots)} roots for {len(self.nodes)} "
                f"nodes; give one per node, in node order"
            )
        if self.users and self.waveform.num_pilot_symbols == 0:
            raise ValueError(
                "waveform.num_pilot_symbols: found 0; users take their channel from pilots, give at least 1"
            )
        return self

    @property
    def observations(self) -> Observations:
        """All data symbols, unless the kind of experiment says otherwise."""
        return ResourceElements(symbols=self.waveform.data_symbol_idx)


def document_sha256(resolved: dict[str, Any]) -> str:
    """Hash of a resolved experiment as plain data."""
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
