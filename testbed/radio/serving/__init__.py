"""Radios of this machine for clients elsewhere: `isac serve`."""
