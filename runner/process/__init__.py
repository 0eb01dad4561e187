"""The process that a run executes in: signals, exit, and which code is the user's."""
