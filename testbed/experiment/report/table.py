"""A table of a report, as text."""

from dataclasses import dataclass
from typing import Literal

Grade = Literal["", "good", "mark", "bad"]


@dataclass(frozen=True)
class Entry:
    """A table entry with small lines below it, or set off by its grade."""

    text: str
    small: tuple[str, ...] = ()
    grade: Grade = ""


@dataclass(frozen=True)
class Table:
    """Rows of text: words in the first column, numbers in the others."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str | Entry, ...], ...]
    parted_at: tuple[int, ...] | None = None  # rows that a line parts from those above; None: where first words change

    def is_parted(self, index: int) -> bool:
        """Whether a line goes before a row: rows that share their first word stand together."""
        if index == 0 or self.parted_at is not None:
            return index in (self.parted_at or ())
        first = [row[0] for row in self.rows]
        return len(set(first)) < len(first) and first[index] != first[index - 1]


def yes_no(is_so: bool) -> str | Entry:
    """A no stands out."""
    return "yes" if is_so else Entry("no", grade="mark")
