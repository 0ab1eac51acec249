"""Cooperative sensing and communication: cluster sizes, power split, location by many links, users by many nodes."""
