"""What can be wrong with a store, in a line for a person."""


class StoreError(Exception):
    """The store cannot be used, in a line for a person."""


class TakenError(StoreError):
    """A sweep that is recorded here goes on elsewhere."""


class RivalError(StoreError):
    """Another process began the same sweep a moment before; nothing of this one is recorded."""


class AwayError(StoreError):
    """Nothing answers where the store is said to be; it may later."""


class LostError(StoreError):
    """What was written is no longer there."""
