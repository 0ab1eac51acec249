"""Pacing to the wall clock: no sample before its time, other requests at once, and overruns counted."""

import time

import numpy as np
import pytest
import tomli_w

from testbed.device import Settings
from testbed.radio.remote import RemoteRadio, WireClient
from tests.emulator import emulator_process, request
from tests.scenes import comp_scene

pytestmark = pytest.mark.emulated


def open_at(endpoint, node, rate_hz):
    radio = RemoteRadio(endpoint, node)
    radio.configure(Settings(3.5e9, rate_hz, -20.0, 40.0))
    return radio


def overruns(endpoint):
    return request(endpoint, op="status")["overruns"]


def write_scene(folder, document):
    path = folder / "scene.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def test_half_a_second_of_samples_takes_half_a_second_and_is_the_same_as_unpaced(tmp_path):
    scene = write_scene(tmp_path, comp_scene().model_dump(mode="json"))
    heard = {}
    for options in ([], ["--realtime"]):
        with emulator_process(scene, *options) as (_, endpoint):
            radio = open_at(endpoint, "bs1", 1e6)
            began = time.monotonic()
            heard[bool(options)] = radio.receive(500_000).raw
            took = time.monotonic() - began
            if options:
                assert took >= 0.5
                assert overruns(endpoint) == 0
            radio.close()
    np.testing.assert_array_equal(heard[True], heard[False])


def test_other_requests_do_not_wait_for_samples(tmp_path):
    with emulator_process(write_scene(tmp_path, comp_scene().model_dump(mode="json")), "--realtime") as (_, endpoint):
        radio = open_at(endpoint, "bs1", 1e6)
        client = WireClient(endpoint)
        seq = client.send({"op": "receive", "node": "bs1", "num_samples": 200_000})
        began = time.monotonic()

        assert overruns(endpoint) == 0

        answered = time.monotonic() - began
        client.collect(seq)
        assert answered < time.monotonic() - began
        assert time.monotonic() - began >= 0.19
        client.close()
        radio.close()


def test_a_scene_that_is_too_much_for_the_machine_is_counted_and_loses_nothing(tmp_path):
    document = comp_scene().model_dump(mode="json")
    document["nodes"][3] |= {"num_rx": 64}  # 64 channels at 61.44 MS/s: 16 GB/s of codes
    with emulator_process(write_scene(tmp_path, document), "--realtime") as (_, endpoint):
        radio = open_at(endpoint, document["nodes"][3]["name"], 61.44e6)

        got = radio.receive(150_000)

        assert got.raw.shape == (64, 150_000, 2)
        assert overruns(endpoint) > 0
        radio.close()
