"""A sweep of cooperative experiments: rows of what every point found."""

import csv
from collections.abc import Sequence
from typing import Any

from testbed.experiment.sweep_run import Sweep
from testbed.sweep import SweepRow


def conclude(sweep: Sweep, rows: Sequence[SweepRow]) -> dict[str, Any]:
    """A table of rounds and verdicts into the sweep's folder."""
    done = [row for row in rows if row.result is not None]
    with (sweep.folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        kinds = ["round", "cluster_size", "comm_share", "num_sensing", "smallest_rate_bps_hz", "mse_m2", "consistent"]
        writer.writerow(["index", *sweep.axes, *kinds])
        for row in done:
            assert row.result is not None, "chosen so"
            for made in row.result["rounds"]:
                rate = min(user["measured_rate"]["value"] for user in made["users"])
                found = [made["index"], made["cluster_size"], made["comm_share"], len(made["sensing_nodes"]), rate]
                mse, good = made["located"]["direct"]["value"], row.result["consistent"]
                writer.writerow([row.point.index, *row.point.values.values(), *found, mse, good])
    good = sum(row.result is not None and row.result["consistent"] for row in rows)
    return {
        "sentence": f"{good} of {len(done)} points consistent with theory",
        "points": [{"index": row.point.index, **row.point.values, **(row.result or {})} for row in done],
        "errors": {row.point.index: row.error for row in rows if row.result is None},
        "figures": [],
    }
