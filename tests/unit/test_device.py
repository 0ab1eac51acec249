"""Settings and limits as they come over a wire, and gains that no step can round."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from sim.scene import load_scene
from testbed.device import TX_BACKOFF_DB, Limits, Settings
from testbed.errors import RadioError, SettingOutOfRange
from testbed.radio.gains import realise

LIMITS = load_scene("comp").limits(0)
GOOD = Settings(carrier_hz=3.5e9, sample_rate_hz=20e6, tx_gain_db=-10.0, rx_gain_db=40.0)

NOT_FINITE = {
    "nan": math.nan,
    "infinite": math.inf,
    "minus infinite": -math.inf,
    "401 digits": 10**400,
    "4000 digits": -(10**4000),
}


@pytest.mark.parametrize("value", NOT_FINITE.values(), ids=NOT_FINITE)
@pytest.mark.parametrize("key", ["carrier_hz", "sample_rate_hz", "tx_gain_db", "rx_gain_db"])
def test_settings_that_are_not_finite_are_refused_in_a_short_line(key, value):
    with pytest.raises(RadioError, match=rf"^Settings\.{key}: the radio sent .*; must be a finite number") as caught:
        Settings.from_dict(GOOD.to_dict() | {key: value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", NOT_FINITE.values(), ids=NOT_FINITE)
def test_limits_that_are_not_finite_are_refused(value):
    with pytest.raises(RadioError, match=r"^Limits\.tx_gain_max_db: .* finite number"):
        Limits.from_dict(LIMITS.to_dict() | {"tx_gain_max_db": value})


@pytest.mark.parametrize("value", ["loud", None, True, [1.0], {}])
def test_settings_of_another_kind_are_refused(value):
    with pytest.raises(RadioError, match="not float; versions differ"):
        Settings.from_dict(GOOD.to_dict() | {"tx_gain_db": value})


def test_whole_numbers_stand_for_settings():
    settings = Settings.from_dict(GOOD.to_dict() | {"carrier_hz": 3_500_000_000})

    assert settings == GOOD
    assert isinstance(settings.carrier_hz, float)


@pytest.mark.parametrize("value", [1e308, -1e308, math.inf, math.nan])
@pytest.mark.parametrize("key", ["tx_gain_db", "rx_gain_db"])
def test_a_gain_beyond_counting_in_steps_is_out_of_range(key, value):
    with pytest.raises(SettingOutOfRange, match=rf"^bs1\.{key}: .* is outside"):
        LIMITS.realise(Settings(**(GOOD.to_dict() | {key: value})), "bs1")


STEPS = ((-30.0, -0.4), (-10.0, 0.2), (0.0, 0.0))


def test_calibrated_steps_change_the_power_between_and_beyond_them():
    calibrated = replace(LIMITS, tx_steps=STEPS)
    for gain_db, departure_db in ((-30.0, -0.4), (-20.0, -0.1), (-10.0, 0.2), (-5.0, 0.1), (-80.0, -0.4)):
        ratio = calibrated.tx_amplitude(gain_db) / LIMITS.tx_amplitude(gain_db)
        assert 20 * math.log10(ratio) == pytest.approx(departure_db, abs=1e-9)


@pytest.mark.parametrize("power", [1e-6, 1e-4, 3e-3, 0.1, 1.0])
def test_a_power_is_realised_by_the_calibrated_steps(power):
    rng = np.random.default_rng(5)
    wanted = (rng.standard_normal(640) + 1j * rng.standard_normal(640)) * math.sqrt(power / 2)
    calibrated = replace(LIMITS, tx_steps=STEPS)
    plan, sent, on_air = realise(wanted, calibrated)
    # what such a radio radiates, by its own law
    gains_db, departures_db = zip(*STEPS, strict=True)
    true_dbm = LIMITS.tx_full_scale_dbm + plan.tx_gain_db + np.interp(plan.tx_gain_db, gains_db, departures_db)
    radiated = sent.astype(complex) * 10 ** (true_dbm / 20)
    np.testing.assert_allclose(on_air, radiated, rtol=1e-6)
    assert np.mean(np.abs(radiated) ** 2) == pytest.approx(np.mean(np.abs(wanted) ** 2), rel=2e-3)
    assert max(np.abs(sent.real).max(), np.abs(sent.imag).max()) <= 10 ** (-TX_BACKOFF_DB / 20) + 1e-3


def test_limits_with_calibrated_steps_survive_a_round_trip_as_json_does_it():
    calibrated = replace(LIMITS, tx_steps=STEPS)
    assert Limits.from_dict(json.loads(json.dumps(calibrated.to_dict()))) == calibrated


def test_limits_of_before_there_were_steps_have_none():
    data = LIMITS.to_dict()
    del data["tx_steps"], data["rx_lsb"]
    assert Limits.from_dict(data) == LIMITS


@pytest.mark.parametrize(
    "steps",
    [None, 3, "ab", {}, [1.0], [[1.0]], [[1.0, 2.0, 3.0]], [["a", 1.0]], [[0.0, math.nan]], [[0.0, 10**400]],
     [[1.0, 0.0], [0.0, 0.0]], [[0.0, True]], [[float(i), 0.0] for i in range(1025)]],
    ids=list("abcdefghijklm"),
)  # fmt: skip
def test_steps_that_are_none_are_refused_in_a_short_line(steps):
    with pytest.raises(RadioError, match=r"^Limits\.tx_steps: the radio sent .*; must be at most 1024 pairs") as caught:
        Limits.from_dict(LIMITS.to_dict() | {"tx_steps": steps})
    assert len(str(caught.value)) < 200
