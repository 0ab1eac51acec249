"""A hundred thousand malformed messages, raw garbage and clients that vanish: the server serves the next as before.

Every message and every byte is drawn from SEED. Some mutations of valid messages stay valid and change the world; so
the same good client talks to a server that never met anybody else, and both must hear the same, bit for bit.
"""

import contextlib
import json
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from sim.emulator import Emulator
from sim.scene import load_scene
from testbed.radio.keys import load_client_keys, make_keys
from testbed.radio.remote import RemoteRadio, WireClient
from testbed.radio.wire import MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, unpack
from tests.emulator import SETTINGS, emulator_process, tone

pytestmark = pytest.mark.emulated

SEED = 20250710
MESSAGES = 100_000
IN_FLIGHT = 8  # the server holds 16 replies for a client and learns of every eighth that one was taken: none is dropped
EPOCHS = (12_000_000, 14_000_000)  # later than any that a mutation can ask for
GROWTH_BYTES = 5e6  # of 2000 clients; their replies alone are 170 MB
NODES = ("bs1", "bs2", "bs3", "u1", "u2", "u3")

HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 0.5, -0.0, 1e308, 1 << 31, 1 << 32, 1 << 63, 1 << 64, -(1 << 63), 10**400),
    *(float("nan"), float("inf"), float("-inf"), "", "bs1", "bs9", "u1", "1", "all", "without:", "\ud800", "\0\n\r"),
    *("x" * 5000, "cf32", "ci16", "object", [], {}, [1], [[1]], [1, -1], [1, 1 << 40], [1 << 32, 1 << 32], [True, 8]),
    *([0, 1 << 62], [1.0, 8], {"a": {"b": {}}}, [None] * 2000),
]
VALID: list[tuple[dict[str, Any], bytes | None]] = [
    ({"op": "hello", "node": "bs1"}, None),
    ({"op": "status"}, None),
    ({"op": "configure", "node": "bs2", "settings": SETTINGS.to_dict()}, None),
    ({"op": "transmit", "node": "bs2", "dtype": "cf32", "shape": [1, 640]}, tone().tobytes()),
    ({"op": "transmit", "node": "bs3", "dtype": "cf32", "shape": [1, 3]}, tone(size=3).tobytes()),
    ({"op": "receive", "node": "bs2", "num_samples": 16}, None),
    ({"op": "mute", "node": "bs2"}, None),
    ({"op": "condition", "condition": "without:t1"}, None),
    ({"op": "condition", "condition": "all", "epoch": 99}, None),
]
Parts = list[bytes]


def encoded(header: dict[str, Any], payload: bytes | None = None) -> Parts:
    head = json.dumps({"v": 1, "seq": 5, **header}).encode()
    return [head] if payload is None else [head, payload]


def changed_bytes(rng: random.Random) -> Parts:
    """A valid message with some bytes of its header changed, cut out, put in or doubled."""
    head, *rest = encoded(*rng.choice(VALID))
    text = bytearray(head)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text))
        match rng.randrange(5):
            case 0:
                text[at] = rng.randrange(256)
            case 1:
                text[at] ^= 1 << rng.randrange(8)
            case 2:
                del text[at]
            case 3:
                text[at:at] = rng.choice([b"0", b"-", b"9", b'"', b"{", b"]", b",", b"e", b"\\", b"\xff"])
            case _:
                text[at:at] = text[at : at + rng.randint(1, 8)]
    return [bytes(text), *rest]


def changed_field(rng: random.Random) -> Parts:
    """A valid message with entries replaced by what does not belong there, left out, or added."""
    header, payload = rng.choice(VALID)
    header = {"v": 1, "seq": 5, **header}
    table = header
    if "settings" in header and rng.random() < 0.7:
        table = header["settings"] = dict(header["settings"])
    key = rng.choice(list(table))
    match rng.randrange(6):
        case 0:
            del table[key]
        case 1:
            table[rng.choice(["op", "node", "shape", "dtype", "settings", "epoch", "num_samples", "x"])] = rng.choice(
                HOSTILE
            )
        case _:
            table[key] = rng.choice(HOSTILE)
    return encoded(header, payload)


def changed_samples(rng: random.Random) -> Parts:
    """A transmission whose samples are not what its header says, or nothing that a radio sends."""
    shape: Any = rng.choice([[1, 640], [1, 641], [640], [1, 1, 640], [2, 320], [640, 1], [1, 0], [0, 640], [1, -640]])
    dtype = rng.choice(["cf32", "cf32", "cf32", "ci16", "cf64", "<c8", 7, None])
    payload = bytearray(tone().tobytes())
    match rng.randrange(4):
        case 0:
            payload = payload[: rng.randrange(len(payload))]
        case 1:
            payload += rng.randbytes(rng.randint(1, 16))
        case 2:
            payload[0:4] = struct.pack("<f", rng.choice([float("nan"), float("inf"), 1.5, -3e38, 1.0]))
        case _:
            payload[:64] = rng.randbytes(64)
    return encoded({"op": "transmit", "node": rng.choice(NODES), "dtype": dtype, "shape": shape}, bytes(payload))


def wrong_parts(rng: random.Random) -> Parts:
    """Too many parts, one too few, or in the wrong order."""
    parts = encoded(*rng.choice(VALID))
    match rng.randrange(4):
        case 0:
            return parts[::-1]
        case 1:
            return [b"", *parts]
        case 2:
            return parts + [rng.randbytes(rng.randrange(20)) for _ in range(rng.randint(1, 40))]
        case _:
            return parts[1:] or [b""]


def noise(rng: random.Random) -> Parts:
    """Random bytes."""
    return [rng.randbytes(rng.randrange(60)) for _ in range(rng.randint(1, 3))]


def deep_or_long(rng: random.Random) -> Parts:
    """JSON that is nested deeper or is longer than anybody would read; some just within a header's size."""
    depth = rng.choice([17, 100, 300, 600, 900, 960, 980, 990, 2000])
    nested = rng.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])
    header, payload = rng.choice(VALID)
    match rng.randrange(4):
        case 0:
            head, *rest = encoded(header | {rng.choice(list(header)): "HERE"}, payload)
            return [head.replace(b'"HERE"', nested), *rest]
        case 1:
            return [b'{"v":1,"op":"receive","node":"bs2","num_samples":' + b"9" * rng.choice([30, 4000, 4400]) + b"}"]
        case 2:
            return encoded({"op": "hello", "node": "n" * (MAX_HEADER_BYTES - rng.choice([50, 100, 0]))})
        case _:
            return [b'{"v":1,"op":"status"' + b" " * (MAX_HEADER_BYTES + rng.choice([-30, 0, 50])) + b"}"]


def out_of_order(rng: random.Random) -> Parts:
    """A valid operation at a time when it may not be."""
    header, payload = rng.choice(VALID)
    return encoded(header | ({"node": rng.choice((*NODES, "bs4"))} if "node" in header else {}), payload)


KINDS: dict[Callable[[random.Random], Parts], float] = {
    changed_bytes: 34,
    changed_field: 34,
    changed_samples: 10,
    wrong_parts: 8,
    noise: 8,
    deep_or_long: 1,
    out_of_order: 5,
}


def malformed(count: int, seed: int) -> Iterator[Parts]:
    rng = random.Random(seed)
    for kind in rng.choices(list(KINDS), list(KINDS.values()), k=count):
        yield kind(rng)


@contextlib.contextmanager
def dealer(endpoint: str, keys: Path | None = None) -> Iterator["zmq.Socket[bytes]"]:
    connection: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    connection.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        load_client_keys(keys).apply(connection)
    connection.connect(endpoint)
    try:
        yield connection
    finally:
        connection.close()


def answers(endpoint: str, messages: Iterator[Parts], keys: Path | None = None) -> Counter[str]:
    """Send all messages; exactly one well-formed answer must come to each. Counts answers by their kind."""
    kinds: Counter[str] = Counter()
    with dealer(endpoint, keys) as connection:

        def collect() -> None:
            assert connection.poll(30_000), f"no answer to message {kinds.total()}"
            header, _ = unpack(connection.recv_multipart())
            error = str(header.get("error", ""))
            assert ("ok" in header) != ("error" in header)
            assert "internal error" not in error, f"message {kinds.total()}: {error}"
            assert len(error) < 600 and "\n" not in error, error
            kinds[str(header.get("kind", "ok"))] += 1

        waiting = 0
        for parts in messages:
            if waiting == IN_FLIGHT:
                for _ in range(IN_FLIGHT // 2):
                    collect()
                waiting -= IN_FLIGHT // 2
            connection.send_multipart(parts)
            waiting += 1
        for _ in range(waiting):
            collect()
        assert not connection.poll(50), "more answers than messages"
    return kinds


def good_client(endpoint: str, epoch: int, keys: Path | None = None) -> list[bytes]:
    """What every node hears, as its converter gave it, once a client has set everything anew from `epoch` on."""
    client_keys = None if keys is None else load_client_keys(keys)
    heard = []
    radios = [RemoteRadio(endpoint, name, keys=client_keys) for name in NODES]
    client = WireClient(endpoint, keys=client_keys)
    try:
        for radio in radios:
            radio.mute()
            radio.configure(SETTINGS)
        for i, radio in enumerate(radios[:2]):  # bs3 stays silent, whatever it sent before
            radio.transmit(tone(size=640 + i))
        reply = client.request({"op": "condition", "condition": "without:t2", "epoch": epoch})
        for radio in radios:
            got = radio.receive(3000)
            assert (got.epoch, got.start) == (reply["epoch"], 0)
            heard.append(got.raw.tobytes())
        assert reply["epoch"] == epoch
    finally:
        client.close()
        for radio in radios:
            radio.close()
    return heard


def greeting(mechanism: bytes) -> bytes:
    """The first 64 bytes of a connection, ZMTP 3.0."""
    return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes(32)


READY = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
STATUS = b'{"v":1,"op":"status"}'
REQUEST = bytes([0, len(STATUS)]) + STATUS


def raw_connection(endpoint: str, *, reset: bool) -> socket.socket:
    """A TCP connection to the server; closing it resets it, where wanted."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    raw = socket.create_connection((host, int(port)), timeout=10)
    if reset:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return raw


def introduce(raw: socket.socket) -> bool:
    """Be a ZeroMQ client up to where messages may follow; False where the server demands keys and hangs up."""
    raw.sendall(greeting(b"NULL") + READY)
    answer = b""
    while len(answer) < len(greeting(b"NULL") + READY):
        if not (more := raw.recv(1000)):
            return False
        answer += more
    return True


def raw_garbage(endpoint: str, rng: random.Random, count: int) -> None:
    """Connections that speak no ZeroMQ, or begin to, and end in the middle; half of them by a reset."""
    for _ in range(count):
        hello = greeting(rng.choice([b"NULL", b"CURVE", b"PLAIN"]))
        size = rng.choice([0, MAX_MESSAGE_BYTES + 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
        strange = [
            rng.randbytes(rng.randrange(300)),
            b"GET / HTTP/1.1\r\nHost: radio\r\n\r\n",
            hello[: rng.randrange(65)],
            hello + rng.randbytes(rng.randrange(300)),
            hello + READY[: rng.randrange(len(READY))],
            hello + READY + REQUEST,  # without waiting for the server's own READY
            hello + b"\x04\xc8\x05HELLO\x01\x00" + rng.randbytes(rng.choice([193, 192, 194, 20])),  # CURVE
            b"\x01\x00" + rng.randbytes(100),  # ZMTP 1
            b"\xff" + bytes(8) + b"\x7f\x01" + rng.randbytes(20),  # ZMTP 2
        ]
        introduced = [
            rng.randbytes(rng.randrange(300)),
            b"\x02" + struct.pack(">Q", size) + rng.randbytes(100),
            REQUEST * rng.randint(1, 20),
            REQUEST + REQUEST[: rng.randrange(len(REQUEST))],
            b"\x01\x05hello" * rng.randint(1, 50),  # parts without an end
            b"\x04\x06\x05READY" * 3,
        ]
        with raw_connection(endpoint, reset=rng.random() < 0.5) as raw, contextlib.suppress(OSError):
            # the server may have hung up already, as it should
            raw.sendall(rng.choice(introduced) if rng.random() < 0.4 and introduce(raw) else rng.choice(strange))
            if rng.random() < 0.2:
                raw.settimeout(0.05)
                raw.recv(100)


def resident_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def num_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def settled_descriptors(pid: int, wanted: int) -> int:
    """File descriptors once no more than `wanted` are open, or after ten seconds."""
    deadline = time.monotonic() + 10
    while (found := num_descriptors(pid)) > wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_after_a_hundred_thousand_malformed_messages_the_next_client_hears_the_same_bits() -> None:
    began = time.monotonic()
    with emulator_process() as (process, attacked), emulator_process() as (_, untouched):
        # nothing is configured yet, so many valid requests come too early
        kinds = answers(attacked, malformed(MESSAGES // 2, SEED))
        reference = good_client(untouched, EPOCHS[0])
        assert good_client(attacked, EPOCHS[0]) == reference
        raw_garbage(attacked, random.Random(SEED), 1000)
        kinds += answers(attacked, malformed(MESSAGES // 2, SEED + 1))
        assert good_client(attacked, EPOCHS[1]) == good_client(untouched, EPOCHS[1]) != reference
        assert process.poll() is None
    print(f"seed {SEED}: {kinds.total()} messages in {time.monotonic() - began:.1f} s: {dict(kinds)}")
    assert kinds.total() == MESSAGES
    assert kinds.total() - kinds["ok"] > 0.7 * MESSAGES  # near-valid, not valid
    for kind in ("WireError", "RadioError", "RadioUnavailable", "SafetyRefused", "SettingOutOfRange", "ok"):
        assert kinds[kind] > 500, kinds  # every layer was reached


def keys_in(folder: Path) -> Path:
    make_keys(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["loopback", "keys"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return keys_in(tmp_path / "keys") if request.param else None


def options(keys: Path | None) -> list[str]:
    return [] if keys is None else ["--keys", str(keys)]


def test_a_server_with_keys_withstands_its_clients_and_strangers(tmp_path: Path) -> None:
    keys = keys_in(tmp_path / "keys")
    with emulator_process("comp", *options(keys)) as (process, attacked), emulator_process() as (_, untouched):
        raw_garbage(attacked, random.Random(SEED), 500)
        kinds = answers(attacked, malformed(5000, SEED), keys)
        raw_garbage(attacked, random.Random(SEED + 1), 500)
        assert good_client(attacked, EPOCHS[0], keys) == good_client(untouched, EPOCHS[0])
        assert process.poll() is None
    assert kinds.total() == 5000


def test_a_message_beyond_the_limit_never_arrives_and_costs_no_memory(keys: Path | None) -> None:
    head = encoded({"op": "condition", "condition": "empty"})[0]
    with emulator_process("comp", *options(keys)) as (process, endpoint):
        with dealer(endpoint, keys) as connection:  # one below the limit is taken in whole, and answered
            connection.send_multipart([head, bytes(MAX_MESSAGE_BYTES - 1000)])
            assert connection.poll(10_000)
            assert "payload without dtype" in unpack(connection.recv_multipart())[0]["error"]
        before = resident_bytes(process.pid)
        for _ in range(4):
            with dealer(endpoint, keys) as connection:
                connection.send_multipart([head, bytes(MAX_MESSAGE_BYTES + 1)])
                assert not connection.poll(200)
        assert resident_bytes(process.pid) - before < 10e6  # not one of the four
        assert good_client(endpoint, 1000, keys)


def come_and_go(endpoint: str, keys: Path | None, rng: random.Random) -> None:
    """A client that asks once and goes, more or less politely."""
    manner = rng.randrange(7)
    if manner == 5:
        raw_garbage(endpoint, rng, 1)
        return
    if manner == 6:  # a process that was killed: its connection is reset while the answer is on its way
        with raw_connection(endpoint, reset=True) as raw:
            with contextlib.suppress(ConnectionError):
                assert introduce(raw) == (keys is None)
            if keys is None:
                raw.sendall(REQUEST)
                assert raw.recv(1)
        return
    with dealer(endpoint, keys) as connection:
        if manner < 2:  # reads the answer
            connection.send_multipart(encoded({"op": "status"}))
            assert connection.poll(10_000)
            assert unpack(connection.recv_multipart())[0]["ok"] == "status"
        elif manner == 2:  # gone before anything was sent
            connection.send_multipart(encoded({"op": "hello", "node": "bs1"}))
        elif manner == 3:  # has half a megabyte sent to it and never reads that
            connection.send_multipart(encoded({"op": "receive", "node": "bs1", "num_samples": 1 << 17}))
            assert connection.poll(10_000)
        else:  # leaves a message unfinished
            connection.send(encoded({"op": "status"})[0], zmq.SNDMORE)


def test_two_thousand_clients_that_come_and_go_leave_nothing_behind(keys: Path | None) -> None:
    rng = random.Random(SEED)
    with emulator_process("comp", *options(keys)) as (process, endpoint):
        start = num_descriptors(process.pid)
        good_client(endpoint, 1000, keys)
        for _ in range(200):  # until the allocator has seen what it will see
            come_and_go(endpoint, keys, rng)
        assert settled_descriptors(process.pid, start) == start
        before = resident_bytes(process.pid)
        for _ in range(2000):
            come_and_go(endpoint, keys, rng)
        assert settled_descriptors(process.pid, start) == start
        grown = resident_bytes(process.pid) - before
        print(f"2000 clients: {grown / 1e6:+.1f} MB, {start} descriptors")
        assert grown < GROWTH_BYTES
        good_client(endpoint, 2000, keys)


def test_a_client_that_never_pauses_does_not_keep_an_emulator_alive_whose_parent_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)  # as when the parent ends
    emulator = Emulator(load_scene("comp"), "tcp://127.0.0.1:0")
    answered = 0
    with os.fdopen(read_end) as stdin, dealer(emulator.endpoint) as connection:

        def ask() -> None:
            connection.send_multipart([STATUS])
            assert emulator._socket.poll(10_000)

        def answer_and_be_asked_again() -> None:
            nonlocal answered
            answered += 1
            assert answered < 50, "it does not look at its standard input"
            Emulator._answer_one(emulator)
            ask()

        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr(emulator, "_answer_one", answer_and_be_asked_again)
        ask()
        emulator.serve(until_stdin_closes=True)
    emulator.close()
