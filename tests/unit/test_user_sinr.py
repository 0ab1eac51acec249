"""SINR at users from frames of different data, against the scene's own gains and noise."""

from dataclasses import replace

import numpy as np
import pytest

from sim.truth import effective_noise_var
from testbed.errors import CaptureError, SyncError
from testbed.sensing.user_sinr import data_aided_sinr
from tests.ranges import (
    NODES,
    RATE_HZ,
    SERVING,
    USER_RX_GAIN_DB,
    USERS,
    arrival_gain,
    capture_localization,
    localization_experiment,
    localization_scene,
)

SCENE = localization_scene(users=True)


def true_sinr(user, power, wanted=None):
    rx = SCENE.node_names.index(user)
    arrived = {name: p * arrival_gain(SCENE, rx, tx) for tx, (name, p) in enumerate(zip(NODES, power, strict=True))}
    noise = effective_noise_var(SCENE, rx, RATE_HZ, USER_RX_GAIN_DB)
    own = arrived[wanted or SERVING[user]]
    return own / (sum(arrived.values()) - own + noise)


def captured(num_frames, **changes):
    experiment = localization_experiment(num_frames, users=True, data_seed=21)
    return capture_localization(experiment, SCENE, listening=tuple(USERS), **changes)


@pytest.fixture(scope="module")
def capture():
    return captured(40)


@pytest.mark.parametrize("user", USERS)
def test_sinrs_of_users_are_those_of_the_scene(capture, user):
    # 3 users at 4 standard errors, 2e-4
    found = data_aided_sinr(capture, user, SERVING[user])

    assert found.count == 40 * 60
    assert abs(found.value - true_sinr(user, capture.frame.power)) < 4 * found.stderr
    assert found.stderr < 0.01 * found.value


def test_a_station_that_serves_somebody_else_is_in_the_noise(capture):
    found = data_aided_sinr(capture, "u2", "bs3")
    assert 0 < found.value < 0.3


def test_few_elements_per_subcarrier_do_not_raise_the_sinr():
    # 4 symbols: the fit takes a quarter of the residual, which would make the SINR 1.33 times too high, and a quarter
    # of its power is in |h|^2; the mean of 30 to 4 of its standard errors, 7e-5
    found = []
    for seed in range(30):
        experiment = localization_experiment(1, 4, users=True, data_seed=seed)
        capture = capture_localization(experiment, SCENE, num_frames=1, listening=("u2",), epoch=100 * seed + 100)
        found.append(data_aided_sinr(capture, "u2", "bs2"))

    values, stderrs = np.array([(e.value, e.stderr) for e in found]).T
    assert np.mean(values) == pytest.approx(
        true_sinr("u2", capture.frame.power), abs=4 * np.mean(stderrs) / np.sqrt(30)
    )
    assert np.std(values) < 1.5 * np.mean(stderrs)


def test_the_error_of_the_channel_is_no_signal():
    # 12 symbols would add 1/12 to an SINR of 0.2; the mean of 20 to 4 of its standard errors, 7e-5
    found = []
    for seed in range(20):
        experiment = localization_experiment(1, 12, users=True, data_seed=seed)
        capture = capture_localization(experiment, SCENE, num_frames=1, listening=("u2",), epoch=100 * seed + 100)
        found.append(data_aided_sinr(capture, "u2", "bs3"))

    values, stderrs = np.array([(e.value, e.stderr) for e in found]).T
    true = true_sinr("u2", capture.frame.power, "bs3")
    assert np.mean(values) == pytest.approx(true, abs=4 * np.mean(stderrs) / np.sqrt(20))


def test_what_cannot_be_measured_is_refused(capture):
    with pytest.raises(CaptureError, match="node 'bs9'"):
        data_aided_sinr(capture, "u1", "bs9")
    with pytest.raises(CaptureError, match="not in this capture"):
        data_aided_sinr(capture, "u9", "bs1")
    with pytest.raises(CaptureError, match="nothing was transmitted"):
        data_aided_sinr(replace(capture, frame=None), "u1", "bs1")
    with pytest.raises(CaptureError, match="waveform is missing"):
        data_aided_sinr(replace(capture, setup=capture.setup | {"waveform": None}), "u1", "bs1")
    with pytest.raises(CaptureError, match="clock of its own"):
        data_aided_sinr(replace(capture, setup=capture.setup | {"own_clocks": ["u1"]}), "u1", "bs1")
    with pytest.raises(CaptureError, match="bs1, which serves it, is silent"):
        data_aided_sinr(captured(1, power_dbm=(-np.inf, 10.0, 10.0)), "u1", "bs1")
    other = np.exp(2j * np.pi * np.random.default_rng(1).random(capture.frame.samples.shape))
    unheard = replace(capture, frame=replace(capture.frame, samples=other))
    with pytest.raises(SyncError, match="u1: no frame of bs1 found"):
        data_aided_sinr(unheard, "u1", "bs1")
