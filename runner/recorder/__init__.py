"""The process that writes journals to MLflow, and everything else that imports MLflow."""
