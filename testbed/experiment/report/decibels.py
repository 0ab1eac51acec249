"""Ratios and powers in decibels: with their standard errors, as numbers and as text."""

import math

from testbed.experiment.report.wording import minus
from testbed.measurement import Estimate
from testbed.units import db

DB_PER_SHARE = 10 / math.log(10)  # a small relative change in decibels
NONE = "–"


def value_db(ratio: float | None) -> float:
    """A ratio in decibels; NaN where there is none, or none above zero."""
    return db(ratio) if ratio is not None and ratio > 0 else math.nan


def estimate_db(estimate: Estimate | None) -> tuple[float, float]:
    """Value and standard error in decibels; NaN where there is no value above zero."""
    if estimate is None or estimate.value <= 0:
        return math.nan, math.nan
    return db(estimate.value), DB_PER_SHARE * estimate.stderr / estimate.value


def db_text(ratio: float | None) -> str:
    """A ratio in decibels to a hundredth: −5.43."""
    value = value_db(ratio)
    return NONE if math.isnan(value) else minus(f"{value:.2f}")


def estimate_db_text(estimate: Estimate | None) -> str:
    """Value and standard error in decibels: −5.43 ± 0.03, to a thousandth where the error is that small."""
    value, stderr = estimate_db(estimate)
    if math.isnan(value):
        return NONE
    decimals = 2 if stderr >= 0.0995 or stderr == 0 else 3
    return minus(f"{value:.{decimals}f} ± {stderr:.{decimals}f}")


def difference_db_text(difference_db: float) -> str:
    """A difference of two values in decibels, with its sign: +0.07."""
    if math.isnan(difference_db):
        return NONE
    return minus(f"{difference_db:+.2f}") if abs(difference_db) >= 0.005 else "0.00"


def power_text(power_dbm: float | None) -> str:
    """A power asked for in dBm, to a hundredth: −6.5, −5.16, 'off' where there is none."""
    if power_dbm is None or not math.isfinite(power_dbm):
        return "off"
    return minus(f"{round(power_dbm, 2):g}")
