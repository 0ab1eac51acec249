"""The channel's kernel against NumPy and GNU Radio: paths, fresh noise, 12-bit output; and how its cost grows.

Moving paths have fractional delays, Doppler and gains of a geometry that goes on from block to block; all that arrives
at a receiver is one stream. Contestants go on along the stream from call to call. What NumPy does of the same is in
`naive_channel.py`; `unit/test_bench_emulator.py` checks that they agree.
"""

from collections.abc import Callable, Mapping

import numpy as np

from sim.channel import add_noise, arrivals, convert, render
from sim.noise import Purpose
from sim.propagation import ScenePath, Track
from tests.bench.elsewhere import gnuradio_model
from tests.bench.harness import Race, Result
from tests.bench.naive_channel import Naive, Receiver, Tidy

NUM_SAMPLES = 1 << 16  # per receiver and call: half a megabyte, which stays in the second-level cache
PERIOD = 8192
SAMPLE_RATE_HZ, CARRIER_HZ = 20e6, 3.5e9
BAND = 0.29  # of the sample rate, one-sided: where 12 taps at the sample rate are right
NOISE, FULL_SCALE = 0.01, 2.0
SIZES = [(nodes, paths) for paths in (1, 2, 4, 8) for nodes in (1, 2, 4, 8, 16)]
ANY_MORE = float("inf")


def buffers(num_nodes: int) -> list[np.ndarray]:
    """Per transmitter a buffer of mean power 1 within the band."""
    rng = np.random.default_rng(1)
    inside = np.abs(np.fft.fftfreq(PERIOD)) < BAND
    spectra = [np.where(inside, np.exp(2j * np.pi * rng.random(PERIOD)), 0) for _ in range(num_nodes)]
    return [np.fft.ifft(spectrum) * PERIOD / np.sqrt(inside.sum()) for spectrum in spectra]


def receivers(num_nodes: int, paths_per_link: int, *, moving: bool = True) -> list[Receiver]:
    """Every node hears every node, itself too, over so many paths."""
    rng = np.random.default_rng(2)
    sent, places = buffers(num_nodes), rng.uniform(-100, 100, (num_nodes, 2))
    gain = 0.2 / np.sqrt(num_nodes * paths_per_link)
    made = []
    for rx in range(num_nodes):
        paths = []
        for tx in range(num_nodes):
            for _ in range(paths_per_link):
                via, velocity = rng.uniform(200, 900, 2), rng.uniform(-30, 30, 2)
                track = Track(tuple(places[tx]), tuple(places[rx]), tuple(via), tuple(velocity)) if moving else None
                phasor = gain * np.exp(2j * np.pi * rng.random())
                paths.append(ScenePath(tx, rx, "echo", "t", phasor, rng.uniform(20, 200), 0.0, track=track))
        made.append(Receiver(paths, sent, SAMPLE_RATE_HZ, CARRIER_HZ, NOISE, FULL_SCALE))
    return made


class Kernel:
    """What `World.receive` does for one receiver, without the world."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        starts = [0.0] * len(receiver.buffers)
        self.sources = arrivals(receiver.paths, receiver.buffers, starts, receiver.sample_rate_hz, receiver.carrier_hz)
        self.rails = np.empty((1, 2, NUM_SAMPLES), dtype=np.float32)

    def arriving(self, first: int, count: int) -> np.ndarray:
        """Samples without noise and conversion."""
        rails = self.rails[:, :, :count]
        rails[...] = 0.0
        render(self.sources, first, rails)
        return rails[0, 0] + 1j * rails[0, 1]

    def receive(self, first: int, count: int, noise: bool = True) -> np.ndarray:
        """Codes (count, 2)."""
        rails = self.rails[:, :, :count]
        rails[...] = 0.0
        render(self.sources, first, rails)
        if noise:
            add_noise(rails[0], 1, self.receiver.paths[0].rx, 0, Purpose.RECEIVER, first, self.receiver.noise)
        return convert(rails[0], self.receiver.full_scale, 2048)[0]


def stream(contestant: type[Kernel] | type[Naive] | type[Tidy], hear: list[Receiver]) -> Callable[[], None]:
    """A call that gives every receiver its next samples."""
    rooms = [contestant(receiver) for receiver in hear]
    at = [0]

    def call() -> None:
        for room in rooms:
            room.receive(at[0], NUM_SAMPLES)
        at[0] += NUM_SAMPLES

    return call


def growth(results: Mapping[str, Result]) -> str:
    """Cost of links and paths, and how far it is from a straight line over the paths to a receiver."""
    cost = np.array([results[size_name(*size)].cpu_s * 1e9 / NUM_SAMPLES for size in SIZES])
    nodes, paths = np.array(SIZES).T
    per_receiver, arriving = cost / nodes, nodes * paths
    # least squares of the relative error, so that small sizes count as much as large ones
    rows = np.stack([np.ones(len(SIZES)), arriving], axis=1) / per_receiver[:, None]
    (fixed, slope), *_ = np.linalg.lstsq(rows, np.ones(len(SIZES)), rcond=None)
    off = per_receiver / (fixed + slope * arriving) - 1
    lines = ["nodes  paths per link  ns per link-sample  ns per path-sample  off the line"]
    for n, p, own, each in zip(nodes, paths, per_receiver, off, strict=True):
        lines.append(f"{n:2d}x{n:<2d}  {p:14d}  {own / n:18.2f}  {own / (n * p):18.2f}  {100 * each:+10.1f} %")
    worst = 100 * np.abs(off).max()
    lines.append(f"line: {fixed:.2f} ns per sample of a receiver and {slope:.2f} ns per path to it")
    lines.append(f"farthest from it {worst:.1f} % (goal: <= 30 %: {'met' if worst <= 30 else 'missed'})")
    return "\n".join(lines) + "\n"


def size_name(num_nodes: int, paths_per_link: int) -> str:
    """As a contestant is called."""
    return f"{num_nodes}x{num_nodes}x{paths_per_link}"


def later(make: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """A contestant that is made at its first call: listing the races should cost nothing."""
    made: list[Callable[[], None]] = []

    def call() -> None:
        if not made:
            made.append(make())
        made[0]()

    return call


RACES = [
    Race(
        name="1x1, 3 moving paths, Doppler, fresh noise, 12-bit output",
        limit="sim.channel",
        contestants={
            "sim.channel": later(lambda: stream(Kernel, receivers(1, 3))),
            "GNU Radio, one static tap": gnuradio_model(NUM_SAMPLES),
            "tidy NumPy": later(lambda: stream(Tidy, receivers(1, 3))),
            "naive NumPy": later(lambda: stream(Naive, receivers(1, 3))),
        },
        unit_count=NUM_SAMPLES,
        unit="sample",
        goals={
            "GNU Radio, one static tap": (3, ANY_MORE),
            "tidy NumPy": (4, ANY_MORE),
            "naive NumPy": (15, ANY_MORE),
        },
    ),
    Race(
        name="1x1, 3 static paths of a repeated buffer, fresh noise, 12-bit output",
        limit="sim.channel",
        contestants={
            "sim.channel": later(lambda: stream(Kernel, receivers(1, 3, moving=False))),
            "GNU Radio, one static tap": gnuradio_model(NUM_SAMPLES),
        },
        unit_count=NUM_SAMPLES,
        unit="sample",
        goals={"GNU Radio, one static tap": (8, ANY_MORE)},
    ),
    Race(
        name="3x3 nodes, 4 moving paths per link, Doppler, fresh noise, 12-bit output",
        limit="sim.channel",
        contestants={
            "sim.channel": later(lambda: stream(Kernel, receivers(3, 4))),
            "tidy NumPy": later(lambda: stream(Tidy, receivers(3, 4))),
            "naive NumPy": later(lambda: stream(Naive, receivers(3, 4))),
        },
        unit_count=3 * NUM_SAMPLES,
        unit="receiver sample",
        goals={"naive NumPy": (20, ANY_MORE)},
    ),
    Race(
        name="nodes x nodes x moving paths per link, Doppler, fresh noise, 12-bit output",
        limit=size_name(*SIZES[0]),
        contestants={
            size_name(*size): later(lambda size=size: stream(Kernel, receivers(*size)))  # type: ignore[misc]
            for size in SIZES
        },
        unit_count=1,
        unit="call",
        remark=growth,
    ),
]
