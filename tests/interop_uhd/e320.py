"""The device of UHD's simulator, mended and on an air of ours: an E320 that is on 127.0.0.1 alone, at free ports.

Its remote calls, control and sample packets are the package's own. Threads and sockets are gevent's: the package puts
them in the place of the standard library's.
"""

import types
from typing import Any

import gevent
import gevent.server
import loopback
import streams
import usrp_mpm
from gevent import socket
from usrp_mpm import mpmtypes, rpc_server
from usrp_mpm.periph_manager import sim as simulated
from usrp_mpm.simulator import chdr_endpoint, sim_dboard

HOST = "127.0.0.1"
MASTER_CLOCK_HZ = 61.44e6  # unless the host wants another
MAX_PACKET_BYTES = 7000  # the simulator has 8000 for one packet, whatever UHD thinks that the interface takes


class Transport:
    """Where the host is to send samples: the loopback interface."""

    def init(self, args: dict[str, str]) -> None:
        """A session begins."""

    def deinit(self) -> None:
        """A session ends."""

    def get_xport_info(self) -> dict[str, str]:
        """Addresses, for discovery."""
        return {"addr": HOST}

    def get_chdr_link_options(self) -> list[dict[str, str]]:
        """The only way."""
        port, rate, mtu = str(SampleSocket.port), "1250000000", str(MAX_PACKET_BYTES)
        return [{"iface": "lo", "ipv4": HOST, "port": port, "link_rate": rate, "type": "sfp", "mtu": mtu}]


class Dboard(sim_dboard.SimulatedCatalinaDboard):
    """The radio chip: its gains act on the air."""

    air: loopback.Air

    def __init__(self, slot: int, clock_rate_cb: Any, **options: Any) -> None:
        super().__init__(slot, clock_rate_cb, **options)
        self.master_clock_rate = MASTER_CLOCK_HZ
        self.set_gain = self._set_gain  # a call without effect, as packaged

    def init(self, args: dict[str, str]) -> bool:
        """A session begins, with the master clock that it wants."""
        self.master_clock_rate = float(args.get("master_clock_rate", MASTER_CLOCK_HZ))
        return bool(super().init(args))

    def _set_gain(self, which: str, gain_db: float) -> float:
        if which == "TX1":  # only the first channel is on the air
            self.air.tx_gain_db = float(gain_db)
        elif which == "RX1":
            self.air.rx_gain_db = float(gain_db)
        return gain_db


class Board(simulated.sim):
    """The simulated device."""

    air: loopback.Air
    has_time: bool
    mboard_sensor_callback_map = {"ref_locked": "get_ref_locked"}

    def _init_peripherals(self, args: dict[str, str]) -> None:
        self._xport_mgrs = {"udp": Transport()}

    def generate_device_info(self, *args: Any) -> dict[str, str]:
        """Of strings alone: UHD takes no others, and some are None here."""
        info = super().generate_device_info(*args)
        return {key: str(value) for key, value in info.items() if value is not None}

    def get_clocks(self) -> list[dict[str, str]]:
        """With the sample clock that the radio chip has."""
        clocks = super().get_clocks()
        for clock in clocks:
            if clock["name"] == "radio_clk":
                clock["freq"] = str(self.dboards[0].master_clock_rate)
        return clocks

    def _simulator_sample_rate(self, freq: float) -> None:
        super()._simulator_sample_rate(freq)
        self.air.sample_rate_hz = freq

    def get_timekeeper_time(self, index: int, last_pps: bool) -> int:
        """Ticks; they are samples here."""
        return self.air.ticks(last_pps) if self.has_time else 0

    def set_timekeeper_time(self, index: int, ticks: int, next_pps: bool) -> None:
        """Set it."""
        self.air.set_ticks(ticks, next_pps)

    def get_time_source(self) -> str:
        """The one in the list of time sources."""
        return str(self.get_time_sources()[0])

    def set_time_source(self, source: str) -> None:
        """There is no other."""

    def get_ref_locked(self) -> dict[str, str]:
        """The reference is always there."""
        return {"name": "ref_locked", "type": "BOOLEAN", "unit": "locked", "value": "true"}


class SampleSocket(socket.socket):
    """The simulator's socket for samples: on this machine alone and at a free port, whatever was asked for."""

    port = 0

    def bind(self, address: tuple[str, int]) -> None:
        """Bind it."""
        super().bind((HOST, 0))
        SampleSocket.port = self.getsockname()[1]


def answer_discovery(listener: socket.socket, state: mpmtypes.SharedState) -> None:
    """Say who is here to who asks, and how long a packet may be."""
    while True:
        question, sender = listener.recvfrom(9000)
        if question.startswith(b"MPM-ECHO") and len(question) <= MAX_PACKET_BYTES:
            listener.sendto(question, sender)
        elif question.strip(b"\0") == b"MPM-DISC":
            fields = ("type", "product", "serial", "name", "fpga")
            values = (state.dev_type, state.dev_product, state.dev_serial, state.dev_name, state.dev_fpga_type)
            pairs = [f"{field}={value.value.decode()}" for field, value in zip(fields, values, strict=True)]
            pairs.append(f"claimed={state.claim_status.value}")
            listener.sendto(";".join(["USRP-MPM", *pairs]).encode(), sender)


def start(air: loopback.Air, has_time: bool, log_level: str) -> str:
    """Start the device on an air; returns the device arguments by which UHD finds it."""
    Dboard.air = Board.air = air
    Board.has_time = has_time
    sim_dboard.registry["SimulatedCatalinaDboard"] = Dboard
    streams.mend(air)
    chdr_endpoint.socket = types.SimpleNamespace(
        socket=SampleSocket, socketpair=socket.socketpair, AF_INET=socket.AF_INET, SOCK_DGRAM=socket.SOCK_DGRAM
    )
    rpc_server.net.get_local_ip_addrs = lambda: {HOST}  # as packaged it looks through all interfaces
    usrp_mpm.periph_manager.periph_manager = Board
    usrp_mpm.get_main_logger().setLevel(log_level.upper())
    hardware = simulated.Config.default().hardware
    config = simulated.Config(lambda: loopback.Source(air, has_time), lambda: loopback.Sink(air, has_time), hardware)
    simulated.Config.default = classmethod(lambda cls: config)

    state = mpmtypes.SharedState()
    server = gevent.server.StreamServer((HOST, 0), handle=rpc_server.MPMServer(state, {}))
    server.start()
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((HOST, 0))
    gevent.spawn(answer_discovery, listener, state)
    return f"type=e3xx,addr={HOST},discovery_port={listener.getsockname()[1]},rpc_port={server.server_port}"
