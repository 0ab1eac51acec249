"""ISAC Testbed: the instrument. Everything here would exist with real radios only."""

__version__ = "0.1.0"
