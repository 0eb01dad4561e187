"""Runs and sweeps from Python."""
