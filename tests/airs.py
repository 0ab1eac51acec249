"""Simulated air that a radio under test transmits into: the emulator behind the wire, or virtual Plutos behind libiio.

The server is a process of its own; what a test asks of it does not pass through the radio under test.
"""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from testbed.errors import RadioUnavailable
from testbed.radio import libiio
from testbed.radio.base import Radio
from testbed.radio.pluto import PlutoRadio
from testbed.radio.remote import RemoteRadio
from tests.emulator import emulator_process, request

KINDS = ("emulator", "pluto")
USERS = ("u1", "u2", "u3")  # of the CoMP scene: they only receive


@dataclass(frozen=True)
class Air:
    """A server of simulated radios."""

    kind: str
    process: "subprocess.Popen[Any]"
    control: str  # endpoint of status and conditions
    uris: Mapping[str, str] = field(default_factory=dict)  # of virtual boards, by node

    def open(self, node: str = "bs1", timeout_s: float = 10.0) -> Radio:
        """A radio of a node."""
        if self.kind == "emulator":
            return RemoteRadio(self.control, node, timeout_s=timeout_s)
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
        transmitting = request(self.control, op="status")["transmitting"]
        assert isinstance(transmitting, dict)
        return bool(transmitting[node])

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Within, the server does not answer."""
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


@contextlib.contextmanager
def air(kind: str, *arguments: str) -> Iterator[Air]:
    """Simulated air of the CoMP scene."""
    if kind == "pluto":
        need_libiio()
        with pluto_process("comp", *arguments) as made:
            yield made
        return
    with emulator_process("comp", *arguments) as (process, endpoint):
        yield Air(kind, process, endpoint)


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
