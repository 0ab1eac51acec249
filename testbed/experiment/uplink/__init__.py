"""Uplink ISAC: users decoded, a target detected in their echoes by one array, powers by measurement."""
