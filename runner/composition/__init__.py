"""Composes configs from files and overrides with Hydra, and reports each mistake in one line."""
