"""The record: a journal that the runner appends to, and the recorder that brings it to MLflow."""
