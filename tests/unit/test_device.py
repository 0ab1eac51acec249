"""Settings and limits as they come over a wire, and gains that no step can round."""

import math

import pytest

from sim.scene import load_scene
from testbed.device import Limits, Settings
from testbed.errors import RadioError, SettingOutOfRange

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
