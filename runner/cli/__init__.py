"""The command line: flags, exit codes and error lines."""
