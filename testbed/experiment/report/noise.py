"""The two noise estimates of every receiver: of the muted capture, and of what the fit leaves with transmitters on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.experiment.comp.results import Results
from testbed.experiment.report.decibels import estimate_db
from testbed.experiment.report.table import Entry, Table
from testbed.experiment.report.wording import minus

MAX_NOISE_SHARE = 0.005  # by which the two noise estimates may differ, or by
MAX_NOISE_STDERRS = 3.0  # so many standard errors, whichever is more (SIGNAL_CHAIN section 4)


@dataclass(frozen=True)
class NoiseComparison:
    """The two noise estimates of a receiver."""

    receiver: str
    share: float  # residual over muted, less 1
    stderrs: float  # that difference in standard errors of both
    row: tuple[str, ...]

    @property
    def warning(self) -> str | None:
        """A leak where the residual holds more than noise, a changed noise floor where it holds less."""
        if abs(self.share) <= MAX_NOISE_SHARE or abs(self.stderrs) <= MAX_NOISE_STDERRS:
            return None
        found = (
            f"{self.receiver}: residual noise differs from the muted one by {self.row[3]} "
            f"({self.row[4]} standard errors)"
        )
        if self.share > 0:
            return f"{found}: a leak, some path or interference is not in the model; survey it or list the reflector."
        return f"{found}: the noise floor fell while transmitting; check the receive gain and the muted capture."


def noise_comparisons(results: Results) -> list[NoiseComparison]:
    """Noise variance of every node and user, muted against residual."""
    compared = []
    for name, row in results.noise.items():
        muted, residual = row["muted"], row["residual"]
        share = residual.value / muted.value - 1
        stderrs = (residual.value - muted.value) / math.hypot(muted.stderr, residual.stderr)
        texts = [minus("{:.3f} ± {:.3f}".format(*estimate_db(e))) for e in (muted, residual)]
        numbers = (minus(f"{share * 100:+.2f} %"), minus(f"{stderrs:+.1f}"))
        compared.append(NoiseComparison(name, share, stderrs, (name, *texts, *numbers)))
    return compared


def noise_table(comparisons: Sequence[NoiseComparison]) -> Table:
    """Both estimates in dBm over the sampled band, and how they differ."""
    heads = ("Receiver", "Muted capture (dBm)", "Residual of the fit (dBm)", "Difference", "In std. errors", "Remark")
    return Table(heads, tuple((*c.row, _remark(c)) for c in comparisons))


def _remark(compared: NoiseComparison) -> str | Entry:
    if compared.warning is None:
        return "–"
    return Entry("LEAK" if compared.share > 0 else "CHECK", grade="bad")
