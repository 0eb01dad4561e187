"""Launchers: where the batches of a sweep are executed."""
