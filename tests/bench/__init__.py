"""Measured speed: races between ways to compute the same thing. See README.md."""
