"""The paper's detector on captures alarms as often as the model of what it leaves out says, and not as it promises."""

import numpy as np
import pytest

from testbed.sensing.uplink_channel import pilot_estimates
from testbed.sensing.uplink_decoding import sent_anew
from testbed.sensing.uplink_paper_detector import paper_test
from testbed.theory.uplink_mismatch import alarm_probability, block_gains
from testbed.theory.uplink_sensing import sensing
from testbed.units import undb
from tests.uplink_scene import FADING, STATIC, K, blocks_of, uplink_design, uplink_scene, uplink_truth


def alarms(direct, power_dbm, condition, num_seeds=3):
    """Shares at 1e-2 and 1e-3, and the probability of detection that the model promises, of 1000 blocks per seed."""
    scene = uplink_scene(direct)
    statistics, rows = uplink_truth(scene).statistics, []
    for seed in range(num_seeds):
        blocks = blocks_of(
            scene, uplink_design(20 + seed), power_dbm, num_blocks=1000, condition=condition, epoch=300 + seed
        )
        test = paper_test(blocks, pilot_estimates(blocks, statistics))
        rows.append([test.detected(1e-2).mean(), test.detected(1e-3).mean(), test.model_pod(1e-2)])
    return np.mean(rows, axis=0), statistics


@pytest.mark.parametrize(
    ("power_dbm", "reference"), [(-10.0, (0.243, 0.176)), (-2.0, (0.297, 0.228)), (2.0, (0.351, 0.275))]
)
def test_false_alarms_are_those_of_the_model_with_an_absent_target(power_dbm, reference):
    # 3000 blocks: .008; data that are not orthogonal: .01
    (at_2, at_3, promised), statistics = alarms(FADING, power_dbm, "empty")
    p = np.full(K, undb(power_dbm))
    gains = block_gains(statistics, p, p, target=False)

    assert at_2 == pytest.approx(alarm_probability(gains, p, 104, 1e-2), abs=4 * 0.0085 + 0.01)
    assert at_3 == pytest.approx(alarm_probability(gains, p, 104, 1e-3), abs=4 * 0.008 + 0.01)
    assert (at_2, at_3) == pytest.approx(reference, abs=0.035)
    assert promised < 0.08


def test_its_detections_are_the_same_number_as_its_false_alarms():
    (empty, _, _), _ = alarms(FADING, -2.0, "empty")
    (target, _, promised), _ = alarms(FADING, -2.0, "all")

    assert target == pytest.approx(empty, abs=5 * np.sqrt(2) * 0.0085)
    assert promised == pytest.approx(0.037, abs=0.005)


def test_a_direct_channel_that_stands_still_makes_them_more():
    (empty, _, _), _ = alarms(STATIC, -2.0, "empty", num_seeds=1)

    assert empty > 0.3


def test_sensing_sinr_is_the_allocators_and_right_words_give_the_same_statistic():
    scene = uplink_scene(FADING)
    blocks, statistics = blocks_of(scene, uplink_design(), -2.0, num_blocks=20), uplink_truth(scene).statistics
    found = pilot_estimates(blocks, statistics)

    plain = paper_test(blocks, found)
    anew = sent_anew(blocks, np.broadcast_to(blocks.design.bits, (20, *blocks.design.bits.shape)))
    decoded = paper_test(blocks, found, anew[..., blocks.design.data_idx])

    p = np.full(K, undb(-2.0))
    assert plain.sensing_sinr == pytest.approx(sensing(statistics, p, p).sinr, rel=0.05)
    np.testing.assert_allclose(decoded.statistic, plain.statistic, atol=0.02 * np.abs(plain.statistic).max())
