"""Errors of stores, each with a one-line message for the user."""


class StoreError(Exception):
    """The store cannot be used."""


class TakenOverError(StoreError):
    """Another process has taken over the sweep that is recorded here."""


class ConcurrentStartError(StoreError):
    """Another process started the same sweep at the same time; nothing of this one is recorded."""


class UnreachableError(StoreError):
    """Nothing answers at the address of the store; it may answer later."""


class RecordLostError(StoreError):
    """Something that was recorded has been removed."""
