"""The figure of ranges: what all frames say over range, and over range and velocity."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from testbed.plots import GREY, PALETTE, Columns, SavedFigure, house_style, new_figure, save_figure
from testbed.sensing.ranging import Ranging
from testbed.units import SPEED_OF_LIGHT_MPS

MAP_DB = 40.0  # shown below the strongest point


@house_style()
def range_figure(rows: Sequence[Ranging], path_stem: Path, carrier_hz: float, *, moving: bool = False) -> SavedFigure:
    """Range profile of every node, mean J / sigma2 over frames; with `moving` a range-Doppler map each below it.

    Numbers of the figure stand in one table: profile rows have no velocity, map rows have no statistic.
    """
    num = len(rows)
    fig, axes = new_figure(2 if moving else 1, num, size_in=(3.4 * num + 0.6, 5.6 if moving else 3.2), squeeze=False)
    columns = Columns("node", "range_m", "velocity_mps", "statistic", "power_db")
    for i, row in enumerate(rows):
        ax = axes[0, i]
        statistic = np.where(row.profile > 0, row.profile, np.nan)
        ax.semilogy(row.profile_range_m, statistic, color=PALETTE[0])
        ax.axhline(1.0, color=GREY, lw=0.8, ls=":")  # of noise alone
        ax.axvline(row.mean_range_m.value, color=PALETTE[1], lw=0.9, ls="--")
        ax.set(title=f"{row.node}: {row.mean_range_m.value:.2f} m", xlabel="Range (m)")
        columns.add(node=row.node, range_m=row.profile_range_m, statistic=statistic)
        if not moving:
            continue
        velocity = row.map.frequency / row.frame_s * SPEED_OF_LIGHT_MPS / 2 / carrier_hz
        power_db = 10 * np.log10(np.maximum(row.map.power, 1e-300))
        top = float(np.max(power_db))
        ax = axes[1, i]
        mesh = ax.pcolormesh(
            row.profile_range_m, velocity, power_db - top, vmin=-MAP_DB, vmax=0.0, shading="nearest", rasterized=True
        )
        ax.grid(False)
        ax.set(xlabel="Range (m)", ylabel="Velocity (m/s)" if i == 0 else "")
        if i == num - 1:
            fig.colorbar(mesh, ax=ax, label="dB below the strongest")
        columns.add(
            node=row.node,
            range_m=np.tile(row.profile_range_m, velocity.size),
            velocity_mps=np.repeat(velocity, row.profile_range_m.size),
            power_db=power_db,
        )
    axes[0, 0].set_ylabel("Mean statistic over noise")
    return save_figure(fig, path_stem, columns)
