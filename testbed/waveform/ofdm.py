"""OFDM modulation and the extraction of resource elements, both with the unitary DFT."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.waveform.numerology import Numerology


def modulate(grid: NDArray[np.complex128], numerology: Numerology) -> NDArray[np.complex128]:
    """Resource elements to samples.

    Args:
        grid: shape (..., num_symbols, num_subcarriers), subcarriers in the order of `numerology.subcarriers`.
        numerology: sizes.

    Returns:
        Samples of shape (..., num_symbols * symbol_len), every symbol with its cyclic prefix.
    """
    *lead, num_symbols, num_subcarriers = grid.shape
    if num_subcarriers != numerology.num_subcarriers:
        raise ValueError(f"grid has {num_subcarriers} subcarriers; the numerology has {numerology.num_subcarriers}")
    spectrum = np.zeros((*lead, num_symbols, numerology.fft_size), dtype=np.complex128)
    spectrum[..., numerology.bins] = grid
    body = np.fft.ifft(spectrum, norm="ortho")
    prefix = body[..., numerology.fft_size - numerology.cp_len :]
    return np.concatenate([prefix, body], axis=-1).reshape(*lead, num_symbols * numerology.symbol_len)


def resource_elements(
    samples: NDArray[np.complexfloating], numerology: Numerology, symbols: Sequence[int], advance: int = 0
) -> NDArray[np.complex128]:
    """Samples of whole frames to the resource elements of the listed symbols.

    Args:
        samples: shape (..., frame_len), starting at the first sample of a frame.
        numerology: sizes.
        symbols: indices of the OFDM symbols wanted.
        advance: samples that every window begins before the end of its cyclic prefix, 0 .. cp_len.

    Returns:
        Shape (..., len(symbols), num_subcarriers). White noise keeps its variance per element.

    Raises:
        ValueError: a symbol or an advance that the frame does not have.
    """
    *lead, frame_len = samples.shape
    num_symbols = frame_len // numerology.symbol_len
    if any(not 0 <= s < num_symbols for s in symbols):
        raise ValueError(f"symbols {list(symbols)}: must lie in 0..{num_symbols - 1} of the frame")
    if not 0 <= advance <= numerology.cp_len:
        raise ValueError(f"advance {advance}: must lie in 0..{numerology.cp_len}, the cyclic prefix")
    split = samples[..., : num_symbols * numerology.symbol_len].reshape(*lead, num_symbols, numerology.symbol_len)
    window = slice(numerology.cp_len - advance, numerology.symbol_len - advance)
    body = split[..., list(symbols), window].astype(np.complex128, copy=False)
    return np.fft.fft(body, norm="ortho")[..., numerology.bins]
