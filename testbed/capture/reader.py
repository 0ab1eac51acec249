"""Capture files, read whole and checked: nothing is allocated that the file could not hold."""

import json
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np

from testbed.capture.layout import CHUNK_TABLE, LAYOUT, NOTICE_TABLE, digest, short
from testbed.capture.values import Capture, NodeCapture, Notice, NoticeKind
from testbed.device import Limits, Settings
from testbed.errors import CaptureError, IsacError, RadioError
from testbed.measurement import Estimate
from testbed.waveform.frame import Frame

MAX_NODES = 64


def load(path: Path | str) -> Capture:
    """Read a capture whole.

    Raises:
        CaptureError: missing, cut short, foreign or of another layout; one line that says which.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            return _read(path, file)
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except OSError as exc:
        raise CaptureError(f"{path}: not a readable capture ({short(exc)}); cut short or not HDF5") from exc
    # h5py raises RuntimeError for damaged structures; Limits and Settings are read as if from a radio
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, RadioError) as exc:
        raise CaptureError(f"{path}: not a capture of layout {LAYOUT} ({short(exc)})") from exc


def taken_at(path: Path | str) -> str:
    """When the first node's samples of a capture were begun: UTC in ISO 8601, to the millisecond.

    Raises:
        CaptureError: not a capture.
    """
    try:
        with h5py.File(path, "r") as file:
            times = [bytes(group["captures"][0]["core:datetime"]).decode() for group in file["nodes"].values()]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as exc:
        raise CaptureError(f"{path}: not a readable capture ({short(exc)}); cut short or not HDF5") from exc
    return min(times, default="")


def check(path: Path | str) -> list[str]:
    """Faults of a capture file, empty if it is whole: layout, loss record and the hash of every chunk."""
    try:
        capture = load(path)
    except IsacError as exc:
        return [str(exc)]
    faults = []
    for node in capture.nodes:
        expected = 0
        for row in node.chunks:
            start, count = int(row["sample_start"]), int(row["sample_count"])
            if start != expected:
                faults.append(f"{path}: nodes/{node.name}: loss record jumps from sample {expected} to {start}")
            expected = start + count
            if digest(node.raw[:, start : start + count]) != row["blake2b"]:
                faults.append(f"{path}: nodes/{node.name}: samples {start}..{expected - 1} differ from their hash")
        if expected != node.num_samples:
            faults.append(f"{path}: nodes/{node.name}: loss record ends at {expected} of {node.num_samples} samples")
    return faults


def _read(path: Path, file: h5py.File) -> Capture:
    layout = file.attrs.get("isac:layout")
    if layout != LAYOUT:
        raise CaptureError(f"{path}: layout {layout}; this version reads {LAYOUT}")
    size = path.stat().st_size
    tx_names = json.loads(_text(file, "isac:tx_names"))
    if not isinstance(tx_names, list) or not all(isinstance(name, str) for name in tx_names):
        raise CaptureError(f"{path}: isac:tx_names: {str(tx_names)[:60]}; must be a list of names")
    frame = _read_frame(path, file["frame"], len(tx_names), size) if "frame" in file else None
    if len(file["nodes"]) > MAX_NODES:
        raise CaptureError(f"{path}: {len(file['nodes'])} nodes; at most {MAX_NODES}")
    return Capture(
        condition=_text(file, "isac:condition"),
        tx_names=tuple(tx_names),
        frame=frame,
        nodes=tuple(_read_node(path, name, group, size) for name, group in file["nodes"].items()),
        setup=_document(path, file["setup"], size),
        experiment=_document(path, file["experiment"], size),
        simulated=bool(file.attrs["isac:simulated"]),
        info=_document(path, file["info"], size),
    )


def _read_frame(path: Path, group: h5py.Group, num_tx: int, file_size: int) -> Frame:
    frame_len = group["samples"].size // max(num_tx, 1)
    for name, dtype, shape in (
        ("samples", np.complex128, (num_tx, max(frame_len, 1))),
        ("pilot_power", np.float64, (num_tx,)),
        ("data_power", np.float64, (num_tx,)),
    ):
        dataset = group[name]
        if dataset.dtype != dtype or dataset.shape != shape:
            raise CaptureError(
                f"{path}: frame/{name}: {dataset.dtype} {dataset.shape}; must be {np.dtype(dtype)} {shape}, a row for "
                f"each of the {num_tx} names in isac:tx_names"
            )
        _fits(path, dataset, file_size)
    samples = group["samples"][()]
    if digest(samples) != bytes(group.attrs["isac:blake2b"]):
        raise CaptureError(f"{path}: frame: samples differ from their hash")
    return Frame(samples, group["pilot_power"][()], group["data_power"][()])


def _read_node(path: Path, name: str, group: h5py.Group, file_size: int) -> NodeCapture:
    limits = Limits.from_dict(json.loads(_text(group, "isac:limits")))
    iq, chunks = group["iq"], group["chunks"]
    if iq.dtype != np.int16 or iq.ndim != 3 or iq.shape[0] != limits.num_rx or iq.shape[2] != 2:
        raise CaptureError(f"{path}: nodes/{name}/iq: {iq.dtype} {iq.shape}; must be int16 ({limits.num_rx}, n, 2)")
    if chunks.dtype != CHUNK_TABLE:
        raise CaptureError(f"{path}: nodes/{name}/chunks: unexpected columns {chunks.dtype.names}")
    for dataset in (iq, chunks):
        _fits(path, dataset, file_size)
    attempts = 1  # where the first files of this layout say nothing
    if "attempts" in group:
        if group["attempts"].shape != (1,) or group["attempts"].dtype != np.uint32:
            raise CaptureError(f"{path}: nodes/{name}/attempts: {group['attempts'].shape}; must be one uint32")
        attempts = int(group["attempts"][0])
    noise = json.loads(_text(group, "isac:noise_var"))
    return NodeCapture(
        name=name,
        raw=iq[()],
        settings=Settings.from_dict(json.loads(_text(group, "isac:settings"))),
        limits=limits,
        chunks=chunks[()],
        noise_var=None if noise is None else Estimate.model_validate(noise),
        attempts=attempts,
        notices=_read_notices(path, name, group, file_size) if "notices" in group else (),
    )


def _read_notices(path: Path, name: str, group: h5py.Group, file_size: int) -> tuple[Notice, ...]:
    table = group["notices"]
    if table.dtype != NOTICE_TABLE or table.ndim != 1:
        raise CaptureError(f"{path}: nodes/{name}/notices: {table.dtype} {table.shape}; must be a table of notices")
    _fits(path, table, file_size)
    notices = []
    for row in table[()]:
        kind, kinds = row["kind"].decode(), get_args(NoticeKind)
        if kind not in kinds:
            raise CaptureError(f"{path}: nodes/{name}/notices: kind '{kind}'; must be {', '.join(kinds)}")
        numbers = int(row["sample_start"]), int(row["sample_count"])
        notices.append(Notice(kind, *numbers, row["node"].decode(), int(row["attempt"])))
    return tuple(notices)


def _fits(path: Path, dataset: h5py.Dataset, file_size: int) -> None:
    """Refuse a dataset that claims more bytes than the file holds, before anything is allocated for it."""
    if dataset.size * dataset.dtype.itemsize > file_size:
        raise CaptureError(
            f"{path}: {dataset.name}: claims {dataset.size * dataset.dtype.itemsize} bytes of a file of {file_size}"
        )


def _document(path: Path, dataset: h5py.Dataset, file_size: int) -> dict[str, Any]:
    _fits(path, dataset, file_size)
    value = json.loads(bytes(dataset[()]).decode("utf-8"))
    if not isinstance(value, dict):
        raise CaptureError(f"{path}: {dataset.name}: not a JSON object")
    return value


def _text(group: h5py.Group, key: str) -> str:
    value = group.attrs[key]
    return (value if isinstance(value, bytes) else bytes(value)).decode("utf-8")
