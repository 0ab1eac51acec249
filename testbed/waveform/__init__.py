"""OFDM ISAC waveforms: numerology, sequences, frames, and what a delay does to a repeated frame."""
