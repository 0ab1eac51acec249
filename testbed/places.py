"""Named places: nodes, cells, targets and reflectors, as surveyed or as they really are."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from testbed.config import StrictModel

Position = Annotated[tuple[float, ...], Field(min_length=2, max_length=3)]  # x, y(, z) in metres


class Place(StrictModel):
    """Anything with a name and a position."""

    name: str = Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_-]+$")  # also part of file names
    position_m: Position


def check_places(tables: Mapping[str, Sequence[Place]]) -> None:
    """ValueError, with the dotted key, unless names differ within each table, and places in all tables together.

    Places differ when they do so to the millimetre: no path gain is defined at distance zero.
    """
    for table, places in tables.items():
        names = [place.name for place in places]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise ValueError(f"{table}[{i}].name: '{name}' stands twice; names must differ")
    if len({len(place.position_m) for places in tables.values() for place in places}) > 1:
        raise ValueError("position_m: some have 2 coordinates, some 3; use one kind throughout")
    taken: dict[tuple[float, ...], str] = {}
    for table, places in tables.items():
        for i, place in enumerate(places):
            where = tuple(round(x, 3) for x in place.position_m)
            if where in taken:
                raise ValueError(
                    f"{table}[{i}].position_m: {place.name} stands where {taken[where]} is; places must differ"
                )
            taken[where] = f"{table}[{i}] {place.name}"


def distance_m(a: Place, b: Place) -> float:
    """Distance of two places."""
    return float(np.linalg.norm(np.subtract(a.position_m, b.position_m)))
