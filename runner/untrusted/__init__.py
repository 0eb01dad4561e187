"""Refuses settings in config files that could run code, write elsewhere or send data away: a file may be untrusted."""
