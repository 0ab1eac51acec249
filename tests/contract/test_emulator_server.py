"""The emulator's server meets what a port on a network meets: garbage, and goes on serving."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from sim.emulator import Emulator
from sim.scene import load_scene
from testbed.errors import SafetyRefused
from testbed.radio.wire import MAX_MESSAGE_BYTES, MAX_RECEIVE_SAMPLES, pack, unpack
from tests.emulator import SETTINGS, emulator_process, remote_radio, request, tone

pytestmark = pytest.mark.emulated


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with emulator_process() as (_, where):
        yield where


def exchange(endpoint: str, parts: list[bytes]) -> dict[str, object]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    try:
        socket.send_multipart(parts)
        assert socket.poll(10_000), "no reply"
        return unpack(socket.recv_multipart())[0]
    finally:
        socket.close()


def message(**header: object) -> list[bytes]:
    return [json.dumps({"v": 1, "seq": 5, **header}).encode()]


BAD = [
    ([b""], "not JSON"),
    ([b"\xff\xfe"], "not JSON"),
    ([b"[1,2]"], "not a JSON object"),
    ([b"{" * 100_000], "at most"),
    ([b'{"v": 99}'], "version 99"),
    ([b'{"v": 1}', b"payload"], "payload without"),
    ([b"{}", b"", b""], "3 parts"),
    (message(), "op None"),
    (message(op="reboot"), "op 'reboot'"),
    (message(op=["mute"]), "must be one of"),
    (message(op="hello", node=7), "must be text"),
    (message(op="hello", node="nobody"), "nodes here: bs1, bs2, bs3"),
    (message(op="configure", node="bs1"), "versions differ"),
    (message(op="configure", node="bs1", settings={**SETTINGS.to_dict(), "tx_gain_db": "loud"}), "tx_gain_db"),
    (message(op="configure", node="bs1", settings={**SETTINGS.to_dict(), "carrier_hz": 10**400}), "finite number"),
    (message(op="configure", node="bs1", settings={**SETTINGS.to_dict(), "carrier_hz": float("nan")}), "finite number"),
    (message(op="configure", node="bs1", settings={**SETTINGS.to_dict(), "rx_gain_db": float("inf")}), "finite number"),
    (message(op="configure", node="bs1", settings={**SETTINGS.to_dict(), "tx_gain_db": 1e308}), "is outside"),
    (message(op="configure", node="bs1", settings={**SETTINGS.to_dict(), "rx_gain_db": -1e308}), "is outside"),
    (message(op="receive", node="bs1", num_samples="many"), "whole number"),
    (message(op="receive", node="bs1", num_samples=MAX_RECEIVE_SAMPLES + 1), "1..262144 per request"),
    (message(op="receive", node="bs1", num_samples=0), "per request"),
    (message(op="receive", node="bs1", num_samples=True), "whole number"),
    (message(op="receive", node="bs1", num_samples=10**15), "per request"),
    (message(op="condition", condition="without:nobody"), "targets here: t1, t2, t3"),
    (message(op="condition", condition="all", epoch=True), "epoch True; must be a whole number"),
    (message(op="condition", condition="all", epoch=5000.0), "epoch 5000.0; must be a whole number"),
    (message(op="condition", condition="all", epoch="5000"), "epoch '5000'; must be a whole number"),
    (message(op="condition", condition="all", epoch=None), "epoch None; must be a whole number"),
    (message(op="condition", condition="all", epoch=[5000]), "epoch [5000]; must be a whole number"),
    (message(op="condition", condition="all", epoch=-1), "epoch -1: must lie in 0..16777215"),
    (message(op="condition", condition="all", epoch=1 << 24), "epoch 16777216: must lie in 0..16777215"),
    (message(op="condition", condition="all", epoch=10**1000), "must lie in 0..16777215"),
    (message(op="transmit", node="bs1"), "cf32"),
    ([*message(op="transmit", node="u1", dtype="cf32", shape=[1, 2]), bytes(16)], "u1: not configured yet"),
    ([*message(op="transmit", node="bs1", dtype="cf32", shape=[1, 10**7]), b"x"], "needs"),
    ([*message(op="transmit", node="bs1", dtype="pickle", shape=[1]), b"x"], "dtype"),
    ([*message(op="transmit", node="bs1", dtype="cf32", shape=[1, -1]), b""], "shape"),
]


@pytest.mark.parametrize(("parts", "words"), BAD)
def test_a_bad_message_gets_an_error_reply_that_says_why(endpoint: str, parts: list[bytes], words: str) -> None:
    request(endpoint, op="configure", node="bs1", settings=SETTINGS.to_dict())
    reply = exchange(endpoint, parts)
    assert words in str(reply["error"])
    assert request(endpoint, op="status")["ok"] == "status"


@pytest.mark.parametrize("failure", [ZeroDivisionError("division by zero"), MemoryError(), OverflowError("inf")])
def test_a_fault_of_the_emulator_is_answered_and_logged_and_the_next_message_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    emulator = Emulator(load_scene("comp"), "tcp://127.0.0.1:0")
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(emulator.endpoint)

    def fail(node: str) -> None:
        raise failure

    monkeypatch.setattr(emulator.world, "mute", fail)
    try:
        replies = []
        for op in ("mute", "status"):
            socket.send_multipart(message(op=op, node="bs1"))
            emulator._answer_one()
            assert socket.poll(10_000)
            replies.append(unpack(socket.recv_multipart())[0])
    finally:
        socket.close()
        emulator.close()

    assert replies[0]["kind"] == "RadioError"
    assert replies[0]["seq"] == 5
    assert str(replies[0]["error"]).startswith(f"internal error of the emulator ({type(failure).__name__}")
    assert "Traceback" in caplog.text
    assert replies[1]["ok"] == "status"


def test_a_refused_epoch_changes_nothing(endpoint: str) -> None:
    before = request(endpoint, op="condition", condition="all")["epoch"]
    for epoch in (True, -1, 1 << 24, "7", None):
        assert "error" in exchange(endpoint, message(op="condition", condition="empty", epoch=epoch))
    status = request(endpoint, op="status")
    assert (status["epoch"], status["condition"]) == (before, "all")


# Nodes that only receive


def test_a_user_is_a_radio_that_listens(endpoint: str) -> None:
    with remote_radio(endpoint, "u2") as radio:
        assert (radio.limits.num_tx, radio.limits.num_rx) == (0, 1)
        assert radio.configure(replace(SETTINGS, rx_gain_db=43.0)).rx_gain_db == 43.0
        first = radio.receive(1000)
        assert first.raw.shape == (1, 1000, 2)
        radio.mute()
        second = radio.receive(1000)
        assert (second.epoch, second.start) == (first.epoch, 1000)  # there was nothing to mute
        status = request(endpoint, op="status")
        assert status["transmitting"] == dict.fromkeys(("bs1", "bs2", "bs3"), False)


def test_a_user_hears_a_base_station(endpoint: str) -> None:
    # bs2 to u2, 41.5 m: 15 - 10 - 6 of the tone, 43.3 + 48.5 - 6 dB of loss: -86.8 dBm over a noise of -95.7 dBm with
    # rounding. The power of 64,000 samples is known to 0.4 %
    with remote_radio(endpoint, "u2", configured=False) as user, remote_radio(endpoint, "bs2") as station:
        user.configure(replace(SETTINGS, rx_gain_db=43.0))
        quiet = float(np.mean(np.abs(user.receive(64_000).samples) ** 2))
        station.transmit(tone())
        loud = float(np.mean(np.abs(user.receive(64_000).samples) ** 2))
    assert 10 * np.log10(loud / quiet) == pytest.approx(10 * np.log10(1 + 10 ** ((-86.8 + 95.65) / 10)), abs=0.2)


def test_a_user_that_is_told_to_transmit_refuses_in_one_line(endpoint: str) -> None:
    with remote_radio(endpoint, "u3") as radio:
        epoch = request(endpoint, op="status")["epoch"]
        for shape in ([1, 4], [0, 4]):
            parts = [*message(op="transmit", node="u3", dtype="cf32", shape=shape), bytes(8 * shape[0] * shape[1])]
            assert exchange(endpoint, parts)["error"] == "u3: has no transmitter"
        with pytest.raises(SafetyRefused) as refused:
            radio.transmit(tone())
        assert "\n" not in str(refused.value)
        assert request(endpoint, op="status")["epoch"] == epoch


def resident_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def test_a_client_that_never_reads_cannot_grow_the_server() -> None:
    with emulator_process() as (process, where):
        request(where, op="configure", node="bs1", settings=SETTINGS.to_dict())
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, 1)  # or this process would hold what the server does not
        socket.connect(where)
        asked = 120  # replies of a megabyte
        try:
            socket.send_multipart(message(op="receive", node="bs1", num_samples=MAX_RECEIVE_SAMPLES))
            assert socket.poll(10_000)
            before = resident_bytes(process.pid)
            for _ in range(asked):
                socket.send_multipart(message(op="receive", node="bs1", num_samples=MAX_RECEIVE_SAMPLES))
            socket.send_multipart(message(op="condition", condition="empty"))
            deadline = time.monotonic() + 60
            while request(where, op="status")["condition"] != "empty":  # the last message was answered
                assert time.monotonic() < deadline
                time.sleep(0.05)
            grown = resident_bytes(process.pid) - before
        finally:
            socket.close()
        # 16 replies of a megabyte, and working memory
        assert grown < 40e6


def test_status_tells_the_seed_of_the_noise_in_use(endpoint: str) -> None:
    assert request(endpoint, op="status")["seed"] == 1  # the scene's own
    with emulator_process("comp", "--seed", str(2**64 - 1)) as (_, where):
        assert request(where, op="status")["seed"] == 2**64 - 1


def test_random_bytes_never_end_the_server(endpoint: str) -> None:
    rng = np.random.default_rng(1)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    good = pack({"op": "receive", "node": "bs1", "num_samples": 10, "seq": 1})[0]
    for _ in range(2000):
        broken = bytearray(good)
        for at in rng.integers(0, len(broken), size=rng.integers(1, 6)):
            broken[at] = rng.integers(0, 256)
        socket.send_multipart(
            [bytes(broken), *(rng.bytes(int(rng.integers(0, 40))) for _ in range(rng.integers(0, 3)))]
        )
        assert socket.poll(10_000), bytes(broken)
        socket.recv_multipart()
    socket.close()
    with remote_radio(endpoint) as radio:
        assert radio.receive(100).num_samples == 100


def test_a_message_beyond_the_limit_is_cut_off_and_the_next_client_is_served(endpoint: str) -> None:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    socket.send_multipart([*message(op="transmit"), bytes(MAX_MESSAGE_BYTES + 1)])
    assert not socket.poll(500)
    socket.close()
    assert request(endpoint, op="status")["ok"] == "status"


def test_clients_that_come_and_go_without_a_word_do_no_harm(endpoint: str) -> None:
    for _ in range(200):
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send_multipart(message(op="status"))
        socket.close()
    assert request(endpoint, op="status")["ok"] == "status"
