"""What a run found, in words: the verdict as one sentence, and numbers as people read them.

Needs no library, so the command line can use it before anything is loaded.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.experiment.comp.results import Results
    from testbed.theory.consistency import Verdict

STATISTIC_NAMES = {"known_noise": "known-noise test", "cfar": "F test"}
CURVE_NAMES = {"truth": "truth curve", "measured": "measured curve"}
TEST_NAMES = {
    "pod_chi2": "PoD about the curve",
    "h0_law": "law without a target",
    "false_alarms_1e-2": "false alarms at 1e-2",
    "false_alarms_1e-3": "false alarms at 1e-3",
}
_NUMBERS = ("none", "one", "two", "three", "four")


def verdict_name(key: str) -> str:
    """'known_noise/truth' as 'truth curve, known-noise test'."""
    statistic, curve = key.split("/")
    return f"{CURVE_NAMES[curve]}, {STATISTIC_NAMES[statistic]}"


def verdict_sentence(results: "Results") -> str:
    """The verdict that counts, in one sentence of plain words."""
    verdict = results.verdict
    tested = [p for p in verdict.p_values.values() if p is not None]
    subject = "Measured PoD and false alarms are" if verdict.num_tested_points else "Measured false alarms are"
    claim = "consistent" if verdict.consistent else "NOT consistent"
    about = f"with theory ({verdict_name(results.deciding)}) at the {(1 - verdict.level) * 100:g} % level"
    if verdict.consistent:
        bounds = hochberg_bounds(verdict)
        least = min(verdict.p_values, key=lambda name: math.inf if (p := verdict.p_values[name]) is None else p)
        why = (
            f"all {_NUMBERS[len(tested)]} p-values lie above their bounds; the smallest is {p_text(min(tested))} "
            f"({TEST_NAMES[least]}, bound {p_text(bounds[least])})"
        )
    else:
        why = "; ".join(
            f"{TEST_NAMES[name]}, p = {p_text(p)} against a bound of {p_text(bound)}"
            for name, p, bound in turning_points(verdict)
        )
    extent = "" if verdict.num_tested_points else "; the PoD curve itself could not be tested"
    return f"{subject} {claim} {about}: {why}{extent}."


def verdict_answer(results: "Results") -> str:
    """The verdict that counts, in as few words as it can be told without saying too much."""
    if not results.verdict.consistent:
        return "Not consistent with theory"
    return "Consistent with theory" if results.verdict.num_tested_points else "False alarms consistent, PoD not tested"


def hochberg_bounds(verdict: "Verdict") -> dict[str, float]:
    """Bound of every p-value: level / (m - j + 1) for the j-th smallest of m; at or below it, it turns the verdict."""
    tested = {name: p for name, p in verdict.p_values.items() if p is not None}
    ordered = sorted(tested, key=lambda name: tested[name])
    return {name: verdict.level / (len(ordered) - j) for j, name in enumerate(ordered)}


def turning_points(verdict: "Verdict") -> list[tuple[str, float, float]]:
    """Name, p-value and bound of every p-value that turned a verdict; empty where it is consistent."""
    bounds = hochberg_bounds(verdict)
    return [(name, p, bounds[name]) for name, p in verdict.p_values.items() if p is not None and p <= bounds[name]]


def p_text(p: float) -> str:
    """A p-value or its bound: 0.520, 0.0125, 4.1e-7; one that underflowed is below the smallest number."""
    if p >= 0.001:
        return f"{p:#.3g}"
    return level_text(float(f"{p:.1e}")) if p > 0 else "below 1e-300"


def level_text(level: float) -> str:
    """A probability of false alarm: 0.05, 1e-2, 1e-6."""
    mantissa, exponent = f"{level:.3e}".split("e")
    return f"{level:g}" if level >= 0.02 else f"{float(mantissa):g}e{int(exponent)}"


def count_text(count: int) -> str:
    """A count with its thousands apart, by a space that does not break the line."""
    return f"{count:,}".replace(",", "\u202f")


def listed(names: list[str]) -> str:
    """Names as people list them: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def legend_text(name: str) -> str:
    """A name as matplotlib shows it: it leaves out those that begin with '_', and reads '$' as mathematics."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def minus(text: str) -> str:
    """Numbers with a minus sign in place of the hyphen, and none before a rounded zero."""
    return text.replace("-", "\u2212") if text.strip("-0.") else text.lstrip("-")


def plus_minus(value: float, stderr: float) -> str:
    """Value and standard error to two digits of the error: 14.91 ± 0.19; exact or undefined values as they are."""
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(stderr) or stderr <= 0:
        return minus(f"{value:.6g}")
    decimals = max(0, 1 - math.floor(math.log10(stderr)))
    return minus(f"{value:.{decimals}f} ± {stderr:.{decimals}f}")
