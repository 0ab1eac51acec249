"""Tail and threshold of weighted sums of exponentials: equal, nearly equal, negative and tiny weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import stats

from testbed.theory.hypoexponential import hypoexponential_tail, hypoexponential_threshold


def partial_fractions(x, weights):
    """P(S > x), x >= 0, for weights that differ, in 80 digits."""
    with mp.workdps(80):
        w, total = [mpf(float(v)) for v in weights], mpf(0)
        for i, a in enumerate(w):
            if a > 0:
                rest = mpf(1)
                for j, b in enumerate(w):
                    rest *= a / (a - b) if j != i else 1
                total += rest * mp.exp(-mpf(float(x)) / a)
        return float(total)


@pytest.mark.parametrize(
    "weights",
    [
        [2.0],
        [1.0, 2.0],
        [1.0, -2.0, 0.5],
        [3.0, 1e-6, -1e3],
        [1.0, 1 + 1e-9, 1 + 2e-9],  # partial fractions in double precision lose every digit
        [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        [0.1, 0.2, -0.1, -0.2, -0.3, -5.0],
        [1e-3, -1.0, -2.0],
    ],
)
def test_tail_is_that_of_partial_fractions(weights):
    for x in max(weights) * np.array([0.0, 1e-8, 1e-3, 0.1, 1.0, 10.0, 100.0, 300.0]):
        assert hypoexponential_tail(x, weights) == pytest.approx(partial_fractions(x, weights), rel=1e-10)


@pytest.mark.parametrize("num", [1, 2, 5, 16, 300])
def test_equal_weights_are_a_gamma_law(num):
    x = np.array([0.0, 1e-6, 0.3, 4.0, 40.0, 400.0, 700.0])

    assert hypoexponential_tail(x, np.full(num, 2.0)) == pytest.approx(stats.gamma(num, scale=2).sf(x), rel=1e-10)


@given(st.lists(st.floats(-3, 3).filter(lambda w: abs(w) > 1e-3), min_size=1, max_size=6), st.floats(-20, 20))
@settings(max_examples=60, deadline=None)
def test_mirrored_weights_mirror_the_law(weights, x):
    tail, mirrored = hypoexponential_tail(x, weights), hypoexponential_tail(-x, [-w for w in weights])

    assert 0 <= tail <= 1
    assert tail + mirrored == pytest.approx(1, abs=1e-12)
    assert hypoexponential_tail(x + 0.1, weights) <= tail + 1e-12


def test_tail_is_that_of_draws():
    weights, rng = np.array([2.0, 1.0, -0.7, -0.1]), np.random.default_rng(0)
    drawn = rng.exponential(size=(400_000, 4)) @ weights
    # 5 standard errors of 400 000 draws are at most 0.004; false failure 1e-5
    for x in (-2.0, 0.0, 1.0, 5.0, 10.0):
        p = hypoexponential_tail(x, weights)
        assert np.mean(drawn > x) == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 400_000))


def test_signs_that_decide_everything():
    assert hypoexponential_tail(np.array([-1.0, 0.0, 2.0]), [1.0]) == pytest.approx([1, 1, np.exp(-2)], rel=1e-12)
    assert hypoexponential_tail(np.array([-1.0, 0.0, 2.0]), [-1.0]) == pytest.approx([1 - np.exp(-1), 0, 0], abs=1e-13)
    assert hypoexponential_tail(np.array([-1.0, 0.0, 2.0]), [0.0, 0.0]).tolist() == [1, 0, 0]
    assert hypoexponential_tail(0.5, [3.0, 0.0]) == pytest.approx(np.exp(-0.5 / 3), rel=1e-12)


def test_scale_does_not_matter():
    assert hypoexponential_tail(3e-200, [1e-200, -2e-200]) == pytest.approx(
        hypoexponential_tail(3.0, [1, -2]), rel=1e-12
    )


@pytest.mark.parametrize("weights", [[1.0], [2.0, 1.0, 1.0], [1.0, -3.0], [-1.0, -2.0], [1.0, -1.0]])
def test_threshold_inverts_the_tail(weights):
    for tail in (0.999, 0.5, 0.01, 1e-3, 1e-9, 1e-15):
        x = hypoexponential_threshold(tail, weights)
        assert hypoexponential_tail(x, weights) == pytest.approx(tail, rel=1e-9)
    assert hypoexponential_threshold(np.array([0.1, 0.2]), weights).shape == (2,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hypoexponential_tail(np.nan, [1.0]), "x nan - it must be finite"),
        (lambda: hypoexponential_tail(1.0, [np.inf]), "weights inf - it must be finite"),
        (lambda: hypoexponential_tail(1.0, 2.0), r"weights: found shape \(\); must be a vector"),
        (lambda: hypoexponential_threshold(1.0, [1.0]), r"tail 1 - it must lie in \(0, 1\)"),
        (lambda: hypoexponential_threshold(0.1, [0.0]), "weights: all are 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
