"""Users' links as predicted from channels that were heard before, and as measured."""

from collections.abc import Sequence

from testbed.capture import Capture
from testbed.experiment.cooperative.config import CooperativeExperiment
from testbed.experiment.cooperative.heard import Heard
from testbed.experiment.cooperative.record import UserRow
from testbed.sensing.cooperative_channels import user_channels
from testbed.sensing.cooperative_rates import measure_link, predict_link
from testbed.waveform.cooperative import Sharing


def user_rows(
    experiment: CooperativeExperiment,
    heard: Heard,
    capture: Capture,
    sharing: Sharing,
    cluster_size: int,
) -> list[UserRow]:
    """Every user: predicted from channels that were heard before, measured in a capture.

    Args:
        experiment: resolved.
        heard: for the prediction; of another capture where that is to say something.
        capture: with `sharing` on the air.
        sharing: likewise.
        cluster_size: L, for the table.
    """
    rows = []
    for index, user in enumerate(experiment.users):
        now = user_channels(capture, user.name)
        told = predict_link(heard.channels[index], sharing, index)
        link = measure_link(capture, now, index)
        rows.append(
            UserRow(
                user=user.name,
                cluster_size=cluster_size,
                share=sharing.comm_share,
                waveform=sharing.waveform,
                predicted_sinr=told.sinr,
                measured_sinr=link.sinr,
                predicted_rate=told.rate_bps_hz,
                measured_rate=link.rate_bps_hz,
            )
        )
    return rows


def smallest_rate(rows: Sequence[UserRow]) -> float:
    """Of all users, as measured."""
    return min(row.measured_rate.value for row in rows)
