"""The house style and the files of a figure."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from testbed.plots import MARKERS, PALETTE, Columns, house_style, new_figure, save_figure


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    fig, ax = new_figure()
    ax.plot([0.1, 1 / 3], [1, 2])
    columns = {"power_dbm": np.array([0.1, 1 / 3]), "cell": ["t1", "t2"], "pod": [None, np.float64("nan")]}
    return save_figure(fig, tmp_path_factory.mktemp("figures") / "deep" / "pod_2.5", columns)


def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, testbed.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_figure_is_saved_as_png_svg_and_csv_of_one_name(saved):
    assert saved.png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in saved.svg.read_bytes()[:1000]
    assert {p.name for p in saved.csv.parent.iterdir()} == {"pod_2.5.png", "pod_2.5.svg", "pod_2.5.csv"}


def test_the_csv_keeps_every_digit_and_leaves_out_what_is_missing(saved):
    with saved.csv.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["power_dbm", "cell", "pod"]
    assert [float(row[0]) for row in rows[1:]] == [0.1, 1 / 3]
    assert [row[1:] for row in rows[1:]] == [["t1", ""], ["t2", ""]]


def test_columns_of_different_lengths_are_refused(tmp_path):
    fig, _ = new_figure()
    with pytest.raises(ValueError, match="equally long"):
        save_figure(fig, tmp_path / "x", {"a": [1, 2], "b": [1]})
    assert not list(tmp_path.iterdir())


def test_rows_are_added_in_long_form():
    columns = Columns("series", "power_dbm", "pod")
    columns.add(series="measured", power_dbm=np.array([1.0, 2.0]), pod=[0.5, 0.6])
    columns.add(series="limit", power_dbm=3.0)
    assert dict(columns) == {
        "series": ["measured", "measured", "limit"],
        "power_dbm": [1.0, 2.0, 3.0],
        "pod": [0.5, 0.6, None],
    }


def test_the_style_ends_where_it_began():
    import matplotlib

    before = matplotlib.rcParams["axes.spines.top"]
    with house_style():
        assert not matplotlib.rcParams["axes.spines.top"]
    assert matplotlib.rcParams["axes.spines.top"] == before


def test_series_differ_in_marker_and_each_colour_stands_out_from_white():
    assert len(set(PALETTE)) == len(set(MARKERS)) == len(PALETTE)
    for colour in PALETTE:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
        luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
        assert 1.05 / (luminance + 0.05) >= 3.0, colour  # WCAG 2.1, contrast of graphics
