"""Virtual Plutos under other people's programs: libiio's own tools and GNU Radio's iio blocks. All Debian packages."""

import contextlib
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.plutos import Plutos, delay_and_gain, pluto_process, white_frame

pytestmark = pytest.mark.interop

FLOWGRAPH = Path(__file__).with_name("gnuradio_pluto.py")
FRAME = white_frame(4096)
AMPLITUDE = 0.25  # of full scale, rms


@pytest.fixture(scope="module")
def solo() -> Iterator[Plutos]:
    with pluto_process("solo") as plutos:
        yield plutos


@pytest.fixture(scope="module")
def uri(solo: Plutos) -> str:
    return solo.uris["radio1"]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip("libiio-utils not installed")
    return found


def run(*command: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command, capture_output=True, timeout=60)


def feed(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    """The same over and over, until the process ends."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        while True:
            process.stdin.write(data)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


@functools.cache
def gnuradio_python() -> str:
    """The interpreter of the distribution, which has its packages."""
    python = shutil.which("python3", path=os.defpath)
    if python is None:
        pytest.skip("no python3 of the distribution")
    if subprocess.run([python, "-c", "from gnuradio import iio"], capture_output=True, env=clean()).returncode:
        pytest.skip("gnuradio not installed")
    return python


def clean() -> dict[str, str]:
    """Nothing of our own virtual environment."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


def int16(samples: np.ndarray) -> bytes:
    return np.stack([samples.real, samples.imag], axis=-1).round().astype("<i2").tobytes()


def complex_(raw: bytes) -> np.ndarray:
    words = np.frombuffer(raw, dtype="<i2").reshape(-1, 2)
    return words[:, 0] + 1j * words[:, 1]


def test_iio_info_reads_every_attribute_and_complains_of_nothing(uri: str) -> None:
    done = run(tool("iio_info"), "-u", uri)
    assert done.returncode == 0
    assert done.stderr == b""
    told = done.stdout.decode()
    assert "IIO context has 3 devices" in told
    assert "ERROR" not in told
    for line in ("voltage0:  (input, index: 0, format: le:S12/16>>0)", "hw_model: Analog Devices PlutoSDR"):
        assert line in told


def test_iio_attr_sets_and_reads(uri: str) -> None:
    attr = tool("iio_attr")
    done = run(attr, "-u", uri, "-c", "ad9361-phy", "RX_LO", "frequency", "2400000000")
    assert done.returncode == 0
    assert run(attr, "-u", uri, "-c", "ad9361-phy", "RX_LO", "frequency").stdout.strip() == b"2400000000"


def test_iio_readdev_gets_exactly_its_samples(uri: str) -> None:
    done = run(tool("iio_readdev"), "-u", uri, "-b", "4096", "-s", "100000", "cf-ad9361-lpc")
    assert done.returncode == 0
    samples = complex_(done.stdout)
    assert samples.size == 100_000
    assert 0 < np.abs(samples.real).max() <= 2047


@pytest.mark.parametrize("cyclic", [True, False])
def test_iio_writedev_sends_what_iio_readdev_hears(uri: str, cyclic: bool) -> None:
    attr = tool("iio_attr")
    for channel, name, text in (
        (["RX_LO"], "frequency", "2400000000"),
        (["TX_LO"], "frequency", "2400000000"),
        (["-i", "voltage0"], "gain_control_mode", "manual"),
        (["-i", "voltage0"], "hardwaregain", "30"),
        (["-o", "voltage0"], "hardwaregain", "0"),
    ):
        flags = [word for word in channel if word.startswith("-")]
        command = [attr, "-u", uri, *flags, "-c", "ad9361-phy", channel[-1], name, text]
        assert run(*command).returncode == 0
    options = ["-c"] if cyclic else []
    with subprocess.Popen(
        [tool("iio_writedev"), "-u", uri, "-b", str(FRAME.size), *options, "cf-ad9361-dds-core-lpc"],
        stdin=subprocess.PIPE,
    ) as writer:
        feeder = threading.Thread(target=feed, args=(writer, int16(FRAME * AMPLITUDE * 2**15)))
        feeder.start()
        read = [tool("iio_readdev"), "-u", uri, "-b", "8192", "-s", str(64 * FRAME.size), "cf-ad9361-lpc"]
        heard = complex_(run(*read).stdout)[32 * FRAME.size :]
        writer.kill()
        feeder.join()
    _, gain = delay_and_gain(heard, FRAME * AMPLITUDE)
    # 15 dBm at full scale, 55 dB of isolation, full scale of the receiver at 10.2 - 30 dBm
    assert 20 * np.log10(abs(gain) / 2048) == pytest.approx(15 - 55 - (10.2 - 30), abs=0.2)


@pytest.mark.parametrize("cyclic", [True, False])
def test_a_flowgraph_tunes_sends_and_hears_itself_without_a_gap(uri: str, tmp_path: Path, cyclic: bool) -> None:
    num_samples = 6_000_000
    (AMPLITUDE * FRAME).astype(np.complex64).tofile(tmp_path / "signal.c64")
    files = [str(tmp_path / "signal.c64"), str(tmp_path / "heard.c64")]
    done = subprocess.run(
        [gnuradio_python(), str(FLOWGRAPH), uri, *files, str(num_samples), str(int(cyclic))],
        capture_output=True, text=True, timeout=60, env=clean(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not recognized" not in done.stdout + done.stderr
    heard = np.fromfile(tmp_path / "heard.c64", dtype="<c8")
    assert heard.size == num_samples
    places = [
        delay_and_gain(heard[begin : begin + 16 * FRAME.size], AMPLITUDE * FRAME)
        for begin in range(700 * FRAME.size, 1400 * FRAME.size, 40 * FRAME.size)
    ]
    assert np.ptp([delay for delay, _ in places]) < 0.02
    # gr-iio takes 2048 for full scale when it receives, 2^15 when it sends
    levels = [20 * np.log10(abs(gain)) for _, gain in places]
    assert levels == pytest.approx([15 - 10 - 55 - (10.2 - 30)] * len(levels), abs=0.3)
