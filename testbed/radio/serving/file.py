"""The file of a radio server, RADIO.toml: which radios of this machine `isac serve` lends, where, and to whom."""

from pathlib import Path

from pydantic import Field, model_validator

from testbed.config import StrictModel, load
from testbed.errors import ConfigError
from testbed.radio.devices.config import PlutoConfig, UsrpConfig, load_device
from testbed.radio.pluto.settings import KEEP_FIR, STANDARD_FIR
from testbed.radio.resources import BOARDS, PLUTO, REPLAY, USRP, WIRE, Options, check_resource
from testbed.radio.safety import SafetyTable
from testbed.radio.wire import endpoint_host, require_loopback


class ServedTable(StrictModel):
    """A radio of this machine."""

    name: str = Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_-]+$")  # of the node, as experiments name it
    radio: str  # pluto:..., uhd:..., tcp://HOST:PORT of an emulator or another server, replay:PATH
    # configuration of a Pluto or USRP (`isac device`), by name or path; a USRP cannot do without
    device: str | None = Field(default=None, min_length=1)
    channel: int = Field(default=0, ge=0, le=3)  # of a Pluto or USRP
    fir: str = Field(default="standard", min_length=1)  # filter of a Pluto
    transmits: bool = True  # false: whoever asks, it only receives
    keys: str | None = Field(default=None, min_length=1)  # folder of keys for the server at `radio`, if it has any
    tx_full_scale_dbm: float | None = None  # calibration of a Pluto, instead of its device's
    rx_full_scale_dbm: float | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "ServedTable":
        try:
            check_resource(self.radio)
        except ConfigError as exc:
            raise ValueError(f"radio: {exc}") from None
        own = (self.fir, self.tx_full_scale_dbm, self.rx_full_scale_dbm)
        if not self.radio.startswith(PLUTO) and own != ("standard", None, None):
            raise ValueError("only a Pluto has fir, tx_full_scale_dbm and rx_full_scale_dbm; remove them")
        if not self.radio.startswith(BOARDS) and (self.channel, self.device) != (0, None):
            raise ValueError("only a Pluto or USRP has channel and device; remove them")
        if self.radio.startswith(PLUTO) and self.channel > 1:
            raise ValueError(f"channel: found {self.channel}; a Pluto has 0 and, with 2R2T, 1")
        if self.radio.startswith(USRP) and self.device is None:
            raise ValueError(
                "device: missing; a USRP tells neither its powers nor its antennas, name its configuration"
            )
        if self.keys is not None and not self.radio.startswith(WIRE):
            raise ValueError("keys: only a radio at tcp://HOST:PORT has keys; remove the line")
        return self

    def options(self, timeout_s: float) -> Options:
        """How to open it; ConfigError where its device's configuration cannot be used."""
        tx_dbm, rx_dbm, fir, device = self.tx_full_scale_dbm, self.rx_full_scale_dbm, self.fir, None
        if self.device is not None:
            try:
                device = load_device(self.device)
            except ConfigError as exc:
                raise ConfigError(f"{self.name}.device: {exc}") from None
            for scheme, kind in ((PLUTO, PlutoConfig), (USRP, UsrpConfig)):
                if self.radio.startswith(scheme) and not isinstance(device.config, kind):
                    raise ConfigError(
                        f"{self.name}.device: radio = '{self.radio}', and {device.name} is a "
                        f"{device.config.kind}; name its own device"
                    )
            power = device.config.power
            tx_dbm = power.tx_full_scale_dbm if tx_dbm is None else tx_dbm
            rx_dbm = power.rx_full_scale_dbm if rx_dbm is None else rx_dbm
            fir = device.fir if fir == STANDARD_FIR else fir
        return Options(
            channel=self.channel,
            device=device,
            fir=fir,
            transmits=self.transmits,
            timeout_s=timeout_s,
            keys=self.keys,
            tx_full_scale_dbm=tx_dbm,
            rx_full_scale_dbm=rx_dbm,
        )


class ServedFile(StrictModel):
    """What a radio server lends."""

    endpoint: str = "tcp://127.0.0.1:5556"  # port 0 takes a free one
    keys: str | None = Field(default=None, min_length=1)  # folder with server.key_secret and the clients' keys
    idle_timeout_s: float = Field(default=600.0, ge=1.0, le=86400.0)  # a client not heard of for so long loses its hold
    timeout_s: float = Field(default=5.0, gt=0, le=3600)  # of a radio's answer; clients wait 10 s for the server's
    nodes: tuple[ServedTable, ...] = Field(min_length=1, max_length=64)
    safety: SafetyTable = SafetyTable()  # its watchdog_s minds all, the rest radios that are not simulated

    @model_validator(mode="after")
    def _consistent(self) -> "ServedFile":
        try:
            endpoint_host(self.endpoint)
            if self.keys is None:
                require_loopback(self.endpoint)
        except ConfigError as exc:
            raise ValueError(str(exc)) from None
        names = [row.name for row in self.nodes]
        ports = [(row.radio, row.device, row.channel) for row in self.nodes]
        for i, row in enumerate(self.nodes):
            if row.name in names[:i]:
                raise ValueError(f"nodes[{i}].name: '{row.name}' stands twice; names must differ")
            if row.radio.startswith(BOARDS) and ports[i] in ports[:i]:
                raise ValueError(f"nodes[{i}]: channel {row.channel} of {row.radio} is given twice; it serves one node")
        if self.idle_timeout_s < self.safety.watchdog_s:
            raise ValueError(
                f"idle_timeout_s: found {self.idle_timeout_s:g}, below safety.watchdog_s = {self.safety.watchdog_s:g}; "
                f"a radio is muted before it is lent to another client"
            )
        return self


def load_served(path: Path) -> ServedFile:
    """Read RADIO.toml; paths in it become relative to it.

    Raises:
        ConfigError: one line per fault with the dotted key.
    """
    served = load(path, ServedFile)
    folder = path.parent

    def at(name: str | None) -> str | None:
        return None if name is None else str((folder / name).resolve())

    def with_paths(row: ServedTable) -> ServedTable:
        radio = row.radio
        if radio.startswith(REPLAY):
            radio = REPLAY + str((folder / radio.removeprefix(REPLAY)).resolve())
        fir = row.fir if row.fir in (STANDARD_FIR, KEEP_FIR) else at(row.fir)
        device = at(row.device) if row.device is not None and row.device.endswith(".toml") else row.device
        return row.model_copy(update={"keys": at(row.keys), "fir": fir, "radio": radio, "device": device})

    nodes = tuple(with_paths(row) for row in served.nodes)
    return served.model_copy(update={"nodes": nodes, "keys": at(served.keys)})
