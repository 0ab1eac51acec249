"""The laws one stored statistic has to follow, T or F alike: threshold, PoD, estimate, variance."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.experiment.comp.statistics import StoredDetection
from testbed.measurement import Estimate, Measurement
from testbed.theory import consistency, detection

Statistic = Literal["known_noise", "cfar"]
STATISTICS: tuple[Statistic, ...] = ("known_noise", "cfar")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """Laws of one statistic at given degrees of freedom, as functions of arrays."""

    statistic: Statistic
    rank: int
    num_observations: int
    num_nuisance: int

    @classmethod
    def of(cls, stored: StoredDetection, statistic: Statistic) -> "Law":
        """The law a stored detection has to follow; the known-noise test has no other degree of freedom than r."""
        if statistic == "known_noise":
            return cls(statistic, stored.rank, 0, 0)
        return cls(statistic, stored.rank, stored.num_observations, stored.num_nuisance)

    @classmethod
    def measured(cls, measurement: Measurement, cell: str, statistic: Statistic) -> "Law":
        """The law of a cell as it was measured."""
        if statistic == "known_noise":
            return cls(statistic, measurement.rank[cell], 0, 0)
        if cell not in measurement.num_nuisance:
            raise ValueError(f"num_nuisance of {cell} is missing, which the F test needs")
        num_observations = measurement.sensing[cell].num_observations
        return cls(statistic, measurement.rank[cell], num_observations, measurement.num_nuisance[cell])

    def required_noncentrality(self, pod: float, pfa: float) -> float:
        """Smallest lam with that PoD; 0 where false alarms alone give it."""
        if pod <= pfa:
            return 0.0
        if self.statistic == "known_noise":
            return float(detection.required_noncentrality(pod, pfa, self.rank))
        from scipy.optimize import brentq

        # the F test needs more than the test of known noise, and never a hundredfold where it works at all
        low = float(detection.required_noncentrality(pod, pfa, self.rank))
        high = 4 * low + 10
        while float(self.pod(high, pfa)) < pod:
            high *= 2
        return float(brentq(lambda lam: float(self.pod(lam, pfa)) - pod, low, high, xtol=1e-9))

    @property
    def h0(self) -> detection.Law:
        """Law without a target."""
        if self.statistic == "known_noise":
            return detection.h0_law(self.rank)
        return detection.cfar_h0_law(self.rank, self.num_observations, self.num_nuisance)

    def threshold(self, pfa: float) -> float:
        """Threshold on T or F."""
        if self.statistic == "known_noise":
            return float(detection.glrt_threshold(pfa, self.rank))
        return float(detection.cfar_threshold(pfa, self.rank, self.num_observations, self.num_nuisance))

    def pod(self, noncentrality: ArrayLike, pfa: ArrayLike) -> Array:
        """Probability of detection; noncentrality and pfa are broadcast, a noncentrality below 0 counts as 0."""
        lam, level = np.broadcast_arrays(np.maximum(noncentrality, 0.0), np.asarray(pfa, dtype=np.float64))
        if self.statistic == "known_noise":
            return np.asarray(detection.detection_probability(lam, self.rank, pfa=level))
        dof = (self.rank, self.num_observations, self.num_nuisance)
        # SciPy's noncentral F leaves 0..1 by rounding
        return np.clip(detection.cfar_detection_probability(lam, *dof, pfa=level), 0.0, 1.0)

    def fluctuating_pod(self, mean_noncentrality: ArrayLike, pfa: ArrayLike) -> Array:
        """Probability of detection of a Swerling 1 target, whose echoes one Rayleigh factor per trial scales together.

        Arguments as `pod`; see `theory.detection.swerling1_detection_probability` and its CFAR twin.
        """
        mean, level = np.broadcast_arrays(np.maximum(mean_noncentrality, 0.0), np.asarray(pfa, dtype=np.float64))
        if self.statistic == "known_noise":
            return np.asarray(detection.swerling1_detection_probability(mean, self.rank, pfa=level))
        dof = (self.rank, self.num_observations, self.num_nuisance)
        return np.asarray(detection.cfar_swerling1_detection_probability(mean, *dof, pfa=level))

    def survival(self, stored: StoredDetection) -> Array:
        """Survival function of each stored H0 statistic: uniform if the law holds."""
        return np.asarray(self.h0.sf(getattr(stored, self.statistic)))

    def noncentrality(self, values: Array) -> Estimate:
        """lam_hat from the statistics of all frames of a capture; may be negative."""
        if self.statistic == "known_noise":
            lam, stderr = consistency.noncentrality_estimate(values, self.rank)
        else:
            dof = (self.rank, self.num_observations, self.num_nuisance)
            lam, stderr = consistency.cfar_noncentrality_estimate(values, *dof)
        return Estimate(value=float(lam), stderr=float(stderr), count=values.size)

    def pod_variance(self, noncentrality: float, pfa: float, trials: int) -> float:
        """Variance of measured PoD about the PoD at lam_hat, which shares the trials."""
        lam, limit = max(noncentrality, 0.0), self.threshold(pfa)
        if self.statistic == "known_noise":
            return float(consistency.pod_variance_measured(lam, self.rank, limit, trials))
        dof = (self.rank, self.num_observations, self.num_nuisance)
        return float(consistency.cfar_pod_variance_measured(lam, *dof, limit, trials))
