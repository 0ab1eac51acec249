"""The wire: what is packed is unpacked; whatever else arrives is a WireError before anything is allocated."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from testbed.errors import ConfigError, RadioError
from testbed.radio.wire import (
    MAX_HEADER_BYTES,
    VERSION,
    WireError,
    endpoint_host,
    is_whole,
    pack,
    require_loopback,
    shown,
    unpack,
)

shapes = arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def received(parts):
    """Parts as ZMQ hands them over."""
    return [bytes(part) for part in parts]


def message(payload=b"", **header):
    return [json.dumps({"v": VERSION, **header}).encode(), payload]


def nested(depth, inside=lambda inner: [inner]):
    value = 1
    for _ in range(depth):
        value = inside(value)
    return value


# Round trip


@given(st.dictionaries(st.sampled_from(["op", "node", "seq", "ok"]), st.integers() | st.text()))
def test_a_header_comes_back(header):
    assert unpack(received(pack(header))) == ({"v": VERSION, **header}, None)


@given(shapes.flatmap(lambda shape: arrays.arrays(np.complex64, shape, elements=st.complex_numbers(width=64))))
def test_complex_samples_come_back_bit_for_bit(samples):
    header, back = unpack(received(pack({"op": "transmit"}, samples)))

    assert (header["dtype"], header["shape"]) == ("cf32", list(samples.shape))
    assert back.dtype == np.complex64
    assert back.tobytes() == samples.tobytes()


@given(shapes.flatmap(lambda shape: arrays.arrays(np.int16, (*shape, 2))))
def test_raw_samples_come_back_bit_for_bit(samples):
    header, back = unpack(received(pack({"ok": "receive"}, samples)))

    assert header["dtype"] == "ci16"
    np.testing.assert_array_equal(back, samples, strict=True)


def test_samples_are_little_endian_in_phase_first():
    raw = pack({}, np.array([[1, -2], [256, 0]], dtype=">i2"))[1]
    analogue = pack({}, np.array([1 - 2j], dtype=">c8"))[1]

    assert bytes(raw) == b"\x01\x00\xfe\xff\x00\x01\x00\x00"
    assert bytes(analogue) == b"\x00\x00\x80\x3f\x00\x00\x00\xc0"


def test_a_strided_array_is_sent_as_it_looks():
    samples = np.arange(24, dtype=np.int16).reshape(2, 6, 2)[:, ::2]

    np.testing.assert_array_equal(unpack(received(pack({}, samples)))[1], samples)


def test_double_precision_is_sent_as_single():
    assert unpack(received(pack({}, np.array([1 / 3 + 0j]))))[1][0] == np.complex64(1 / 3)


def test_contiguous_samples_are_sent_without_a_copy():
    samples = np.zeros((1, 1000), dtype=np.complex64)

    assert np.shares_memory(np.frombuffer(pack({}, samples)[1], dtype=np.complex64), samples)


def test_what_was_received_cannot_be_written_to():
    _, samples = unpack(received(pack({}, np.zeros(3, dtype=np.complex64))))

    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 1


def test_a_header_that_is_not_json_cannot_be_sent():
    with pytest.raises(ValueError):
        pack({"power": float("nan")})


# Malformed messages

HEADER = message()[0]
MALFORMED = {
    "no part": [],
    "three parts": [HEADER, b"", b""],
    "not text": [b"\xff\xfe"],
    "not JSON": [b"{'v': 1}"],
    "empty": [b""],
    "pickled": [b"\x80\x04\x95\x10"],
    "a list": [b"[1]"],
    "a number": [b"1"],
    "null": [b"null"],
    "deep": [b"[" * 60_000],
    "a long number": [b'{"v": ' + b"1" * 6000 + b"}"],
    "a long header": [b'{"v": 1, "x": "' + b"x" * MAX_HEADER_BYTES + b'"}'],
    "no version": [b'{"op": "hello"}'],
    "another version": [b'{"v": 2, "op": "hello"}'],
    "version true": [b'{"v": true, "op": "hello"}'],
    "version as a fraction": [b'{"v": 1.0, "op": "hello"}'],
    "lists in lists": message(x=nested(17))[:1],
    "tables in tables": message(x=nested(17, lambda inner: {"a": inner}))[:1],
    "deep beside shallow": message(a=[1], b={"c": 1}, x=[1, nested(16), 2])[:1],
    "version as text": [b'{"v": "1", "op": "hello"}'],
    "payload without dtype": [HEADER, b"1234"],
    "samples without payload": message(dtype="cf32", shape=[1])[:1],
    "unknown dtype": message(bytes(8), dtype="cf64", shape=[1]),
    "a dtype of Python": message(bytes(8), dtype="object", shape=[1]),
    "a dtype that is a list": message(bytes(8), dtype=["cf32"], shape=[1]),
    "no shape": message(bytes(8), dtype="cf32"),
    "a number as shape": message(bytes(8), dtype="cf32", shape=1),
    "empty shape": message(bytes(8), dtype="cf32", shape=[]),
    "four axes": message(bytes(8), dtype="cf32", shape=[1, 1, 1, 1]),
    "negative": message(bytes(8), dtype="cf32", shape=[-1]),
    "negative twice": message(bytes(8), dtype="cf32", shape=[-1, -1]),
    "fraction": message(bytes(8), dtype="cf32", shape=[1.0]),
    "true": message(bytes(8), dtype="cf32", shape=[True]),
    "text": message(bytes(8), dtype="cf32", shape=["1"]),
    "ci16 without pairs": message(bytes(8), dtype="ci16", shape=[4]),
    "ci16 of triples": message(bytes(6), dtype="ci16", shape=[1, 3]),
    "too few bytes": message(bytes(7), dtype="cf32", shape=[1]),
    "too many bytes": message(bytes(9), dtype="cf32", shape=[1]),
    "far too few bytes": message(bytes(8), dtype="cf32", shape=[1 << 40]),
    "wraps to 8 bytes in 64 bits": message(bytes(8), dtype="cf32", shape=[(1 << 61) + 1]),
    "wraps to 0 bytes in 64 bits": message(b"", dtype="cf32", shape=[1 << 32, 1 << 32]),
    "wraps to 0 bytes over three axes": message(b"", dtype="cf32", shape=[1 << 22, 1 << 22, 1 << 20]),
    "nothing, of absurd length": message(b"", dtype="cf32", shape=[0, 1 << 40]),
    "nothing, longer than an index": message(b"", dtype="cf32", shape=[0, 10**30]),
    "nothing, of absurd size": message(b"", dtype="cf32", shape=[0, 1 << 62, 1 << 62]),
}


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_is_a_wire_error_of_one_line(parts):
    tracemalloc.start()
    try:
        with pytest.raises(WireError) as caught:
            unpack(parts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert isinstance(caught.value, RadioError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert peak < 5e6  # sizes are checked before anything is made of them


def test_a_header_may_be_nested_and_wide_within_reason():
    header = {"v": VERSION, "x": nested(15), "wide": [[0]] * 5000}

    assert unpack([json.dumps(header).encode()]) == (header, None)


@pytest.mark.parametrize(
    "value", ["x" * 5000, "a\nb", 10**4000, [[1] * 50] * 50, {"a" * 500: "b" * 500}, None, nested(900)]
)
def test_a_value_is_shown_on_one_short_line(value):
    assert len(shown(value)) <= 120
    assert "\n" not in shown(value)


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [1], float("nan")])
def test_only_whole_numbers_are_whole(value):
    assert not is_whole(value)
    assert is_whole(0) and is_whole(-1) and is_whole(10**400)


def harmless(parts):
    """Unpacked, or a WireError; nothing else."""
    try:
        header, samples = unpack(parts)
    except WireError:
        return
    assert header["v"] == VERSION
    assert samples is None or samples.nbytes == len(parts[1])


@given(st.lists(st.binary(max_size=64), max_size=3))
def test_random_bytes_are_harmless(parts):
    harmless(parts)


@given(st.dictionaries(st.sampled_from(["v", "op", "seq", "shape", "dtype"]), json_values), st.binary(max_size=16))
@example({"v": 1, "dtype": "cf32", "shape": [0, 0]}, b"")
def test_random_headers_are_harmless(header, payload):
    harmless([json.dumps(header).encode(), payload])


@given(
    st.lists(st.integers(-2, 4) | st.sampled_from([1 << 31, 1 << 32, 1 << 61, 1 << 63, 1 << 64, 10**30]), max_size=4),
    st.sampled_from(["cf32", "ci16"]),
    st.integers(0, 64),
)
def test_random_shapes_are_harmless(shape, dtype, size):
    harmless(message(bytes(size), dtype=dtype, shape=shape))


@given(st.data())
def test_a_message_with_bytes_changed_is_harmless(data):
    parts = received(pack({"op": "transmit", "node": "bs1", "seq": 7}, np.ones((1, 4), dtype=np.complex64)))
    header = bytearray(parts[0])
    for _ in range(data.draw(st.integers(1, 5))):
        header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))

    harmless([bytes(header), parts[1]])


# Endpoints


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("tcp://127.0.0.1:5555", "127.0.0.1"),
        ("tcp://localhost:0", "localhost"),
        ("tcp://[::1]:5555", "::1"),
        ("tcp://192.168.2.1:80", "192.168.2.1"),
    ],
)
def test_the_host_of_an_endpoint(endpoint, host):
    assert endpoint_host(endpoint) == host


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "127.0.0.1:5555",
        "ipc:///tmp/x",
        "tcp://127.0.0.1",
        "tcp://:5555",
        "tcp://h:99999",
        "tcp://h:x",
        "tcp://h:1/x",
    ],
)
def test_what_is_no_endpoint_is_refused_with_an_example(endpoint):
    with pytest.raises(ConfigError, match=r"must read tcp://HOST:PORT"):
        endpoint_host(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5555", "tcp://127.8.9.10:0", "tcp://localhost:5555", "tcp://[::1]:5555"]
)
def test_loopback_may_be_bound(endpoint):
    require_loopback(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:5555",
        "tcp://*:5555",
        "tcp://[::]:5555",
        "tcp://192.168.2.1:5555",
        "tcp://eth0:5555",
        "tcp://example.org:5555",
        "tcp://127.0.0.1.example.org:5555",
        "tcp://localhost.example.org:5555",
    ],
)
def test_anything_else_may_not_be_bound(endpoint):
    with pytest.raises(ConfigError, match="only loopback"):
        require_loopback(endpoint)
