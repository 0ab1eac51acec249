"""A served radio is lent to one client at a time, and silent whenever nobody is heard of who wants it otherwise."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import zmq

from testbed.errors import IsacError, RadioError, RadioUnavailable
from testbed.radio.attendance import attended
from testbed.radio.keys import load_client_keys, make_keys
from testbed.radio.remote import RemoteRadio
from testbed.radio.serving.file import load_served
from testbed.radio.serving.server import RadioServer
from testbed.radio.wire import MAX_MESSAGE_BYTES, MAX_RECEIVE_SAMPLES, pack, unpack
from tests.airs import is_silent, need_libiio, pluto_process, served_process, settings_of
from tests.emulator import SETTINGS, emulator_process, environment, request, tone

pytestmark = pytest.mark.emulated

WATCHDOG_S = 0.5
QUICK = {"safety": {"watchdog_s": WATCHDOG_S}, "idle_timeout_s": 1.5}


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with emulator_process() as (_, endpoint):
        yield endpoint


@pytest.fixture(scope="module")
def served(emulator: str) -> Iterator[str]:
    """bs1 and u1 of the CoMP scene."""
    with served_process({"bs1": emulator, "u1": emulator}) as (_, endpoint):
        yield endpoint


@pytest.fixture(scope="module")
def impatient(emulator: str) -> Iterator[str]:
    """bs2 and bs3, with a watchdog of half a second."""
    with served_process({"bs2": emulator, "bs3": emulator}, **QUICK) as (_, endpoint):
        yield endpoint


def transmitting(emulator: str, node: str) -> bool:
    found = request(emulator, op="status")["transmitting"]
    assert isinstance(found, dict)
    return bool(found[node])


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> float:
    """Seconds until something came true."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s
        time.sleep(0.02)
    return time.monotonic() - began


def on_air(endpoint: str, node: str) -> RemoteRadio:
    radio = RemoteRadio(endpoint, node)
    radio.configure(SETTINGS)
    radio.transmit(tone())
    return radio


def exchange(endpoint: str, parts: list[bytes]) -> dict[str, Any]:
    client: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    client.setsockopt(zmq.LINGER, 0)
    client.connect(endpoint)
    try:
        client.send_multipart(parts)
        assert client.poll(10_000), "no reply"
        return unpack(client.recv_multipart())[0]
    finally:
        client.close()


# One client at a time


def test_a_second_client_gets_one_line_and_the_first_goes_on(served: str) -> None:
    first = RemoteRadio(served, "bs1")
    try:
        first.configure(SETTINGS)
        with pytest.raises(RadioUnavailable) as refused:
            RemoteRadio(served, "bs1")
        assert str(refused.value).startswith("bs1: held by a client at 127.0.0.1 since ")
        assert "\n" not in str(refused.value)
        assert first.receive(1000).num_samples == 1000
    finally:
        first.close()
    RemoteRadio(served, "bs1").close()


def test_another_connection_can_do_nothing_without_the_hold_and_everything_with_it(served: str) -> None:
    first = on_air(served, "bs1")
    try:
        for op, more in (("mute", {}), ("leave", {}), ("attend", {}), ("receive", {"num_samples": 10})):
            with pytest.raises(RadioUnavailable, match=r"held by a client at .*; say hello before anything else"):
                request(served, op=op, node="bs1", **more)
        assert first.receive(10).num_samples == 10
        assert request(served, op="mute", node="bs1", **first._hold)["ok"] == "mute"
        assert first.receive(10).num_samples == 10
    finally:
        first.close()


def test_nothing_is_done_before_hello(served: str) -> None:
    with pytest.raises(RadioUnavailable, match="u1: held by nobody; say hello"):
        request(served, op="receive", node="u1", num_samples=10)


def test_looking_takes_no_hold(served: str) -> None:
    first = RemoteRadio(served, "bs1")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "testbed", "radios", served, "--json"],
            capture_output=True, text=True, timeout=60, env=environment(), check=False,
        )  # fmt: skip
        row = next(row for row in json.loads(done.stdout)["radios"] if row["radio"] == served)
        assert (row["nodes"], row["simulated"], row["problem"]) == (["bs1"], True, "")
        status = request(served, op="status")
        held = status["held"]
        assert isinstance(held, dict)
        assert held["u1"] is None and held["bs1"].startswith("a client at 127.0.0.1 since")
    finally:
        first.close()


# Silence


CLIENT = """
import sys, time
from tests.contract.test_served import on_air
radio = on_air(sys.argv[1], sys.argv[2])
print("transmitting", flush=True)
time.sleep(60)
"""


def client_process(endpoint: str, node: str) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", CLIENT, endpoint, node],
        env=environment(PYTHONPATH=os.pathsep.join(path or "." for path in sys.path)),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "transmitting\n"
    return child


def test_a_client_that_is_killed_leaves_silence_and_a_radio_for_the_next(served: str, emulator: str) -> None:
    child = client_process(served, "bs1")
    assert transmitting(emulator, "bs1")
    child.kill()
    child.communicate()
    assert wait_until(lambda: not transmitting(emulator, "bs1")) < 2.0
    with_next = on_air(served, "bs1")
    assert transmitting(emulator, "bs1")
    with_next.close()
    assert not transmitting(emulator, "bs1")


def test_a_host_that_stands_still_is_lost(emulator: str) -> None:
    # idle_timeout_s is 600 s: it is the connection that ends
    with served_process({"bs1": emulator}, safety={"watchdog_s": 1.0}) as (_, endpoint):
        child = client_process(endpoint, "bs1")
        child.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: request(endpoint, op="status")["held"]["bs1"] is None)  # type: ignore[index]
            assert not transmitting(emulator, "bs1")
        finally:
            child.kill()
            child.communicate()


def test_a_client_that_stalls_is_muted_and_goes_on_with_its_next_reception(impatient: str, emulator: str) -> None:
    radio = on_air(impatient, "bs2")
    try:
        loud = np.abs(radio.receive(6400).samples).std()
        took_s = wait_until(lambda: not transmitting(emulator, "bs2"))
        assert took_s < 2 * WATCHDOG_S + 0.3
        again = np.abs(radio.receive(6400).samples).std()
        assert transmitting(emulator, "bs2")
        assert again == pytest.approx(loud, rel=0.05)
        assert radio.attend() == 1
    finally:
        radio.close()


def test_within_attended_a_radio_that_nobody_asks_stays_on_the_air(impatient: str, emulator: str) -> None:
    sending, other = on_air(impatient, "bs2"), on_air(impatient, "bs3")
    try:
        with attended([sending, other]):
            deadline = time.monotonic() + 3 * WATCHDOG_S
            while time.monotonic() < deadline:
                other.receive(1000)
                assert transmitting(emulator, "bs2")
        wait_until(lambda: not transmitting(emulator, "bs2"))
        with attended([sending, other]):
            assert transmitting(emulator, "bs2")  # back before anybody receives
    finally:
        sending.close()
        other.close()


def test_a_radio_that_was_muted_within_attended_spoils_the_block(impatient: str, emulator: str) -> None:
    radio = on_air(impatient, "bs2")
    try:
        with (
            pytest.raises(RadioError, match="bs2: its server had muted it for want of a sign of life"),
            attended([radio]),
            radio._lock,  # the host stalls
        ):
            wait_until(lambda: not transmitting(emulator, "bs2"))
    finally:
        radio.close()


def test_a_client_that_is_not_heard_of_for_long_loses_its_hold_and_is_told(impatient: str) -> None:
    radio = RemoteRadio(impatient, "bs2")
    held = lambda: request(impatient, op="status")["held"]["bs2"]  # type: ignore[index]  # noqa: E731
    assert held() is not None
    assert wait_until(lambda: held() is None) < 3.0
    other = RemoteRadio(impatient, "bs2")
    with pytest.raises(RadioUnavailable) as lost:
        radio.receive(10)
    assert str(lost.value) == ("bs2: is no longer this client's: nothing was heard from it for 1.5 s; open it again")
    radio.close()  # mutes nothing of the other's
    other.configure(SETTINGS)
    assert other.receive(10).num_samples == 10
    other.close()


def test_a_server_that_is_told_to_end_mutes_and_its_client_gets_one_line(emulator: str) -> None:
    with served_process({"bs3": emulator}) as (server, endpoint):
        radio = on_air(endpoint, "bs3")
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=30)
        assert (server.returncode, err) == (130, "error: interrupted\n")
        assert not transmitting(emulator, "bs3")
        with pytest.raises(RadioUnavailable, match="the server ended or closed the connection; start it again") as gone:
            radio.receive(1000)
        assert "\n" not in str(gone.value)
        radio.close()


def test_a_server_whose_own_radio_is_lost_says_so_and_finds_it_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
    with emulator_process("comp", "--endpoint", where) as (process, _), served_process({"bs1": where}) as (_, endpoint):
        radio = on_air(endpoint, "bs1")
        process.kill()
        process.wait()
        with pytest.raises(RadioUnavailable, match=f"{where}: the server ended"):
            radio.receive(10)
        with pytest.raises(RadioUnavailable, match="no longer this client's: its radio was lost; open it again"):
            radio.receive(10)
        radio.close()
        with emulator_process("comp", "--endpoint", where):
            again = on_air(endpoint, "bs1")
            assert again.receive(1000).num_samples == 1000
            again.close()


# On air: a board at an address that is no loopback address counts as one


BAND = {"name": "lab", "low_hz": 3.48e9, "high_hz": 3.52e9, "max_power_dbm": 10.0, "basis": "cabled, 60 dB attenuator"}


def test_a_real_radio_is_served_with_consent_only_within_its_bands_and_falls_silent_with_its_client() -> None:
    need_libiio()
    with pluto_process() as air:
        uri = air.uris["bs1"].replace("127.0.0.1", "0.0.0.0")
        refused = serve_file({"nodes": [{"name": "bs1", "radio": f"pluto:{uri}"}], "endpoint": "tcp://127.0.0.1:0"})
        assert refused.startswith("error: bs1: would transmit on air, and nobody agreed to that; pass --transmit")
        safety = {"bands": [BAND], "watchdog_s": WATCHDOG_S}
        with served_process({"bs1": f"pluto:{uri}"}, ["--transmit"], safety=safety) as (_, endpoint):
            radio = on_air(endpoint, "bs1")
            assert not radio.limits.simulated
            assert not is_silent(air.uris["bs1"])
            radio.refresh()
            assert radio.receive(1000).continuity == "unknown"
            wait_until(lambda: is_silent(air.uris["bs1"]))
            with attended([radio]):
                assert not is_silent(air.uris["bs1"])
            radio.configure(replace(SETTINGS, carrier_hz=SETTINGS.carrier_hz, tx_gain_db=-20.0))
            with pytest.raises(RadioError, match=r"no band of \[safety\] holds"):
                radio.configure(replace(SETTINGS, carrier_hz=2.4e9))
            with pytest.raises(RadioError, match="these radios are real; on air targets are moved by hand"):
                request(endpoint, op="condition", condition="all")
            radio.close()
            child = client_process(endpoint, "bs1")
            assert not is_silent(air.uris["bs1"])
            child.kill()
            child.communicate()
            assert wait_until(lambda: is_silent(air.uris["bs1"])) < 3.0


def test_a_server_that_is_killed_leaves_a_board_without_samples() -> None:
    need_libiio()
    with pluto_process() as air:
        uri = air.uris["bs1"].replace("127.0.0.1", "0.0.0.0")
        safety = {"bands": [BAND], "transmit": True}
        with served_process({"bs1": f"pluto:{uri}"}, safety=safety) as (server, endpoint):
            radio = on_air(endpoint, "bs1")
            server.kill()
            wait_until(lambda: not air.is_transmitting())
            with pytest.raises(RadioUnavailable, match="the server ended"):
                radio.receive(1000)
            radio.close()


def test_a_served_board_has_what_its_device_says_and_tells_its_clients_which_one_it_is(tmp_path: Path) -> None:
    need_libiio()
    power = {"tx_full_scale_dbm": 6.5, "rx_full_scale_dbm": 4.0, "basis": "power meter"}
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps({"extends": "pluto-20msps", "power": power}))
    with pluto_process() as air:
        row = {"name": "bs1", "radio": f"pluto:{air.uris['bs1']}", "device": str(path)}
        with served_process({}, nodes=[row]) as (_, endpoint):
            radio = RemoteRadio(endpoint, "bs1")
            radio.configure(replace(SETTINGS, sample_rate_hz=10e6))
            assert (radio.limits.tx_full_scale_dbm, radio.limits.rx_full_scale_dbm) == (6.5, 4.0)
            assert settings_of(air.uris["bs1"])["fir"] == "FIR Rx: 128,4 Tx: 128,4"
            assert radio.num_channels == 1
            assert radio.attributes["fw_version"] == "v0.38"
            serial = radio.attributes["hw_serial"]
            radio.close()
        path.write_text(tomli_w.dumps({"extends": "pluto-20msps", "serial": "9" + serial[1:]}))
        refused = serve_file({"nodes": [row], "endpoint": "tcp://127.0.0.1:0"})
        assert refused.startswith(f"error: bs1: the board is not as mine says: serial '{serial}', needs '9")
        assert is_silent(air.uris["bs1"])


# The air of simulated radios


def test_conditions_reach_the_emulator_behind_the_server(served: str, emulator: str) -> None:
    epoch = int(str(request(emulator, op="status")["epoch"])) + 5000
    assert request(served, op="condition", condition="without:t1", epoch=epoch)["epoch"] == epoch
    there, here = request(emulator, op="status"), request(served, op="status")
    assert there["condition"] == here["condition"] == "without:t1"
    assert (here["air"], here["seed"]) == (there["air"], there["seed"])
    with pytest.raises(RadioError, match="targets here: t1, t2, t3"):
        request(served, op="condition", condition="without:nobody")
    request(served, op="condition", condition="all")


def test_a_server_may_serve_what_another_one_serves(served: str) -> None:
    with served_process({"bs1": served, "u1": served}) as (_, endpoint):
        radio = on_air(endpoint, "bs1")
        assert radio.receive(1000).num_samples == 1000
        with pytest.raises(RadioUnavailable, match="held by a client"):
            RemoteRadio(served, "bs1")
        radio.close()


# What a port on a network meets


def message(**header: object) -> list[bytes]:
    return [json.dumps({"v": 1, "seq": 5, **header}).encode()]


BAD = [
    ([b""], "not JSON"),
    ([b"[1,2]"], "not a JSON object"),
    ([b"{" * 100_000], "at most"),
    ([b'{"v": 99}'], "version 99"),
    ([b"{}", b"", b""], "3 parts"),
    (message(), "op None"),
    (message(op=["mute"]), "must be one of"),
    (message(op="reboot"), "op 'reboot'; must be one of hello, status, condition, attend"),
    (message(op="hello", node=7), "must be text"),
    (message(op="hello", node="nobody"), "node 'nobody': not here; nodes here: bs1, u1"),
    (message(op="leave", node="bs1", hold=["x"]), "held by nobody"),
    (message(op="attend", node="bs1", hold=""), "held by nobody"),
    (message(op="condition"), "must be text"),
    ([*message(op="transmit", node="bs1", dtype="cf32", shape=[1, 10**7]), b"x"], "needs"),
    ([*message(op="transmit", node="bs1", dtype="pickle", shape=[1]), b"x"], "dtype"),
]


@pytest.mark.parametrize(("parts", "words"), BAD)
def test_a_bad_message_gets_an_error_reply_that_says_why(served: str, parts: list[bytes], words: str) -> None:
    assert words in exchange(served, parts)["error"]
    assert request(served, op="status")["ok"] == "status"


OF_A_HOLDER = [
    ({"op": "receive", "num_samples": MAX_RECEIVE_SAMPLES + 1}, "1..262144 per request"),
    ({"op": "receive", "num_samples": 10**15}, "per request"),
    ({"op": "receive", "num_samples": True}, "whole number"),
    ({"op": "configure"}, "versions differ"),
    ({"op": "configure", "settings": {**SETTINGS.to_dict(), "rx_gain_db": 10**400}}, "finite number"),
    ({"op": "transmit"}, "cf32"),
]


@pytest.mark.parametrize(("header", "words"), OF_A_HOLDER)
def test_a_holder_who_asks_for_nonsense_keeps_his_radio(served: str, header: dict[str, Any], words: str) -> None:
    radio = RemoteRadio(served, "bs1")
    try:
        radio.configure(SETTINGS)
        with pytest.raises(RadioError, match=words):
            radio._client.request({"node": "bs1", **radio._hold, **header})
        assert radio.receive(10).num_samples == 10
    finally:
        radio.close()


def test_random_bytes_never_end_the_server(served: str) -> None:
    rng = np.random.default_rng(1)
    client: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    client.setsockopt(zmq.LINGER, 0)
    client.connect(served)
    good = pack({"op": "hello", "node": "bs1", "look": True, "seq": 1})[0]
    for _ in range(2000):
        broken = bytearray(good)
        for at in rng.integers(0, len(broken), size=rng.integers(1, 6)):
            broken[at] = rng.integers(0, 256)
        parts = [bytes(broken), *(rng.bytes(int(rng.integers(0, 40))) for _ in range(rng.integers(0, 3)))]
        client.send_multipart(parts)
        assert client.poll(10_000), parts
        client.recv_multipart()
    client.close()
    # some of them were valid and took hold of a radio; with the connection that is over
    wait_until(lambda: set(request(served, op="status")["held"].values()) == {None})  # type: ignore[attr-defined]
    RemoteRadio(served, "u1").close()


def test_a_message_beyond_the_limit_costs_its_sender_the_connection_and_his_radio(served: str, emulator: str) -> None:
    radio = on_air(served, "bs1")
    radio._client._socket.setsockopt(zmq.MAXMSGSIZE, -1)
    radio._client._socket.send_multipart([b"x", bytes(MAX_MESSAGE_BYTES + 1)], copy=False)
    wait_until(lambda: not transmitting(emulator, "bs1"))
    with pytest.raises(RadioError):
        radio.receive(10)
    radio.close()
    on_air(served, "bs1").close()


# Keys


def test_beyond_loopback_keys_are_asked_for_and_serve_their_client(emulator: str, tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    rows = {"bs1": emulator}
    with served_process(rows, endpoint="tcp://0.0.0.0:0", keys=str(tmp_path / "keys")) as (_, bound):
        endpoint = bound.replace("0.0.0.0", "127.0.0.1")
        radio = RemoteRadio(endpoint, "bs1", keys=load_client_keys(tmp_path / "keys"))
        radio.configure(SETTINGS)
        assert radio.receive(1000).num_samples == 1000
        with pytest.raises(RadioUnavailable, match="if it asks for them, give the folder"):
            RemoteRadio(endpoint, "bs1")
        radio.close()


# Files


def serve_file(data: dict[str, Any] | str, *arguments: str) -> str:
    """What `isac serve` says of a file that it cannot use."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "radio.toml"
        file.write_text(data if isinstance(data, str) else tomli_w.dumps(data))
        done = subprocess.run(
            [sys.executable, "-m", "testbed", "serve", str(file), *arguments],
            capture_output=True, text=True, timeout=60, env=environment(), stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    assert done.returncode == 1, (done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    return line.replace(f"{file}: ", "")


NODE = {"name": "bs1", "radio": "pluto:ip:192.168.2.1"}
FAULTY = [
    ("endpoint = [", "not valid TOML"),
    ({}, "nodes: missing; it must be given"),
    ({"nodes": []}, "nodes: found []"),
    ({"nodes": [{"name": "bs1"}]}, "nodes[0].radio: missing"),
    ({"nodes": [NODE | {"name": "a b"}]}, "nodes[0].name: found 'a b'"),
    ({"nodes": [NODE | {"radio": "emulator"}]}, "nodes[0]: radio: found 'emulator'; must be tcp://HOST:PORT"),
    ({"nodes": [NODE | {"radio": "pluto:x"}]}, "nodes[0]: radio: pluto:x: must read pluto:ip:HOST"),
    ({"nodes": [NODE | {"keys": "keys"}]}, "nodes[0]: keys: only a radio at tcp://HOST:PORT has keys"),
    ({"nodes": [{"name": "a", "radio": "tcp://127.0.0.1:1", "channel": 1}]}, "nodes[0]: only a Pluto or USRP has"),
    (
        {"nodes": [{"name": "a", "radio": "tcp://127.0.0.1:1", "device": "pluto"}]},
        "only a Pluto or USRP has channel",
    ),
    ({"nodes": [NODE | {"channel": 2}]}, "nodes[0]: channel: found 2; a Pluto has 0 and, with 2R2T, 1"),
    ({"nodes": [NODE | {"device": "plato"}]}, "device 'plato': no such configuration; there are"),
    ({"nodes": [NODE | {"device": "b200"}]}, "bs1.device: radio = 'pluto:ip:192.168.2.1', and b200 is a usrp"),
    ({"nodes": [NODE | {"device": "mine.toml"}]}, "mine.toml: no such file"),
    ({"nodes": [NODE | {"radio": "uhd:"}]}, "nodes[0]: device: missing; a USRP tells neither its powers"),
    (
        {"nodes": [NODE | {"radio": "uhd:x", "device": "b200"}]},
        "nodes[0]: radio: 'uhd:x': found 'x'; must be",
    ),
    ({"nodes": [NODE, NODE]}, "nodes[1].name: 'bs1' stands twice; names must differ"),
    ({"nodes": [NODE, NODE | {"name": "b"}]}, "nodes[1]: channel 0 of pluto:ip:192.168.2.1 is given twice"),
    ({"nodes": [NODE], "endpoint": "5556"}, "endpoint '5556': must read tcp://HOST:PORT"),
    ({"nodes": [NODE], "endpoint": "tcp://0.0.0.0:1"}, "endpoint 'tcp://0.0.0.0:1': only loopback addresses"),
    ({"nodes": [NODE], "idle_timeout_s": 5.0}, "idle_timeout_s: found 5, below safety.watchdog_s = 10"),
    ({"nodes": [NODE], "watchdog_s": 5.0}, "watchdog_s: unknown key"),
    ({"nodes": [NODE], "keys": "none"}, "none: no such folder; give one with keys"),
    ({"nodes": [{"name": "a", "radio": "replay:none.h5"}]}, "none.h5: no such file"),
    ({"nodes": [{"name": "a", "radio": "tcp://127.0.0.1:1"}], "timeout_s": 0.5}, "no answer within 0.5 s"),
]


@pytest.mark.parametrize(("data", "words"), FAULTY)
def test_a_file_that_cannot_be_served_is_one_line(data: dict[str, Any] | str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "radio.toml"
    file.write_text(data if isinstance(data, str) else tomli_w.dumps(data))
    with pytest.raises(IsacError) as refused:
        RadioServer(load_served(file))
    assert "\n" not in str(refused.value)
    assert words in str(refused.value).replace(f"{file}: ", "")


def test_a_file_that_is_not_there_and_a_port_that_is_taken_are_one_line(emulator: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "serve", str(tmp_path / "none.toml")],
        capture_output=True, text=True, timeout=60, env=environment(), check=False,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    nodes = {"nodes": [{"name": "bs1", "radio": emulator}]}
    assert "cannot be bound" in serve_file(nodes, "--endpoint", emulator)


def test_emulators_that_share_no_air_are_not_served_together(emulator: str) -> None:
    with emulator_process() as (_, second):
        nodes = [{"name": "bs1", "radio": emulator}, {"name": "bs2", "radio": second}]
        assert serve_file({"nodes": nodes, "endpoint": "tcp://127.0.0.1:0"}).startswith(
            "error: nodes: simulated radios of several emulators or replays share no air"
        )


def test_a_radio_that_shall_only_receive_has_no_transmitter(emulator: str, tmp_path: Path) -> None:
    file = tmp_path / "radio.toml"
    row = {"name": "bs3", "radio": emulator, "transmits": False}
    file.write_text(tomli_w.dumps({"endpoint": "tcp://127.0.0.1:0", "nodes": [row]}))
    command = [sys.executable, "-m", "testbed", "serve", str(file), "--until-stdin-closes"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert child.stdout is not None and child.stdin is not None
    endpoint = child.stdout.readline().removeprefix("listening on ").strip()
    radio = RemoteRadio(endpoint, "bs3")
    assert radio.limits.num_tx == 0
    with pytest.raises(RadioError, match="bs3: has no transmitter"):
        parts = {"op": "transmit", "node": "bs3", **radio._hold}
        radio._client.request(parts, tone())
    radio.close()
    child.stdin.close()
    assert child.wait(30) == 0
    child.stdout.close()


def test_help_has_an_example_and_loads_no_zmq() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['isac', 'serve', '--help']\n"
        "from testbed.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as exc:\n    assert not exc.code\n"
        "heavy = {'zmq', 'numpy', 'scipy', 'h5py', 'matplotlib', 'cvxpy', 'numba'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    assert "Example: isac serve" in done.stdout
    assert done.stdout.strip().endswith("HEAVY []")


def test_serving_loads_no_solver_and_no_figures() -> None:
    code = (
        "import sys\n"
        "import testbed.radio.serving.server\n"
        "print(sorted({'h5py', 'matplotlib', 'cvxpy', 'numba', 'sim'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
