"""USRPs, on UHD's Python module."""
