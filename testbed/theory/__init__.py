"""Closed-form laws that measured results are compared with."""
