"""FFTs of OFDM symbols: the floor under every stage that works on resource elements."""

import numpy as np
import scipy.fft

from tests.bench.harness import Race

NUM_SYMBOLS = 4096
FFT_SIZE = 64

rng = np.random.default_rng(1)
symbols = rng.standard_normal((NUM_SYMBOLS, FFT_SIZE)) + 1j * rng.standard_normal((NUM_SYMBOLS, FFT_SIZE))

RACES = [
    Race(
        name="64-point FFT, 4096 symbols, complex128",
        limit="scipy.fft",
        contestants={
            "scipy.fft": lambda: scipy.fft.fft(symbols),
            "numpy.fft": lambda: np.fft.fft(symbols),
        },
        unit_count=NUM_SYMBOLS,
        unit="FFT",
    ),
]
