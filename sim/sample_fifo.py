"""A queue of complex samples that come in pieces of one size and go in pieces of another."""

import numpy as np
from numpy.typing import NDArray


class SampleFifo:
    """Samples in order of arrival, in one growing buffer; who fills it watches `len`."""

    def __init__(self, num_samples: int) -> None:
        """Room for `num_samples` at first; more is made when it is needed."""
        self._buffer = np.empty(max(num_samples, 1), dtype=np.complex64)
        self._begin = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    def append(self, samples: NDArray[np.complex64]) -> None:
        """Add samples (n,) at the end."""
        level, wanted = len(self), self._end + samples.size
        if wanted > self._buffer.size:
            held = self._buffer[self._begin : self._end]
            if level + samples.size > self._buffer.size:
                self._buffer = np.empty(2 * (level + samples.size), dtype=np.complex64)
            self._buffer[:level] = held  # NumPy moves overlapping pieces of one buffer rightly
            self._begin, self._end = 0, level
        self._buffer[self._end : self._end + samples.size] = samples
        self._end += samples.size

    def peek(self, limit: int) -> NDArray[np.complex64]:
        """The first samples, at most `limit`: a view that holds until the next `append`."""
        return self._buffer[self._begin : min(self._begin + limit, self._end)]

    def drop(self, count: int) -> None:
        """Forget the first `count` samples, of which there must be as many."""
        assert 0 <= count <= len(self)
        self._begin += count
        if self._begin == self._end:
            self._begin = self._end = 0

    def take(self, count: int) -> NDArray[np.complex64]:
        """The first `count` samples, of which there must be as many, as a copy; they leave the queue."""
        taken = self.peek(count).copy()
        self.drop(count)
        return taken
