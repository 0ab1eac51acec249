"""A sweep of uplink experiments: rows of what every point found."""

import csv
from collections.abc import Sequence
from typing import Any

from testbed.experiment.sweep_run import Sweep
from testbed.sweep import SweepRow


def conclude(sweep: Sweep, rows: Sequence[SweepRow]) -> dict[str, Any]:
    """A table of sum rates and verdicts into the sweep's folder."""
    done = [row for row in rows if row.result is not None]
    with (sweep.folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", *sweep.axes, "power_dbm", "mrc_bps_hz", "zf_bps_hz", "optimal_bps_hz", "consistent"])
        for row in done:
            assert row.result is not None, "chosen so"
            for point in row.result["rates"]:
                sums = [point["links"][how]["sum_rate"]["value"] for how in ("mrc", "zf", "optimal")]
                values = row.point.values.values()
                writer.writerow([row.point.index, *values, point["power_dbm"], *sums, row.result["consistent"]])
    good = sum(row.result is not None and row.result["consistent"] for row in rows)
    return {
        "sentence": f"{good} of {len(done)} points consistent with theory",
        "points": [{"index": row.point.index, **row.point.values, **(row.result or {})} for row in done],
        "errors": {row.point.index: row.error for row in rows if row.result is None},
        "figures": [],
    }
