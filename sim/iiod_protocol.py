"""The text protocol of libiio's network daemon, as its clients of version 0.x speak it: lines in, numbers out.

A command is a line of words. An answer begins with a decimal number in a line of its own; an error is -errno.
`parse` knows the commands and checks their numbers; nothing in here knows a device.

    VERSION, PRINT, HELP, EXIT, TIMEOUT ms
    READ   dev [DEBUG | BUFFER | INPUT chn | OUTPUT chn] [attr]          n, n bytes, newline
    WRITE  dev [...] [attr] n, then n bytes                              n
    OPEN   dev samples mask [CYCLIC]                                     0
    READBUF dev n           chunks of: k, mask (in the first chunk), k bytes
    WRITEBUF dev n          0, then the client sends n bytes             n
    SET dev BUFFERS_COUNT n, GETTRIG dev, SETTRIG dev [trig], CLOSE dev

ZPRINT (a compressed PRINT) and BINARY (of libiio 1.x) are refused with EINVAL, upon which clients take the text.
"""

import errno
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAX_LINE_BYTES = 1024  # of a command; libiio's own buffer
MAX_VALUE_BYTES = 1 << 16  # of an attribute's value, which a filter of 128 taps fills to a fiftieth
VERSION = b"0.24.v0.24  \n"  # the tag must fill seven characters
HELP = b"Commands: HELP EXIT PRINT VERSION TIMEOUT OPEN CLOSE READ WRITE READBUF WRITEBUF GETTRIG SETTRIG SET\n"

Kind = Literal["device", "debug", "buffer", "input", "output"]
_WITHOUT_WORDS = ("VERSION", "PRINT", "ZPRINT", "HELP", "EXIT", "QUIT", "BINARY")
_KINDS: dict[str, Kind] = {"DEBUG": "debug", "BUFFER": "buffer", "INPUT": "input", "OUTPUT": "output"}
_WORD = re.compile(r"[A-Za-z0-9:,._-]{1,128}")


@dataclass(frozen=True)
class Command:
    """One line, its numbers checked; what a verb has no use for is left at its default."""

    verb: str
    device: str = ""
    kind: Kind = "device"
    channel: str = ""
    attribute: str | None = None  # none: all of them
    number: int = 0  # samples of OPEN, bytes of READBUF and (WRITE|WRITEBUF), buffers of SET, milliseconds of TIMEOUT
    mask: int = 0
    cyclic: bool = False


def refused(code: int) -> OSError:
    """The error that ends a command with -code."""
    return OSError(code, os.strerror(code))


def parse(line: bytes) -> Command | None:
    """A line without its end to a command; None for an empty one, which has no answer.

    Raises:
        OSError: EINVAL for anything that is no command.
    """
    try:
        words = line.decode("ascii").split()
    except UnicodeDecodeError:
        raise refused(errno.EINVAL) from None
    if not words:
        return None
    if any(_WORD.fullmatch(word) is None for word in words):
        raise refused(errno.EINVAL)
    verb, rest = words[0].upper(), words[1:]
    if verb in _WITHOUT_WORDS and not rest:
        return Command("EXIT" if verb == "QUIT" else verb)
    if verb == "TIMEOUT" and len(rest) == 1:
        return Command(verb, number=_number(rest[0]))
    if verb in ("CLOSE", "GETTRIG") and len(rest) == 1:
        return Command(verb, rest[0])
    if verb in ("READBUF", "WRITEBUF") and len(rest) == 2:
        return Command(verb, rest[0], number=_number(rest[1]))
    if verb == "SETTRIG" and len(rest) in (1, 2):
        return Command(verb, rest[0])
    if verb == "SET" and len(rest) == 3 and rest[1].upper() == "BUFFERS_COUNT":
        return Command(verb, rest[0], number=_number(rest[2]))
    if verb == "OPEN" and (len(rest) == 3 or (len(rest) == 4 and rest[3].upper() == "CYCLIC")):
        return Command(verb, rest[0], number=_number(rest[1]), mask=_mask(rest[2]), cyclic=len(rest) == 4)
    if verb in ("READ", "WRITE") and rest:
        return _attribute(verb, rest)
    raise refused(errno.EINVAL)


def number(value: int) -> bytes:
    """An answer without data, or the head of one with data."""
    return b"%d\n" % value


def value(text: str) -> bytes:
    """The answer to a READ: the value with its NUL."""
    data = text.encode() + b"\0"
    return number(len(data)) + data + b"\n"


def values(items: Iterable[str | int]) -> bytes:
    """The answer to a READ of all attributes: each a big-endian length, the value with NUL, padded to four bytes.

    Args:
        items: in the order of the XML; a number is the negative errno of one that cannot be read.
    """
    blob = b""
    for item in items:
        if isinstance(item, int):
            blob += struct.pack(">i", item)
            continue
        data = item.encode() + b"\0"
        blob += struct.pack(">i", len(data)) + data + bytes(-len(data) % 4)
    return number(len(blob)) + blob + b"\n"


def written(payload: bytes) -> str:
    """The text of a WRITE: up to its NUL, without the line end that a shell would add.

    Raises:
        OSError: EINVAL where it is no text.
    """
    try:
        return payload.split(b"\0", 1)[0].decode("ascii").rstrip("\n")
    except UnicodeDecodeError:
        raise refused(errno.EINVAL) from None


def mask_line(mask: int) -> bytes:
    """A mask of up to 32 channels, as it stands in front of samples."""
    return b"%08x\n" % mask


def _attribute(verb: str, rest: list[str]) -> Command:
    """READ and WRITE: device, kind, channel, attribute, length."""
    device, *rest = rest
    length = 0
    if verb == "WRITE":
        if not rest:
            raise refused(errno.EINVAL)
        length = _number(rest.pop())
    kind: Kind = "device"
    channel = ""
    if rest and rest[0].upper() in _KINDS:
        kind = _KINDS[rest.pop(0).upper()]
        if kind in ("input", "output"):
            if not rest:
                raise refused(errno.EINVAL)
            channel = rest.pop(0)
    if len(rest) > 1:
        raise refused(errno.EINVAL)
    return Command(verb, device, kind, channel, rest[0] if rest else None, length)


def _number(word: str) -> int:
    if re.fullmatch(r"\d{1,18}", word) is None:
        raise refused(errno.EINVAL)
    return int(word)


def _mask(word: str) -> int:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", word) is None:  # one word: a device of up to 32 channels
        raise refused(errno.EINVAL)
    return int(word, 16)
