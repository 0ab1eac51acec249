"""What is true of a board: configurations, filters, calibrations."""
