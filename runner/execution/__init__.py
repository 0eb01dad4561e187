"""One run, or a batch of runs, from config to result."""
