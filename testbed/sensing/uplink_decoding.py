"""Decoding the users' data, and what a receiver makes of the words: error rates, columns sent anew, cancellation.

Every element z is turned back by its delay's ramp and makes two log-likelihood ratios, ln P(0) / P(1) =
-2 sqrt(2) gamma Re z and Im z, gamma the block's SINR of eq. (40). A word counts as right where its CRC passes; what
was really sent only tells the error rates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import CaptureError
from testbed.measurement import Estimate
from testbed.sensing.uplink_blocks import Blocks
from testbed.sensing.uplink_columns import FrameColumns
from testbed.sensing.uplink_link import UserLinks
from testbed.waveform.coding import decode, passes_crc


@dataclass(frozen=True, eq=False)
class Decoded:
    """Words of all blocks and users."""

    bits: NDArray[np.uint8]  # shape (B, K, num_bits)
    passed: NDArray[np.bool_]  # CRC, shape (B, K)
    bit_error_rate: tuple[Estimate, ...]  # per user
    block_error_rate: tuple[Estimate, ...]  # per user: words with any wrong bit

    @property
    def right(self) -> NDArray[np.bool_]:
        """Blocks whose words all pass; the others are erased, shape (B,)."""
        every: NDArray[np.bool_] = np.all(self.passed, axis=1)
        return every


def decode_users(blocks: Blocks, links: UserLinks) -> Decoded:
    """Viterbi decoding of every user's word in every block."""
    design = blocks.design
    ramp = blocks.source.ramp(blocks.timing.delay_samples, design.element_subcarrier[design.data_idx])
    turned = links.symbols * ramp.conj() * (-2 * np.sqrt(2) * links.block_sinr)[..., None]
    llr = np.ascontiguousarray(turned).view(np.float64)  # in-phase, quadrature: a symbol's first and second bit
    bits = decode(design.code_order(llr))
    wrong = bits != design.bits
    return Decoded(
        bits=bits,
        passed=passes_crc(bits),
        bit_error_rate=tuple(_rate(wrong[:, user]) for user in range(design.num_users)),
        block_error_rate=tuple(_rate(wrong[:, user].any(axis=-1)) for user in range(design.num_users)),
    )


def sent_anew(blocks: Blocks, bits: NDArray[np.uint8]) -> NDArray[np.complex128]:
    """Columns (B, K, T) of frames that carry these bits, (B, K, num_bits), at the powers and delays of the blocks."""
    samples = blocks.design.samples_of(bits, blocks.frame.pilot_power, blocks.frame.data_power)
    source = FrameColumns(samples, blocks.source.numerology, blocks.source.advance)
    return source.at(blocks.timing.delay_samples)


def cancelled(
    blocks: Blocks, channels: NDArray[np.complex128], columns: NDArray[np.complex128] | None = None
) -> NDArray[np.complex128]:
    """What is left of the elements, (B, M, T), when channels (B, M, K) or (M, K) times columns are subtracted.

    Args:
        blocks: received.
        channels: of every block, or of all.
        columns: (B, K, T), as decoded; the ones sent if not given.
    """
    return blocks.elements - channels @ (blocks.columns if columns is None else columns)


def only(blocks: Blocks, kept: NDArray[np.bool_]) -> Blocks:
    """The blocks of a mask (B,): those whose words are right, for whom what was decoded is what was sent.

    Raises:
        CaptureError: none is left.
    """
    if not np.any(kept):
        raise CaptureError(f"decoding: none of {kept.size} blocks is right for every user; raise the users' power")
    return Blocks(blocks.elements[kept], blocks.columns, blocks.source, blocks.design, blocks.frame, blocks.timing)


def _rate(wrong: NDArray[np.bool_]) -> Estimate:
    """Share of errors; its error is that between words, within which bits err together."""
    words = wrong.reshape(len(wrong), -1).mean(axis=1)
    stderr = float(np.std(words, ddof=1) / np.sqrt(words.size)) if words.size > 1 else 0.0
    return Estimate(value=float(words.mean()), stderr=stderr, count=words.size)
