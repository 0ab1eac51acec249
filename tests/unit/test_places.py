"""Named places: names and positions that differ."""

import math

import pytest

from sim.scene import Scene
from testbed.config import validate
from testbed.errors import ConfigError
from testbed.experiment.comp.config import CompExperiment
from testbed.places import Place, check_places, distance_m
from tests.scenes import comp_scene, comp_text


def place(name, *position_m):
    return Place(name=name, position_m=position_m)


def test_two_places_of_different_tables_at_one_position_are_both_named():
    tables = {"nodes": [place("bs1", 0.0, 5.0)], "cells": [place("t2", 1.0, 1.0), place("t1", 0.0, 5.0)]}

    with pytest.raises(ValueError) as caught:
        check_places(tables)
    assert str(caught.value) == "cells[1].position_m: t1 stands where nodes[0] bs1 is; places must differ"


def test_two_places_of_one_table_at_one_position_are_refused():
    with pytest.raises(ValueError, match=r"nodes\[1\].position_m: b stands where nodes\[0\] a is"):
        check_places({"nodes": [place("a", 1.0, 2.0, 3.0), place("b", 1.0, 2.0, 3.0)]})


@pytest.mark.parametrize("x", [-0.0, 1e-200, 4e-4])  # the square of 1e-200 is zero
def test_places_that_differ_by_less_than_a_millimetre_are_at_one_position(x):
    with pytest.raises(ValueError, match="places must differ"):
        check_places({"nodes": [place("a", 0.0, 0.0)], "cells": [place("b", x, 0.0)]})


def test_places_a_millimetre_apart_are_two():
    check_places({"nodes": [place("a", 0.0, 0.0)], "cells": [place("b", 0.001, 0.0)]})


@pytest.mark.parametrize(
    ("table", "index", "other"), [("cells", 0, "nodes"), ("reflectors", 0, "cells"), ("nodes", 1, "nodes")]
)
def test_an_experiment_with_two_places_at_one_position_is_refused_in_one_line(table, index, other):
    data = comp_text()
    data[table][index]["position_m"] = data[other][0]["position_m"]

    with pytest.raises(
        ConfigError, match=r"position_m: \w+ stands where \w+\[\d\] \w+ is; places must differ$"
    ) as caught:
        validate(data, CompExperiment, "comp.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", ["targets", "clutter"])
def test_a_scene_with_a_reflection_at_a_node_is_refused(table):
    data = comp_scene().model_dump()
    data[table][0]["position_m"] = data["nodes"][2]["position_m"]

    with pytest.raises(ConfigError, match=rf"{table}\[0\].position_m: \w+ stands where nodes\[2\] bs3 is"):
        validate(data, Scene, "scene.toml")


def test_mixed_dimensions_and_repeated_names_are_refused():
    with pytest.raises(ValueError, match="some have 2 coordinates, some 3"):
        check_places({"nodes": [place("a", 0.0, 0.0), place("b", 0.0, 0.0, 1.0)]})
    with pytest.raises(ValueError, match=r"nodes\[1\].name: 'a' stands twice"):
        check_places({"nodes": [place("a", 0.0, 0.0), place("a", 1.0, 0.0)]})


def test_distance_is_euclidean():
    assert distance_m(place("a", 0.0, 3.0), place("b", 4.0, 0.0)) == pytest.approx(5.0)
    assert distance_m(place("a", 1.0, 1.0, 1.0), place("b", 0.0, 0.0, 0.0)) == pytest.approx(math.sqrt(3))
