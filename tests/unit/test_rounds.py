"""Rounds on disk, steps and their epochs, storage of links, and captures that are cut to a policy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.noise import MAX_EPOCH
from testbed.allocation.base import Allocation
from testbed.capture import CHUNK_SAMPLES, check, load, save, truncate
from testbed.errors import CaptureError
from testbed.experiment.comp.record import CompRun
from testbed.experiment.comp.rounds import ROUND, Round, RoundRecord, load_rounds, save_round
from testbed.experiment.comp.step import MAX_STEPS, Step
from testbed.experiment.conditions import EPOCHS_PER_STEP, TRANSMIT_EPOCHS, step_epoch
from testbed.experiment.record import SessionRecord
from testbed.measurement import Estimate, Measurement
from testbed.sensing.link import measure_link
from tests.scenes import capture_comp, comp_experiment, everyone

POWER = np.array([0.1, 0.30000000000000004, 1 / 3])


def a_round(index: int) -> Round:
    record = RoundRecord(
        index=index,
        wanted_power=tuple(POWER),
        realised_power=tuple(POWER * 0.999),
        tx_gain_db={"a": -3.25},
        predicted=None,
        status="stationary",
        note="",
        next_power=tuple(POWER),
        settled=False,
    )
    measurement = Measurement(
        origin="measured", node_names=("a", "b", "c"), power=tuple(POWER), noise_var={"a": Estimate.exact(1e-9)}
    )
    return Round(record, measurement, Allocation(POWER, POWER, 1.5, "stationary", history=(1.0, 1.5)))


def test_rounds_come_back_as_they_were_written_bit_for_bit(tmp_path: Path) -> None:
    for index in range(3):
        save_round(tmp_path / f"{index:03d}", a_round(index), "abc")
    back = load_rounds(tmp_path)
    assert [made.record.index for made in back] == [0, 1, 2]
    for index, made in enumerate(back):
        assert made.record == a_round(index).record
        assert made.measurement == a_round(index).measurement
        assert made.proposal.power.tobytes() == POWER.tobytes()


def test_a_round_counts_only_once_its_last_file_is_there_and_all_before_it(tmp_path: Path) -> None:
    for index in range(3):
        save_round(tmp_path / f"{index:03d}", a_round(index), "abc")
    (tmp_path / "001" / ROUND).unlink()
    assert len(load_rounds(tmp_path)) == 1
    assert load_rounds(tmp_path / "nowhere") == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"index": -1}'])
def test_a_damaged_round_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    save_round(tmp_path / "000", a_round(0), "abc")
    (tmp_path / "000" / ROUND).write_bytes(content)
    with pytest.raises(CaptureError, match="not a round of a run") as refused:
        load_rounds(tmp_path)
    assert "\n" not in str(refused.value)


def test_no_two_conditions_of_a_run_share_an_epoch_and_none_is_beyond_the_emulator_s() -> None:
    most = 256 + 1  # cells, and 'all'
    assert TRANSMIT_EPOCHS > 3 * 64  # a node is muted, set and sends: three epochs, at most 64 nodes
    assert TRANSMIT_EPOCHS + most < EPOCHS_PER_STEP
    steps = [Step(kind, index) for kind in ("points", "rounds") for index in range(MAX_STEPS)]  # type: ignore[arg-type]
    first = sorted(step_epoch(step.serial) for step in steps)
    assert min(np.diff(first)) == EPOCHS_PER_STEP
    assert first[-1] + most < MAX_EPOCH


def test_a_session_comes_back_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    run = CompRun(tmp_path)
    assert run.load_session() is None
    session = SessionRecord(
        experiment_sha256="abc",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        emulator_seed=1,
        versions={"python": "3.11"},
        rx_gain_db={"bs1": 40.0},
        noise_var={"bs1": Estimate(value=1e-9, stderr=1e-12, count=7)},
    )
    run.save_session(session)
    assert run.load_session() == session
    run.session.write_text("{")
    with pytest.raises(CaptureError, match=r"session\.json"):
        run.load_session()


def test_error_vectors_and_symbols_of_a_user_are_kept(tmp_path: Path) -> None:
    run, step = CompRun(tmp_path), Step("rounds", 4)
    link = measure_link(capture_comp(num_frames=10, listening=everyone()), "u2")
    for _ in range(2):  # an attempt that was cut short is replaced
        run.add_link(step, link)
    back = run.link(step, "u2")
    assert (back.user, back.serving) == ("u2", "bs2")
    for name in ("error_power", "symbols", "symbol_index"):
        assert np.array_equal(getattr(back, name), getattr(link, name))
    with pytest.raises(CaptureError, match="rounds/005/links/u2"):
        run.link(Step("rounds", 5), "u2")


@given(kept=st.integers(1, 3 * CHUNK_SAMPLES))
def test_a_capture_cut_short_is_whole_and_holds_the_first_samples(
    tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.h5"
    capture = capture_comp(num_frames=220, listening=("bs1",))  # more than two chunks
    save(path, capture)
    truncate(path, load(path), kept)
    after = load(path)
    total = capture.nodes[0].num_samples
    assert check(path) == []
    assert after.nodes[0].num_samples == min(kept, total)
    assert np.array_equal(after.nodes[0].raw, capture.nodes[0].raw[:, :kept])
    assert after.info.get("captured_samples") == (total if kept < total else None)
    assert after.experiment == comp_experiment().resolved()
