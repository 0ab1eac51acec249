"""Settings of a Pluto: what a client writes, realised as the AD9361's driver does, or refused.

Nothing in here is heard on the air: who owns a `PlutoState` looks at its settings after every write.
"""

import errno

from sim.ad9361 import MODELS, Clocks, Fir, clock_chain, parse_fir, realised_lo, realised_tx_gain_mdb, rx_gain_range
from sim.iiod_protocol import refused
from sim.sysfs import flag, integer, thousandths

UNDERFLOW, OVERFLOW = 0x1, 0x4  # bits of the converter cores' status registers


class PlutoState:
    """Everything that a client can set, as realised."""

    def __init__(self, num_channels: int = 1, model: str = "ad9363a") -> None:
        self.num_channels = num_channels
        self.model = MODELS[model]
        self.rx_lo_hz, self.tx_lo_hz = 2_400_000_000, 2_450_000_000
        self.rx_lo_off = self.tx_lo_off = False
        self.fir, self.fir_on = Fir(), False
        self.clocks: Clocks = clock_chain(30_720_000, self.fir, False)
        self.rx_bandwidth_hz = self.tx_bandwidth_hz = 18_000_000
        self.gain_mode = ["slow_attack"] * num_channels
        self.rx_gain_db = [71] * num_channels
        self.tx_gain_mdb = [-10_000] * num_channels
        self.rssi_db = [115.0] * num_channels
        self.ensm_mode = "fdd"
        self.loopback = 0
        self.status = {"rx": 0, "tx": 0}  # registers of the converter cores
        # tones of the transmitter's generators: I and Q of a channel, two each
        self.dds_on = [True] * (4 * num_channels)
        self.dds_hz = [9_279_985] * (4 * num_channels)
        self.dds_mdeg = [90_000, 90_000, 0, 0] * num_channels
        self.dds_scale = [0.0] * (4 * num_channels)

    @property
    def sample_rate_hz(self) -> int:
        """Of both directions."""
        return self.clocks.sample_rate_hz

    @property
    def transmits(self) -> bool:
        """Whether the transmitter is powered at all."""
        return self.ensm_mode in ("fdd", "pinctrl_fdd_indep") and not self.tx_lo_off

    @property
    def rx_gains(self) -> tuple[int, int]:
        """Smallest and largest receive gain at this carrier."""
        return rx_gain_range(self.rx_lo_hz)

    def set_lo(self, direction: str, text: str) -> None:
        """Tune a synthesizer; the receiver's gain stays within the table of the new carrier."""
        low, high = self.model.rx_lo_hz if direction == "rx" else self.model.tx_lo_hz
        wanted = integer(text)
        if not low <= wanted <= high:
            raise refused(errno.EINVAL)
        if direction == "tx":
            self.tx_lo_hz = realised_lo(wanted)
            return
        self.rx_lo_hz = realised_lo(wanted)
        least, most = rx_gain_range(self.rx_lo_hz)
        self.rx_gain_db = [min(max(gain, least), most) for gain in self.rx_gain_db]

    def set_rate(self, text: str) -> None:
        """Set the sample rate of both directions."""
        self.clocks = self._chain(integer(text), self.fir_on)

    def set_fir_on(self, text: str) -> None:
        """Switch the filters of both directions, keeping the sample rate."""
        wanted = flag(text)
        self.clocks, self.fir_on = self._chain(self.sample_rate_hz, wanted), wanted

    def set_fir(self, text: str) -> None:
        """Load filters."""
        try:
            self.fir = parse_fir(text)
        except ValueError:
            raise refused(errno.EINVAL) from None

    def set_rx_gain(self, channel: int, text: str) -> None:
        """Whole decibels, a fraction is cut off; dropped without a word where a gain control is at work."""
        wanted = int(thousandths(text) / 1000)
        least, most = rx_gain_range(self.rx_lo_hz)
        if self.gain_mode[channel] != "manual":
            return
        if not least <= wanted <= most:
            raise refused(errno.EINVAL)
        self.rx_gain_db[channel] = wanted

    def set_tx_gain(self, channel: int, text: str) -> None:
        """Steps of 0.25 dB."""
        try:
            self.tx_gain_mdb[channel] = realised_tx_gain_mdb(thousandths(text))
        except ValueError:
            raise refused(errno.EINVAL) from None

    def set_bandwidth(self, direction: str, text: str) -> None:
        """Analogue filters; what is beyond the model's is cut to it."""
        wanted = min(max(integer(text), 0), self.model.max_bandwidth_hz)
        if direction == "rx":
            self.rx_bandwidth_hz = wanted
        else:
            self.tx_bandwidth_hz = wanted

    def _chain(self, rate_hz: int, fir_on: bool) -> Clocks:
        try:
            return clock_chain(rate_hz, self.fir, fir_on)
        except ValueError:
            raise refused(errno.EINVAL) from None
