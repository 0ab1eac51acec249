"""Estimates: their standard errors, pooling, and the measurement file."""

import numpy as np
import pytest
from pydantic import ValidationError

from testbed.errors import CaptureError
from testbed.measurement import (
    MAX_FILE_BYTES,
    Estimate,
    Measurement,
    MeasurementFile,
    PathMeasurement,
    load_measurements,
    mean_power,
    pool,
    save_measurements,
)


def complex_gaussian(rng, shape, variance=1.0):
    return np.sqrt(variance / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def test_mean_power_scatters_by_its_own_standard_error():
    # 400 estimates of 500 samples; variance of the pulls is 1 +- 0.07 (1 standard error). 4 standard errors: 6e-5.
    samples = complex_gaussian(np.random.default_rng(1), (400, 500), variance=7.0)

    estimates = [mean_power(row) for row in samples]

    pulls = np.array([(e.value - 7.0) / e.stderr for e in estimates])
    assert np.var(pulls) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 400))
    assert abs(np.mean(pulls)) < 4 / np.sqrt(400)
    assert estimates[0].count == 500


def test_pooling_parts_gives_the_estimate_of_the_whole():
    samples = complex_gaussian(np.random.default_rng(2), 1000)
    parts = [mean_power(samples[:100]), mean_power(samples[100:400]), mean_power(samples[400:])]

    whole = pool(parts)

    assert whole.value == pytest.approx(mean_power(samples).value, rel=1e-12)
    assert whole.count == 1000
    # a part's error is taken from its own value, the whole's from the whole: equal to first order
    assert whole.stderr == pytest.approx(mean_power(samples).stderr, rel=0.05)


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
        file.truncate(MAX_FILE_BYTES + 1)
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
