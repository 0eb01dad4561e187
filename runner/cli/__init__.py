"""The command line's edge: arguments, exit codes and errors in a line."""
