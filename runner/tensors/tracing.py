"""Whether the operations of a step are being traced, to be carried out later on other numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

# Whether they are recorded for all rows at once; None where they are not recorded.
_AT_ONCE: ContextVar[bool | None] = ContextVar("at_once", default=None)


def is_traced() -> bool:
    """Return whether the operations are recorded, or traced by `make_fx`: their values are then not to be looked at."""
    is_recorded = _AT_ONCE.get() is not None
    return is_recorded or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def is_recorded_at_once() -> bool:
    """Return whether the operations are recorded for all rows at once, whatever their number."""
    return _AT_ONCE.get() is True


@contextmanager
def recorded(*, at_once: bool) -> Iterator[None]:
    """Let the operations count as recorded, for all rows at once or in the pieces that torch's kernels take."""
    token = _AT_ONCE.set(at_once)
    try:
        yield
    finally:
        _AT_ONCE.reset(token)
