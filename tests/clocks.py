"""Shared by tests: what a receiver takes of frames that run on another clock, exactly, without an emulator."""

import numpy as np


def on_other_clock(frame, num_frames, *, eps=0.0, nu=0.0, delay=0.0):
    """x((1 + eps) k - delay) exp(2j pi nu k) of a frame that repeats, by its Fourier series at every sample.

    y[nN + r] = sum_m X_m exp(2j pi m ((1 + eps) (n + r / N) - delay / N)) exp(2j pi nu k); shape (num_frames * N,).
    """
    N = frame.size
    m = np.round(np.fft.fftfreq(N) * N)
    X = np.fft.fft(frame) / N * np.exp(-2j * np.pi * m * delay / N)
    within = np.exp(2j * np.pi * np.outer(m, np.arange(N)) * (1 + eps) / N)
    between = np.exp(2j * np.pi * np.outer(np.arange(num_frames), m) * eps)
    samples = ((X * between) @ within).reshape(-1)
    return samples * np.exp(2j * np.pi * ((nu * np.arange(samples.size)) % 1.0))


def unit_noise(rng, count):
    """Circular noise of E|w|^2 = 1."""
    return (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / np.sqrt(2)
