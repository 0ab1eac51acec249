"""The users' channels from pilots and from whole blocks: unbiased, with the errors that theory gives them."""

import numpy as np
import pytest

from testbed.errors import CaptureError
from testbed.sensing.uplink_blocks import Blocks
from testbed.sensing.uplink_channel import block_channels, pilot_estimates
from testbed.sensing.uplink_columns import FrameColumns
from testbed.sensing.uplink_statistics import direct_gains, echo_gains
from testbed.sensing.uplink_timing import Timing
from testbed.theory.uplink import UplinkStatistics, estimates
from testbed.units import db
from tests.uplink_scene import (
    FADING,
    NUMEROLOGY,
    STATIC,
    STEERING,
    K,
    M,
    blocks_of,
    detection,
    measured_noise,
    uplink_design,
    uplink_scene,
    uplink_truth,
)

DESIGN = uplink_design()


def synthetic(statistics, num_blocks, rng, power=0.6):
    """Blocks of known channels by NumPy, and the channels h and g."""
    frame = DESIGN.frame(np.full(K, power))
    source = FrameColumns(frame.samples, NUMEROLOGY, 2)
    timing = Timing(0, np.array([0.1, -0.2, 0.3, 0.0]), np.zeros(K), 99.0)
    S = source.at(timing.delay_samples)

    def normal(*shape):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    beta, eta = statistics.direct_cov[:, 0, 0].real, np.trace(statistics.echo_cov, axis1=1, axis2=2).real / M
    h = normal(num_blocks, M, K) * np.sqrt(beta)
    g = STEERING[:, None] * normal(num_blocks, 1, K) * np.sqrt(eta)
    elements = (h + g) @ S + normal(num_blocks, M, 108) * np.sqrt(statistics.noise_var)
    return Blocks(elements, S, source, DESIGN, frame, timing), h, g


@pytest.fixture(scope="module")
def statistics():
    echo = np.array([0.5, 0.3, 0.4, 0.2])[:, None, None] * np.outer(STEERING, STEERING.conj())
    return UplinkStatistics(np.array([4.0, 3.0, 2.5, 2.0])[:, None, None] * np.eye(M), echo, 1.3, 4)


def test_pilot_estimates_and_their_errors_have_the_covariances_of_theory(statistics):
    # 20,000 blocks, single users silent in no other's pilots but for -30 dB: 5 standard errors plus that leakage
    blocks, h, g = synthetic(statistics, 20_000, np.random.default_rng(1))

    found = pilot_estimates(blocks, statistics)

    theory = estimates(statistics, found.pilot_power)
    np.testing.assert_allclose(found.pilot_power, 0.6, rtol=0.08)
    error = found.channels - h - g
    for user in range(K):
        for values, expected in (
            (found.direct, theory.direct),
            (found.echo, theory.echo),
            (found.channels, theory.effective),
            (error, theory.effective_error),
        ):
            cov = values[..., user].T @ values[..., user].conj() / len(values)
            size = np.trace(expected[user]).real / M
            np.testing.assert_allclose(cov, expected[user], atol=size * (5 / np.sqrt(20_000) + 0.02))
        across = error[..., user].T @ found.channels[..., user].conj() / len(error)
        assert np.abs(across).max() < 0.06 * np.trace(theory.effective[user]).real / M
    np.testing.assert_array_equal(found.error_cov, theory.effective_error)


def test_whole_blocks_are_unbiased_with_correlated_errors_of_known_covariance(statistics):
    # cov of errors of users k and j at one antenna: sigma2 [(S S^H)^-1]_jk; 5 standard errors of 20,000 x 8
    blocks, h, g = synthetic(statistics, 20_000, np.random.default_rng(2))

    U, noise = block_channels(blocks)

    error = (U - h - g).reshape(-1, K)
    expected = 1.3 * np.linalg.inv(blocks.columns @ blocks.columns.conj().T).T
    size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)).real)
    assert np.max(np.abs(error.T @ error.conj() / len(error) - expected) / size) < 5 / np.sqrt(len(error))
    assert np.max(np.abs(expected - np.diag(np.diag(expected))) / size) > 0.05  # data are not orthogonal
    assert noise.value == pytest.approx(1.3, abs=5 * noise.stderr)
    same, _ = block_channels(blocks, np.broadcast_to(blocks.columns, (len(U), K, 108)))
    np.testing.assert_allclose(same, U, atol=1e-9)


def test_in_the_scene_the_fit_leaves_the_noise_of_a_muted_capture():
    # two estimates of one variance, 1.5 million samples and 0.8 million degrees of freedom: 5 standard errors
    scene = uplink_scene(STATIC)
    noise = measured_noise(scene)

    _, left = block_channels(blocks_of(scene, DESIGN, -2.0, num_blocks=1000))

    assert noise.value / uplink_truth(scene).noise_var == pytest.approx(1.0, abs=5 / np.sqrt(noise.count))
    assert left.value / noise.value == pytest.approx(
        1.0, abs=5 * np.hypot(1 / np.sqrt(left.count), 1 / np.sqrt(noise.count))
    )


def test_mean_gains_are_measured_to_tenths_of_a_decibel():
    # direct paths: 2000 blocks of 8 Rayleigh antennas, .035 dB, 5 of them; echoes: exponentials of 2000 blocks, .12 dB
    scene = uplink_scene(FADING)
    truth, noise = uplink_truth(scene), measured_noise(scene)
    found = pilot_estimates(blocks_of(scene, DESIGN, -2.0, num_blocks=2000, condition="empty"), truth.statistics)

    beta = direct_gains(found.outputs, 4 * found.pilot_power, noise)

    for estimate, true in zip(beta, truth.direct_gain, strict=True):
        assert estimate.value == pytest.approx(true, abs=5 * estimate.stderr)
        assert db(estimate.value / true) == pytest.approx(0.0, abs=0.2)

    one = detection(uplink_scene(STATIC), -2.0, num_h0=1)
    for guarded in (False, True):
        eta = echo_gains(one.detector(noise.value, guarded=guarded), one.target)
        for estimate, true in zip(eta, truth.echo_gain, strict=True):
            assert estimate.value == pytest.approx(true, abs=4.5 * estimate.stderr)
            assert estimate.stderr < 0.05 * true

    with pytest.raises(CaptureError, match="statistics: 1 blocks; at least 2"):
        direct_gains(found.outputs[:1], found.pilot_power, noise)


def test_statistics_of_other_users_and_columns_that_cannot_be_told_apart_are_refused(statistics):
    blocks, _, _ = synthetic(statistics, 2, np.random.default_rng(3))
    few = UplinkStatistics(statistics.direct_cov[:2], statistics.echo_cov[:2], 1.0, 4)

    with pytest.raises(ValueError, match="statistics: of 2 users at 8 antennas; must be 4 and 8"):
        pilot_estimates(blocks, few)
    twins = blocks.columns[[0, 0, 2, 3]]
    with pytest.raises(CaptureError, match="cannot be told apart"):
        block_channels(Blocks(blocks.elements, twins, blocks.source, DESIGN, blocks.frame, blocks.timing))
    mute = blocks.columns * np.where(np.isin(np.arange(108), DESIGN.pilot_idx), 0, 1)
    with pytest.raises(CaptureError, match="pilots: a user sends none"):
        pilot_estimates(Blocks(blocks.elements, mute, blocks.source, DESIGN, blocks.frame, blocks.timing), statistics)
