"""Capture files, written block by block under a provisional name."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from testbed.capture.layout import (
    CHUNK_SAMPLES,
    CHUNK_TABLE,
    NOTICE_TABLE,
    create_layout,
    digest,
    layout_bytes,
    notice_row,
    short,
)
from testbed.capture.values import Capture, Notice
from testbed.device import Reception
from testbed.errors import CaptureError

RESERVE_BYTES = 1 << 20  # for HDF5's own structures: some kilobytes per node and megabyte of samples


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
                _set_aside(self._part, layout_bytes(capture))
            self._file = h5py.File(self._part, "w")
        except OSError as exc:
            raise CaptureError(f"{path}: cannot be created ({short(exc)}); choose another directory") from exc
        try:
            with self._writing():
                _set_aside(self._part, layout_bytes(capture))
                create_layout(self._file, capture)
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
                        digest(reception.raw[:, at : at + size]),
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

    def notice(self, node: str, notice: Notice) -> None:
        """Add what was noticed in the attempt under way; it stays in the file when that attempt is discarded."""
        group = self._file["nodes"][node]
        with self._writing():
            table = group["notices"]
            table.resize(table.shape[0] + 1, axis=0)
            table[-1] = np.array(notice_row(replace(notice, attempt=int(group["attempts"][0]))), dtype=NOTICE_TABLE)
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
            raise CaptureError(f"{self.path}: writing failed ({short(exc)}); is the disk full?") from exc

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


def _set_aside(path: Path, num_bytes: int) -> None:
    """Have the system reserve space for a file of so many bytes and HDF5's structures, or raise OSError.

    HDF5 may crash the process, at once or at its end, after a write that failed; so none may fail for want of space.
    """
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if num_bytes + RESERVE_BYTES > size:
            os.posix_fallocate(file.fileno(), size, num_bytes + RESERVE_BYTES - size)
