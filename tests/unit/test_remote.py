"""The ZMQ client against servers that misbehave: each failure has its own error, in time."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zmq

from sim.scene import load_scene
from testbed.device import Limits
from testbed.errors import (
    ConfigError,
    RadioError,
    RadioTimeout,
    RadioUnavailable,
    SafetyRefused,
    SampleLoss,
    SettingOutOfRange,
)
from testbed.radio.remote import BLOCK_SAMPLES, RemoteRadio, WireClient
from testbed.radio.wire import WireError, pack, unpack

LIMITS = load_scene("comp").limits(0)
Answer = Callable[[dict[str, Any]], list[Any] | None]


@contextlib.contextmanager
def server(answer: Answer) -> Iterator[str]:
    """A ROUTER that answers `hello` properly and everything else as told; None stays silent."""
    stop = threading.Event()
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    port = socket.bind_to_random_port("tcp://127.0.0.1")

    def serve() -> None:
        while not stop.is_set():
            if not socket.poll(20):
                continue
            identity, *parts = socket.recv_multipart()
            try:
                header, _ = unpack(parts)
            except WireError:
                continue
            reply = (
                pack({"seq": header["seq"], "limits": LIMITS.to_dict()}) if header["op"] == "hello" else answer(header)
            )
            if reply is not None:
                socket.send_multipart([identity, *reply])
        socket.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def radio_on(answer: Answer, timeout_s: float = 2.0) -> Iterator[RemoteRadio]:
    with server(answer) as endpoint:
        radio = RemoteRadio(endpoint, "bs1", timeout_s)
        radio._client.timeout_s = timeout_s
        try:
            yield radio
        finally:
            radio._client.timeout_s = 0.05
            with contextlib.suppress(RadioError):  # a server that does not answer cannot be muted, which raises
                radio.close()


def block(header: dict[str, Any], *, start: int, epoch: int = 1, size: int | None = None, **more: Any) -> list[Any]:
    size = header["num_samples"] if size is None else size
    samples = np.zeros((1, size, 2), dtype=np.int16)
    return pack({"seq": header["seq"], "epoch": epoch, "start": start, "clip_count": 0, **more}, samples)


def streaming(jump_at: int | None = None, epoch_at: int | None = None) -> Answer:
    """Serves contiguous blocks; block `jump_at` starts late, block `epoch_at` belongs to another epoch."""
    state = {"count": 0, "start": 100}

    def answer(header: dict[str, Any]) -> list[Any] | None:
        if header["op"] != "receive":
            return pack({"seq": header["seq"]})
        count, start = state["count"], state["start"]
        state["count"] += 1
        state["start"] += header["num_samples"]
        late = 17 if jump_at is not None and count >= jump_at else 0
        return block(header, start=start + late, epoch=2 if count == epoch_at else 1)

    return answer


def test_a_reception_of_many_blocks_is_put_together_in_order() -> None:
    with radio_on(streaming()) as radio:
        got = radio.receive(5 * BLOCK_SAMPLES + 3)
        assert (got.epoch, got.start, got.num_samples) == (1, 100, 5 * BLOCK_SAMPLES + 3)
        assert radio.receive(10).start == 100 + 5 * BLOCK_SAMPLES + 3


@pytest.mark.parametrize("fault", [{"jump_at": 2}, {"epoch_at": 1}])
def test_blocks_that_do_not_follow_on_are_sample_loss_and_the_next_reception_works(fault: dict[str, int]) -> None:
    with radio_on(streaming(**fault)) as radio:
        with pytest.raises(SampleLoss, match="does not follow"):
            radio.receive(6 * BLOCK_SAMPLES)
        assert radio.receive(10).num_samples == 10


@pytest.mark.parametrize("size", [0, 9, 11])
def test_a_block_of_another_size_is_sample_loss(size: int) -> None:
    with (
        radio_on(lambda header: block(header, start=0, size=size) if header["op"] == "receive" else None) as radio,
        pytest.raises(SampleLoss, match="asked for 10 samples"),
    ):
        radio.receive(10)


def test_a_silent_server_times_out_and_no_server_is_unavailable() -> None:
    with radio_on(lambda header: None, timeout_s=0.2) as radio:
        began = time.monotonic()
        with pytest.raises(RadioTimeout, match=r"no answer within 0\.2 s"):
            radio.receive(10)
        assert time.monotonic() - began < 5
    with pytest.raises(RadioUnavailable, match="no answer"):
        RemoteRadio("tcp://127.0.0.1:9", "bs1", timeout_s=0.2)


def test_a_server_that_ends_is_noticed_before_the_timeout() -> None:
    with server(lambda header: None) as endpoint:
        client = WireClient(endpoint, timeout_s=30.0)
        client.request({"op": "hello"})
    began = time.monotonic()
    with pytest.raises(RadioUnavailable, match="server ended"):
        client.request({"op": "status"})
    assert time.monotonic() - began < 10
    client.close()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("SettingOutOfRange", SettingOutOfRange),
        ("SafetyRefused", SafetyRefused),
        ("WireError", RadioError),
        ("KeyError", RadioError),
        ("annotations", RadioError),
        (None, RadioError),
    ],
)
def test_the_servers_errors_come_back_as_their_class_or_as_radio_error(kind: str | None, expected: type) -> None:
    def answer(header: dict[str, Any]) -> list[Any]:
        return pack({"seq": header["seq"], "error": "bs1: what is wrong", "kind": kind})

    with radio_on(answer) as radio, pytest.raises(RadioError, match="bs1: what is wrong") as caught:
        radio.mute()
    assert caught.type is expected


@pytest.mark.parametrize(("more", "lost"), [({"num_lost": 13}, 13), ({}, 0)])
def test_a_loss_that_the_server_reports_keeps_its_number(more: dict[str, int], lost: int) -> None:
    def answer(header: dict[str, Any]) -> list[Any]:
        return pack({"seq": header["seq"], "error": "bs1: overflow", "kind": "SampleLoss", **more})

    with radio_on(answer) as radio, pytest.raises(SampleLoss, match="bs1: overflow") as caught:
        radio.receive(10)
    assert caught.value.num_lost == lost


def test_one_block_of_unknown_continuity_makes_that_of_the_reception_unknown() -> None:
    def answer(header: dict[str, Any]) -> list[Any] | None:
        if header["op"] != "receive":
            return pack({"seq": header["seq"]})
        last = header["num_samples"] == 1
        return block(header, start=BLOCK_SAMPLES if last else 0, continuity="unknown" if last else "reported")

    with radio_on(answer) as radio:
        assert radio.receive(BLOCK_SAMPLES + 1).continuity == "unknown"
        assert radio.receive(BLOCK_SAMPLES).continuity == "reported"


def test_underflows_told_of_with_any_reply_come_with_the_next_reception_once() -> None:
    def answer(header: dict[str, Any]) -> list[Any] | None:
        if header["op"] == "receive":
            return block(header, start=0, underflows=1 if header["num_samples"] == 5 else 0)
        return pack({"seq": header["seq"], "underflows": 2})

    with radio_on(answer) as radio:
        radio.transmit(np.zeros((1, 8), np.complex64))
        assert radio.receive(5).num_underflows == 3
        assert radio.receive(6).num_underflows == 0


def test_a_radio_whose_connection_was_lost_is_muted_over_a_new_one() -> None:
    muted = []

    def answer(header: dict[str, Any]) -> list[Any] | None:
        if header["op"] == "mute":
            muted.append(header["node"])
        return pack({"seq": header["seq"]})

    with server(answer) as endpoint:
        radio = RemoteRadio(endpoint, "bs1", 2.0)
        radio._client._lost = f"{endpoint}: cut"
        with pytest.raises(RadioUnavailable, match="cut"):
            radio.mute()
        radio.close()
        radio.close()
    assert muted[0] == "bs1"


def test_a_radio_whose_server_is_gone_is_closed_at_once() -> None:
    with server(lambda header: None) as endpoint:
        radio = RemoteRadio(endpoint, "bs1", 30.0)
    began = time.monotonic()
    radio.close()
    assert time.monotonic() - began < 2


def test_a_reply_that_is_no_message_is_a_wire_error() -> None:
    with radio_on(lambda header: [b"\x80 not json"]) as radio, pytest.raises(WireError, match="not JSON"):
        radio.mute()


def test_a_radio_whose_connection_an_interrupt_left_in_mid_message_is_still_muted_on_close() -> None:
    muted = []

    def answer(header: dict[str, Any]) -> list[Any] | None:
        if header["op"] == "mute":
            muted.append(header["node"])
        return block(header, start=0) if header["op"] == "receive" else pack({"seq": header["seq"]})

    with server(answer) as endpoint:
        halved = RemoteRadio(endpoint, "bs1", 2.0)
        halved._client.send({"op": "receive", "node": "bs1", "num_samples": 10})
        assert halved._client._socket.poll(2000)
        halved._client._socket.recv()  # the header, without its samples
        halved.close()
        begun = RemoteRadio(endpoint, "bs2", 0.5)
        begun._client._socket.send(pack({"op": "transmit", "node": "bs2", "seq": 9})[0], zmq.SNDMORE)
        begun.close()
    assert set(muted) == {"bs1", "bs2"}


def test_limits_of_another_version_are_refused() -> None:
    good = LIMITS.to_dict()
    for bad in (None, {}, {**good, "extra": 1}, {**good, "num_tx": "one"}, {**good, "simulated": 1}):
        with pytest.raises(RadioError, match="versions differ"):
            Limits.from_dict(bad)
    assert Limits.from_dict(good) == LIMITS
    assert replace(LIMITS, num_tx=2) != LIMITS


@pytest.mark.parametrize("endpoint", ["", "tcp://", "tcp://127.0.0.1", "ipc:///x", "tcp://h:99999999", "127.0.0.1:5"])
def test_a_malformed_endpoint_is_named(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="must read tcp://HOST:PORT"):
        WireClient(endpoint)


def test_closing_twice_leaves_a_node_alone_that_somebody_else_may_have_by_then() -> None:
    asked: list[str] = []

    def answer(header: dict[str, Any]) -> list[Any]:
        asked.append(header["op"])
        return pack({"seq": header["seq"]})

    with server(answer) as endpoint:
        radio = RemoteRadio(endpoint, "bs1", timeout_s=1.0)
        radio.close()
        assert asked == ["mute"]
        radio.close()
    assert asked == ["mute"]
