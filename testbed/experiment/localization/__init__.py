"""Device-free localisation: gains from K + 1 captures, powers by min-max range error, ranges, positions, verdicts."""
