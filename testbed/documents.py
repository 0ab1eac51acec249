"""JSON documents on disk: written whole or not at all, and read only up to a size."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from testbed.errors import CaptureError

MAX_DOCUMENT_BYTES = 100_000_000

Model = TypeVar("Model", bound=BaseModel)


def write_document(path: Path, content: Any) -> None:
    """Write plain data as JSON; floats keep every bit. A reader never sees half of it.

    Raises:
        CaptureError: the file cannot be written; one line.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be written ({exc.strerror or exc}); choose another directory") from exc


def read_document(path: Path, model: type[Model], what: str, remedy: str) -> Model:
    """Read a document into a model.

    Args:
        path: of the file.
        model: what it must be.
        what: its name in messages: 'a measurement file'.
        remedy: what to do where it is not one: 'measure again'.

    Raises:
        CaptureError: missing, too large, or not of that model; one line.
    """
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise CaptureError(f"{path}: larger than {MAX_DOCUMENT_BYTES} bytes; not {what}")
        return model.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise CaptureError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except ValidationError as exc:
        raise CaptureError(f"{path}: not {what} ({exc.error_count()} faults); {remedy}") from exc
