"""The schema of configs, the checks of their values, and the place of their files; no torch, no MLflow."""
