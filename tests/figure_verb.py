"""Shared by the tests of figures: the verb that makes them, what it writes, and how it refuses."""

import csv
import json
import subprocess
import sys

from tests.emulator import environment


def figure_verb(*arguments):
    """`isac-sim figure` in a process of its own."""
    command = [sys.executable, "-m", "sim", "figure", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment())


def figures_written(out, *arguments):
    """The JSON that the verb prints, having written to a folder without a word of complaint."""
    done = figure_verb(*arguments, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def rows_of(path):
    """Rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_files(out, found, stems):
    """Every figure as PNG, SVG and CSV, the verdicts, nothing else, and the JSON names them in this order."""
    names = [*(f"{stem}.{kind}" for stem in stems for kind in ("png", "svg", "csv")), "verdicts.csv"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert found["files"] == [str(out / name) for name in names]


def assert_verdicts(out, found, claims):
    """A row for each claim, with the verdict that the JSON has."""
    rows = rows_of(out / "verdicts.csv")
    assert [row["claim"] for row in rows] == list(claims)
    assert [row["verdict"] for row in rows] == [v["verdict"] for v in found["verdicts"]]


def assert_refused(message, *arguments):
    """The verb answers in one line, and fails."""
    done = figure_verb(*arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")
