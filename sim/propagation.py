"""From a scene to paths: gain, delay, Doppler, antennas and fading of leakage, direct, echo and clutter paths."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.antenna import direction
from sim.fading import PathFading
from sim.noise import Purpose, unit_noise
from sim.scene import Scene
from testbed.errors import ConfigError
from testbed.places import Place, Position, distance_m
from testbed.theory.link import direct_gain, echo_gain
from testbed.units import SPEED_OF_LIGHT_MPS, undb

_CLUTTER = 256  # channel of its phases: scatterers have those below
MAX_FADING_PATHS = 1024  # per receiver: the noise's streams tell no more apart


@dataclass(frozen=True)
class Track:
    """A straight line that the middle of a path runs along."""

    tx_m: Position
    rx_m: Position
    via_m: Position  # at the begin of the epoch
    velocity_mps: Position


@dataclass(frozen=True)
class ScenePath:
    """One path from a transmitter to a receiver as it really is, at the begin of an epoch."""

    tx: int
    rx: int
    kind: str  # self, direct, echo or clutter
    via: str | None  # name of the target or reflector
    gain: complex  # amplitude, antenna gains included
    delay_samples: float  # without the transmitter's start offset
    doppler_hz: float  # positive for a closing path; offsets of the nodes' carriers included
    response: tuple[complex, ...] = (1.0,)  # per receive channel
    track: Track | None = None
    carrier_offset_hz: float = 0.0  # the part of doppler_hz that is the radios'
    drift: float = 0.0  # growth of the delay, in samples per sample, by the radios' clocks
    fading: PathFading | None = None


def scene_paths(
    scene: Scene, rx: int, carrier_hz: float, sample_rate_hz: float, targets_off: frozenset[str] = frozenset()
) -> tuple[ScenePath, ...]:
    """All paths that end at receiver `rx`, transmitters in scene order.

    Direct paths follow Friis or the receiver's path loss, echoes and clutter the bistatic radar equation; each path has
    the carrier phase of its length, or one drawn from the scene's seed, the same both ways. The self path is the node's
    isolation, at phase 0, without antenna gain, followed by its taps. A receiver without a transmitter that has a path
    loss hears no echoes unless it says so: a mean path loss stands for all scattering on the way.

    Raises:
        ConfigError: more fading paths than there are streams.
    """
    made = _Paths(scene, rx, carrier_hz, sample_rate_hz)
    for tx, node in enumerate(scene.nodes):
        if node.num_tx:
            made.leakage() if tx == rx else made.direct(tx)
            if scene.nodes[rx].hears_echoes:
                made.echoes(tx)
    return tuple(path for path in made.paths if path.via is None or path.via not in targets_off or path.kind != "echo")


def scatterers(scene: Scene, target_idx: int) -> list[Position]:
    """Places of a target's scatterers at the begin of an epoch; of a point target its own."""
    target = scene.targets[target_idx]
    if target.num_scatterers == 1 or target.size_m is None:
        return [target.position_m]
    drawn = [
        unit_noise(
            scene.standing_seed, target_idx, 0, target.num_scatterers, channel=2 + axis, purpose=Purpose.PLACEMENT
        )
        for axis in range(len(target.size_m))
    ]
    # a circular sample's phase is uniform: -1/2 .. 1/2 of the box
    share = np.stack([np.angle(w) / (2 * np.pi) for w in drawn], axis=1)
    return [tuple(row) for row in (np.array(target.position_m) + share * np.array(target.size_m)).tolist()]


class _Paths:
    """Paths to one receiver, in the making."""

    def __init__(self, scene: Scene, rx: int, carrier_hz: float, sample_rate_hz: float) -> None:
        self.paths: list[ScenePath] = []
        self._scene, self._rx, self._here = scene, rx, scene.nodes[rx]
        self._wavelength = SPEED_OF_LIGHT_MPS / carrier_hz
        self._carrier_hz, self._sample_rate_hz = carrier_hz, sample_rate_hz
        self._num_fading = 0
        num_rx = max(self._here.num_rx, 1)
        self._calibration = self._here.array.calibration(scene.standing_seed, rx, num_rx)

    def leakage(self) -> None:
        here, ones = self._here, tuple(self._calibration.tolist())
        amplitude = complex(np.sqrt(undb(-here.self_isolation_db)))
        delay = here.self_delay_samples
        self.paths.append(ScenePath(self._rx, self._rx, "self", None, amplitude, delay, 0.0, ones))
        for i, tap in enumerate(here.self_taps):
            gain = amplitude * np.sqrt(undb(tap.gain_db)) * np.exp(1j * np.deg2rad(tap.phase_deg))
            at = delay + tap.delay_samples
            self.paths.append(ScenePath(self._rx, self._rx, "self", f"tap{i + 1}", complex(gain), at, 0.0, ones))

    def direct(self, tx: int) -> None:
        there, loss = self._scene.nodes[tx], self._here.path_loss
        length_m = distance_m(there, self._here)
        antennas = self._antennas(tx, self._here.position_m, there.position_m)
        if loss is None:
            power = direct_gain(length_m, self._wavelength, antennas)
        else:
            power = antennas * undb(-loss.reference_db) * length_m**-loss.exponent
        path = self._path(tx, "direct", None, power, length_m, there.position_m, 0, 0)
        if loss is not None and loss.rician_k_db is not None:
            fading = self._scene.fading
            block = fading.block_samples if fading is not None and fading.direct == "block" else 0
            k = undb(loss.rician_k_db) if loss.rician_k_db > -np.inf else 0.0
            path = self._faded(path, Purpose.FADING_DIRECT, k, block, per_channel=True)
        self.paths.append(path)

    def echoes(self, tx: int) -> None:
        scene, fading = self._scene, self._scene.fading
        for i, target in enumerate(scene.targets):
            for j, place in enumerate(scatterers(scene, i)):
                path = self._reflected(tx, "echo", target, place, target.rcs_m2 / target.num_scatterers, 1 + i, j)
                if target.velocity_mps is not None and any(target.velocity_mps):
                    there = scene.nodes[tx].position_m
                    track = Track(there, self._here.position_m, place, target.velocity_mps)
                    doppler_hz = path.carrier_offset_hz + closing_mps(track) / self._wavelength
                    path = replace(path, track=track, doppler_hz=doppler_hz)
                if fading is not None and fading.echo == "block":
                    path = self._faded(path, Purpose.FADING_ECHO, 0.0, fading.block_samples, per_channel=False)
                self.paths.append(path)
        for i, reflector in enumerate(scene.clutter):
            self.paths.append(
                self._reflected(tx, "clutter", reflector, reflector.position_m, reflector.rcs_m2, 1 + i, _CLUTTER)
            )

    def _reflected(
        self, tx: int, kind: str, via: Place, place: Position, rcs_m2: float, which: int, scatterer: int
    ) -> ScenePath:
        there = self._scene.nodes[tx].position_m
        out_m = float(np.linalg.norm(direction(there, place)))
        back_m = float(np.linalg.norm(direction(place, self._here.position_m)))
        antennas = self._antennas(tx, place, place)
        power = echo_gain(out_m, back_m, rcs_m2, self._wavelength, antennas)
        return self._path(tx, kind, via.name, power, out_m + back_m, place, which, scatterer)

    def _path(
        self,
        tx: int,
        kind: str,
        via: str | None,
        power: float,
        length_m: float,
        comes_from: Position,
        which: int,
        scatterer: int,
    ) -> ScenePath:
        scene, here = self._scene, self._here
        turns = -(length_m / self._wavelength % 1.0)
        if scene.phases == "random":
            first, second = sorted((tx, self._rx))
            pair = second * (second + 1) // 2 + first  # the same for any number of nodes that follow
            drawn = unit_noise(scene.standing_seed, which, pair, 1, channel=scatterer, purpose=Purpose.PHASE)
            turns = float(np.angle(drawn[0])) / (2 * np.pi)
        num_rx = max(here.num_rx, 1)
        response = here.array.response(direction(here.position_m, comes_from), num_rx) * self._calibration
        ours, theirs = here.impairments, scene.nodes[tx].impairments
        ppm = 0.0 if tx == self._rx else (theirs.clock_ppm - ours.clock_ppm) * 1e-6
        offset_hz = 0.0 if tx == self._rx else self._carrier_hz * ppm + theirs.cfo_hz - ours.cfo_hz
        return ScenePath(
            tx=tx,
            rx=self._rx,
            kind=kind,
            via=via,
            gain=complex(np.sqrt(power) * np.exp(2j * np.pi * turns)),
            delay_samples=length_m / SPEED_OF_LIGHT_MPS * self._sample_rate_hz,
            doppler_hz=offset_hz,
            response=tuple(response.tolist()),
            carrier_offset_hz=offset_hz,
            drift=-ppm,
        )

    def _antennas(self, tx: int, tx_sees: Position, rx_sees: Position) -> float:
        """Power gain of both antennas: the transmitter's towards `tx_sees`, the receiver's towards `rx_sees`."""
        there, here = self._scene.nodes[tx], self._here
        gain_db = there.antenna_gain_dbi + here.antenna_gain_dbi
        for node, sees in ((there, tx_sees), (here, rx_sees)):
            if node.sector is not None:
                gain_db -= node.sector.loss_db(direction(node.position_m, sees))
        return undb(gain_db)

    def _faded(
        self, path: ScenePath, purpose: Purpose, k_factor: float, block_samples: int, per_channel: bool
    ) -> ScenePath:
        stream = self._rx * MAX_FADING_PATHS + self._num_fading
        self._num_fading += 1
        if self._num_fading > MAX_FADING_PATHS:
            raise ConfigError(
                f"fading: more than {MAX_FADING_PATHS} paths to {self._here.name} fade; use fewer targets or scatterers"
            )
        fading = PathFading(self._scene.seed, stream, purpose, k_factor, block_samples, per_channel, epoch=0)
        if block_samples:
            return replace(path, fading=fading)
        drawn: NDArray[np.complex64] = fading.gains(0, 1, len(path.response))[:, 0]
        return replace(path, response=tuple((np.array(path.response) * drawn).tolist()))


def closing_mps(track: Track) -> float:
    """Rate at which a path shortens, at the begin of an epoch."""
    velocity = np.array(track.velocity_mps)
    total = 0.0
    for node in (track.tx_m, track.rx_m):
        towards = np.subtract(node, track.via_m)
        total += float(np.dot(velocity, towards) / np.linalg.norm(towards))
    return total
