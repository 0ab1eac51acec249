"""Whether received frames are whole: no sample lost between them, no transmitter silent among them.

Frames repeat, so a stream without a fault shows the same frame at the same place for ever. Each transmitter that can be
heard is one column of B: its frame without its mean, delayed to its strongest arrival; B_k is B delayed by k samples
more.

**Lost samples.** A loss of q samples moves all that comes after it by k = -q modulo the frame. The stream is cut into
groups of frames; g is the mean of one, of noise variance v per sample. With Lambda(k) = ||P_{B_k} g||^2 / v,

    a group is out of place   if Lambda(k) - Lambda(0) >  tau for some k
    a group is in its place   if Lambda(0) - Lambda(k) >  tau for all k != 0
    undecided                 else; then with groups twice as long, down to two

tau = Q / (1 - r^2), where Q is exceeded by a Gamma(d) variable, d columns, with probability level / (2 MAX_GROUPS L).

* False alarms: P_{B_k} g exceeds P_{B_0} g at most by the part of B_k that is orthogonal to B_0. Of what is sent, that
  part sees only what is not on the strongest arrivals, taken to be less than r = 1/2 of them in amplitude; the rest of
  it is noise, Gamma(d). Summed over L lags and all groups tried, a stream in its place is called out of place with
  probability below `level`, whatever the SNR, and however the gains of the columns fade.
* Misses: by the same bound, a group that is out of place is called in its place with probability below `level`. A
  stream is `verified` only if every group is in its place.
* Blind spots: a loss of a whole number of frames (k = 0) cannot be seen, and does no harm to what repeats. So many
  samples are known modulo the frame only. In the last group a loss within the last half of it may be outvoted; then
  the frames behind it are found below, where one frame is strong enough.

**Silent transmitters.** Underflows and late starts leave frames that lack part of one column. a_f is the gain of a
column in frame f, least squares; centre and spread of the a_f are medians over the frames that are not zero, so that
fading widens the spread instead of raising alarms. A frame is out of line if it is weaker than the centre and

    |a_f - centre|^2 > t spread,     t = ln(frames d / level)         spread >= (noise variance) [(B^H B)^-1]_ll

that is sqrt(t) standard errors, 4.8 for 2000 frames of 4 columns at level 1e-6; Gaussian noise alone does that to any
frame of a stream with probability below `level`. A run of such frames is a gap if at most its two ends are partly
there; what is weaker for longer, without being gone, is a channel that changes. (Blocks of fading are taken for gaps
where a capture has but two or three of them and one is 10 dB down.) A silence of q samples of the L shows if
q / L > sqrt(t spread) / |centre|, roughly. Columns with |centre| < (sqrt(t) + 3) sqrt(spread) cannot be told from
silence and are not looked at: a transmitter needs about 17.5 dB over the noise of a whole frame.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.stats import gamma

from testbed.sensing.model import projection_basis
from testbed.waveform.shift import cyclic_shift

LEVEL = 1e-6  # probability of a false alarm per stretch of samples examined, of either kind
MAX_GROUPS = 64
MIN_PEAK_SIGMA = 8.0  # of an arrival; as in sync
MIN_FRAMES = 4  # fewer say nothing about noise
NOISE_FRAMES = 256  # enough to know its variance to a percent, of whatever length a frame is

_OFF_STRONGEST = 0.5  # r: largest amplitude at any other lag, of that on the strongest arrivals
_GONE = 0.1  # of the usual power: a frame at a wrong place correlates less with what should be there
_ENDS = 2  # of a gap, where a frame is partly there
_CLEAR = 3.0  # standard errors of room between a frame that is there and one that is out of line
_GRID = 8  # steps per sample of an arrival


@dataclass(frozen=True)
class Heard:
    """Transmitters that a receiver hears, each at its strongest arrival."""

    tx: tuple[int, ...]  # rows of the frame
    columns: NDArray[np.complex128]  # B, shape (frame_len, num_heard), unit norm

    @property
    def frame_len(self) -> int:
        """Samples of a frame."""
        return self.columns.shape[0]


@dataclass(frozen=True)
class Loss:
    """Samples that are missing."""

    sample: int  # about where, from the first sample examined
    num_samples: int  # 1 .. frame_len - 1, modulo the frame


@dataclass(frozen=True)
class Gap:
    """Frames in which a transmitter was silent, in part or altogether."""

    tx: int
    sample: int  # where the first of them begins, from the first sample examined
    num_samples: int  # whole frames


@dataclass(frozen=True)
class Integrity:
    """What frames say of themselves."""

    verified: bool  # every frame in its place, as far as groups of them tell
    losses: tuple[Loss, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def later(self, num_samples: int) -> "Integrity":
        """The same, with samples counted from an earlier one on."""
        losses = (replace(loss, sample=max(loss.sample + num_samples, 0)) for loss in self.losses)
        gaps = (replace(gap, sample=max(gap.sample + num_samples, 0)) for gap in self.gaps)
        return Integrity(self.verified, tuple(losses), tuple(gaps))


def hear(received: NDArray[np.complexfloating], frames: NDArray[np.complex128]) -> Heard | None:
    """Find the strongest arrival of every transmitter, the clearest first; None if nothing stands out.

    Args:
        received: frames as received, from any sample on, shape (num_frames, frame_len).
        frames: what every node sends, shape (num_nodes, frame_len); zero rows are silent nodes.
    """
    rest = _steady(_mean(received).astype(np.complex128))
    out = np.zeros((rest.size, 0), dtype=np.complex128)
    left = [int(node) for node in np.flatnonzero(np.any(frames != 0, axis=1))]
    found: dict[int, NDArray[np.complex128]] = {}
    while left:
        magnitude = np.abs(fft.ifft(fft.fft(rest) * np.conj(fft.fft(frames[left]))))
        sigma = np.median(magnitude, axis=1) / np.sqrt(2 * np.log(2))
        clearness = np.divide(magnitude.max(axis=1), sigma, out=np.zeros(len(left)), where=sigma > 0)
        row = int(np.argmax(clearness))
        if clearness[row] < MIN_PEAK_SIGMA:
            break
        node = left.pop(row)
        fine = np.argmax(magnitude[row]) + np.arange(-_GRID, _GRID + 1) / _GRID
        shifted = _steady(cyclic_shift(frames[node], fine))
        best = int(np.argmax(np.abs(shifted.conj() @ rest)))
        found[node] = shifted[best] / np.linalg.norm(shifted[best])
        around = _steady(cyclic_shift(frames[node], fine[best] + np.array([-0.5, 0.0, 0.5])))
        out = np.concatenate([out, around.T], axis=1)
        basis = projection_basis(out)
        rest = rest - basis @ (basis.conj().T @ rest)
    if not found:
        return None
    tx = tuple(sorted(found))
    return Heard(tx, np.stack([found[node] for node in tx], axis=1))


def examine(received: NDArray[np.complexfloating], heard: Heard, level: float = LEVEL) -> Integrity:
    """Look for lost samples, and only where none are missing for silent transmitters.

    Args:
        received: frames that follow each other, shape (num_frames, frame_len), cut at the same sample of the frame as
            those in which `heard` was found.
        heard: from `hear`, in these samples or earlier ones.
        level: probability of a false alarm.
    """
    if received.shape[0] < MIN_FRAMES:
        return Integrity(verified=False)
    noise_var = frame_noise(received)
    verified, losses = _places(received, heard, noise_var, level)
    return Integrity(verified, losses, () if losses else _gaps(received, heard, noise_var, level))


def frame_noise(received: NDArray[np.complexfloating]) -> float:
    """Variance per complex sample of what differs from frame to frame; a fault in a few of them does not show."""
    pairs = np.linspace(0, len(received) - 2, min(len(received) - 1, NOISE_FRAMES)).round().astype(int)
    differences = (received[pairs + 1] - received[pairs]).view(received.real.dtype)
    return float(np.median(np.einsum("fn,fn->f", differences, differences)) / received.shape[1] / 2)


def threshold(num_columns: int, frame_len: int, level: float = LEVEL) -> float:
    """tau: how much a group of frames must prefer one lag over another, in units of its noise."""
    quantile = gamma.isf(level / (2 * MAX_GROUPS * frame_len), num_columns)
    return float(quantile / (1 - _OFF_STRONGEST**2))


def _places(
    received: NDArray[np.complexfloating], heard: Heard, noise_var: float, level: float
) -> tuple[bool, tuple[Loss, ...]]:
    num_frames, frame_len = received.shape
    tau = threshold(len(heard.tx), frame_len, level)
    num_groups = min(MAX_GROUPS, num_frames)
    while num_groups >= 2:
        borders = np.linspace(0, num_frames, num_groups + 1).round().astype(int)
        means = np.stack([_mean(received[a:b]) for a, b in itertools.pairwise(borders)])
        likelihood = _lambda(_steady(means), heard) * (np.diff(borders)[:, None] / max(noise_var, np.finfo(float).tiny))
        lag = 1 + np.argmax(likelihood[:, 1:], axis=1)
        lead = likelihood[:, 0] - likelihood[np.arange(num_groups), lag]
        if np.any(lead < -tau):
            # a group in which the loss is prefers neither place; it counts with the one before it
            decided = np.maximum.accumulate(np.where(np.abs(lead) > tau, np.arange(num_groups), -1))
            stands = np.where(decided < 0, 0, np.where(lead < -tau, lag, 0)[decided])
            return False, _losses(stands, borders * frame_len, frame_len)
        if np.all(lead > tau):
            return True, ()
        num_groups //= 2
    return False, ()


def _mean(received: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
    """Mean frame; NumPy adds real numbers several times as fast as complex ones."""
    rails: NDArray[np.floating] = received.view(received.real.dtype).sum(axis=0) / len(received)
    return rails.view(received.dtype)


def _steady(frames: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
    """Without their mean over a frame: a receiver's DC offset looks the same at every lag."""
    return frames - frames.mean(axis=-1, keepdims=True)


def _lambda(means: NDArray[np.complexfloating], heard: Heard) -> NDArray[np.float64]:
    """||P_{B_k} g||^2 at every lag k of every group, shape (num_groups, frame_len)."""
    spectra = np.conj(fft.fft(heard.columns, axis=0)).T
    at_lag = fft.ifft(fft.fft(means)[:, None] * spectra, axis=-1)
    # B_k^H B_k is the same for all k: with L L^H = B^H B, ||P g||^2 = ||L^-1 B_k^H g||^2
    factor = np.linalg.inv(np.linalg.cholesky(heard.columns.conj().T @ heard.columns))
    whitened: NDArray[np.float64] = np.sum(np.abs(np.einsum("lm,gmk->glk", factor, at_lag)) ** 2, axis=1)
    return whitened


def _losses(lags: NDArray[np.int64], starts: NDArray[np.int64], frame_len: int) -> tuple[Loss, ...]:
    """Where the lag changes from group to group, and by how much; the first group may follow a loss already."""
    steps = np.diff(lags)
    changes = [Loss(int(starts[g + 1]), int(-steps[g] % frame_len)) for g in np.flatnonzero(steps)]
    return tuple(changes) or (Loss(0, int(-lags[0] % frame_len)),)


def _gaps(received: NDArray[np.complexfloating], heard: Heard, noise_var: float, level: float) -> tuple[Gap, ...]:
    inverse, frame_len = np.linalg.pinv(heard.columns), heard.frame_len
    gains = (received @ inverse.T.astype(received.dtype)).T
    floors = noise_var * np.sum(np.abs(inverse) ** 2, axis=1)
    t = float(np.log(gains.size / level))
    found = [silence for row in range(len(heard.tx)) for silence in _silences(row, gains[row], floors[row], t)]
    kept: list[_Silence] = []
    for silence in sorted(found, key=lambda silence: -silence.energy):
        # half a frame is not orthogonal to the other columns: their gains move a little with it
        if silence.is_whole or all(silence.stop <= other.first or other.stop <= silence.first for other in kept):
            kept.append(silence)
    gaps = (Gap(heard.tx[x.row], x.first * frame_len, (x.stop - x.first) * frame_len) for x in kept)
    return tuple(sorted(gaps, key=lambda gap: (gap.sample, gap.tx)))


@dataclass(frozen=True)
class _Silence:
    """Frames first .. stop - 1, in which a column is missing."""

    row: int
    first: int
    stop: int
    energy: float  # that is missing
    is_whole: bool  # from at least one of them altogether


def _silences(row: int, gain: NDArray[np.complexfloating], floor: float, t: float) -> list[_Silence]:
    """Of one column, whose gain in every frame has at least the variance `floor`."""
    live = gain[np.abs(gain) ** 2 >= t * floor]
    if live.size < MIN_FRAMES:
        return []
    centre = np.median(live.real) + 1j * np.median(live.imag)
    # of a complex Gaussian variable |z|^2 / variance has the median ln 2
    spread = max(floor, float(np.median(np.abs(live - centre) ** 2)) / np.log(2))
    spread *= 1 + np.pi / (2 * live.size)  # the median's own variance
    usual = float(np.abs(centre) ** 2)
    if usual < (np.sqrt(t) + _CLEAR) ** 2 * spread:
        return []
    out = (np.abs(gain - centre) ** 2 > t * spread) & (np.real(gain * np.conj(centre)) < usual)
    gone = np.abs(gain) ** 2 < max(t * floor, _GONE * usual)
    found = []
    for first, stop in _runs(out):
        whole = int(np.count_nonzero(gone[first:stop]))
        if stop - first - whole <= _ENDS:
            energy = float(np.sum(np.abs(gain[first:stop] - centre) ** 2))
            found.append(_Silence(row, first, stop, energy, whole > 0))
    return found


def _runs(flags: NDArray[np.bool_]) -> Sequence[tuple[int, int]]:
    """First and one past the last index of every stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
