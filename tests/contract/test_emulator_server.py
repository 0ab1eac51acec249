"""The emulator's server meets what a port on a network meets: garbage, and goes on serving."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from testbed.radio.wire import MAX_MESSAGE_BYTES, pack, unpack
from tests.emulator import SETTINGS, emulator_process, remote_radio, request

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
    (message(op="receive", node="bs1", num_samples="many"), "whole number"),
    (message(op="receive", node="bs1", num_samples=True), "whole number"),
    (message(op="receive", node="bs1", num_samples=10**15), "per request"),
    (message(op="condition", condition="without:nobody"), "targets here: t1, t2, t3"),
    (message(op="transmit", node="bs1"), "cf32"),
    ([*message(op="transmit", node="bs1", dtype="cf32", shape=[1, 10**7]), b"x"], "needs"),
    ([*message(op="transmit", node="bs1", dtype="pickle", shape=[1]), b"x"], "dtype"),
    ([*message(op="transmit", node="bs1", dtype="cf32", shape=[1, -1]), b""], "shape"),
]


@pytest.mark.parametrize(("parts", "words"), BAD)
def test_a_bad_message_gets_an_error_reply_that_says_why(endpoint: str, parts: list[bytes], words: str) -> None:
    request(endpoint, op="configure", node="bs1", settings=SETTINGS.to_dict())
    reply = exchange(endpoint, parts)
    assert words in str(reply["error"])


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
