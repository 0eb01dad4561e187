"""Compiled programs of a pure step on rows: recording, translation to C++, and the kept programs."""
