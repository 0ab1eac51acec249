"""Keep only the first samples of a capture file, as a storage policy asks."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from testbed.capture.layout import digest
from testbed.capture.values import Capture, NodeCapture
from testbed.capture.writer import save


def truncate(path: Path, capture: Capture, num_samples: int) -> None:
    """Replace the file of a capture by its first samples; `info` says how many there were, clipped or lost.

    Args:
        path: of the file.
        capture: what it holds.
        num_samples: kept, per node; a capture no longer than that stays as it is.
    """
    longest = max(node.num_samples for node in capture.nodes)
    if longest <= num_samples:
        return
    kept = replace(
        capture,
        nodes=tuple(_first(node, num_samples) for node in capture.nodes),
        info={
            **capture.info,
            "captured_samples": longest,
            "clipped_samples": {node.name: int(node.chunks["clip_count"].sum()) for node in capture.nodes},
            "lost_samples": {node.name: int(node.chunks["lost_before"].sum()) for node in capture.nodes},
        },
    )
    save(path, kept)


def _first(node: NodeCapture, num_samples: int) -> NodeCapture:
    raw, rows = node.raw[:, :num_samples], node.chunks[node.chunks["sample_start"] < num_samples].copy()
    for row in rows:
        start = int(row["sample_start"])
        stop = min(start + int(row["sample_count"]), num_samples)
        row["sample_count"], row["blake2b"] = stop - start, digest(raw[:, start:stop])
    return replace(node, raw=np.ascontiguousarray(raw), chunks=rows)
