"""The process a run lives in: its signals, its end, and which of its code is the user's."""
