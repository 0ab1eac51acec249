"""The channel for samples that pass by once: what GNU Radio or srsRAN send is no buffer that repeats.

Every path is a short filter, right to -75 dB of its own arrival over 80 % of the rate (`sim.interpolator.STREAM`). A
filter looks at samples on both sides, so everything arrives `LATENCY_SAMPLES` late, besides the delay of its path.
"""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sim.channel import BLOCK, Motion, Moving, Rails, render
from sim.interpolator import STREAM
from sim.propagation import ScenePath, scene_paths
from sim.receiver import front_end, transmitter_noise
from sim.scene import Scene
from testbed.device import Settings
from testbed.errors import ConfigError
from testbed.units import SPEED_OF_LIGHT_MPS, db, thermal_noise_dbm

LATENCY_SAMPLES = STREAM.num_taps // 2
SAFE_INR_DB = 45.0  # of an arrival over the receiver's noise: above, the filter's error at -65 dB shows
_ROOM = BLOCK + STREAM.num_taps

log = logging.getLogger(__name__)


class StreamChannel:
    """A scene between streams of samples; n samples go in at every transmitter, n come out at every receiver.

    |1| is full scale: `tx_full_scale_dbm` + tx_gain_db when sent, `rx_full_scale_dbm` - rx_gain_db when received.
    """

    def __init__(
        self,
        scene: Scene,
        sample_rate_hz: float,
        carrier_hz: float,
        tx_gain_db: float = 0.0,
        rx_gain_db: float = 0.0,
    ) -> None:
        """Begin at sample 0, with silence before it.

        Raises:
            SettingOutOfRange: what the scene's radios cannot do.
            ConfigError: a path that would need samples which are still to come.
        """
        self.scene, self.position = scene, 0
        self._limits = [scene.limits(i) for i in range(len(scene.nodes))]
        wanted = Settings(carrier_hz, sample_rate_hz, tx_gain_db, rx_gain_db)
        self._settings = [limit.realise(wanted, scene.node_names[i]) for i, limit in enumerate(self._limits)]
        self._tx = [i for i, node in enumerate(scene.nodes) if node.num_tx]
        self._rx = [i for i, node in enumerate(scene.nodes) if node.num_rx]
        self.tx_names = tuple(scene.node_names[i] for i in self._tx)
        self.rx_names = tuple(scene.node_names[i] for i in self._rx)
        self._paths = {rx: scene_paths(scene, rx, carrier_hz, sample_rate_hz) for rx in self._rx}
        for path in (path for paths in self._paths.values() for path in paths):
            self._check_causal(path)
        longest = max((path.delay_samples for paths in self._paths.values() for path in paths), default=0.0)
        starts = [node.start_offset_samples for node in scene.nodes]
        self._history = {tx: np.zeros((2, int(longest + max(starts)) + _ROOM), np.float32) for tx in self._tx}
        self._warn()

    def advance(self, sent: Mapping[str, NDArray[np.complex64]]) -> dict[str, NDArray[np.complex64]]:
        """The next n samples.

        Args:
            sent: per transmitting node complex64 (n,), equally many; a node that is left out is silent.

        Returns:
            Per receiving node complex64 (num_rx, n), before any converter.

        Raises:
            ValueError: arrays of different length, or none at all, or a node that does not transmit.
        """
        if unknown := sorted(set(sent) - set(self.tx_names)):
            raise ValueError(f"sent: '{unknown[0]}' is no transmitter; transmitters here: {', '.join(self.tx_names)}")
        sizes = {samples.shape for samples in sent.values()}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise ValueError(f"sent: shapes {sorted(sizes)}; every transmitter needs as many samples, shape (n,)")
        (count,) = next(iter(sizes))
        sources = {tx: self._stretch(tx, sent.get(self.scene.node_names[tx]), count) for tx in self._tx}
        heard = {self.scene.node_names[rx]: self._hear(rx, sources, count) for rx in self._rx}
        for tx, source in sources.items():
            self._history[tx] = source[:, max(source.shape[1] - self._keep(tx), 0) :].copy()
        self.position += count
        return heard

    def _stretch(self, tx: int, samples: NDArray[np.complex64] | None, count: int) -> Rails:
        """History and new samples of a transmitter, at its antenna in sqrt(milliwatt), shape (2, width)."""
        new = np.zeros((2, count), dtype=np.float32)
        if samples is not None:
            on_air = self.scene.nodes[tx].impairments.transmit(samples.astype(np.complex128))
            on_air = on_air * self._limits[tx].tx_amplitude(self._settings[tx].tx_gain_db)
            new[0], new[1] = on_air.real, on_air.imag
        return np.concatenate([self._history[tx], new], axis=1)

    def _hear(self, rx: int, sources: Mapping[int, Rails], count: int) -> NDArray[np.complex64]:
        settings, limits = self._settings[rx], self._limits[rx]
        rails = np.zeros((limits.num_rx, 2, count), dtype=np.float32)
        arriving = [self._moving(path, settings, sources[path.tx], count) for path in self._paths[rx]]
        if count:
            render(arriving, self.position, rails)
        tx_noise: float | NDArray[np.float32] = transmitter_noise(self.scene, rx, self._paths[rx])
        if tx_noise:  # in step with what is sent: a mean power would depend on how the stream is cut
            sent = sources[rx][:, sources[rx].shape[1] - count :]
            tx_noise = np.float32(tx_noise) * np.hypot(sent[0], sent[1])
        front_end(self.scene, rx, rails, self.position, settings, limits, tx_noise)
        rails /= np.float32(limits.rx_amplitude(settings.rx_gain_db))
        return rails[:, 0] + np.complex64(1j) * rails[:, 1]

    def _moving(self, path: ScenePath, settings: Settings, source: Rails, count: int) -> Moving:
        """A path of the stretch: its first sample is number `origin` of the stream."""
        origin = self.position - (source.shape[1] - count)
        start = self.scene.nodes[path.tx].start_offset_samples + LATENCY_SAMPLES
        motion = Motion(path, SPEED_OF_LIGHT_MPS / settings.carrier_hz, settings.sample_rate_hz, start)
        response = np.array(path.response, dtype=np.complex64)
        return Moving(source[:, None], 0, STREAM, motion, response, path.fading, origin)

    def _keep(self, tx: int) -> int:
        """Samples of a transmitter that later blocks may look back on; paths that grow longer need more."""
        longest = 0.0
        for rx in self._rx:
            settings = self._settings[rx]
            for path in self._paths[rx]:
                if path.tx == tx:
                    start = self.scene.nodes[tx].start_offset_samples + LATENCY_SAMPLES
                    motion = Motion(path, SPEED_OF_LIGHT_MPS / settings.carrier_hz, settings.sample_rate_hz, start)
                    longest = max(longest, motion.delay_at(self.position + 4 * _ROOM))
        return max(self._history[tx].shape[1], int(longest) + 2 * _ROOM)

    def _check_causal(self, path: ScenePath) -> None:
        names, nodes = self.scene.node_names, self.scene.nodes
        if path.drift != 0:
            raise ConfigError(
                f"nodes[{path.rx}].impairments.clock_ppm: {names[path.rx]} and {names[path.tx]} differ by "
                f"{abs(path.drift) * 1e6:g} ppm; streams in lock-step have one sample clock, use cfo_hz for the carrier"
            )
        begin = nodes[path.tx].start_offset_samples + path.delay_samples
        if begin < 0:
            raise ConfigError(
                f"nodes[{path.tx}].self_delay_samples: {names[path.tx]}'s leakage arrives at {begin:g} samples; "
                f"streams cannot look ahead, its delay and those of its taps must be 0 or more"
            )

    def _warn(self) -> None:
        for rx in self._rx:
            settings, node = self._settings[rx], self.scene.nodes[rx]
            noise_dbm = thermal_noise_dbm(settings.sample_rate_hz, node.noise_figure_db)
            for path in self._paths[rx]:
                sent_dbm = self._limits[path.tx].tx_full_scale_dbm + self._settings[path.tx].tx_gain_db
                inr_db = sent_dbm + db(abs(path.gain) ** 2) - noise_dbm
                if inr_db > SAFE_INR_DB:
                    log.warning(
                        "%s: the %s path from %s may arrive %.0f dB above the noise; delays of streams are right to "
                        "-65 dB only, which shows above %.0f dB: lower its power or raise the isolation",
                        node.name, path.kind, self.scene.node_names[path.tx], inr_db, SAFE_INR_DB,
                    )  # fmt: skip
