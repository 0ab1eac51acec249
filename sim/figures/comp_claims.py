"""The letter's claims C1 to C10 as rules on the curves of one reading, and what the verdicts of all readings come to.

    only under a convention    the rule holds with another averaging rule only, which the numbers name
    fitted                     it holds only with a cross-link variance chosen so that it does

What "about equal", "flat" and "typical" mean in numbers is stated by the constants below. S1 was selected for the
claims to hold; see `comp_scenario`.
"""

from dataclasses import replace

import numpy as np

from sim.figures.claims import CONVENTION, NOT, REPRODUCED, Claims, Finding, Verdict, finding, judge
from sim.figures.comp_pod import SYMBOLS, Detection
from sim.figures.comp_rates import SCHEMES
from sim.figures.comp_readings import GAP_BUDGETS_DB, MATCH_FROM_DB, MATCH_TO_DB, Curve, Reading
from sim.figures.comp_scenario import BUDGETS_DB, POD_BUDGETS_DB

FITTED = "fitted"  # beside the verdicts that all papers have

SAME_POD = 0.02  # theory and simulation look equal in a figure; orthogonal symbols must agree within chance
NUM_SIGMA = 4.0  # chance that one of 42 points is beyond: below 0.3 %
SAME_BUDGET_DB = 0.25
VISIBLE_DROP = 0.05  # bit/s/Hz: a curve that falls by less looks flat
TYPICAL_SHARE = 0.5  # an ensemble's scheme is called feasible where it is in half of all draws
LOW_DB, HIGH_DB = POD_BUDGETS_DB
FIRST_DB = 9.0  # where only PPA should be feasible
LAST_POD, HIGH_POD = 0.8, 0.99


def judge_reading(reading: Reading, detection: Detection) -> list[Verdict]:
    """Verdicts of one reading, C1 to C10."""
    return [replace(verdict, reading=reading.name) for verdict in judge(CLAIMS, reading, detection)]


def overall(verdicts: list[str]) -> str:
    """One verdict of a claim from those of all readings."""
    if all(verdict == REPRODUCED for verdict in verdicts):
        return REPRODUCED
    if FITTED in verdicts:
        return FITTED
    return CONVENTION if {REPRODUCED, CONVENTION} & set(verdicts) else NOT


def _theory_is_simulation(reading: Reading, detection: Detection) -> Finding:
    off = {symbols: np.abs(detection.deviation(symbols)) for symbols in SYMBOLS}
    chance = detection.chance(NUM_SIGMA)
    holds = bool(np.all(off["orthogonal"] <= chance))
    holds &= all(bool(np.all(off[symbols] <= SAME_POD + chance)) for symbols in SYMBOLS[1:])
    numbers = {f"max_deviation_{symbols}": float(np.max(value)) for symbols, value in off.items()}
    numbers["orthogonal_over_allowed"] = float(np.max(off["orthogonal"] / chance))
    return finding(holds, numbers, "eq. (12) is exact for orthogonal symbols; others spread the noncentrality")


def _rises(reading: Reading, detection: Detection) -> Finding:
    ppa = reading.over_budget["PPA"]
    holds = all(_rising(curve) for curve in reading.over_budget.values())
    numbers = {f"ppa_at_{b:g}_db": ppa.at(b) for b in (9, 10, 12, 15, 19, 20)}
    return finding(holds, numbers | _aside(reading, "share_of_draws_where_ppa_falls_with_budget"))


def _ppa_is_best(reading: Reading, detection: Detection) -> Finding:
    numbers = {f"{s.lower()}_at_15_db": reading.over_budget[s].at(15) for s in SCHEMES}
    numbers |= _aside(reading, "share_of_draws_where_ppa_is_beaten")
    note = ""
    inverted = reading.aside.get("rule_d_ppa_minus_epa_at_15_db", np.nan)
    if reading.name != "S1":
        numbers["rule_d_ppa_minus_epa_at_15_db"] = inverted
        if inverted < 0:
            note = (
                f"rule D, every scheme on its own feasible draws, inverts this: PPA {inverted:+.2f} bit/s/Hz against "
                "EPA, which is feasible on good draws only"
            )
    return finding(_best(reading.over_budget), numbers, note)


def _only_ppa_at_first(reading: Reading, detection: Detection) -> Finding:
    ppa, *others = (reading.over_budget[s] for s in SCHEMES)
    numbers = {f"{s.lower()}_share_at_9_db": reading.over_budget[s].share_at(FIRST_DB) for s in SCHEMES}
    if reading.name != "S1":
        for scheme, pod in reading.mean_pod.items():
            for b in (FIRST_DB, FIRST_DB + 1):
                numbers[f"{scheme.lower()}_mean_pod_at_{b:g}_db"] = float(pod[b == BUDGETS_DB][0])
    else:
        for s in SCHEMES[1:]:
            defined = BUDGETS_DB[np.isfinite(reading.over_budget[s].sum_rate)]
            numbers[f"{s.lower()}_feasible_from_db"] = float(defined[0]) if len(defined) else np.nan
    ppa_holds = np.isfinite(ppa.at(FIRST_DB)) and ppa.share_at(FIRST_DB) >= TYPICAL_SHARE
    fail = not any(_defined(curve, FIRST_DB) for curve in others)
    later = all(_defined(curve, HIGH_DB) for curve in others)
    half = fail and later
    note = ""
    if half and not ppa_holds and reading.name == "M":
        note = f"EPA and RPA fail in the mean, but PPA is feasible in {ppa.share_at(FIRST_DB):.1%} of the draws only"
    elif not fail and reading.name != "S1":
        shares = " and ".join(f"{100 * curve.share_at(FIRST_DB):.1f} %" for curve in others)
        note = f"EPA and RPA are feasible in {shares} of the draws, so nothing sets in at 9 dB"
    return finding(bool(half and ppa_holds), numbers, note, convention=half and reading.name == "M")


def _gap_widens(reading: Reading, detection: Detection) -> Finding:
    ppa, epa = reading.over_budget["PPA"], reading.over_budget["EPA"]
    gaps = [ppa.at(b) - epa.at(b) for b in GAP_BUDGETS_DB]
    free = [reading.aside.get(f"free_gap_at_{b:g}_db", np.nan) for b in GAP_BUDGETS_DB]
    numbers = {f"gap_at_{b:g}_db": gap for b, gap in zip(GAP_BUDGETS_DB, gaps, strict=True)}
    numbers |= _aside(reading, "share_of_draws_where_gap_widens")
    holds, convention, note = _widens(gaps), False, ""
    if reading.name == "M" and not holds:
        convention = _widens(free)
        numbers |= {f"free_gap_at_{b:g}_db": gap for b, gap in zip(GAP_BUDGETS_DB, free, strict=True)}
        note = "PPA's feasible draws are the good ones where the budget is small"
        note += "; without requirements, on all draws, the gap widens" if convention else ""
    return finding(holds, numbers, note, convention)


def _four_db(reading: Reading, detection: Detection) -> Finding:
    match = reading.match
    numbers = {"epa_equals_ppa_at_15_db_at_db": match.total_power_db}
    if reading.name != "S1":
        numbers["stderr_db"] = match.stderr_db
    if match.free_db is not None and match.free_stderr_db is not None:
        numbers |= {"without_requirements_at_db": match.free_db, "its_stderr_db": match.free_stderr_db}
    if match.fitted_cross_var is not None:
        numbers["fitted_cross_var"] = match.fitted_cross_var
    if abs(match.total_power_db - MATCH_TO_DB) <= SAME_BUDGET_DB:
        return REPRODUCED, numbers, "the claim that fewest draws meet; S1 was selected for it" * (reading.name == "S1")
    if match.free_db is not None and abs(match.free_db - MATCH_TO_DB) <= SAME_BUDGET_DB:
        return CONVENTION, numbers, "only without requirements, over all draws"
    if match.fitted_cross_var is not None:
        note = f"cross-link variance {match.fitted_cross_var:.3g} was tuned for PPA at {MATCH_FROM_DB:g} dB to equal "
        return FITTED, numbers, note + f"EPA at {MATCH_TO_DB:g} dB; not a general property"
    return NOT, numbers, ""


def _bends_at_low_budget(reading: Reading, detection: Detection) -> Finding:
    ppa, *others = (reading.over_pod[LOW_DB][s] for s in SCHEMES)
    numbers = {f"ppa_at_{xi:g}": ppa.at(xi) for xi in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)}
    for s in SCHEMES[1:]:
        defined = ppa.x[np.isfinite(reading.over_pod[LOW_DB][s].sum_rate)]
        numbers[f"{s.lower()}_at_0.3"] = reading.over_pod[LOW_DB][s].at(0.3)
        numbers[f"{s.lower()}_up_to_pod"] = float(defined[-1]) if len(defined) else np.nan
    numbers |= _aside(reading, "common_draws_share_at_10_db", "common_draws_ppa_drop_from_0.3_to_0.8")
    steps = all(_flat_then_none(curve) for curve in others)
    defined = ppa.sum_rate[np.isfinite(ppa.sum_rate)]
    bends = len(defined) > 1 and bool(np.all(np.diff(defined) <= 1e-6))
    bends = bends and ppa.at(0.3) - ppa.at(LAST_POD) >= VISIBLE_DROP
    common = reading.aside.get("common_draws_ppa_drop_from_0.3_to_0.8", np.nan) >= VISIBLE_DROP
    notes = []
    if not steps and reading.name == "Z":
        notes.append("EPA and RPA fall with their share of feasible draws instead of ending")
    if steps and not bends and reading.name == "M":
        notes.append(
            "PPA does not bend down in the mean over its feasible draws, which are fewer and better as the PoD"
        )
        notes[-1] += " rises" + ("; on draws feasible throughout it does" if common else "")
    return finding(
        steps and bends, numbers, "; ".join(notes), convention=bool(steps and common and reading.name == "M")
    )


def _rpa_below_ppa(reading: Reading, detection: Detection) -> Finding:
    ppa, rpa = reading.over_pod[LOW_DB]["PPA"], reading.over_pod[LOW_DB]["RPA"]
    within = ppa.x <= LAST_POD + 1e-9
    # where RPA is infeasible the letter's flat line is what PPA is compared with
    level = np.where(np.isfinite(rpa.sum_rate), rpa.sum_rate, rpa.at(0.3))[within]
    holds = bool(np.all(ppa.sum_rate[within] > level))
    numbers = {"ppa_at_0.3": ppa.at(0.3), f"ppa_at_{LAST_POD:g}": ppa.at(LAST_POD), "rpa_at_0.3": rpa.at(0.3)}
    return finding(holds, numbers | {"smallest_margin": float(np.min(ppa.sum_rate[within] - level))})


def _all_meet_high_pod(reading: Reading, detection: Detection) -> Finding:
    curves = reading.over_pod[HIGH_DB]
    numbers = {f"{s.lower()}_share_at_0.99": curves[s].share_at(HIGH_POD) for s in SCHEMES}
    if reading.name == "M":
        pods = {s: float(pod[BUDGETS_DB == HIGH_DB][0]) for s, pod in reading.mean_pod.items()}
        numbers |= {f"{s.lower()}_mean_pod": pod for s, pod in pods.items()}
        holds = min(pods.values()) >= HIGH_POD and numbers["ppa_share_at_0.99"] >= TYPICAL_SHARE
        note = "mean PoD for EPA and RPA, feasible draws for PPA"
    elif reading.name == "Z":
        numbers |= _aside(reading, "share_of_draws_feasible_for_all_at_20_db_and_0.99")
        holds = reading.aside.get("share_of_draws_feasible_for_all_at_20_db_and_0.99", 0.0) >= TYPICAL_SHARE
        note = "" if holds else "not all schemes meet all requirements in a typical draw"
    else:
        holds, note = all(np.isfinite(curves[s].at(HIGH_POD)) for s in SCHEMES), ""
    return finding(bool(holds), numbers, note)


def _ppa_is_best_at_high_budget(reading: Reading, detection: Detection) -> Finding:
    curves = reading.over_pod[HIGH_DB]
    numbers = {f"{s.lower()}_at_0.7": curves[s].at(0.7) for s in SCHEMES}
    numbers["ppa_drop_from_0.3_to_0.99"] = curves["PPA"].at(0.3) - curves["PPA"].at(HIGH_POD)
    return finding(_best(curves, strictly=True), numbers)


CLAIMS: Claims[Reading, Detection] = {
    "C1": ("PoD: theory agrees with simulation", _theory_is_simulation),
    "C2": ("sum rate rises with the budget", _rises),
    "C3": ("PPA is best at equal budget", _ppa_is_best),
    "C4": ("at 9 dB only PPA is feasible", _only_ppa_at_first),
    "C5": ("the gain over EPA grows with the budget", _gap_widens),
    "C6": ("PPA at 15 dB equals EPA at 19 dB", _four_db),
    "C7": ("10 dB: EPA and RPA flat, then infeasible; PPA bends down", _bends_at_low_budget),
    "C8": ("10 dB: RPA below PPA from PoD 0.3 to 0.8", _rpa_below_ppa),
    "C9": ("20 dB: all schemes meet PoD 0.99", _all_meet_high_pod),
    "C10": ("20 dB: PPA is best", _ppa_is_best_at_high_budget),
}


def _rising(curve: Curve) -> bool:
    """Never falls by more than chance explains, ends higher than it begins, and once it has begun never ends."""
    defined = np.isfinite(curve.sum_rate)
    value, stderr = curve.sum_rate[defined], curve.stderr[defined]
    if len(value) < 2 or np.any(np.diff(defined.astype(int)) < 0):
        return False
    # no standard error at all: one draw. At some points: only one draw counts there
    stderr = np.zeros(len(value)) if np.all(np.isnan(stderr)) else np.nan_to_num(stderr, nan=np.inf)
    chance = NUM_SIGMA * np.hypot(stderr[1:], stderr[:-1])
    return bool(np.all(np.diff(value) >= -chance) and value[-1] > value[0])


def _best(curves: dict[str, Curve], strictly: bool = False) -> bool:
    """PPA is not below the others wherever both have a sum rate, and there is such a point."""
    ppa = curves["PPA"].sum_rate
    for scheme in SCHEMES[1:]:
        margin = ppa - curves[scheme].sum_rate
        margin = margin[np.isfinite(margin)]
        if not len(margin) or np.min(margin) < 0 or (strictly and np.min(margin) == 0):
            return False
    return True


def _flat_then_none(curve: Curve) -> bool:
    defined = np.isfinite(curve.sum_rate)
    value = curve.sum_rate[defined]
    ends = bool(np.all(np.diff(defined.astype(int)) <= 0))
    return bool(defined[0]) and not defined[-1] and ends and float(np.ptp(value)) < 1e-9


def _defined(curve: Curve, x: float) -> bool:
    return bool(np.isfinite(curve.at(x)) and curve.share_at(x) > 0)


def _widens(gaps: list[float]) -> bool:
    return bool(np.all(np.diff(gaps) > 0))


def _aside(reading: Reading, *names: str) -> dict[str, float]:
    """Shares over draws, which one draw does not have."""
    return {} if reading.name == "S1" else {name: reading.aside.get(name, np.nan) for name in names}
