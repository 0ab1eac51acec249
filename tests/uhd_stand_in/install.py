"""The stand-in in place of UHD, for a while."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.radio.usrp import uhd_library
from tests.uhd_stand_in.air import Air, put

FOLDER = Path(__file__).parent


@contextmanager
def installed(air: Air) -> Iterator[Air]:
    """Within, `import uhd` finds the stand-in, and its boards stand in this air."""
    with forgotten():
        sys.path.insert(0, str(FOLDER))
        before = put(air)
        try:
            yield air
        finally:
            put(before)
            sys.path.remove(str(FOLDER))


@contextmanager
def forgotten() -> Iterator[None]:
    """Within, no UHD was imported yet; afterwards again."""
    before = _modules()
    refusal, uhd_library._refusal = uhd_library._refusal, ""
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in _modules():
            del sys.modules[name]
        sys.modules.update(before)
        uhd_library._refusal = refusal


def _modules() -> dict[str, object]:
    return {name: module for name, module in sys.modules.items() if name == "uhd" or name.startswith("uhd.")}
