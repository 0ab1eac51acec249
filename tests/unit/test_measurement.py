"""Estimates: their standard errors, pooling, and the measurement file."""

import tracemalloc

import numpy as np
import pytest
from pydantic import ValidationError

import testbed.measurement as module
from testbed.documents import MAX_DOCUMENT_BYTES
from testbed.errors import CaptureError
from testbed.measurement import (
    Estimate,
    Measurement,
    MeasurementFile,
    PathMeasurement,
    load_measurements,
    noise_estimate,
    pool,
    save_measurements,
)


def receiver_noise(rng, count, variance=7.0, lsb=0.01):
    """Integers of a converter, shape (1, count, 2); rounding adds lsb^2 / 6, here 2e-6 of the variance."""
    rails = np.sqrt(variance / 2) / lsb * rng.standard_normal((1, count, 2))
    return np.rint(rails).astype(np.int16)


def test_noise_estimate_is_the_power_of_the_integers_in_milliwatt():
    raw = np.array([[[3, 4], [0, 5], [5, 0]]], dtype=np.int16)

    estimate = noise_estimate(raw, lsb=2.0)

    assert estimate == Estimate(value=25 * 4, stderr=100 / np.sqrt(3), count=3)


def test_noise_estimate_of_the_largest_integers_does_not_wrap():
    assert noise_estimate(np.full((2, 5, 2), -32768, np.int16), lsb=1.0).value == 2.0**31


def test_noise_estimate_scatters_by_its_own_standard_error():
    # 400 estimates of 500 samples; variance of the pulls is 1 +- 0.07 (1 standard error). 4 standard errors: 6e-5.
    rng = np.random.default_rng(1)

    estimates = [noise_estimate(receiver_noise(rng, 500), lsb=0.01) for _ in range(400)]

    pulls = np.array([(e.value - 7.0) / e.stderr for e in estimates])
    assert np.var(pulls) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 400))
    assert abs(np.mean(pulls)) < 4 / np.sqrt(400)
    assert estimates[0].count == 500


def test_noise_estimate_of_blocks_is_that_of_the_whole_without_a_copy_in_double_precision(monkeypatch):
    # two channels, a last block that is not full
    rng = np.random.default_rng(3)
    raw = np.concatenate([receiver_noise(rng, 1_000_003), receiver_noise(rng, 1_000_003)])
    expected = np.mean(np.square(raw, dtype=np.float64)) * 2 * 0.01**2
    monkeypatch.setattr(module, "NOISE_BLOCK_SAMPLES", 1 << 16)

    tracemalloc.start()
    try:
        estimate = noise_estimate(raw, lsb=0.01)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert estimate.value == pytest.approx(expected, rel=1e-12)
    assert estimate.count == 2_000_006
    assert estimate.stderr == pytest.approx(expected / np.sqrt(2_000_006), rel=1e-12)
    assert peak < 3e6  # the squares of a block; of the whole they would be 32 MB


def test_noise_of_no_samples_is_refused():
    with pytest.raises(ValueError, match=r"raw: found shape \(1, 0, 2\)"):
        noise_estimate(np.empty((1, 0, 2), np.int16), lsb=1.0)


def test_pooling_parts_gives_the_estimate_of_the_whole():
    raw = receiver_noise(np.random.default_rng(2), 1000)
    all_of_it = noise_estimate(raw, lsb=0.01)
    parts = [noise_estimate(part, lsb=0.01) for part in (raw[:, :100], raw[:, 100:400], raw[:, 400:])]

    whole = pool(parts)

    assert whole.value == pytest.approx(all_of_it.value, rel=1e-12)
    assert whole.count == 1000
    # a part's error is taken from its own value, the whole's from the whole: equal to first order
    assert whole.stderr == pytest.approx(all_of_it.stderr, rel=0.05)


def test_pooling_weighs_by_count():
    estimates = [Estimate(value=1.0, stderr=0.3, count=100), Estimate(value=2.0, stderr=0.1, count=300)]

    pooled = pool(estimates)

    assert pooled.value == pytest.approx(1.75)  # (100 * 1 + 300 * 2) / 400
    assert pooled.stderr == pytest.approx(np.hypot(0.25 * 0.3, 0.75 * 0.1))


def test_truth_is_an_estimate_without_error():
    assert Estimate.exact(3.0) == Estimate(value=3.0, stderr=0.0, count=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"value": float("nan"), "stderr": 0.0, "count": 1},
        {"value": float("inf"), "stderr": 0.0, "count": 1},
        {"value": 1.0, "stderr": -0.1, "count": 1},
        {"value": 1.0, "stderr": 0.1, "count": -1},
        {"value": 1.0, "stderr": 0.1},
        {"value": 1.0, "stderr": 0.1, "count": 1, "unit": "dB"},
    ],
)
def test_an_estimate_is_finite_and_complete(fields):
    with pytest.raises(ValidationError):
        Estimate.model_validate(fields)


def measurement_file():
    third = Estimate(value=1 / 3, stderr=1e-17 / 3, count=7)
    path = PathMeasurement(tx="bs1", rx="bs2", kind="echo", via="t1", delay_samples=third, power_gain=third)
    point = Measurement(
        origin="measured",
        node_names=("bs1", "bs2"),
        power=(0.1, 5e-324),
        noise_var={"bs1": third},
        noncentrality={"t1": Estimate(value=-0.2, stderr=1.0, count=10)},
        rank={"t1": 3},
        paths=(path,),
    )
    return MeasurementFile(experiment_sha256="ab", points=(point, point))


def test_measurement_file_keeps_every_bit(tmp_path):
    save_measurements(tmp_path / "m.json", measurement_file())

    assert load_measurements(tmp_path / "m.json") == measurement_file()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    for path in (tmp_path / "no such folder" / "m.json", tmp_path):
        with pytest.raises(CaptureError) as caught:
            save_measurements(path, measurement_file())
        assert str(caught.value).startswith(f"{path}: cannot be written")
        assert "\n" not in str(caught.value)


def broken_files(folder):
    text = folder / "text"
    text.write_text("no measurement")
    foreign = folder / "foreign"
    foreign.write_text('{"points": []}')
    cut = folder / "cut"
    save_measurements(cut, measurement_file())
    cut.write_bytes(cut.read_bytes()[:-10])
    nan = folder / "nan"
    save_measurements(nan, measurement_file())
    nan.write_text(nan.read_text().replace("-0.2", "NaN"))
    huge = folder / "huge"
    with huge.open("wb") as file:
        file.truncate(MAX_DOCUMENT_BYTES + 1)
    return {
        text: "not a measurement file",
        foreign: "not a measurement file",
        cut: "not a measurement file",
        nan: "not a measurement file",
        huge: "larger than",
        folder: "cannot be read",
        folder / "missing": "cannot be read",
    }


def test_what_is_not_a_measurement_file_is_refused_in_one_line(tmp_path):
    for path, fault in broken_files(tmp_path).items():
        with pytest.raises(CaptureError) as caught:
            load_measurements(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert fault in str(caught.value)
        assert "\n" not in str(caught.value)
