"""UHD's own Python module: taken where it can be used, refused with a recipe where it would crash the process."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testbed.errors import RadioUnavailable
from testbed.radio.devices.config import load_device
from testbed.radio.usrp import uhd_library
from testbed.radio.usrp.radio import UsrpRadio
from tests.interop_uhd.simulated_usrp import (
    CONFIGURATION,
    REPOSITORY,
    SERIAL,
    clean_environment,
    distribution_python,
    need_uhd,
    project_python,
    simulated_usrp,
)

pytestmark = pytest.mark.interop_uhd

TRIES = """
import numpy
from testbed.errors import RadioUnavailable
from testbed.radio.usrp import uhd_library

print(numpy.__version__)
for _ in range(2):
    try:
        uhd_library.load()
        print("loaded")
    except RadioUnavailable as exc:
        print(exc)
"""


@functools.cache
def uhd_folder() -> Path:
    """Where the distribution keeps the package."""
    found = subprocess.run(
        [distribution_python(), "-c", "import uhd; print(uhd.__file__)"],
        env=clean_environment(), capture_output=True, text=True,
    )  # fmt: skip
    if found.returncode:
        pytest.skip("python3-uhd not installed")
    return Path(found.stdout.splitlines()[-1]).parent


def test_beside_numpy_2_it_is_refused_with_the_recipe_and_the_process_lives(tmp_path: Path) -> None:
    # that package alone, and not the distribution's NumPy beside it
    (tmp_path / "uhd").symlink_to(uhd_folder())
    done = subprocess.run(
        [project_python(), "-c", TRIES], capture_output=True, text=True, timeout=60, check=False,
        env={**clean_environment(), "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(tmp_path)])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    numpy_version, *lines = done.stdout.splitlines()
    assert numpy_version.startswith("2.")
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert f"built for NumPy 1 and would crash beside NumPy {numpy_version}" in lines[0]
    assert "numpy<2" in lines[0]


def test_beside_numpy_1_it_is_taken_and_tells_its_version() -> None:
    need_uhd()
    assert np.__version__.startswith("1.")
    assert uhd_library.version_number(uhd_library.version(uhd_library.load())) >= (4, 0)


def test_no_device_is_one_line() -> None:
    need_uhd()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and nobody answers
        resource = f"uhd:type=e3xx,addr=127.0.0.1,discovery_port={unused.getsockname()[1]}"
        with pytest.raises(RadioUnavailable) as refused:
            UsrpRadio(resource, "radio1", device=load_device(CONFIGURATION))
    assert "no such device" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_device_is_found_with_its_serial_number() -> None:
    need_uhd()
    with simulated_usrp() as usrp:
        (found,) = uhd_library.find(usrp.args)
    assert (found["type"], found["product"], found["serial"]) == ("e3xx", "e320", SERIAL)


def test_a_device_in_use_by_another_program_is_told_so() -> None:
    need_uhd()
    program = f"""
from testbed.errors import RadioError
from testbed.radio.devices.config import load_device
from testbed.radio.usrp.radio import UsrpRadio
try:
    UsrpRadio({{resource!r}}, "radio1", device=load_device({str(CONFIGURATION)!r}))
except RadioError as exc:
    print(type(exc).__name__, exc)
"""
    with simulated_usrp() as usrp, usrp.radio():
        done = subprocess.run(
            [sys.executable, "-c", program.format(resource=usrp.resource)], capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False,
        )  # fmt: skip
    (line,) = done.stdout.splitlines()
    assert line.startswith("RadioUnavailable ")
    assert "in use by another program" in line
