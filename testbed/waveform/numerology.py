"""The OFDM numerology: sizes in samples and bins, and what follows from them in hertz and seconds."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from testbed.config import StrictModel


class Numerology(StrictModel):
    """Sizes of an OFDM symbol. Active subcarriers are +-1 .. +-num_subcarriers/2; the carrier itself stays empty."""

    carrier_hz: float = Field(gt=0, le=100e9)
    sample_rate_hz: float = Field(gt=0, le=10e9)
    fft_size: int = Field(ge=8, le=65536)  # bins
    cp_len: int = Field(ge=0, le=65536)  # samples
    num_subcarriers: int = Field(ge=2, le=65534)  # active bins, even

    @model_validator(mode="after")
    def _fits(self) -> "Numerology":
        if self.num_subcarriers % 2 or self.num_subcarriers > self.fft_size - 2:
            raise ValueError(
                f"num_subcarriers: found {self.num_subcarriers}; must be even and at most fft_size - 2 = "
                f"{self.fft_size - 2} (the carrier and the band edge stay empty)"
            )
        if self.cp_len > self.fft_size:
            raise ValueError(f"cp_len: found {self.cp_len}; must be at most fft_size = {self.fft_size}")
        return self

    @property
    def subcarrier_spacing_hz(self) -> float:
        """Distance of neighbouring subcarriers in Hz."""
        return self.sample_rate_hz / self.fft_size

    @property
    def bandwidth_hz(self) -> float:
        """Occupied bandwidth in Hz, outer edge to outer edge."""
        return (self.num_subcarriers + 1) * self.subcarrier_spacing_hz

    @property
    def symbol_len(self) -> int:
        """Samples of one OFDM symbol with its cyclic prefix."""
        return self.fft_size + self.cp_len

    @property
    def subcarriers(self) -> NDArray[np.int64]:
        """Active subcarrier numbers, ascending in frequency, shape (num_subcarriers,)."""
        half = self.num_subcarriers // 2
        return np.concatenate([np.arange(-half, 0), np.arange(1, half + 1)])

    @property
    def bins(self) -> NDArray[np.int64]:
        """DFT bin of every active subcarrier, in the order of `subcarriers`."""
        return self.subcarriers % self.fft_size
