"""Positions from ranges frame by frame: covariances that hold, and slots in which they do not."""

from dataclasses import replace

import numpy as np
import pytest

from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.localize import locate, position_covariance
from testbed.sensing.positions import nees, positions
from tests.ranges import NODES, RANGE_M, TARGET_M, ranging_of

SIGMA_M = {"bs1": 0.1, "bs2": 0.3, "bs3": 0.2}
ROW = {name: row for row, name in enumerate(NODES)}


def rangings_of(errors, **changes):
    """Ranges with errors (3, T), in standard deviations."""
    return {
        name: ranging_of(name, RANGE_M[name] + SIGMA_M[name] * errors[ROW[name]], SIGMA_M[name], **changes)
        for name in NODES
    }


def normal(seed, num=300):
    return np.random.default_rng(seed).standard_normal((3, num))


def test_independent_errors_agree_with_the_covariances():
    # p below 1e-3 in one of 1000 seeds
    found = positions(rangings_of(normal(1)), NODES, 0.0)

    test = nees(found, TARGET_M)
    assert test.num_dof == 600
    assert test.p_value > 1e-3
    assert found.rms_error_m(TARGET_M) == pytest.approx(found.error_bound_m, rel=0.1)
    assert found.independent


@pytest.mark.parametrize("wrong", [0.85, 1.2])
def test_bounds_that_are_wrong_do_not(wrong):
    rangings = rangings_of(normal(2))
    rangings = {name: replace(r, crlb_m=r.crlb_m * wrong) for name, r in rangings.items()}

    test = nees(positions(rangings, NODES, 0.0), TARGET_M)

    assert not test.consistent
    assert test.p_value < 1e-4


def test_errors_that_are_common_to_a_slot_show_there_and_not_when_shifted():
    # the sum of a slot has the mean 2 + 2 sum of P_ij rho_ij, P the projector on what the ranges tell of a position
    gradient = np.array([np.subtract(TARGET_M, at) / RANGE_M[name] / SIGMA_M[name] for name, at in NODES.items()])
    P = gradient @ np.linalg.pinv(gradient)
    rho = 0.8 * np.sign(P[1, 2])
    errors = np.linalg.cholesky([[1, 0, 0], [0, 1, rho], [0, rho, 1]]) @ normal(3)
    rangings = rangings_of(errors)

    same_slot = nees(positions(rangings, NODES, 0.0, shifted=False), TARGET_M)
    shifted = nees(positions(rangings, NODES, 0.0), TARGET_M)

    assert same_slot.p_value < 1e-4
    assert same_slot.statistic / 300 == pytest.approx(2 + 2 * P[1, 2] * rho, rel=0.2)
    assert shifted.p_value > 1e-3


@pytest.mark.parametrize("shifted", [True, False])
def test_a_trial_takes_one_range_of_every_node_and_every_range_is_used_once(shifted):
    errors = normal(4, 5)

    found = positions(rangings_of(errors), NODES, 0.0, shifted=shifted)

    at = np.array([(*place, 0.0) for place in NODES.values()])
    std = list(SIGMA_M.values())
    for t in range(5):
        e = [errors[k, (t + k * shifted) % 5] for k in range(3)]
        expected = locate(at, np.array(list(RANGE_M.values())) + np.multiply(std, e), std, 0.0, outlier_chance=0.0)
        np.testing.assert_allclose(found.position_m[t], expected.position_m, atol=1e-9)
        np.testing.assert_allclose(found.covariance_m2[t], expected.covariance_m2, rtol=1e-6)


@pytest.mark.parametrize("shifted", [True, False])
def test_receivers_may_begin_with_another_frame_of_the_buffer(shifted):
    errors = normal(5, 6)
    rangings = rangings_of(errors)
    begun = {"bs1": 0, "bs2": 2, "bs3": 5}
    rolled = {
        name: replace(r, range_m=np.roll(r.range_m, -begun[name]), frame_idx=np.roll(r.frame_idx, -begun[name]))
        for name, r in rangings.items()
    }

    np.testing.assert_allclose(
        positions(rolled, NODES, 0.0, shifted=shifted).position_m,
        positions(rangings, NODES, 0.0, shifted=shifted).position_m,
    )


def test_frames_that_not_all_nodes_have_are_left_out():
    rangings = rangings_of(normal(6, 8))
    rangings["bs2"] = replace(rangings["bs2"], frame_idx=np.arange(8) + 3)
    assert len(positions(rangings, NODES, 0.0).position_m) == 5

    rangings["bs2"] = replace(rangings["bs2"], frame_idx=np.arange(8) + 8)
    with pytest.raises(CaptureError, match="no frame in common"):
        positions(rangings, NODES, 0.0)


def test_a_range_that_is_an_outlier_takes_its_position_with_it():
    rangings = rangings_of(normal(7, 60))
    ranges, outlier = rangings["bs2"].range_m.copy(), np.zeros(60, dtype=bool)
    ranges[[10, 50]] += 30.0
    before = nees(positions(rangings, NODES, 0.0), TARGET_M)

    rangings["bs2"] = replace(rangings["bs2"], range_m=ranges)
    assert nees(positions(rangings, NODES, 0.0), TARGET_M).p_value < 1e-10  # unmarked it counts
    outlier[[10, 50]] = True
    rangings["bs2"] = replace(rangings["bs2"], outlier=outlier)
    found = positions(rangings, NODES, 0.0)

    assert np.flatnonzero(found.outlier).tolist() == [9, 49]  # bs2 is the second node: range t + 1 belongs to trial t
    assert nees(found, TARGET_M).num_dof == before.num_dof - 4
    assert nees(found, TARGET_M).p_value > 1e-3


def test_no_range_is_left_out_because_others_disagree():
    # of four nodes one could be spared; a verdict on bounds that leaves out what does not fit them is none
    nodes = NODES | {"bs4": (70.0, 60.0)}
    rangings = rangings_of(normal(9, 20))
    true = np.hypot(70.0 - TARGET_M[0], 60.0 - TARGET_M[1])
    rangings["bs4"] = ranging_of("bs4", true + np.where(np.arange(20) == 3, 3.0, 0.0), 0.2)

    found = positions(rangings, nodes, 0.0)

    with_all = position_covariance([(*at, 0.0) for at in nodes.values()], (*TARGET_M, 0.0), [*SIGMA_M.values(), 0.2])
    np.testing.assert_allclose(np.trace(found.covariance_m2, axis1=1, axis2=2), np.trace(with_all), rtol=0.1)
    assert nees(found, TARGET_M).p_value < 1e-6


def test_a_height_that_is_not_known_is_sought():
    nodes = {name: (*at, 10.0 + 8.0 * ROW[name]) for name, at in NODES.items()}
    place = np.array([*TARGET_M, 1.5])
    rangings = {
        name: ranging_of(name, np.full(4, np.linalg.norm(place - at)), SIGMA_M[name]) for name, at in nodes.items()
    }

    found = positions(rangings, nodes)

    assert found.covariance_m2.shape == (4, 3, 3)
    np.testing.assert_allclose(found.position_m, np.tile(place, (4, 1)), atol=1e-6)


def test_what_cannot_be_located_is_refused():
    rangings = rangings_of(normal(8, 4))
    with pytest.raises(CaptureError, match="'bs3': has ranges but no position"):
        positions(rangings, {name: NODES[name] for name in ("bs1", "bs2")}, 0.0)
    with pytest.raises(ValueError, match="1 nodes"):
        positions({"bs1": rangings["bs1"]}, NODES, 0.0)
    followed = {name: replace(r, doppler_hz=Estimate.exact(100.0)) for name, r in rangings.items()}
    with pytest.raises(ValueError, match="one time"):
        positions(followed, NODES, 0.0)
    assert len(positions(followed, NODES, 0.0, shifted=False).position_m) == 4
    all_out = {name: replace(r, outlier=np.ones(4, dtype=bool)) for name, r in rangings.items()}
    found = positions(all_out, NODES, 0.0)
    assert np.isnan(found.rms_error_m(TARGET_M)) and np.isnan(found.error_bound_m)
    with pytest.raises(CaptureError, match="none of 4 can be judged"):
        nees(found, TARGET_M)
    with pytest.raises(ValueError, match="must be"):
        nees(positions(rangings, NODES, 0.0), (1.0,))
