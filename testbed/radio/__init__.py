"""Radios behind one protocol of seven members."""
