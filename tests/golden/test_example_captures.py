"""The example captures that are shipped: whole, and detected on with the values they were shipped with.

Recipe: `isac capture comp --condition ... --power-dbm -4.5 --frames 100` as captures/README.md says, then `detect`.
The tolerance leaves room for another linear algebra library, not for another detector.
"""

from pathlib import Path

import pytest

from testbed.capture import check, load
from testbed.sensing.detect import detect

EXAMPLES = Path(__file__).parents[2] / "captures" / "examples"

# file, cell, start, mean T, mean F, first T
GOLDEN = [
    ("comp_all", "t1", 525, 36.273510712697096, 12.135328928448116, 26.938180002051197),
    ("comp_all", "t2", 241, 33.50880521162374, 11.467735114072044, 35.53907954960514),
    ("comp_all", "t3", 618, 22.317845523899386, 7.611245550077522, 16.850147108510406),
    ("comp_without_t1", "t1", 525, 3.027230830993889, 1.0211112227025751, 1.1199548504248609),
]


@pytest.mark.parametrize(("name", "cell", "start", "mean_t", "mean_f", "first_t"), GOLDEN)
def test_detection_on_the_example_captures_gives_the_shipped_values(
    name: str, cell: str, start: int, mean_t: float, mean_f: float, first_t: float
) -> None:
    found = detect(load(EXAMPLES / f"{name}.h5"), cell)
    assert found.num_frames == 100
    assert found.sync.start == start
    assert found.known_noise is not None
    assert found.known_noise.mean() == pytest.approx(mean_t, rel=1e-7)
    assert found.cfar.mean() == pytest.approx(mean_f, rel=1e-7)
    assert found.known_noise[0] == pytest.approx(first_t, rel=1e-7)


@pytest.mark.parametrize("name", ["comp_all", "comp_without_t1"])
def test_example_captures_are_whole_simulated_and_carry_their_experiment(name: str) -> None:
    path = EXAMPLES / f"{name}.h5"
    assert check(path) == []
    capture = load(path)
    assert capture.simulated
    assert capture.experiment["title"].startswith("CoMP")
    assert all(node.noise_var is not None for node in capture.nodes)
