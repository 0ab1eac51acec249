"""Start and delays of the users' frames while every block has channels of its own."""

import numpy as np
import pytest

from sim.scene import Scene
from testbed.capture import Capture
from testbed.config import validate
from testbed.errors import CaptureError, SyncError
from testbed.sensing.uplink_blocks import uplink_blocks
from testbed.sensing.uplink_channel import block_channels
from testbed.sensing.uplink_timing import find_start
from testbed.waveform.frame import Frame
from tests.scenes import comp_experiment
from tests.uplink_scene import (
    FADING,
    RECEIVER,
    STATIC,
    K,
    blocks_of,
    capture_uplink,
    uplink_design,
    uplink_scene,
    uplink_truth,
)

DESIGN = uplink_design()
BLOCK_BEGIN = 180 - 97  # sample of the capture at which a block begins


def later(offsets, direct=FADING):
    """The scene with other starts of the users' frames."""
    data = uplink_scene(direct).model_dump()
    for node, offset in zip(data["nodes"][:K], offsets, strict=True):
        node["start_offset_samples"] = offset
    return validate(data, Scene, "uplink")


@pytest.mark.parametrize("direct", [STATIC, FADING])
def test_five_segments_at_minus_12_dbm_show_the_start_to_a_sample(direct):
    for epoch in range(20):
        capture = capture_uplink(uplink_scene(direct), DESIGN, -12.0, num_blocks=4, epoch=100 + epoch)

        start, peak_sigma = find_start(capture.node(RECEIVER).samples, capture.frame.samples)

        assert abs(start - BLOCK_BEGIN) <= 1
        assert peak_sigma > 15


@pytest.mark.parametrize("power_dbm", [-12.0, 4.0])
@pytest.mark.parametrize("direct", [STATIC, FADING])
def test_delays_are_right_to_their_standard_errors_and_a_common_one_to_a_thousandth(power_dbm, direct):
    # 4 users, 4.5 standard errors: 3e-5
    scene = uplink_scene(direct)
    true = uplink_truth(scene).delay_samples + BLOCK_BEGIN
    capture = capture_uplink(scene, DESIGN, power_dbm, num_blocks=1000, epoch=300)

    free = uplink_blocks(capture, RECEIVER).timing
    common = uplink_blocks(capture, RECEIVER, relative_delays=uplink_truth(scene).delay_samples).timing

    assert np.max(np.abs(free.start + free.delay_samples - true) / free.stderr_samples) < 4.5
    assert np.max(free.stderr_samples) < (0.0015 if power_dbm < 0 else 0.0003)
    assert np.max(np.abs(common.start + common.delay_samples - true)) < 0.002
    assert np.max(common.stderr_samples) < np.min(free.stderr_samples)


@pytest.mark.parametrize("latency", [0.0, 0.25, 0.5, 0.75, 0.99])
def test_any_fraction_of_a_sample_is_found(latency):
    scene = later([latency, latency + 0.2, latency + 0.5, latency])
    true = uplink_truth(scene).delay_samples + BLOCK_BEGIN

    timing = blocks_of(scene, DESIGN, 0.0, num_blocks=300).timing

    np.testing.assert_allclose(timing.start + timing.delay_samples, true, atol=0.005)


def test_a_start_that_is_a_sample_off_leaves_every_window_in_its_block():
    # what the fit leaves is noise, for starts before and after the block's begin
    capture = capture_uplink(uplink_scene(FADING), DESIGN, 4.0, num_blocks=400)
    truth = uplink_truth(uplink_scene(FADING))
    found = uplink_blocks(capture, RECEIVER).timing
    for start in (BLOCK_BEGIN - 1, BLOCK_BEGIN, BLOCK_BEGIN + 1):
        delay = truth.delay_samples + BLOCK_BEGIN - start
        timing = type(found)(start, delay, np.zeros(K), found.peak_sigma)

        blocks = uplink_blocks(capture, RECEIVER, timing=timing)

        _, noise = block_channels(blocks)
        # 5 standard errors; the echo's delay, 0.018 sample beside the direct path's, is far below
        assert noise.value / truth.noise_var == pytest.approx(1.0, abs=5 / np.sqrt(noise.count))


def test_noise_alone_has_no_start():
    scene = uplink_scene(FADING)
    muted = capture_uplink(scene, DESIGN, -np.inf, num_blocks=200)
    frames = DESIGN.frame(np.ones(K)).samples

    with pytest.raises(SyncError, match=r"bs: no frames found in 36180 samples \(peak .* sigma, need 8\); raise"):
        find_start(muted.node(RECEIVER).samples, frames, "bs")


def test_users_that_arrive_too_far_apart_are_named():
    with pytest.raises(SyncError, match=r"bs: user 3 arrives .* samples after the start.*within -2\.\.2; raise"):
        blocks_of(later([0.37, 0.37, 3.1, 0.37]), DESIGN, 0.0, num_blocks=300)


def test_captures_without_frames_blocks_or_an_uplinks_waveform_are_refused():
    capture = capture_uplink(uplink_scene(), DESIGN, 0.0, num_blocks=3)
    silent = Frame(capture.frame.samples * [[1], [0], [1], [1]], capture.frame.pilot_power, capture.frame.data_power)

    def with_(**changes):
        return Capture(**capture.__dict__ | changes)

    with pytest.raises(CaptureError, match="nothing was transmitted"):
        uplink_blocks(with_(frame=None), RECEIVER)
    with pytest.raises(SyncError, match="user 2 is silent"):
        uplink_blocks(with_(frame=silent), RECEIVER)
    with pytest.raises(CaptureError, match="its waveform is not that of an uplink"):
        uplink_blocks(with_(setup={"waveform": comp_experiment().waveform.model_dump(mode="json")}), RECEIVER)
    with pytest.raises(CaptureError, match="its waveform is not that of an uplink"):
        uplink_blocks(with_(setup={}), RECEIVER)
    with pytest.raises(SyncError, match="hold no frame of 180"):
        find_start(capture.node(RECEIVER).samples[:, :179], capture.frame.samples)
    with pytest.raises(CaptureError, match="node 'u1': not in this capture"):
        uplink_blocks(capture, "u1")
