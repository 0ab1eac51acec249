"""Powers and combiners of the uplink in the specification's scene: closed and joint forms against the paper's.

The paper's algorithm is the limit that the others should beat, ratios are below 1.
"""

from sim.figures.uplink_scenario import Setting, draw_blocks, drop, problem
from testbed.allocation import uplink
from testbed.allocation.beamforming import combiners, sca_combiners
from tests.bench.harness import Race

NUM_BLOCKS = 20
NEAR_FAR = [Setting(radius_m=60.0, power_dbm=power_dbm) for power_dbm in (15.0, 16.0, 17.0)]

here = problem(Setting(), drop(Setting(), 1, 0))
powers = uplink.solve(here)
blocks = draw_blocks(here, powers.pilot_power, powers.data_power, NUM_BLOCKS, 1)
channels, noise_cov = blocks.direct_estimate + blocks.echo_estimate, blocks.noise_cov
drops = [problem(setting, drop(setting, 1, number)) for setting in NEAR_FAR for number in range(2)]


def _sca() -> None:
    for U in channels:
        sca_combiners(U, noise_cov, powers.data_power, tolerance=1e-6)


def _closed() -> None:
    for U in channels:
        combiners(U, noise_cov, powers.data_power)


def _allocate(method: str) -> None:
    for near_far in drops:
        uplink.solve(near_far, method)


RACES = [
    Race(
        name=f"combiners of {NUM_BLOCKS} blocks, M = 16, K = 4, 15 dBm",
        limit="sca, tolerance 1e-6",
        contestants={
            "sca, tolerance 1e-6": _sca,
            "optimal, one by one": _closed,
            "optimal, all at once": lambda: combiners(channels, noise_cov, powers.data_power),
            "zf, all at once": lambda: combiners(channels, noise_cov, powers.data_power, "zf"),
        },
        unit_count=NUM_BLOCKS,
        unit="block",
        goals={"optimal, one by one": (0, 0.02)},
    ),
    Race(
        name=f"powers of {len(drops)} near-far drops one by one, M = 16, K = 4, disc of 60 m, 15 to 17 dBm",
        limit="ao",
        contestants={
            "ao": lambda: _allocate("ao"),
            "joint": lambda: _allocate("joint"),
            "split": lambda: _allocate("split"),
        },
        unit_count=len(drops),
        unit="problem",
        goals={"joint": (0, 1)},
    ),
]
