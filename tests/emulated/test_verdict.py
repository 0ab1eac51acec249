"""The honest verdict on the reference scene, and planted errors that must turn it.

A correct chain is judged inconsistent at level 1e-3 with probability 1e-3; the seeds are fixed.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from testbed.capture import Capture, load
from testbed.experiment.comp.results import Results
from testbed.experiment.comp.step import Step
from testbed.measurement import load_measurements
from testbed.sensing.detect import aligned_observations, columns, detect, sensing_setup
from testbed.sensing.glrt import glrt
from testbed.sensing.model import cell_paths, nuisance_paths
from testbed.theory import consistency
from testbed.theory.detection import cfar_h0_law, detection_probability, h0_law
from tests.emulated.conftest import Run

pytestmark = [pytest.mark.emulated, pytest.mark.slow]

LEVEL = 1e-3


NO_POINTS = consistency.PodPoints(*(np.zeros(0) for _ in range(4)))


def axis_of(run: Run) -> Results:
    """What the power axis of the run gave."""
    assert run.results.axis is not None
    return run.results.axis


def h0_captures(run: Run) -> list[tuple[Capture, str]]:
    """(H0 capture, cell) of every power; every third power keeps the planted errors quick."""
    return [
        (load(run.directory.capture_path(Step("points", index), f"without:{cell.name}")), cell.name)
        for index in range(0, len(run.experiment.axis_dbm), 3)
        for cell in run.experiment.cells
    ]


def planted(
    captures: list[tuple[Capture, str]], *, drop_direct: bool = False, self_delay: float = 0.0
) -> consistency.Verdict:
    """Verdict on the pooled H0 statistic after an error in D."""
    survival = [statistic_with(*one, drop_direct=drop_direct, self_delay=self_delay) for one in captures]
    return consistency.judge(NO_POINTS, np.concatenate(survival), LEVEL)


def statistic_with(capture: Capture, cell_name: str, *, drop_direct: bool, self_delay: float) -> NDArray[np.float64]:
    """Survival of T with D built by hand: direct columns left out, or the self column delayed."""
    setup = sensing_setup(capture)
    cell = next(c for c in setup.survey.cells if c.name == cell_name)
    assert capture.frame is not None
    frames, node = capture.frame.samples, capture.node(cell.node)
    found = detect(capture, cell_name)
    rate = setup.numerology.sample_rate_hz
    offsets = found.sync.offset_samples
    nuisance = nuisance_paths(setup.survey, cell, rate)
    kept = [p for p in nuisance if p.kind != "self" and not (drop_direct and p.kind == "direct")]
    shifted = offsets + self_delay
    D = np.concatenate(
        [
            columns([p for p in nuisance if p.kind == "self"], frames, shifted, setup),
            columns(kept, frames, offsets, setup),
        ],
        axis=1,
    )
    X = columns(cell_paths(setup.survey, cell, rate), frames, offsets, setup)
    y = aligned_observations(node.samples[0], found.sync, frames.shape[1], setup)
    assert node.noise_var is not None
    test = glrt(y, X, node.noise_var.value, D)
    return h0_law(test.rank).sf(test.statistic)


def test_measured_pod_and_false_alarms_are_consistent_with_truth_for_the_preset_seed(comp_run: Run) -> None:
    assert len(axis_of(comp_run).points) == 2 * 9 * 3
    assert all(p.num_frames == 2000 for p in axis_of(comp_run).points)
    for key, verdict in axis_of(comp_run).verdicts.items():
        p_values = [p for p in verdict.p_values.values() if p is not None]
        assert not consistency.hochberg_rejects(p_values, LEVEL), (key, verdict)
        assert verdict.num_h0_trials == 9 * 3 * 2000
        assert verdict.num_tested_points >= 20


def test_noise_taken_ten_percent_too_high_turns_the_verdict_and_leaves_the_f_test(comp_run: Run) -> None:
    known, cfar = [], []
    for capture, cell in h0_captures(comp_run):
        wrong = [
            replace(node, noise_var=node.noise_var.model_copy(update={"value": 1.1 * node.noise_var.value}))
            for node in capture.nodes
            if node.noise_var is not None
        ]
        found, right = detect(replace(capture, nodes=tuple(wrong)), cell), detect(capture, cell)
        assert found.known_noise is not None
        assert found.cfar.tobytes() == right.cfar.tobytes()
        known.append(h0_law(found.rank).sf(found.known_noise))
        cfar.append(cfar_h0_law(found.rank, found.num_observations, found.num_nuisance).sf(found.cfar))
    assert not consistency.judge(NO_POINTS, np.concatenate(known), LEVEL).consistent
    assert consistency.judge(NO_POINTS, np.concatenate(cfar), LEVEL).consistent


def test_leaving_the_direct_columns_out_turns_the_verdict(comp_run: Run) -> None:
    assert not planted(h0_captures(comp_run), drop_direct=True).consistent


def test_a_self_delay_off_by_two_hundredths_of_a_sample_turns_the_verdict(comp_run: Run) -> None:
    captures = h0_captures(comp_run)
    assert not planted(captures, self_delay=0.02).consistent
    # the control: the same reconstruction of D without an error holds the law
    assert planted(captures).consistent


def test_muted_and_residual_noise_agree_within_half_a_percent_or_three_standard_errors(comp_run: Run) -> None:
    for node, row in axis_of(comp_run).noise.items():
        muted, residual = row["muted"], row["residual"]
        allowed = max(0.005 * muted.value, 3 * np.hypot(muted.stderr, residual.stderr))
        assert abs(residual.value - muted.value) <= allowed, node


def test_measured_noncentrality_is_within_a_fifth_of_a_decibel_or_four_standard_errors_of_truth(comp_run: Run) -> None:
    # 27 points at 4 standard errors: probability of a false failure below 0.002
    for p in axis_of(comp_run).points:
        if p.statistic == "known_noise":
            assert p.noncentrality_truth is not None
            allowed = max(p.noncentrality_truth * (10**0.02 - 1), 4 * p.noncentrality.stderr)
            assert abs(p.noncentrality.value - p.noncentrality_truth) <= allowed, p


def test_measured_delays_agree_with_the_truth_file(comp_run: Run) -> None:
    truth = load_measurements(comp_run.directory.truth).points[-1]
    last = len(comp_run.experiment.axis_dbm) - 1
    names = comp_run.experiment.node_names
    for cell in comp_run.experiment.cells:
        stored = comp_run.directory.detection(Step("points", last), "all", cell.name)
        for path in truth.paths:
            if path.rx == cell.node and path.kind == "self":
                error = stored.offset_samples[names.index(path.tx)] - path.delay_samples.value
                assert abs(error) < 5 * stored.offset_stderr_samples[names.index(path.tx)]


def test_detecting_again_on_stored_captures_gives_bit_for_bit_what_the_run_recorded(comp_run: Run) -> None:
    for index in (0, 4, 8):
        for condition in comp_run.experiment.conditions:
            capture = load(comp_run.directory.capture_path(Step("points", index), condition))
            for cell in comp_run.experiment.cells:
                if condition not in ("all", f"without:{cell.name}"):
                    continue
                again, stored = (
                    detect(capture, cell.name),
                    comp_run.directory.detection(Step("points", index), condition, cell.name),
                )
                assert again.known_noise is not None
                assert again.known_noise.tobytes() == stored.known_noise.tobytes()
                assert again.cfar.tobytes() == stored.cfar.tobytes()


def test_pod_at_the_measured_noncentrality_lies_within_its_error_of_the_truth_curve(comp_run: Run) -> None:
    # 27 points at 4 standard errors: probability of a false failure below 0.002
    for p in axis_of(comp_run).points:
        if p.statistic == "known_noise":
            low, high = (
                detection_probability(max(p.noncentrality.value + sign * 4 * p.noncentrality.stderr, 0.0), 3, pfa=1e-6)
                for sign in (-1, 1)
            )
            assert p.pod_truth is not None
            assert low <= p.pod_truth <= high, p
