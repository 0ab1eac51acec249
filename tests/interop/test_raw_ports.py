"""Raw ports against pyzmq peers that behave as GNU Radio's blocks and srsRAN do: nothing lost, nothing twice."""

import itertools
import logging
import threading
import time
from collections.abc import Iterator

import hypothesis.strategies as st
import numpy as np
import pytest
import zmq
from hypothesis import given

from sim.raw_ports import RawPorts, parse_port
from sim.raw_sockets import FIFO_SAMPLES, MAX_REPLY_SAMPLES
from sim.sample_fifo import SampleFifo
from testbed.errors import ConfigError
from tests.interop.peers import (
    DelayChannel,
    counted,
    frames,
    odd_sizes,
    raw_ports,
    receiver,
    rx_endpoints,
    socket_of,
    transmitter,
    wait_for,
)

both_patterns = pytest.mark.parametrize("pattern", ["reqrep", "pushpull"])
ONE_LINK = {("bs1", "bs1"): (7, 2.0)}


def heard_of(count: int, delay: int = 7, gain: float = 2.0) -> np.ndarray:
    """What arrives over one link of counted samples."""
    return np.float32(gain) * np.concatenate([np.zeros(delay, dtype=np.complex64), counted(0, count - delay)])


# Continuity


@both_patterns
def test_a_million_samples_in_odd_frames_arrive_in_order_and_none_is_missing(pattern: str) -> None:
    count = 1_000_003
    with (
        transmitter(pattern, frames(count, odd_sizes(1))) as source,
        raw_ports(DelayChannel(ONE_LINK), pattern, ["bs1"], [f"bs1={source}"]) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
    ):
        np.testing.assert_array_equal(peer.take(count), heard_of(count))
        assert ports.num_samples == count


@both_patterns
@pytest.mark.parametrize("size", [1, 5, 4096, 61_440, 400_000])
def test_every_frame_size_will_do(pattern: str, size: int) -> None:
    count = 3000 if size < 100 else 900_000
    with (
        transmitter(pattern, frames(count, itertools.repeat(size))) as source,
        raw_ports(DelayChannel(ONE_LINK), pattern, ["bs1"], [f"bs1={source}"]) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
    ):
        np.testing.assert_array_equal(peer.take(count), heard_of(count))
        assert max(peer.frame_sizes) <= MAX_REPLY_SAMPLES


@both_patterns
def test_several_transmitters_and_channels_share_one_time(pattern: str) -> None:
    taps = {("a", "a"): (0, 1.0), ("a", "b"): (100, 2.0), ("b", "a"): (3, 4.0), ("b", "b"): (11, 8.0)}
    count = 200_000
    with (
        transmitter(pattern, frames(count, odd_sizes(2))) as source_a,
        transmitter(pattern, frames(count, odd_sizes(3, 300))) as source_b,
        raw_ports(
            DelayChannel(taps, num_rx=2), pattern, ["a", "a:1", "b", "b:1"], [f"a={source_a}", f"b={source_b}"]
        ) as ports,
    ):
        got: dict[int, np.ndarray] = {}

        def take(idx: int, endpoint: str) -> None:
            with receiver(pattern, endpoint) as peer:
                got[idx] = peer.take(count)

        threads = [threading.Thread(target=take, args=item) for item in enumerate(rx_endpoints(ports))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    at_a = heard_of(count, 0, 1.0) + heard_of(count, 3, 4.0)
    at_b = heard_of(count, 100, 2.0) + heard_of(count, 11, 8.0)
    for idx, expected in enumerate([at_a, 2 * at_a, at_b, 2 * at_b]):
        np.testing.assert_array_equal(got[idx], expected)


@both_patterns
def test_receivers_alone_hear_the_channel_with_every_transmitter_silent(pattern: str) -> None:
    with (
        raw_ports(DelayChannel(ONE_LINK), pattern, ["bs1"], []) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
    ):
        np.testing.assert_array_equal(peer.take(100_000), np.zeros(100_000))


# Requests and replies


@pytest.mark.parametrize("request_bytes", [b"\x00", b"\xff", b"\x07", b"", b"ab", b"\x00\x00\x00\x00"])
def test_a_request_that_names_no_limit_gets_what_there_is(request_bytes: bytes) -> None:
    with (
        transmitter("reqrep", frames(100_000, itertools.repeat(5000))) as source,
        raw_ports(DelayChannel(ONE_LINK), "reqrep", ["bs1"], [f"bs1={source}"]) as ports,
        receiver("reqrep", *rx_endpoints(ports), request_bytes) as peer,
    ):
        wait_for(lambda: ports.num_samples == 100_000, "the channel has not taken all samples")
        np.testing.assert_array_equal(peer.take(100_000), heard_of(100_000))
        assert peer.frame_sizes == [61_440, 38_560]


@pytest.mark.parametrize("limit", [1, 3, 4096, 61_440, 61_441, 2**32 - 1])
def test_a_request_for_items_gets_no_more_of_them(limit: int) -> None:
    count = min(100 * limit, 150_000)
    with (
        transmitter("reqrep", frames(count, odd_sizes(4))) as source,
        raw_ports(DelayChannel(ONE_LINK), "reqrep", ["bs1"], [f"bs1={source}"]) as ports,
        receiver("reqrep", *rx_endpoints(ports), limit.to_bytes(4, "little")) as peer,
    ):
        wait_for(lambda: ports.num_samples == count, "the channel has not taken all samples")
        np.testing.assert_array_equal(peer.take(count), heard_of(count))
        assert max(peer.frame_sizes) == min(limit, MAX_REPLY_SAMPLES, count)


def test_thousands_of_short_replies_are_all_delivered() -> None:
    # A REP socket with a short queue lost one of the first hundreds here: its count of what the peer had read was late
    count = 300_000
    with (
        transmitter("reqrep", frames(count, itertools.repeat(4096))) as source,
        raw_ports(DelayChannel(ONE_LINK), "reqrep", ["bs1"], [f"bs1={source}"]) as ports,
        receiver("reqrep", *rx_endpoints(ports), (100).to_bytes(4, "little")) as peer,
    ):
        np.testing.assert_array_equal(peer.take(count), heard_of(count))


def test_a_request_before_there_are_samples_is_answered_when_they_come_and_not_by_an_empty_message() -> None:
    go = threading.Event()

    def late() -> Iterator[bytes]:
        go.wait(20)
        yield counted(0, 10).tobytes()

    with (
        transmitter("reqrep", late()) as source,
        raw_ports(DelayChannel({("bs1", "bs1"): (0, 1.0)}), "reqrep", ["bs1"], [f"bs1={source}"]) as ports,
        socket_of(zmq.REQ, bind=False, endpoint=rx_endpoints(ports)[0]) as (socket, _),
    ):
        socket.send(b"\xff")
        assert not socket.poll(300), "an answer without samples"
        go.set()
        assert socket.recv() == counted(0, 10).tobytes()


@both_patterns
def test_empty_messages_are_passed_over_and_asked_for_again(pattern: str) -> None:
    messages = [b"", b"", counted(0, 500).tobytes(), *[b""] * 100, counted(500, 500).tobytes()]
    with (
        transmitter(pattern, messages) as source,
        raw_ports(DelayChannel(ONE_LINK), pattern, ["bs1"], [f"bs1={source}"]) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
    ):
        np.testing.assert_array_equal(peer.take(1000), heard_of(1000))


# Lock-step


@both_patterns
def test_a_transmitter_that_stalls_stalls_time_for_all_and_nothing_is_lost(pattern: str) -> None:
    go = threading.Event()

    def stalls() -> Iterator[bytes]:
        yield counted(0, 1000).tobytes()
        go.wait(20)
        yield from frames(299_000, odd_sizes(5), first=1000)

    taps = {("a", "a"): (0, 1.0), ("b", "a"): (0, 2.0)}
    with (
        transmitter(pattern, stalls()) as slow,
        transmitter(pattern, frames(300_000, odd_sizes(6))) as fast,
        raw_ports(DelayChannel(taps), pattern, ["a"], [f"a={slow}", f"b={fast}"]) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
    ):
        np.testing.assert_array_equal(peer.take(1000), 3 * counted(0, 1000))
        time.sleep(0.2)
        assert ports.num_samples == 1000
        go.set()
        np.testing.assert_array_equal(peer.take(299_000), 3 * counted(1000, 299_000))


@both_patterns
def test_a_receiver_that_stalls_holds_back_the_transmitters_in_bounded_memory(pattern: str) -> None:
    sent = [0]

    def endless() -> Iterator[bytes]:
        for first in itertools.count(0, 10_000):
            yield counted(first, 10_000).tobytes()
            sent[0] = first + 10_000

    taps = {("a", "a"): (0, 1.0), ("a", "b"): (5, 1.0)}
    with (
        transmitter(pattern, endless()) as source,
        raw_ports(DelayChannel(taps), pattern, ["a", "b"], [f"a={source}"]) as ports,
        receiver(pattern, rx_endpoints(ports)[0]) as eager,
        receiver(pattern, rx_endpoints(ports)[1]) as stalled,
    ):
        # without a reader, time stands where b's queues are full: its own, and with PUSH those of ZMQ and the kernel
        got = threading.Thread(target=lambda: eager.take(FIFO_SAMPLES))
        got.start()
        got.join()
        stands_at, seen = -1, ports.num_samples
        while seen != stands_at:
            time.sleep(0.3)
            stands_at, seen = seen, ports.num_samples
        in_zmq = 0 if pattern == "reqrep" else 32 * MAX_REPLY_SAMPLES + 1_500_000  # 16 messages a side; TCP's buffers
        assert FIFO_SAMPLES <= stands_at <= FIFO_SAMPLES + in_zmq
        assert all(len(port.fifo) <= FIFO_SAMPLES for port in ports.receive)
        assert all(len(port.fifo) < FIFO_SAMPLES + 10_000 for port in ports.transmit)
        assert sent[0] < stands_at + FIFO_SAMPLES + (20_000 if pattern == "reqrep" else 2_000_000)
        count = stands_at + 100_000
        reader = threading.Thread(target=lambda: eager.take(count - FIFO_SAMPLES))
        reader.start()
        np.testing.assert_array_equal(stalled.take(count), heard_of(count, 5, 1.0))
        reader.join()


class SrsRadio:
    """The zmq radio of srsRAN: it receives a subframe, then sends the one four later; gaps are zeros."""

    SUBFRAME = 1920  # 1 ms at 1.92 MHz
    AHEAD = 4

    def __init__(self, request: bytes, num_subframes: int, gain: float) -> None:
        self.request, self.num_subframes, self.gain = request, num_subframes, gain
        self.heard: list[np.ndarray] = []
        self._received = threading.Semaphore(self.AHEAD)

    def transmitted(self) -> Iterator[bytes]:
        """Subframe k once subframe k - 4 was received; every third one is a gap."""
        for idx in range(self.num_subframes):
            if not self._received.acquire(timeout=20):
                return
            yield self.subframe(idx).tobytes()

    def subframe(self, idx: int) -> np.ndarray:
        return np.float32(0 if idx % 3 == 2 else self.gain) * counted(idx * self.SUBFRAME, self.SUBFRAME)

    def receive(self, endpoint: str) -> None:
        with receiver("reqrep", endpoint, self.request) as peer:
            for _ in range(self.num_subframes):
                self.heard.append(peer.take(self.SUBFRAME))
                self._received.release()


def test_two_srsran_radios_that_wait_for_each_other_stay_in_step() -> None:
    gnb, ue = SrsRadio(b"\x00", 300, 1.0), SrsRadio(b"\xff", 300, 2.0)  # Project, 4G
    taps = {("gnb", "ue"): (3, 1.0), ("ue", "gnb"): (5, 1.0)}
    with (
        transmitter("reqrep", gnb.transmitted()) as gnb_tx,
        transmitter("reqrep", ue.transmitted()) as ue_tx,
        raw_ports(DelayChannel(taps), "reqrep", ["gnb", "ue"], [f"gnb={gnb_tx}", f"ue={ue_tx}"]) as ports,
    ):
        threads = [
            threading.Thread(target=radio.receive, args=(endpoint,))
            for radio, endpoint in zip((gnb, ue), rx_endpoints(ports), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for radio, other, delay in ((gnb, ue, 5), (ue, gnb, 3)):
        sent = np.concatenate([other.subframe(idx) for idx in range(300)])
        expected = np.concatenate([np.zeros(delay, dtype=np.complex64), sent[:-delay]])
        np.testing.assert_array_equal(np.concatenate(radio.heard), expected)


# Peers that misbehave

BAD = [
    ([b"\x00" * 13], "message of 13 bytes refused"),
    ([b"\x00" * 4], "pass_tags to False"),
    ([b"key", counted(0, 5).tobytes()], "message of 2 parts refused"),
]


@both_patterns
@pytest.mark.parametrize(("parts", "words"), BAD)
def test_what_is_no_samples_is_refused_in_one_line_and_the_next_message_used(
    pattern: str, parts: list[bytes], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        socket_of(zmq.REP if pattern == "reqrep" else zmq.PUSH, bind=True) as (socket, source),
        raw_ports(DelayChannel(ONE_LINK), pattern, ["bs1"], [f"bs1={source}"]) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
        caplog.at_level(logging.WARNING, "sim.raw_sockets"),
    ):
        for message in (parts, parts, [counted(0, 1000).tobytes()]):
            if pattern == "reqrep":
                socket.recv()
            socket.send_multipart(message)
        np.testing.assert_array_equal(peer.take(1000), heard_of(1000))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1, "one line per second"
    assert lines[0].startswith("--raw-tx bs1: ")
    assert words in lines[0]
    assert "\n" not in lines[0]


def test_samples_that_are_no_numbers_become_zeros_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    samples = counted(0, 100)
    samples[3], samples[50] = np.nan, complex(0, -np.inf)
    with (
        transmitter("reqrep", [samples.tobytes(), np.full(50, 3e38, dtype=np.complex64).tobytes()]) as source,
        raw_ports(DelayChannel({("bs1", "bs1"): (0, 1.0)}), "reqrep", ["bs1"], [f"bs1={source}"]) as ports,
        receiver("reqrep", *rx_endpoints(ports)) as peer,
    ):
        got = peer.take(150)
    samples[[3, 50]] = 0
    np.testing.assert_array_equal(got[:100], samples)
    np.testing.assert_array_equal(got[100:], np.full(50, np.complex64(3e38)))  # large is not wrong
    (line,) = [record.getMessage() for record in caplog.records]
    assert "2 of 100 samples are not finite numbers" in line


@both_patterns
def test_a_peer_that_ends_while_it_is_asked_can_be_started_again(pattern: str) -> None:
    kind = zmq.REP if pattern == "reqrep" else zmq.PUSH
    with socket_of(kind, bind=True) as (socket, source):
        first = socket

        def send(socket: "zmq.Socket[bytes]", message: bytes) -> None:
            if pattern == "reqrep":
                socket.recv()
            socket.send(message)

        with (
            raw_ports(DelayChannel({("bs1", "bs1"): (0, 1.0)}), pattern, ["bs1"], [f"bs1={source}"]) as ports,
            receiver(pattern, *rx_endpoints(ports)) as peer,
        ):
            send(first, counted(0, 100).tobytes())
            np.testing.assert_array_equal(peer.take(100), counted(0, 100))
            if pattern == "reqrep":
                first.recv()  # it was asked, and will never answer
            first.close()
            time.sleep(0.1)
            with socket_of(kind, bind=True, endpoint=source) as (second, _):
                send(second, counted(100, 100).tobytes())
                np.testing.assert_array_equal(peer.take(100), counted(100, 100))


def test_a_receiver_that_ends_after_its_question_takes_no_samples_with_it() -> None:
    with (
        socket_of(zmq.REP, bind=True) as (source, endpoint),
        raw_ports(DelayChannel({("bs1", "bs1"): (0, 1.0)}), "reqrep", ["bs1"], [f"bs1={endpoint}"]) as ports,
    ):
        with socket_of(zmq.REQ, bind=False, endpoint=rx_endpoints(ports)[0]) as (first, _):
            first.send(b"\xff")
            wait_for(lambda: ports.receive[0].wants() == 0, "the question has not arrived")
        time.sleep(0.1)
        source.recv()
        source.send(counted(0, 1000).tobytes())
        with receiver("reqrep", rx_endpoints(ports)[0]) as second:
            np.testing.assert_array_equal(second.take(1000), counted(0, 1000))


def test_a_request_that_is_none_is_refused_and_the_next_answered(caplog: pytest.LogCaptureFixture) -> None:
    with (
        transmitter("reqrep", frames(1000, itertools.repeat(1000))) as source,
        raw_ports(DelayChannel(ONE_LINK), "reqrep", ["bs1"], [f"bs1={source}"]) as ports,
        socket_of(zmq.DEALER, bind=False, endpoint=rx_endpoints(ports)[0]) as (socket, _),
    ):
        socket.send(b"\xff")  # without the delimiter of a REQ socket
        socket.send_multipart([b"", b"\xff"])
        assert socket.recv_multipart() == [b"", heard_of(1000).tobytes()]
    assert "request refused" in caplog.records[0].getMessage()


@pytest.mark.parametrize(("pattern", "kind"), [("reqrep", zmq.PUSH), ("pushpull", zmq.REP), ("reqrep", zmq.PUB)])
def test_a_peer_of_another_pattern_is_told_in_one_line_and_the_right_one_used_when_it_comes(
    pattern: str, kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        socket_of(kind, bind=True) as (wrong, source),
        raw_ports(DelayChannel({("bs1", "bs1"): (0, 1.0)}), pattern, ["bs1"], [f"bs1={source}"]) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
    ):
        wait_for(lambda: bool(caplog.records), "no line")
        wrong.close()
        time.sleep(0.1)
        with socket_of(zmq.REP if pattern == "reqrep" else zmq.PUSH, bind=True, endpoint=source) as (right, _):
            if pattern == "reqrep":
                right.recv()
            right.send(counted(0, 100).tobytes())
            np.testing.assert_array_equal(peer.take(100), counted(0, 100))
    assert "speaks another ZMQ pattern; check --raw-pattern" in caplog.records[0].getMessage()


@both_patterns
def test_a_message_longer_than_any_peer_sends_is_cut_off_and_the_port_goes_on(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.raw_sockets.MAX_MESSAGE_BYTES", 80_000)
    cut_off = threading.Event()

    def messages() -> Iterator[bytes]:
        yield bytes(80_008)
        cut_off.wait(20)
        yield counted(0, 10_000).tobytes()

    with (
        transmitter(pattern, messages()) as source,
        raw_ports(DelayChannel(ONE_LINK), pattern, ["bs1"], [f"bs1={source}"]) as ports,
        receiver(pattern, *rx_endpoints(ports)) as peer,
    ):
        time.sleep(0.5)
        cut_off.set()
        np.testing.assert_array_equal(peer.take(10_000), heard_of(10_000))


def test_time_that_stands_is_told_once_with_who_stalls(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sim.raw_ports.STALLED_S", 0.2)
    taps = {("a", "a"): (0, 1.0), ("b", "a"): (0, 1.0)}
    with (
        transmitter("reqrep", [counted(0, 40).tobytes()]) as one,
        transmitter("reqrep", [counted(0, 50).tobytes()]) as other,
        raw_ports(DelayChannel(taps), "reqrep", ["a"], [f"a={one}", f"b={other}"]),
    ):
        wait_for(lambda: bool(caplog.records), "no line")
        time.sleep(0.5)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"raw ports: time stands at sample 40; --raw-tx a: no samples from {one}"


def test_a_port_that_is_taken_is_an_error_in_one_line_and_leaves_no_socket_behind() -> None:
    with socket_of(zmq.REP, bind=True) as (_, taken):
        specs = [parse_port("bs1=tcp://127.0.0.1:0", "rx"), parse_port(f"bs2={taken}", "rx")]
        with pytest.raises(ConfigError, match=r"--raw-rx bs2: .* cannot be bound \(.*\); choose another port or 0"):
            RawPorts(DelayChannel(ONE_LINK), specs)


# The queue


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_the_queue_gives_what_was_put_in_whatever_the_pieces(steps: list[tuple[int, int]]) -> None:
    queue, put, got = SampleFifo(16), 0, 0
    for more, less in steps:
        queue.append(counted(put, more))
        put += more
        taken = queue.take(min(less, len(queue)))
        np.testing.assert_array_equal(taken, counted(got, taken.size))
        got += taken.size
        assert len(queue) == put - got
