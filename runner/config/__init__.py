"""What a config may say: its schema, its ranges, and where its files lie; no torch, no MLflow."""
