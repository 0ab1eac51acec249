"""ADALM-Pluto and its relatives, on pyadi-iio and libiio 0.x."""
