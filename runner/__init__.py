"""Gradient-descent experiments from YAML, recorded in MLflow."""

__version__ = "0.1.0"
