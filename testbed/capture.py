"""Captures: the whole network under one condition, raw as received, with all that is needed to detect again.

The layout is documented field by field in captures/README.md. A file is written as `*.part` and renamed when closed.
Attribute names follow SigMF where it has one; our own stand under `isac:`.
"""

import contextlib
import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata as package_metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from testbed import __version__
from testbed.device import Limits, Reception, Settings, raw_to_complex
from testbed.errors import CaptureError, IsacError, RadioError
from testbed.measurement import Estimate
from testbed.waveform.frame import Frame

LAYOUT = 1
CHUNK_SAMPLES = 1 << 16
RESERVE_BYTES = 1 << 20  # for HDF5's own structures: some kilobytes per node and megabyte of samples
MAX_NODES = 64
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
SEGMENT_TABLE = np.dtype(
    [
        ("core:sample_start", "<u8"),
        ("core:frequency", "<f8"),  # Hz
        ("core:datetime", "S32"),  # UTC, ISO 8601
        ("isac:tx_gain_db", "<f8"),
        ("isac:rx_gain_db", "<f8"),
    ]
)


@dataclass(frozen=True)
class NodeCapture:
    """What one node received."""

    name: str
    raw: NDArray[np.int16]  # shape (num_rx, n, 2)
    settings: Settings  # realised
    limits: Limits
    chunks: NDArray[Any]  # loss record, CHUNK_TABLE
    noise_var: Estimate | None = None  # E|w|^2 in milliwatt from the run's muted capture
    attempts: int = 1  # receptions begun for these samples; those before the last were discarded

    @property
    def num_samples(self) -> int:
        """Samples per channel."""
        return int(self.raw.shape[1])

    @property
    def amplitude(self) -> float:
        """sqrt(milliwatt) at full scale."""
        return self.limits.rx_amplitude(self.settings.rx_gain_db)

    @property
    def lsb(self) -> float:
        """sqrt(milliwatt) of one raw count."""
        return self.amplitude / self.limits.rx_full_scale

    @property
    def samples(self) -> NDArray[np.complex64]:
        """complex64 (num_rx, n) in sqrt(milliwatt)."""
        samples = raw_to_complex(self.raw, self.limits.rx_full_scale)
        samples *= np.float32(self.amplitude)
        return samples


@dataclass(frozen=True)
class Capture:
    """The whole network under one condition. `frame` is what was on the air; None when nothing was."""

    condition: str
    tx_names: tuple[str, ...]  # order of the frame's rows
    frame: Frame | None
    nodes: tuple[NodeCapture, ...]
    setup: dict[str, Any]  # numerology, survey, observations: what detection needs
    experiment: dict[str, Any]  # resolved experiment file
    simulated: bool
    info: dict[str, Any] = field(default_factory=dict)  # created, versions, power index

    def node(self, name: str) -> NodeCapture:
        """The capture of one node; CaptureError when the file does not hold it."""
        for node in self.nodes:
            if node.name == name:
                return node
        held = ", ".join(node.name for node in self.nodes) or "none"
        raise CaptureError(f"node '{name}': not in this capture; it holds {held}")


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    names = ("numpy", "scipy", "h5py", "pyzmq", "pydantic")
    return {
        "isac-testbed": __version__,
        "python": platform.python_version(),
        **{name: package_metadata.version(name) for name in names},
    }


class CaptureWriter:
    """Writes one capture; use as a context manager. Leaving it normally renames `*.part` to the final name."""

    def __init__(self, path: Path, capture: Capture) -> None:
        """Create all groups, tables and attributes before the first sample.

        Args:
            path: final name.
            capture: everything but samples; the `raw` of its nodes gives channels only and may be empty.
        """
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._failed = False
        try:
            # before HDF5 opens the file, for one without space it cannot even close
            self._part.touch()
            with self._writing():
                _set_aside(self._part, _layout_bytes(capture))
            self._file = h5py.File(self._part, "w")
        except OSError as exc:
            raise CaptureError(f"{path}: cannot be created ({_short(exc)}); choose another directory") from exc
        try:
            with self._writing():
                _set_aside(self._part, _layout_bytes(capture))
                _create_layout(self._file, capture)
                self._file.flush()
        except BaseException:
            self._abandon()
            raise

    def write(self, node: str, reception: Reception, lost_before: int = 0) -> None:
        """Append a reception to a node's samples, one row of the loss record per chunk.

        Raises:
            CaptureError: it could not be written; the file is then lost and never gets its final name.
        """
        group = self._file["nodes"][node]
        iq, table = group["iq"], group["chunks"]
        start, count = iq.shape[1], reception.num_samples
        with self._writing():
            partly_filled = 2 * CHUNK_SAMPLES * reception.raw[:, :1].nbytes  # chunks at either end
            _set_aside(self._part, self._file.id.get_filesize() + reception.raw.nbytes + partly_filled)
            iq.resize(start + count, axis=1)
            iq[:, start : start + count] = reception.raw
            rows = []
            # rows end on chunk borders, so that a later chunk writer leaves the same record
            at = 0
            while at < count:
                size = min(CHUNK_SAMPLES - (start + at) % CHUNK_SAMPLES, count - at)
                rows.append(
                    (
                        start + at,
                        size,
                        reception.epoch,
                        reception.start + at,
                        reception.clip_count if at == 0 else 0,
                        lost_before if at == 0 else 0,
                        reception.continuity.encode(),
                        _digest(reception.raw[:, at : at + size]),
                    )
                )
                at += size
            table.resize(table.shape[0] + len(rows), axis=0)
            table[-len(rows) :] = np.array(rows, dtype=CHUNK_TABLE)
            self._file.flush()

    def restart(self, node: str) -> None:
        """Discard what was written for a node, and count one attempt more; for a reception that lost samples."""
        group = self._file["nodes"][node]
        with self._writing():
            group["iq"].resize(0, axis=1)
            group["chunks"].resize(0, axis=0)
            group["attempts"][0] += 1
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or self._failed:
            self._abandon()
            return
        with self._writing():
            _set_aside(self._part, self._file.id.get_filesize())
            self._file.flush()
            end = self._file.id.get_filesize()
            self._file.close()
            os.truncate(self._part, end)
            self._part.replace(self.path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what HDF5 or the system raises into a CaptureError; after one the file keeps its `*.part` name."""
        try:
            yield
        except (OSError, RuntimeError) as exc:
            self._failed = True
            raise CaptureError(f"{self.path}: writing failed ({_short(exc)}); is the disk full?") from exc

    def _abandon(self) -> None:
        """Close a file that nobody will read."""
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()


def save(path: Path | str, capture: Capture) -> None:
    """Write a capture held in memory; loading it gives the same values.

    Raises:
        CaptureError: a loss record that does not cover its samples, or a file that cannot be written.
    """
    for node in capture.nodes:
        covered = int(node.chunks["sample_count"].sum())
        if covered != node.num_samples:
            raise CaptureError(
                f"{path}: nodes/{node.name}: the loss record covers {covered} of {node.num_samples} samples; "
                f"keep a row per chunk"
            )
    with CaptureWriter(Path(path), capture) as writer:
        for node in capture.nodes:
            for row in node.chunks:
                start, count = int(row["sample_start"]), int(row["sample_count"])
                writer.write(
                    node.name,
                    Reception(
                        node.raw[:, start : start + count],
                        node.limits.rx_full_scale,
                        int(row["epoch"]),
                        int(row["epoch_start"]),
                        int(row["clip_count"]),
                        row["continuity"].decode(),
                    ),
                    int(row["lost_before"]),
                )


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
        raise CaptureError(f"{path}: not a readable capture ({_short(exc)}); cut short or not HDF5") from exc
    # h5py raises RuntimeError for damaged structures; Limits and Settings are read as if from a radio
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, RadioError) as exc:
        raise CaptureError(f"{path}: not a capture of layout {LAYOUT} ({_short(exc)})") from exc


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
            if _digest(node.raw[:, start : start + count]) != row["blake2b"]:
                faults.append(f"{path}: nodes/{node.name}: samples {start}..{expected - 1} differ from their hash")
        if expected != node.num_samples:
            faults.append(f"{path}: nodes/{node.name}: loss record ends at {expected} of {node.num_samples} samples")
    return faults


def _create_layout(file: h5py.File, capture: Capture) -> None:
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
    file["info"] = np.bytes_(_json({"created": _now("seconds"), "versions": versions(), **capture.info}).encode())
    if capture.frame is not None:
        group = file.create_group("frame")
        group["samples"] = capture.frame.samples
        group["pilot_power"] = capture.frame.pilot_power
        group["data_power"] = capture.frame.data_power
        group.attrs["isac:blake2b"] = np.bytes_(_digest(capture.frame.samples))
    nodes = file.create_group("nodes", track_order=True)  # node order, not the alphabet
    for node in capture.nodes:
        _create_node(nodes.create_group(node.name), node)


def _set_aside(path: Path, num_bytes: int) -> None:
    """Have the system reserve space for a file of so many bytes and HDF5's structures, or raise OSError.

    HDF5 may crash the process, at once or at its end, after a write that failed; so none may fail for want of space.
    """
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if num_bytes + RESERVE_BYTES > size:
            os.posix_fallocate(file.fileno(), size, num_bytes + RESERVE_BYTES - size)


def _layout_bytes(capture: Capture) -> int:
    """What `_create_layout` writes, beyond structures of fixed size."""
    documents = sum(len(_json(value)) for value in (capture.setup, capture.experiment, capture.info))
    return documents + (capture.frame.samples.nbytes if capture.frame is not None else 0) + (len(capture.nodes) << 16)


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
        _now("milliseconds").encode(),
        node.settings.tx_gain_db,
        node.settings.rx_gain_db,
    )
    group["attempts"] = np.array([node.attempts], dtype=np.uint32)
    group.create_dataset("captures", data=np.array([segment], dtype=SEGMENT_TABLE), maxshape=(None,), chunks=(16,))


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
    if _digest(samples) != bytes(group.attrs["isac:blake2b"]):
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
    )


def _fits(path: Path, dataset: h5py.Dataset, file_size: int) -> None:
    """Refuse a dataset that claims more bytes than the file holds, before anything is allocated for it."""
    if dataset.size * dataset.dtype.itemsize > file_size:
        raise CaptureError(
            f"{path}: {dataset.name}: claims {dataset.size * dataset.dtype.itemsize} bytes of a file of {file_size}"
        )


def _digest(array: NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest().encode()


def _document(path: Path, dataset: h5py.Dataset, file_size: int) -> dict[str, Any]:
    _fits(path, dataset, file_size)
    value = json.loads(bytes(dataset[()]).decode("utf-8"))
    if not isinstance(value, dict):
        raise CaptureError(f"{path}: {dataset.name}: not a JSON object")
    return value


def _now(precision: str) -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _text(group: h5py.Group, key: str) -> str:
    value = group.attrs[key]
    return (value if isinstance(value, bytes) else bytes(value)).decode("utf-8")


def _short(exc: BaseException) -> str:
    return str(exc).splitlines()[0][:160] if str(exc) else type(exc).__name__
