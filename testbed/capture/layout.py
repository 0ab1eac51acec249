"""The HDF5 layout: names, tables, and everything that stands in a file before its first sample."""

import datetime
import hashlib
import json
import platform
from importlib import metadata as package_metadata
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from testbed import __version__
from testbed.capture.values import Capture, NodeCapture, Notice

LAYOUT = 1
CHUNK_SAMPLES = 1 << 16
CHUNK_TABLE = np.dtype(
    [
        ("sample_start", "<u8"),  # within the dataset
        ("sample_count", "<u8"),
        ("epoch", "<u8"),  # of the radio
        ("epoch_start", "<u8"),  # index within the epoch
        ("clip_count", "<u8"),  # of the reception this chunk came in
        ("lost_before", "<u8"),  # samples known to be missing before this chunk
        ("continuity", "S8"),  # reported, verified or unknown
        ("blake2b", "S32"),  # hex digest (16 bytes) of the chunk's integers
    ]
)
NOTICE_TABLE = np.dtype(
    [
        ("attempt", "<u4"),
        ("kind", "S12"),
        ("sample_start", "<u8"),  # of the attempt
        ("sample_count", "<u8"),
        ("node", "S32"),
    ]
)
SEGMENT_TABLE = np.dtype(
    [
        ("core:sample_start", "<u8"),
        ("core:frequency", "<f8"),  # Hz
        ("core:datetime", "S32"),  # UTC, ISO 8601
        ("isac:tx_gain_db", "<f8"),
        ("isac:rx_gain_db", "<f8"),
    ]
)


def create_layout(file: h5py.File, capture: Capture) -> None:
    """All groups, tables, documents and attributes of a capture, before its first sample."""
    rates = {node.settings.sample_rate_hz for node in capture.nodes}
    attributes: dict[str, Any] = {
        "core:datatype": "ci16_le",
        "core:sample_rate": rates.pop() if rates else 0.0,
        "core:version": "1.2.6",
        "core:recorder": f"ISAC Testbed {__version__}",
        "core:description": str(capture.experiment.get("title", "")),
        "core:extensions": _json([{"name": "isac", "version": str(LAYOUT), "optional": True}]),
        "isac:layout": LAYOUT,
        "isac:condition": capture.condition,
        "isac:simulated": capture.simulated,
        "isac:tx_names": _json(capture.tx_names),
    }
    for key, value in attributes.items():
        file.attrs[key] = np.bytes_(value.encode()) if isinstance(value, str) else value
    # documents are datasets, for an attribute holds at most 64 KiB
    file["setup"] = np.bytes_(_json(capture.setup).encode())
    file["experiment"] = np.bytes_(_json(capture.experiment).encode())
    file["info"] = np.bytes_(_json({"created": now("seconds"), "versions": versions(), **capture.info}).encode())
    if capture.frame is not None:
        group = file.create_group("frame")
        group["samples"] = capture.frame.samples
        group["pilot_power"] = capture.frame.pilot_power
        group["data_power"] = capture.frame.data_power
        group.attrs["isac:blake2b"] = np.bytes_(digest(capture.frame.samples))
    nodes = file.create_group("nodes", track_order=True)  # node order, not the alphabet
    for node in capture.nodes:
        _create_node(nodes.create_group(node.name), node)


def layout_bytes(capture: Capture) -> int:
    """What `create_layout` writes, beyond structures of fixed size."""
    documents = sum(len(_json(value)) for value in (capture.setup, capture.experiment, capture.info))
    return documents + (capture.frame.samples.nbytes if capture.frame is not None else 0) + (len(capture.nodes) << 16)


def digest(array: NDArray[Any]) -> bytes:
    """16-byte BLAKE2b of an array's memory, hex."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest().encode()


def short(exc: BaseException) -> str:
    """First line of an exception's text, for messages."""
    return str(exc).splitlines()[0][:160] if str(exc) else type(exc).__name__


def _create_node(group: h5py.Group, node: NodeCapture) -> None:
    channels = node.limits.num_rx
    for key, value in {
        "core:hw": node.limits.model,
        "isac:settings": _json(node.settings.to_dict()),
        "isac:limits": _json(node.limits.to_dict()),
        "isac:noise_var": _json(node.noise_var.model_dump() if node.noise_var else None),
    }.items():
        group.attrs[key] = np.bytes_(value.encode())
    group.attrs["core:num_channels"] = channels
    group.attrs["isac:full_scale"] = node.limits.rx_full_scale
    # no fletcher32: it excludes direct chunk writes; every chunk has its hash in the loss record
    group.create_dataset(
        "iq", shape=(channels, 0, 2), maxshape=(channels, None, 2), chunks=(channels, CHUNK_SAMPLES, 2), dtype="<i2"
    )
    group.create_dataset("chunks", shape=(0,), maxshape=(None,), chunks=(256,), dtype=CHUNK_TABLE)
    segment = (
        0,
        node.settings.carrier_hz,
        now("milliseconds").encode(),
        node.settings.tx_gain_db,
        node.settings.rx_gain_db,
    )
    group["attempts"] = np.array([node.attempts], dtype=np.uint32)
    rows = np.array([notice_row(notice) for notice in node.notices], dtype=NOTICE_TABLE)
    group.create_dataset("notices", data=rows, maxshape=(None,), chunks=(16,))
    group.create_dataset("captures", data=np.array([segment], dtype=SEGMENT_TABLE), maxshape=(None,), chunks=(16,))


def notice_row(notice: Notice) -> tuple[int, bytes, int, int, bytes]:
    """A row of NOTICE_TABLE."""
    return (
        notice.attempt,
        notice.kind.encode(),
        notice.sample_start,
        notice.sample_count,
        notice.node.encode(),
    )


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    names = ("numpy", "scipy", "h5py", "pyzmq", "pydantic")
    return {
        "isac-testbed": __version__,
        "python": platform.python_version(),
        **{name: package_metadata.version(name) for name in names},
    }


def now(precision: str) -> str:
    """UTC in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
