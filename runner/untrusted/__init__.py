"""What a config file may not set, because its author may not be the one who runs it."""
