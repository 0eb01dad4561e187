"""The record, read back."""
