"""A paper's claims, judged: rules on what was computed, the verdicts they give, and how those are told.

    reproduced                 the rule holds
    only under a convention    it holds for one reading of what the paper leaves open, or in part
    not reproduced             it does not hold

A rule sees evidence and nothing else: no verdict is written down anywhere. Claims are a dictionary from a claim's name
to its text and its rule, in the order in which they are told.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVarTuple

REPRODUCED, CONVENTION, NOT = "reproduced", "only under a convention", "not reproduced"

Evidence = TypeVarTuple("Evidence")
Finding = tuple[str, dict[str, float], str]  # what a rule returns: verdict, the numbers that decide, note
Claims = Mapping[str, tuple[str, Callable[[*Evidence], Finding]]]


@dataclass(frozen=True)
class Verdict:
    """One claim, under one reading where a paper is read in several ways."""

    claim: str
    text: str
    verdict: str
    numbers: dict[str, float] = field(default_factory=dict)  # those that decide
    note: str = ""
    reading: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Names and values as files have them."""
        reading = {} if self.reading is None else {"reading": self.reading}
        outcome = {"verdict": self.verdict, "numbers": self.numbers, "note": self.note}
        return {"claim": self.claim, "text": self.text, **reading, **outcome}


def finding(holds: bool, numbers: dict[str, float], note: str = "", convention: bool = False) -> Finding:
    """What a rule returns that holds, or else under a convention, or else not."""
    return (REPRODUCED if holds else CONVENTION if convention else NOT), numbers, note


def judge(claims: Claims[*Evidence], *evidence: *Evidence) -> list[Verdict]:
    """Verdicts of all claims, in their order."""
    verdicts = []
    for claim, (text, rule) in claims.items():
        verdict, numbers, note = rule(*evidence)
        verdicts.append(Verdict(claim, text, verdict, numbers, note))
    return verdicts


def reasons(verdict: Verdict, digits: int = 5) -> str:
    """The numbers that decide, and the note, as a line."""
    name = verdict.claim if verdict.reading is None else f"{verdict.claim} {verdict.reading}"
    return f"{name}: {_numbers(verdict, digits)}" + (f" - {verdict.note}" if verdict.note else "")


def table(verdicts: Sequence[Verdict], remark: str, digits: int = 5) -> str:
    """Verdicts as text: a line per claim, then the numbers that decide, then what is to be known about all of them."""
    claim, text = (2 + max(len(getattr(v, name)) for v in verdicts) for name in ("claim", "text"))
    lines = [f"{v.claim:<{claim}}{v.text:<{text}}{v.verdict}" for v in verdicts]
    for v in verdicts:
        lines += ["", reasons(v, digits)]
    return "\n".join([*lines, "", remark])


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """A row per verdict."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(verdicts[0].to_dict())
        rows.writerows((v.to_dict() | {"numbers": _numbers(v, 6)}).values() for v in verdicts)


def _numbers(verdict: Verdict, digits: int) -> str:
    return "; ".join(f"{name} = {value:.{digits}g}" for name, value in verdict.numbers.items())
