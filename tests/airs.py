"""Simulated air that a radio under test transmits into: the emulator behind the wire, virtual Plutos behind libiio, or
virtual USRPs behind a package that bears UHD's names.

The server is a process of its own, but for the USRPs, whose air is in this one; what a test asks of it does not pass
through the radio under test.
"""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from testbed.capture import save
from testbed.config import validate
from testbed.errors import RadioUnavailable
from testbed.experiment.comp.config import CompExperiment
from testbed.radio.base import Radio
from testbed.radio.devices.config import load_device
from testbed.radio.pluto import libiio
from testbed.radio.pluto.radio import PlutoRadio
from testbed.radio.remote import RemoteRadio
from testbed.radio.replay import ReplayRadio
from testbed.radio.usrp import receive as usrp_receive
from testbed.radio.usrp.radio import UsrpRadio
from tests.emulator import SETTINGS, emulator_process, environment, request
from tests.scenes import capture_comp, comp_text
from tests.uhd_stand_in.air import Air as UsrpAir
from tests.uhd_stand_in.install import installed

KINDS = ("emulator", "pluto", "served", "uhd")  # airs in which a radio hears what is sent
BOARDS = ("pluto", "uhd")  # of these, airs of boards: who is tuned elsewhere is not heard, and nobody says so
RING_BYTES = 1 << 20  # that a virtual USRP is received into: as fast as the machine can, for nobody
REPLAYED = 400_000  # samples
USERS = ("u1", "u2", "u3")  # of the CoMP scene: they only receive
NODES = ("bs1", "bs2", "bs3", *USERS)


@dataclass(frozen=True)
class Air:
    """A server of simulated radios."""

    kind: str
    process: "subprocess.Popen[Any] | None"  # None for a replay
    control: str  # endpoint of status and conditions
    uris: Mapping[str, str] = field(default_factory=dict)  # of virtual boards, by node
    served: str = ""  # endpoint of a radio server
    replayed: Path | None = None  # capture
    usrps: UsrpAir | None = None

    def open(self, node: str = "bs1", timeout_s: float = 10.0) -> Radio:
        """A radio of a node."""
        if self.kind in ("emulator", "served"):
            return RemoteRadio(self.served or self.control, node, timeout_s=timeout_s)
        if self.replayed is not None:
            return ReplayRadio(self.replayed, node)
        if self.usrps is not None:
            return usrp(self.usrps, node, timeout_s=timeout_s)
        sharing = [name for name, uri in self.uris.items() if uri == self.uris[node]]
        return PlutoRadio(
            f"pluto:{self.uris[node]}",
            node,
            channel=sharing.index(node),
            transmits=node not in USERS,
            timeout_s=timeout_s,
        )

    def is_transmitting(self, node: str = "bs1") -> bool:
        """Whether the world hears a node."""
        if self.usrps is not None:
            return self.usrps.transmitting()[node]
        transmitting = request(self.control, op="status")["transmitting"]
        assert isinstance(transmitting, dict)
        return bool(transmitting[node])

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Within, the server does not answer."""
        if self.usrps is not None:
            with self.usrps.freeze():
                yield
            return
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def need_libiio() -> None:
    """Skip a test where the software for Plutos is not installed."""
    try:
        libiio.load("adi")
    except RadioUnavailable as exc:
        pytest.skip(str(exc))


@contextlib.contextmanager
def pluto_process(scene: object = "comp", *arguments: str) -> Iterator[Air]:
    """Virtual Plutos for all nodes of a scene."""
    command = [sys.executable, "-m", "sim", "pluto", str(scene), "--json", "--until-stdin-closes", *arguments]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        listening = json.loads(child.stdout.readline())
        uris = {node: board["uri"] for board in listening["boards"] for node in board["nodes"]}
        yield Air("pluto", child, listening["control"], uris)
    finally:
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def usrp(where: UsrpAir, node: str, **options: Any) -> UsrpRadio:
    """A radio on the virtual USRP that a node is on."""
    board = where.board(node)
    device = load_device("b210" if len(board.nodes) > 1 else "b200")
    given = {"channel": board.nodes.index(node), "transmits": node not in USERS, "device": device, **options}
    return UsrpRadio(f"uhd:serial={board.address['serial']}", node, **given)


@contextlib.contextmanager
def usrp_air(*boards: tuple[str, ...], ring_bytes: int = RING_BYTES) -> Iterator[UsrpAir]:
    """Virtual USRPs of these nodes, or one for every node of the CoMP scene."""
    before, usrp_receive.RING_BYTES = usrp_receive.RING_BYTES, ring_bytes
    try:
        with installed(UsrpAir("comp", boards or None)) as made:
            yield made
    finally:
        usrp_receive.RING_BYTES = before


@contextlib.contextmanager
def air(kind: str, *arguments: str) -> Iterator[Air]:
    """Simulated air of the CoMP scene."""
    if kind == "uhd":
        with usrp_air() as usrps:
            yield Air(kind, None, "", usrps=usrps)
        return
    if kind == "replay":
        with replayed_air() as made:
            yield made
        return
    if kind == "pluto":
        need_libiio()
        with pluto_process("comp", *arguments) as made:
            yield made
        return
    with emulator_process("comp", *arguments) as (process, endpoint):
        if kind == "emulator":
            yield Air(kind, process, endpoint)
            return
        with served_process({node: endpoint for node in NODES}) as (server, served):
            yield Air(kind, server, endpoint, served=served)


@contextlib.contextmanager
def served_process(
    radios: Mapping[str, str | Mapping[str, Any]],
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    **tables: Any,
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`isac serve` for radios by node, and further keys of its file; yields it and its endpoint.

    Args:
        radios: by node the resource, or the keys of its table.
        arguments: further ones.
        variables: further ones of the environment.
        tables: further keys of the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "radio.toml"
        keys = {node: {"radio": told} if isinstance(told, str) else told for node, told in radios.items()}
        rows = [{"name": node, **told} for node, told in keys.items()]
        file.write_text(tomli_w.dumps({"endpoint": "tcp://127.0.0.1:0", "nodes": rows, **tables}))
        command = [sys.executable, "-m", "testbed", "serve", str(file), "--until-stdin-closes", *arguments]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**(variables or {})),
        )
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        try:
            line = child.stdout.readline()
            assert line.startswith("listening on "), (line, child.communicate()[1])
            yield child, line.removeprefix("listening on ").strip()
        finally:
            with contextlib.suppress(OSError, ValueError):
                child.stdin.close()
            child.kill()
            child.wait()
            child.stdout.close()
            child.stderr.close()


@contextlib.contextmanager
def replayed_air() -> Iterator[Air]:
    """A capture of silence, whose radios need no frame."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "muted.h5"
        data = comp_text()
        for row in data["users"]:
            row["rx_gain_db"] = SETTINGS.rx_gain_db
        experiment, listening = validate(data, CompExperiment, "comp"), ("bs1", "bs2", "u1")
        save(path, capture_comp(num_frames=REPLAYED // 640, experiment=experiment, listening=listening, muted=True))
        yield Air("replay", None, "", replayed=path)


def settings_of(uri: str) -> dict[str, Any]:
    """What a virtual board is set to and whether a transmit buffer is open, asked on a connection of one's own."""
    iio = libiio.load("iio")
    with libiio.quiet():
        context = iio.Context(uri)
        phy, core = context.find_device("ad9361-phy"), context.find_device("cf-ad9361-dds-core-lpc")
        num_channels = 2 if phy.find_channel("voltage1", True) is not None else 1
        found = {
            "tx_gain_db": [
                float(phy.find_channel(f"voltage{k}", True).attrs["hardwaregain"].value.split()[0])
                for k in range(num_channels)
            ],
            "rx_gain_db": [
                float(phy.find_channel(f"voltage{k}").attrs["hardwaregain"].value.split()[0])
                for k in range(num_channels)
            ],
            "gain_modes": [
                phy.find_channel(f"voltage{k}").attrs["gain_control_mode"].value for k in range(num_channels)
            ],
            "powerdown": int(phy.find_channel("altvoltage1", True).attrs["powerdown"].value),
            "tx_lo_hz": int(phy.find_channel("altvoltage1", True).attrs["frequency"].value),
            "rx_lo_hz": int(phy.find_channel("altvoltage0", True).attrs["frequency"].value),
            "fir": phy.attrs["filter_fir_config"].value,
            "loopback": int(phy.debug_attrs["loopback"].value),
            "tones": [
                channel.attrs["raw"].value != "0" and float(channel.attrs["scale"].value) != 0
                for channel in core.channels
                if "raw" in channel.attrs
            ],
        }
        core.find_channel("voltage0", True).enabled = True
        core.find_channel("voltage1", True).enabled = True
        try:
            buffer = iio.Buffer(core, 1024, True)
            del buffer
            found["has_buffer"] = False
        except OSError:
            found["has_buffer"] = True
        del phy, core, context
    return found


def is_silent(uri: str) -> bool:
    """Whether a board is muted in every way that it has."""
    found = settings_of(uri)
    return (
        all(gain_db == -89.75 for gain_db in found["tx_gain_db"])
        and found["powerdown"] == 1
        and not found["has_buffer"]
        and not any(found["tones"])
        and found["loopback"] == 0
    )
