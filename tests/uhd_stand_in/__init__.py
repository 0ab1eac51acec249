"""A package that bears UHD's names, for tests of what a driver does in time, and the air behind it.

`uhd` in this folder is imported in place of UHD's own once the folder stands on `sys.path`: names, signatures and the
ways of reporting losses are those of UHD 4's Python module, and nothing else is there. Behind it stand virtual boards
that hear each other in a world of `sim`. Device time is virtual: it passes as somebody waits for it, and never beyond
what a transmitter was given or a receiver has room for. So nothing is lost that a test did not ask for.
"""
