"""Hydra's composition of a config from files and overrides, with every mistake in a line."""
