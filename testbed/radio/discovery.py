"""Radios that can be reached from here: Plutos and USRPs on USB and on the network, and servers behind the wire."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.errors import ConfigError, IsacError, RadioError, RadioUnavailable
from testbed.radio.pluto import libiio
from testbed.radio.usrp import uhd_library

if TYPE_CHECKING:
    from testbed.radio.keys import ClientKeys

USUAL = ("192.168.2.1", "pluto.local")  # where a Pluto stands as it leaves the factory
USRP = "uhd:"
TIMEOUT_S = 1.5


@dataclass(frozen=True)
class Found:
    """A radio, or why there is none at an address that was given."""

    radio: str  # as an experiment names it
    model: str = ""
    serial: str = ""
    firmware: str = ""
    num_channels: int = 0
    nodes: tuple[str, ...] = ()  # of a server behind the wire: those that transmit
    simulated: bool = False
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {**asdict(self), "nodes": list(self.nodes)}

    def line(self) -> str:
        """For people."""
        if self.problem:
            return f"{self.radio}: {self.problem.removeprefix(self.radio.removeprefix('pluto:') + ': ')}"
        told = [self.model, self.firmware, f"serial {self.serial}" if self.serial else ""]
        told.append(f"{self.num_channels} channel{'s' if self.num_channels > 1 else ''}" if self.num_channels else "")
        told.append(f"nodes {', '.join(self.nodes)}" if self.nodes else "")
        told.append("simulated" if self.simulated else "")
        return f"{self.radio}: " + ", ".join(word for word in told if word)


def find_radios(addresses: Sequence[str] = (), keys: Path | None = None) -> tuple[list[Found], str]:
    """All radios found, and, where no Pluto or no USRP can be looked for, why: a line each.

    Nothing is set on any of them.

    Args:
        addresses: to look at besides USB and the usual ones: a host, ip:HOST[:PORT], pluto:..., uhd:..., or
            tcp://HOST:PORT.
        keys: folder with the keys of the servers among them.

    Raises:
        ConfigError: an address that is none, or keys that cannot be used.
    """
    given = [_as_radio(text) for text in addresses]
    servers = [radio for radio in given if radio.startswith("tcp://")]
    usrps = [radio for radio in given if radio.startswith(USRP)]
    boards = [radio for radio in given if not radio.startswith(("tcp://", USRP))]
    if keys is not None and not servers:
        raise ConfigError(f"--keys {keys}: only servers have keys; give one as tcp://HOST:PORT, or leave it out")
    known = None if keys is None else _load(keys)
    with ThreadPoolExecutor(8) as pool:
        on_uhd = pool.submit(_usrps, usrps)  # takes some seconds where UHD is installed
        found, hint = _plutos(boards, pool)
        others, why = on_uhd.result()
        behind = list(pool.map(partial(_server, keys=known), servers))
        return behind + found + others, "\n".join(line for line in (hint, why) if line)


def _plutos(boards: Sequence[str], pool: ThreadPoolExecutor) -> tuple[list[Found], str]:
    try:
        libiio.load("iio")
    except RadioUnavailable as exc:
        return [Found(radio, problem=str(exc)) for radio in boards], str(exc)
    announced = []
    with contextlib.suppress(OSError):
        announced = [f"pluto:{uri}" for uri in libiio.scan() if uri.startswith(("usb:", "ip:"))]
    usual = [f"pluto:ip:{host}" for host in USUAL]
    there = list(pool.map(_board, dict.fromkeys([*boards, *announced, *usual])))
    wanted = set(boards) | set(announced)
    # nobody asked for the usual addresses; that nothing is there is no news
    return [row for row in there if not row.problem or row.radio in wanted], ""


def _usrps(radios: Sequence[str]) -> tuple[list[Found], str]:
    """USRPs that answer, those given by arguments first; none is opened."""
    try:
        version = uhd_library.version(uhd_library.load())
        rows = []
        for radio in radios:
            there = uhd_library.find(radio.removeprefix(USRP))
            rows += [_usrp(found, version) for found in there] or [Found(radio, problem="no such device")]
        rows += [_usrp(found, version) for found in uhd_library.find()]
    except RadioError as exc:
        return [Found(radio, problem=str(exc)) for radio in radios], str(exc)
    return list(dict.fromkeys(rows)), ""


def _usrp(found: dict[str, str], version: str) -> Found:
    """As UHD's search tells it, which says neither channels nor FPGA image."""
    key = "serial" if found.get("serial") else "addr"
    return Found(
        f"{USRP}{key}={found[key]}" if found.get(key) else f"{USRP}type={found.get('type', '')}",
        model=f"USRP {found.get('product') or found.get('type', '')}",
        serial=found.get("serial", ""),
        firmware=f"UHD {version}".strip(),
    )


def _as_radio(text: str) -> str:
    if text.startswith("tcp://"):
        return text
    if text.startswith(USRP):
        uhd_library.check_args(text.removeprefix(USRP))
        return text
    uri = text.removeprefix("pluto:")
    if not uri.startswith(("ip:", "usb:")):
        if "://" in uri:
            raise ConfigError(f"'{text}': must be a host, ip:HOST:PORT, usb:, uhd:ARGUMENTS or tcp://HOST:PORT")
        uri = f"ip:{uri}"
    return f"pluto:{libiio.check_uri(uri)}"


def _board(radio: str) -> Found:
    uri = radio.removeprefix("pluto:")
    try:
        context = libiio.open_context(uri, TIMEOUT_S)
        try:
            return _described(radio, context)
        finally:
            with libiio.quiet():
                del context
    except RadioError as exc:
        return Found(radio, problem=str(exc))


def _described(radio: str, context: Any) -> Found:
    attributes = context.attrs
    receiver = context.find_device("cf-ad9361-lpc")
    if receiver is None:
        return Found(radio, problem=f"no AD936x transceiver on it ({context.description[:80]})")
    return Found(
        radio,
        model=attributes.get("hw_model", context.description)[:120],
        serial=attributes.get("hw_serial", ""),
        firmware=attributes.get("fw_version", ""),
        num_channels=2 if receiver.find_channel("voltage2") is not None else 1,
        simulated=libiio.is_simulated(radio.removeprefix("pluto:"), attributes),
    )


def _load(keys: Path) -> "ClientKeys":
    # ZMQ is not needed for anything but servers
    from testbed.radio.keys import load_client_keys

    return load_client_keys(keys)


def _server(endpoint: str, keys: "ClientKeys | None" = None) -> Found:
    from testbed.radio.remote import WireClient

    try:
        client = WireClient(endpoint, TIMEOUT_S, keys)
        try:
            status = client.request({"op": "status"})
            nodes = tuple(str(node) for node in status.get("transmitting", {}))
            limits = client.request({"op": "hello", "node": nodes[0], "look": True}).get("limits", {}) if nodes else {}
        finally:
            client.close()
    except IsacError as exc:
        return Found(endpoint, problem=str(exc).removeprefix(f"{endpoint}: "))
    return Found(endpoint, str(limits.get("model", "")), nodes=nodes, simulated=bool(limits.get("simulated")))
