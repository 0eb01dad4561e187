"""Search: trials that Optuna chooses, asked for and run a batch at a time."""
