"""For tests of moving targets: where one is, how fast it closes, and how far what was estimated is off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.sensing.ranging import Ranging
from tests.ranges import CARRIER_HZ, NODES, RATE_HZ, REFLECTOR_M
from tests.worlds import LIGHT_MPS

MIN_RANGE_M = 30.0
CLEAR_OF_REFLECTOR_M = 15.0  # of range, 1.6 resolution cells: nearer by, the reflector's column takes the echo's energy


@dataclass(frozen=True)
class Motion:
    """A straight line from a place at the epoch's begin."""

    place_m: NDArray[np.float64]  # (2,)
    velocity_mps: NDArray[np.float64]  # (2,)

    def range_m(self, at: tuple[float, float], time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """From a base station, shape of `time_s`."""
        return np.linalg.norm(self._away(at, time_s), axis=-1)

    def closing_mps(self, at: tuple[float, float], time_s: float) -> float:
        """Radial, positive for a closing target."""
        away = self._away(at, np.array(time_s))
        return -float(self.velocity_mps @ away) / float(np.linalg.norm(away))

    def _away(self, at: tuple[float, float], time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.place_m + self.velocity_mps * time_s[..., None] - np.array(at)


def drawn_velocity(rng: np.random.Generator) -> NDArray[np.float64]:
    """3 to 30 m/s, any heading."""
    heading, fast = rng.uniform(0, 2 * np.pi), rng.uniform(3.0, 30.0)
    return fast * np.array([np.cos(heading), np.sin(heading)])


def drawn_place(rng: np.random.Generator) -> NDArray[np.float64]:
    """Anywhere between the base stations that is clear of them, and of the reflector in range."""
    corners = np.array(list(NODES.values()))
    while True:
        place = rng.dirichlet(np.ones(len(corners))) @ corners  # uniform in their triangle
        ranges = np.linalg.norm(place - corners, axis=1)
        reflected = np.linalg.norm(np.array(REFLECTOR_M) - corners, axis=1)
        if np.all(ranges >= MIN_RANGE_M) and np.all(np.abs(ranges - reflected) >= CLEAR_OF_REFLECTOR_M):
            return place


@dataclass(frozen=True)
class MotionErrors:
    """Of one base station, of one capture or of several."""

    velocity_bins: NDArray[np.float64]  # estimated less true, in Doppler bins, one per capture
    velocity_stderr_bins: NDArray[np.float64]  # as estimated
    range_m: NDArray[np.float64]  # estimated less true at the frame's own time, one per frame, outliers left out
    crlb_m: NDArray[np.float64]

    @property
    def velocity_z(self) -> NDArray[np.float64]:
        """In standard errors."""
        return self.velocity_bins / self.velocity_stderr_bins

    @property
    def range_z(self) -> NDArray[np.float64]:
        """In bounds."""
        return self.range_m / self.crlb_m


def motion_errors(
    found: Ranging, motion: Motion, at: tuple[float, float], frame_len: int, first_sample: int = 0
) -> MotionErrors:
    """What ranging on a capture is off, whose first sample comes `first_sample` after the epoch's begin."""
    assert found.velocity_mps is not None
    num_frames = found.num_frames
    begin = first_sample + found.start
    true_m = motion.range_m(at, (begin + (np.arange(num_frames) + 0.5) * frame_len) / RATE_HZ)
    closing_mps = motion.closing_mps(at, (begin + num_frames / 2 * frame_len) / RATE_HZ)
    bin_mps = RATE_HZ / (num_frames * frame_len) * LIGHT_MPS / CARRIER_HZ / 2
    ok = ~found.outlier
    return MotionErrors(
        velocity_bins=np.array([found.velocity_mps.value - closing_mps]) / bin_mps,
        velocity_stderr_bins=np.array([found.velocity_mps.stderr]) / bin_mps,
        range_m=(found.range_m - true_m)[ok],
        crlb_m=found.crlb_m[ok],
    )


def pooled(errors: Sequence[MotionErrors]) -> MotionErrors:
    """Of several captures."""
    return MotionErrors(
        *(
            np.concatenate([getattr(one, key) for one in errors])
            for key in ("velocity_bins", "velocity_stderr_bins", "range_m", "crlb_m")
        )
    )


def described(errors: Mapping[str, MotionErrors]) -> str:
    """A line per base station."""
    lines = []
    for name, one in errors.items():
        v, z = one.velocity_bins, one.range_z
        w = one.velocity_z
        lines += [
            f"{name}: velocity {v.mean():+.5f} bin, s.e. {v.std(ddof=1) / np.sqrt(v.size):.5f}, largest "
            f"{np.abs(v).max():.4f}, z {w.mean() * np.sqrt(w.size):+.2f} (rms {np.sqrt(np.mean(w**2)):.2f})",
            f"{name}: range {one.range_m.mean():+.4f} m, z {z.mean() * np.sqrt(z.size):+.2f} "
            f"(rms {np.sqrt(np.mean(z**2)):.3f}), {z.size} frames",
        ]
    return "\n".join(lines)
