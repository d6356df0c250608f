"""Logist runs long jobs to a verdict."""

__version__ = "0.1.0"
