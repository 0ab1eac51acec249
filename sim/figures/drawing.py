"""What figures of several papers look like beyond the house style of `testbed.plots`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.plots import MARKERS, PALETTE, Columns

Drawn = tuple[Any, Columns]  # a figure and the numbers in it
DASHED = {"ls": "--", "mfc": "white"}  # with open markers: the other of two curves of one colour


def mean_line(
    ax: Any, k: int, x: NDArray[np.float64], mean: NDArray[np.float64], stderr: NDArray[np.float64], **look: Any
) -> None:
    """A mean over draws with its standard errors, of which there may be none (NaN), in the k-th colour and marker."""
    own = {"color": PALETTE[k % len(PALETTE)], "marker": MARKERS[k % len(MARKERS)], "elinewidth": 1.0}
    ax.errorbar(x, mean, np.nan_to_num(stderr), **own | look)


def legend_below(fig: Any, ax: Any, num_columns: int) -> None:
    """What is drawn in one of the axes, explained below all of them."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=num_columns)
