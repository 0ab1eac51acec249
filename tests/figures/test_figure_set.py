"""Verdicts of planted rules, and the table, file and JSON that tell them."""

import numpy as np
import pytest

from sim.figures.claims import CONVENTION, NOT, REPRODUCED, Verdict, finding, judge, table, write_verdicts
from sim.figures.draws import mean_of, random_generator
from sim.figures.figure_set import FigureSet
from tests.figure_verb import rows_of

CLAIMS = {
    "C1": ("it is positive", lambda x: finding(x > 0, {"x": x})),
    "C10": ("it is large", lambda x: finding(x > 10, {"x": x, "over": x / 10}, "more than ten", convention=x > 5)),
}


def test_a_rule_that_holds_is_reproduced_whatever_its_convention():
    assert finding(True, {}, convention=True)[0] == REPRODUCED
    assert finding(False, {}, convention=True)[0] == CONVENTION
    assert finding(False, {})[0] == NOT


@pytest.mark.parametrize(
    ("x", "meant"), [(20.0, [REPRODUCED, REPRODUCED]), (7.0, [REPRODUCED, CONVENTION]), (-1.0, [NOT, NOT])]
)
def test_rules_see_the_evidence_and_decide(x, meant):
    found = judge(CLAIMS, x)

    assert [v.verdict for v in found] == meant
    assert [(v.claim, v.text) for v in found] == [("C1", "it is positive"), ("C10", "it is large")]
    assert found[0].numbers == {"x": x}


def test_evidence_of_several_parts_reaches_every_rule():
    (found,) = judge({"C1": ("a is b", lambda a, b: finding(a == b, {}))}, 1, 1)

    assert found.verdict == REPRODUCED


def test_table_has_a_line_per_claim_then_reasons_then_the_remark():
    assert table(judge(CLAIMS, 7.0), "All of it is planted.", digits=2).splitlines() == [
        "C1   it is positive  reproduced",
        "C10  it is large     only under a convention",
        "",
        "C1: x = 7",
        "",
        "C10: x = 7; over = 0.7 - more than ten",
        "",
        "All of it is planted.",
    ]


def test_a_reading_is_a_column_only_where_there_is_one(tmp_path):
    write_verdicts(tmp_path / "one.csv", judge(CLAIMS, 1 / 3))
    write_verdicts(tmp_path / "two.csv", [Verdict("C1", "it is positive", NOT, {"x": -1.0}, reading="S1")])

    (row, _) = rows_of(tmp_path / "one.csv")
    assert list(row) == ["claim", "text", "verdict", "numbers", "note"]
    assert row["numbers"] == "x = 0.333333"
    (row,) = rows_of(tmp_path / "two.csv")
    assert list(row) == ["claim", "text", "reading", "verdict", "numbers", "note"]
    assert row["reading"] == "S1"


def test_json_is_plain_and_null_where_there_is_no_number():
    numbers = {"curves": {2: np.array([1.0, np.nan]), "pair": (np.inf, np.int64(3))}}
    found = FigureSet(0.5, judge(CLAIMS, 0.5), {"draws": 4}, lambda x: numbers | {"x": x}).to_dict()

    assert list(found) == ["settings", "verdicts", "curves", "x"]
    assert found["curves"] == {"2": [1.0, None], "pair": [None, 3]}
    assert list(found["verdicts"][1]) == ["claim", "text", "verdict", "numbers", "note"]


def test_means_are_over_what_counts():
    values = np.array([[1.0, np.nan, 5.0], [3.0, 2.0, np.nan], [8.0, np.nan, np.nan]])
    counted = np.array([[True, False, False], [True, True, False], [False, False, False]])
    mean, stderr = mean_of(values, counted)

    assert mean == pytest.approx([2.0, 2.0, np.nan], nan_ok=True)
    assert stderr == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)  # of 1 and 3: sqrt(2 / 2)


def test_a_draw_is_the_same_however_often_it_is_asked_for():
    assert random_generator(5, 1, 2).random() == random_generator(5, 1, 2).random()
    assert len({random_generator(5, *index).random() for index in ((1, 2), (2, 1), (1,), (2,))}) == 4
