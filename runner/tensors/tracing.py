"""Whether the operations of a step are being traced, to be carried out later on other numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_RECORDED: ContextVar[bool] = ContextVar("recorded", default=False)


def is_traced() -> bool:
    """Return whether the operations are recorded, or traced by `make_fx`: their values are then not to be looked at."""
    return _RECORDED.get() or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def is_recorded() -> bool:
    """Return whether the operations are recorded for all rows at once, whatever their number."""
    return _RECORDED.get()


@contextmanager
def recorded() -> Iterator[None]:
    """Let the operations count as recorded."""
    token = _RECORDED.set(True)
    try:
        yield
    finally:
        _RECORDED.reset(token)
