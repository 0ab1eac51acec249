"""Captures: the whole network under one condition, raw as received, with all that is needed to detect again.

The layout is documented field by field in captures/README.md. A file is written as `*.part` and renamed when closed.
Attribute names follow SigMF where it has one; our own stand under `isac:`.
"""

from testbed.capture.layout import CHUNK_SAMPLES, CHUNK_TABLE, LAYOUT, SEGMENT_TABLE, now, versions
from testbed.capture.reader import check, load, taken_at
from testbed.capture.trim import truncate
from testbed.capture.values import Capture, NodeCapture, Notice, NoticeKind
from testbed.capture.writer import CaptureWriter, save

__all__ = [
    "CHUNK_SAMPLES",
    "CHUNK_TABLE",
    "LAYOUT",
    "SEGMENT_TABLE",
    "Capture",
    "CaptureWriter",
    "NodeCapture",
    "Notice",
    "NoticeKind",
    "check",
    "load",
    "now",
    "save",
    "taken_at",
    "truncate",
    "versions",
]
