"""Measure the bridge beside what one would write by hand, on this machine."""

from .command import add_arguments, run

__all__ = ["add_arguments", "run"]
