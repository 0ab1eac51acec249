"""Faults of a scene, on a stand-in for the world whose sample k has the value k."""

from typing import Any

import numpy as np
import pytest

from sim.faults import Fault, Faults, check_faults
from sim.scene import Scene
from testbed.config import validate
from testbed.device import Reception
from testbed.errors import ConfigError, SampleLoss
from tests.scenes import comp_scene


class Ramp:
    """An air whose samples are their own index within the epoch."""

    def __init__(self) -> None:
        self.epoch = 7
        self.at: dict[str, int] = {}
        self.silent: list[tuple[str, int, int]] = []
        self.on = {"a": True, "b": False}

    def transmitting(self) -> dict[str, bool]:
        return self.on

    def receive(self, node: str, num_samples: int) -> Reception:
        start = self.at.get(node, 0)
        self.at[node] = start + num_samples
        ramp = np.repeat(np.arange(start, start + num_samples, dtype=np.int16), 2).reshape(1, -1, 2)
        return Reception(ramp, 2048, self.epoch, start, 1, "reported")

    def skip(self, node: str, num_samples: int) -> None:
        self.at[node] = self.at.get(node, 0) + num_samples

    def silence(self, node: str, first: int, count: int) -> None:
        self.silent.append((node, first, count))

    def begin_epoch(self) -> None:
        self.epoch += 1
        self.at, self.silent = {}, []


def values(got: Reception) -> list[int]:
    return got.raw[0, :, 0].tolist()


def fault(kind: str, **more: Any) -> Fault:
    return Fault(kind=kind, node=more.pop("node", "a"), **more)  # type: ignore[arg-type]


def test_without_faults_the_world_answers_itself() -> None:
    air, faults = Ramp(), Faults(())
    assert faults.answer(air, "receive", "a", 10) == "answer"
    assert values(faults.receive(air, "a", 3)) == [0, 1, 2]


@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_a_reported_loss_fails_and_the_reception_after_it_goes_on_behind_it(block: int) -> None:
    air, faults = Ramp(), Faults([fault("reported_loss", at_sample=10, num_samples=5)])
    received: list[int] = []
    with pytest.raises(SampleLoss, match="5 samples lost at sample 10 of epoch 7") as caught:
        while True:
            received += values(faults.receive(air, "a", block))
    assert caught.value.num_lost == 5
    assert received == list(range(10 - 10 % block))
    got = faults.receive(air, "a", 4)
    assert (values(got), got.start) == ([15, 16, 17, 18], 15)


@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_an_unreported_loss_does_not_show_in_what_replies_say(block: int) -> None:
    air, faults = Ramp(), Faults([fault("unreported_loss", at_sample=10, num_samples=5)])
    received, start = [], 0
    while len(received) < 30:
        got = faults.receive(air, "a", block)
        assert got.start == start
        start += block
        received += values(got)
    assert received[:30] == [*range(10), *range(15, 35)]


def test_several_losses_in_one_reception_are_all_cut_out_and_clips_are_summed() -> None:
    air, faults = Ramp(), Faults([fault("unreported_loss", at_sample=0, num_samples=2, every_samples=10, times=2)])
    got = faults.receive(air, "a", 15)
    assert values(got) == [*range(2, 10), *range(12, 19)]
    assert (got.start, got.clip_count) == (0, 2)


def test_a_fault_happens_as_often_as_it_says_and_not_before_its_epoch() -> None:
    air, faults = Ramp(), Faults([fault("reported_loss", from_epoch=8, num_samples=1, times=2)])
    happened = []
    for _ in range(4):
        try:
            faults.receive(air, "a", 5)
            happened.append(False)
        except SampleLoss:
            happened.append(True)
        air.begin_epoch()
    assert happened == [False, True, True, False]


def test_other_nodes_are_left_alone() -> None:
    air, faults = Ramp(), Faults([fault("reported_loss", num_samples=1)])
    assert values(faults.receive(air, "b", 3)) == [0, 1, 2]


def test_an_underflow_silences_the_transmitter_and_is_told_of_once_its_time_has_come() -> None:
    air, faults = Ramp(), Faults([fault("underflow", at_sample=10, num_samples=4, reported=True)])
    faults.receive(air, "b", 10)
    assert air.silent == [("a", 10, 4)]
    assert faults.underflows("a") == 0
    faults.receive(air, "b", 1)
    assert faults.underflows("b") == 0
    assert [faults.underflows("a"), faults.underflows("a")] == [1, 0]
    air.begin_epoch()
    faults.receive(air, "b", 100)
    assert air.silent == []


def test_an_underflow_waits_for_its_transmitter_and_may_go_unreported() -> None:
    air, faults = Ramp(), Faults([fault("underflow", node="b", num_samples=4)])
    faults.receive(air, "a", 10)
    assert air.silent == []
    air.on["b"] = True
    air.begin_epoch()
    faults.receive(air, "a", 10)
    assert air.silent == [("b", 0, 4)]
    assert faults.underflows("b") == 0


def test_underflows_without_end_are_made_as_far_as_is_received() -> None:
    air = Ramp()
    faults = Faults([fault("underflow", num_samples=10, every_samples=1 << 20, times=0)])
    faults.receive(air, "a", 1)
    assert [first for _, first, _ in air.silent] == [0, 1 << 20]


def test_a_late_start_is_at_the_first_reception_after_a_transmit() -> None:
    air, faults = Ramp(), Faults([fault("late_start", num_samples=9)])
    faults.receive(air, "a", 5)
    assert air.silent == []
    faults.transmitted("a")
    air.begin_epoch()
    air.begin_epoch()  # a condition: no sample has passed since
    faults.receive(air, "b", 5)
    assert air.silent == [("a", 0, 9)]
    air.begin_epoch()
    faults.receive(air, "b", 5)
    assert air.silent == []


def test_a_silent_node_answers_nothing_for_so_many_requests() -> None:
    air, faults = Ramp(), Faults([fault("silent_node", at_sample=10, times=3)])
    ops = ["configure", "receive", "receive", "mute", "receive", "receive", "mute"]
    answers = []
    for op in ops:
        answers.append(faults.answer(air, op, "a", 8))
        if answers[-1] == "answer" and op == "receive":
            faults.receive(air, "a", 8)
    assert answers == ["answer", "answer", "silent", "silent", "silent", "answer", "answer"]
    assert air.at["a"] == 16  # nothing was received in vain


def test_a_silent_node_may_be_silent_for_good() -> None:
    air, faults = Ramp(), Faults([fault("silent_node", times=0)])
    assert faults.answer(air, "mute", "a") == "answer"
    assert faults.answer(air, "receive", "a", 1) == "silent"
    air.begin_epoch()
    assert {faults.answer(air, "mute", "a") for _ in range(100)} == {"silent"}
    assert faults.answer(air, "mute", "b") == "answer"


def test_a_connection_is_cut_once() -> None:
    air, faults = Ramp(), Faults([fault("cut", at_sample=3)])
    assert [faults.answer(air, "receive", "a", size) for size in (3, 4, 4)] == ["answer", "cut", "answer"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"kind": "reported_loss"}, "num_samples: found 0 with kind = 'reported_loss'; must be at least 1"),
        ({"kind": "cut", "num_samples": 3}, "num_samples: found 3 with kind = 'cut'; no samples are lost, remove it"),
        ({"kind": "late_start", "num_samples": 3, "at_sample": 1}, "a late_start begins with the first sample sent"),
        ({"kind": "late_start", "num_samples": 3, "reported": True}, "only an underflow may be reported or not"),
        ({"kind": "underflow", "num_samples": 3, "every_samples": 3}, "must be more than num_samples = 3"),
        ({"kind": "cut", "every_samples": 3}, "a cut happens once per epoch"),
        ({"kind": "loss", "num_samples": 3}, "found 'loss'"),
        ({"kind": "cut", "node": "bs9"}, "faults[0].node: 'bs9' is no node; nodes are bs1,"),
        (
            {"kind": "underflow", "num_samples": 3, "node": "u1"},
            "u1 has no transmitter, which kind = 'underflow' is about",
        ),
    ],
)
def test_a_fault_that_cannot_be_is_refused_in_one_line(row: dict[str, Any], message: str) -> None:
    scene = comp_scene().model_dump(mode="json")
    scene["faults"] = [{"node": "bs1"} | row]
    with pytest.raises(ConfigError) as caught:
        validate(scene, Scene, "scene.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_node_without_receiver_loses_nothing() -> None:
    with pytest.raises(ValueError, match="a has no receiver"):
        check_faults([fault("reported_loss", num_samples=1)], {"a": (1, 0)})
