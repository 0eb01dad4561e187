"""The schema of configs, the checks of their values, and where their files lie; no torch, no MLflow."""
