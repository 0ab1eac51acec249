"""The compiled kernels where this machine can compile, nothing otherwise; chosen at the first use."""

import logging
import os
from functools import cache
from types import ModuleType

log = logging.getLogger(__name__)
PLAIN = "ISAC_PLAIN_NUMPY"  # set to 1: never compile


@cache
def kernels() -> ModuleType | None:
    """`sim.kernels`, or None where Numba is missing, cannot compile, or was switched off by the environment."""
    if os.environ.get(PLAIN) == "1":
        return None
    try:
        from sim import kernels as module
    except Exception as exc:  # a broken LLVM raises what it likes; NumPy does the work then
        log.warning("kernels in plain NumPy, several times slower: Numba cannot be used (%s)", exc)
        return None
    return module
