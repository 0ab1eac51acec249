"""TOML files into strict pydantic models; every fault is one line with the dotted path of the key."""

import difflib
import json
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from testbed.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000  # experiment and scene files are a few kilobytes; anything larger is a mistake


class StrictModel(BaseModel):
    """Base of every file model: unknown keys are refused, numbers are finite, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: missing, unreadable, too large or not TOML; one line.
    """
    try:
        data = read_regular(path, MAX_CONFIG_BYTES)
        if len(data) > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: more than {MAX_CONFIG_BYTES} bytes; is this a TOML file?")
        return tomllib.loads(data.decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a TOML file or the name of a preset") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory; give the path of a TOML file") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read ({exc})") from exc
    except (ValueError, RecursionError) as exc:  # also a number of thousands of digits, or thousands of brackets
        raise ConfigError(f"{path}: not valid TOML: {exc}") from exc


def read_regular(path: Path, limit: int) -> bytes:
    """Content of a file, at most `limit` + 1 bytes of it.

    Raises:
        ConfigError: a pipe, a device or a socket: it may never end, or wait for somebody.
        OSError: missing, a directory, or it cannot be read.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ConfigError(f"{path}: is no regular file; copy what it holds to one")
    with path.open("rb") as file:
        return file.read(limit + 1)


def load(path: Path, model: type[Model]) -> Model:
    """Read `path` into `model`; a ConfigError names the file, the dotted key, what was found and what is allowed."""
    return validate(read_toml(path), model, str(path))


def validate(data: dict[str, Any], model: type[Model], origin: str) -> Model:
    """Validate already parsed data; `origin` names it in errors. Every fault found is reported, joined by '; '."""
    try:
        # by way of JSON, whose strict rules take a list for a tuple, but neither true for 1 nor "3" for 3
        return model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as exc:
        raise ConfigError(f"{origin}: {faults(exc, model)}") from exc


def faults(exc: ValidationError, model: type[BaseModel]) -> str:
    """What pydantic found wrong with data for `model`, joined by '; '."""
    found = exc.errors(include_url=False)
    # a list whose every entry is wrong is called too short besides
    wrong = {tuple(error["loc"])[:n] for error in found for n in range(len(error["loc"]))}
    kept = [error for error in found if not (error["type"] == "too_short" and tuple(error["loc"]) in wrong)]
    return "; ".join(_fault(error, model) for error in kept)


def _fault(error: Any, model: type[BaseModel]) -> str:
    loc = tuple(error["loc"])
    where, tables = _walk(loc, model)
    kind, found = error["type"], error.get("input")
    if kind == "extra_forbidden":
        keys = [key for table in tables for key in table.model_fields]
        near = difflib.get_close_matches(str(loc[-1]), keys, n=1)
        return f"{where}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "; remove it or check its table")
    if kind == "missing":
        return f"{where}: missing; it must be given"
    if kind == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    # pydantic says "Input should be ..." or "Tuple should have ..."
    rule = re.sub(r"^\w+ should ", "must ", error["msg"]).replace("an object", "a table").replace("valid array", "list")
    shown = repr(found) if len(repr(found)) <= 60 else repr(found)[:57] + "..."
    return f"{where}: found {shown}; {rule}"


def _walk(loc: tuple[Any, ...], model: type[BaseModel]) -> tuple[str, list[type[BaseModel]]]:
    """Dotted key of a location, without the tags pydantic adds for unions, and the models its last part stands in."""
    where, tables = "", [model]
    for i, part in enumerate(loc):
        if isinstance(part, int):
            where += f"[{part}]"
            continue
        fields = [table.model_fields[part] for table in tables if part in table.model_fields]
        if not fields and (i + 1 < len(loc) or not tables):
            continue  # the tag of a union
        where += f".{part}" if where else part
        if i + 1 < len(loc):
            tables = [inner for field in fields for inner in _models_inside(field.annotation)]
    return where, tables


def _models_inside(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_inside(inner)]
