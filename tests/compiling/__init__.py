"""Tests of the compiled programs."""
