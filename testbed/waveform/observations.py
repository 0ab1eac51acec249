"""Which part of a frame a detector looks at; received samples and model columns pass through the same extraction."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from testbed.config import StrictModel
from testbed.waveform.numerology import Numerology
from testbed.waveform.ofdm import resource_elements


class ResourceElements(StrictModel):
    """All active subcarriers of the listed OFDM symbols; the cyclic prefix is removed."""

    kind: Literal["resource_elements"] = "resource_elements"
    symbols: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)

    @field_validator("symbols")
    @classmethod
    def _once_each(cls, symbols: tuple[int, ...]) -> tuple[int, ...]:
        # an element seen twice would count as two observations of independent noise
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"found {list(symbols)}; every symbol may stand once")
        return symbols

    def num_observations(self, numerology: Numerology) -> int:
        """The detector's N."""
        return len(self.symbols) * numerology.num_subcarriers

    def last_sample(self, numerology: Numerology) -> int:
        """First sample behind the observations, to check them against a frame's length."""
        return (max(self.symbols) + 1) * numerology.symbol_len

    def extract(self, samples: NDArray[np.complexfloating], numerology: Numerology) -> NDArray[np.complex128]:
        """Frames (..., frame_len) to observations (..., N)."""
        elements = resource_elements(samples, numerology, self.symbols)
        return elements.reshape(*elements.shape[:-2], -1)


class SampleRun(StrictModel):
    """A contiguous run of samples of the frame."""

    kind: Literal["samples"]
    start: int = Field(ge=0)
    count: int = Field(ge=1)

    def num_observations(self, numerology: Numerology) -> int:
        """The detector's N."""
        return self.count

    def last_sample(self, numerology: Numerology) -> int:
        """First sample behind the observations."""
        return self.start + self.count

    def extract(self, samples: NDArray[np.complexfloating], numerology: Numerology) -> NDArray[np.complex128]:
        """Frames (..., frame_len) to observations (..., N)."""
        return samples[..., self.start : self.start + self.count].astype(np.complex128, copy=False)


Observations = Annotated[ResourceElements | SampleRun, Field(discriminator="kind")]
