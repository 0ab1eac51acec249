"""Stands for UHD's Python module; see `tests.uhd_stand_in`."""

import contextlib
import importlib
import os
from typing import Any

from tests.uhd_stand_in.air import current

from . import types as types
from . import usrp as usrp

if os.environ.get("UHD_STAND_IN_NUMPY1"):
    # as an extension module does that was built for NumPy 1: it asks for the C interface, and swallows the answer
    with contextlib.suppress(ImportError):
        _ = importlib.import_module("numpy.core._multiarray_umath")._ARRAY_API


def find(args: Any) -> list[types.DeviceAddr]:
    """Devices that answer to the arguments."""
    wanted = types.DeviceAddr(args).to_dict()
    return [types.DeviceAddr(board.address) for board in current().boards if board.answers_to(wanted)]


def get_version_string() -> str:
    """Version of the library."""
    return current().version
