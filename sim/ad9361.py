"""What the AD9361 family makes of settings: synthesizer, clock chain, filters and gains, as its Linux driver has them.

Numbers and rounding are those of the driver (drivers/iio/adc/ad9361.c), which a client sees when it reads a setting
back. Frequencies are whole hertz.
"""

import re
from dataclasses import dataclass

REFERENCE_HZ = 40_000_000  # the crystal
RFPLL_MODULUS = 8_388_593
BBPLL_MODULUS = 2_088_960
MIN_VCO_HZ = 6_000_000_000
MAX_BBPLL_HZ = 1_430_000_000
MIN_ADC_HZ, MAX_ADC_HZ, MAX_DAC_HZ = 25_000_000, 640_000_000, 320_000_000
MAX_RATE_HZ = 61_440_000
TX_GAIN_RANGE_MDB = (-89_750, 250, 0)
MAX_TAPS = 128
# ADC or DAC clock over the filter's, and how the three half-band stages share it
_DIVIDERS = ((12, 3, 2, 2), (8, 2, 2, 2), (6, 3, 1, 2), (4, 2, 2, 1), (3, 3, 1, 1), (2, 2, 1, 1), (1, 1, 1, 1))
# of the full gain tables: carriers up to, smallest and largest gain
_GAIN_TABLES = ((1_300_000_000, -1, 73), (4_000_000_000, -3, 71), (6_000_000_000, -10, 62))


@dataclass(frozen=True)
class Model:
    """A member of the family."""

    name: str
    rx_lo_hz: tuple[int, int]
    tx_lo_hz: tuple[int, int]
    max_bandwidth_hz: int


MODELS = {
    "ad9363a": Model("ad9363a", (325_000_000, 3_800_000_000), (325_000_000, 3_800_000_000), 20_000_000),
    "ad9364": Model("ad9364", (70_000_000, 6_000_000_000), (46_875_001, 6_000_000_000), 56_000_000),
    "ad9361": Model("ad9361", (70_000_000, 6_000_000_000), (46_875_001, 6_000_000_000), 56_000_000),
}


@dataclass(frozen=True)
class Fir:
    """The programmable filters, as far as they show: number of taps and the change of rate."""

    rx_taps: int = 0
    rx_decimation: int = 1
    tx_taps: int = 0
    tx_interpolation: int = 1
    loaded: bool = False

    def __str__(self) -> str:
        if not self.loaded:
            return "FIR Rx: 0,0 Tx: 0,0"
        return f"FIR Rx: {self.rx_taps},{self.rx_decimation} Tx: {self.tx_taps},{self.tx_interpolation}"


@dataclass(frozen=True)
class Clocks:
    """Clocks from the PLL to the samples, of both directions."""

    bbpll_hz: int
    rx_hz: tuple[int, int, int, int, int]  # ADC, R2, R1, RF, RXSAMP
    tx_hz: tuple[int, int, int, int, int]  # DAC, T2, T1, TF, TXSAMP

    @property
    def sample_rate_hz(self) -> int:
        """Of both directions."""
        return self.rx_hz[-1]

    def lines(self) -> tuple[str, str]:
        """`rx_path_rates` and `tx_path_rates`."""
        rx = zip(("ADC", "R2", "R1", "RF", "RXSAMP"), self.rx_hz, strict=True)
        tx = zip(("DAC", "T2", "T1", "TF", "TXSAMP"), self.tx_hz, strict=True)
        head = f"BBPLL:{self.bbpll_hz}"
        return (
            " ".join([head, *(f"{name}:{hz}" for name, hz in rx)]),
            " ".join([head, *(f"{name}:{hz}" for name, hz in tx)]),
        )


def realised_lo(wanted_hz: int) -> int:
    """Carrier of the fractional-N synthesizer: 9.5 Hz at the oscillator, which runs at 6 to 12 GHz; always even."""
    reference, clock = 2 * REFERENCE_HZ, wanted_hz >> 1  # the clock framework counts in 32 bits, hence in 2 Hz
    shift = 2  # the oscillator is divided by two at least
    while clock << shift < MIN_VCO_HZ:
        shift += 1
    whole, rest = divmod(clock << shift, reference)
    fraction = (rest * RFPLL_MODULUS + reference // 2) // reference
    oscillator = reference * whole + reference * fraction // RFPLL_MODULUS
    return (oscillator >> shift) << 1


def clock_chain(rate_hz: int, fir: Fir, fir_on: bool) -> Clocks:
    """Clocks for a sample rate, ADC and DAC at the lowest rate that the nominal governor takes.

    Raises:
        ValueError: no dividers give that rate, or the filter has more taps than there are clock cycles for.
    """
    decimation = fir.rx_decimation if fir_on else 1
    interpolation = fir.tx_interpolation if fir_on else 1
    if not 0 < rate_hz <= MAX_RATE_HZ:
        raise ValueError(f"{rate_hz} samples per second")
    found = _dividers(rate_hz, decimation, interpolation)
    if found is None:
        raise ValueError(f"no clock dividers for {rate_hz} samples per second")
    rx, tx, adc_over_dac = found
    adc = rate_hz * decimation * _DIVIDERS[rx][0]
    ratio = 64
    while ratio > 1 and adc * ratio > MAX_BBPLL_HZ:
        ratio >>= 1
    whole, rest = divmod(adc * ratio, REFERENCE_HZ)
    fraction = (rest * BBPLL_MODULUS + REFERENCE_HZ // 2) // REFERENCE_HZ
    bbpll = REFERENCE_HZ * whole + REFERENCE_HZ * fraction // BBPLL_MODULUS
    adc = _divided(bbpll, ratio)
    rx_hz = _stages(adc, rx, decimation)
    tx_hz = _stages(adc // adc_over_dac, tx, interpolation)
    clocks = Clocks(bbpll, rx_hz, tx_hz)
    if fir_on:
        _check_taps(fir, clocks)
    return clocks


def lowest_rate(fir: Fir, fir_on: bool) -> int:
    """The smallest sample rate that `sampling_frequency_available` names."""
    return MIN_ADC_HZ // (12 * (fir.rx_decimation if fir_on else 1))


def parse_fir(text: str) -> Fir:
    """A filter configuration: `TX n GAIN g INT i`, `RX n GAIN g DEC d`, then a pair of taps or one tap per line.

    Raises:
        ValueError: a header is missing or the taps cannot be loaded.
    """
    rx: tuple[int, ...] = ()
    tx: tuple[int, ...] = ()
    taps = 0
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        if header := re.match(r"TX (\d) GAIN (-?\d{1,4}) INT (\d)", line):
            tx = tuple(int(word) for word in header.groups())
        elif header := re.match(r"RX (\d) GAIN (-?\d{1,4}) DEC (\d)", line):
            rx = tuple(int(word) for word in header.groups())
        elif re.match(r"\s*[-+]?\d{1,6}(,\s*[-+]?\d{1,6})?", line):
            taps += 1
    if not rx or not tx or not (1 <= rx[0] <= 3 and 1 <= tx[0] <= 3):
        raise ValueError("a header of RX or TX is missing")
    if not 0 < taps <= MAX_TAPS or taps % 16:
        raise ValueError(f"{taps} taps; must be a multiple of 16 up to {MAX_TAPS}")
    return Fir(taps, rx[2], taps, tx[2], loaded=True)


def rx_gain_range(lo_hz: int) -> tuple[int, int]:
    """Smallest and largest receive gain of the table in use at a carrier, in steps of 1 dB."""
    for up_to_hz, low, high in _GAIN_TABLES:
        if lo_hz <= up_to_hz:
            return low, high
    raise ValueError(f"{lo_hz} Hz")


def realised_tx_gain_mdb(wanted_mdb: int) -> int:
    """Transmit gain in thousandths of a dB; what lies between two steps becomes the louder one.

    Raises:
        ValueError: out of range.
    """
    low, step, high = TX_GAIN_RANGE_MDB
    if not low <= wanted_mdb <= high:
        raise ValueError(f"{wanted_mdb / 1000} dB")
    return -(-wanted_mdb // step * step)


def _dividers(rate_hz: int, decimation: int, interpolation: int) -> tuple[int, int, int] | None:
    """Rows of the table for reception and transmission, and the ADC's clock over the DAC's."""
    governors = range(1, 7) if decimation * rate_hz * 8 >= MIN_ADC_HZ else (0,)
    for governor in governors:
        for row in range(governor, len(_DIVIDERS)):
            adc = rate_hz * decimation * _DIVIDERS[row][0]
            if not MIN_ADC_HZ <= adc <= MAX_ADC_HZ:
                continue
            dac = rate_hz * interpolation * _DIVIDERS[row][0]
            apart = adc // dac if adc >= dac else -(dac // adc)
            step = 0 if apart == 1 else apart
            if adc <= MAX_DAC_HZ:
                tx, over = row - step, 1
            else:
                tx, over = (7 if row == 4 and apart >= 0 else row + (1 if row == 5 and apart >= 0 else 2) - step), 2
            if 0 <= tx < len(_DIVIDERS):
                return row, tx, over
            break
    return None


def _stages(clock_hz: int, row: int, change: int) -> tuple[int, int, int, int, int]:
    second = _divided(clock_hz, _DIVIDERS[row][1])
    first = _divided(second, _DIVIDERS[row][2])
    at_filter = _divided(first, _DIVIDERS[row][3])
    return clock_hz, second, first, at_filter, _divided(at_filter, change)


def _divided(clock_hz: int, by: int) -> int:
    return (clock_hz + by // 2) // by


def _check_taps(fir: Fir, clocks: Clocks) -> None:
    if not fir.loaded:
        raise ValueError("no filter was loaded")
    if fir.rx_decimation not in (1, 2, 4) or fir.tx_interpolation not in (1, 2, 4):
        raise ValueError("a filter changes the rate by 1, 2 or 4")
    if fir.tx_interpolation == 1 and fir.tx_taps > 64:
        raise ValueError("more than 64 taps need an interpolation")
    for taps, hz in ((fir.rx_taps, clocks.rx_hz), (fir.tx_taps, clocks.tx_hz)):
        if taps > hz[0] // max(hz[-1], 1) * 16:
            raise ValueError(f"{taps} taps at {hz[-1]} samples per second")
