"""The papers' figures, simulated, with a verdict on every claim. The only part of `sim` that uses the instrument."""
