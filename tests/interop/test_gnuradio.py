"""GNU Radio's own blocks on the raw ports: a flowgraph hears its echo. Debian's package; `make deps` installs it."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.interop.echo import check_echo, echo_emulator, signal

pytestmark = pytest.mark.interop

FLOWGRAPH = Path(__file__).with_name("gnuradio_flowgraph.py")
NUM_SAMPLES = 1_000_000


@functools.cache
def gnuradio_python() -> str:
    """The interpreter of the distribution, which has its packages; ours is a virtual environment."""
    python = shutil.which("python3", path=os.defpath)
    if python is None:
        pytest.skip("no python3 of the distribution")
    found = subprocess.run([python, "-c", "from gnuradio import zeromq"], capture_output=True, env=environment())
    if found.returncode:
        pytest.skip("gnuradio not installed")
    return python


def environment() -> dict[str, str]:
    """Nothing of our own virtual environment."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


@pytest.mark.parametrize("pattern", ["reqrep", "pushpull"])
def test_a_flowgraph_hears_its_echo_with_the_right_delay_and_gain_and_no_sample_missing(
    pattern: str, tmp_path: Path
) -> None:
    heard = tmp_path / "heard.c64"
    signal().tofile(tmp_path / "signal.c64")
    command = [gnuradio_python(), str(FLOWGRAPH), pattern, str(tmp_path / "signal.c64"), str(heard), str(NUM_SAMPLES)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()
    ) as flowgraph:
        try:
            assert flowgraph.stdin is not None
            assert flowgraph.stdout is not None
            with echo_emulator(tmp_path, pattern, flowgraph.stdout.readline().strip()) as endpoint:
                out, _ = flowgraph.communicate(endpoint + "\n", timeout=120)
        finally:
            flowgraph.kill()
    assert flowgraph.returncode == 0, out
    samples = np.fromfile(heard, dtype="<c8")
    assert samples.size == NUM_SAMPLES
    check_echo(samples)
