"""Files of the kernel's sysfs: text is read, and text that is written is parsed as the kernel does, or refused.

A file shows a setting that lives elsewhere, or keeps what was written to it. Parsers raise OSError EINVAL for what the
kernel would refuse.
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sim.iiod_protocol import refused

_INTEGER = re.compile(r"\s*[-+]?\d{1,18}\s*")
_DECIMAL = re.compile(r"\s*([-+]?)(\d{1,9})(?:\.(\d{1,18}))?\s*(?:dB\s*)?")
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class File:
    """A sysfs file; one without `write` can only be read."""

    read: Callable[[], str]
    write: Callable[[str], None] | None = None


def constant(text: str) -> File:
    """What can only be read, and never changes."""
    return File(lambda: text)


def cell(initial: str, check: Callable[[str], str]) -> File:
    """What is kept as `check` returns it, without an effect on the air."""
    held = [initial]

    def write(text: str) -> None:
        held[0] = check(text)

    return File(lambda: held[0], write)


def choice(initial: str, allowed: tuple[str, ...]) -> File:
    """One of some words, kept."""
    return cell(initial, lambda text: one_of(text, allowed))


def switch() -> File:
    """On or off, kept; on at first."""
    return cell("1", lambda text: str(int(flag(text))))


def decimal(initial: str) -> File:
    """A number with six decimals, kept."""
    return cell(initial, lambda text: f"{thousandths(text, 1_000_000) / 1e6:.6f}")


def number(initial: int, low: int, high: int) -> File:
    """A whole number within limits, kept."""
    return cell(str(initial), lambda text: str(within(integer(text), low, high)))


def element(
    values: list[int] | list[float], n: int, parse: Callable[[str], float], low: float, high: float, form: str = "{}"
) -> File:
    """One of a list's values, within limits, as `parse` reads and `form` writes it."""

    def write(text: str) -> None:
        values[n] = within(parse(text), low, high)  # type: ignore[call-overload]

    return File(lambda: form.format(values[n]), write)


def within(value: _Number, low: float, high: float) -> _Number:
    """The value; refused outside the limits."""
    if not low <= value <= high:
        raise refused(errno.EINVAL)
    return value


def integer(text: str) -> int:
    """A whole number of at most 18 digits."""
    if _INTEGER.fullmatch(text) is None:
        raise refused(errno.EINVAL)
    return int(text)


def thousandths(text: str, per_unit: int = 1000) -> int:
    """A decimal number in thousandths (or another power of ten), the rest cut off as the kernel does."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise refused(errno.EINVAL)
    sign, whole, fraction = match.groups()
    digits = len(str(per_unit)) - 1
    value = int(whole) * per_unit + int((fraction or "").ljust(digits, "0")[:digits])
    return -value if sign == "-" else value


def flag(text: str) -> bool:
    """As the kernel reads one: by its first letter."""
    first = text.strip()[:1].lower()
    if first not in ("0", "1", "y", "n", "t", "f"):  # pyadi writes True and False
        raise refused(errno.EINVAL)
    return first in ("1", "y", "t")


def one_of(text: str, allowed: tuple[str, ...]) -> str:
    """The word without what surrounds it; refused where it is none of those allowed."""
    if text.strip() not in allowed:
        raise refused(errno.EINVAL)
    return text.strip()
