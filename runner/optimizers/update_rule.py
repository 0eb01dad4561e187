"""What an update rule is, and the arithmetic that rules share.

Rules are pure functions on `(rows, dim)` weights. Their hyper-parameters are float64 tensors `(rows, 1)`; what is
derived from them is cast to the weight's dtype once, and sums of products go through torch's fused kernels, in
the order of `torch.optim`: then each rule meets its twin there bit for bit.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from runner.tensors.rows import ROWS, padded

State = tuple[Any, ...]
Update = TypeVar("Update", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        init: `init(weight, **hyper) -> state`.
        update: `update(weight, gradient, state, *, lr, **hyper) -> (weight, state)`.
    """

    init: Callable[..., State]
    update: Callable[..., tuple[Tensor, State]]


RULES: dict[str, Rule] = {}


def no_state(_weight: Tensor, **_hyper: Any) -> State:
    """Return the state of a rule that keeps none."""
    return ()


def rule(init: Callable[..., State] = no_state) -> Callable[[Update], Update]:
    """Enter an update in the registry under its name, with what makes its first state."""

    def enter(update: Update) -> Update:
        RULES[update.__name__] = Rule(init, update)
        return update

    return enter


@functools.lru_cache(maxsize=1)
def cast(rate: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a learning rate in the weights' dtype; one that stays the same tensor is cast once."""
    return rate.to(dtype)


def uphill(gradient: Tensor, maximize: bool) -> Tensor:
    """Return the gradient to descend along."""
    return -gradient if maximize else gradient


def decayed(gradient: Tensor, weight: Tensor, weight_decay: Tensor | None) -> Tensor:
    """Return `gradient + weight_decay * weight`; None is no decay."""
    return gradient if weight_decay is None else plus(gradient, weight_decay, weight)


def shrunk(weight: Tensor, lr: Tensor, weight_decay: Tensor | None) -> Tensor:
    """Return `(1 - lr * weight_decay) * weight`: decoupled weight decay."""
    return weight if weight_decay is None else weight * (1 - lr * weight_decay).to(weight.dtype)


_padded_once = functools.lru_cache(maxsize=4)(padded)


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Return `base**exponent`, bases `(rows, 1)` and one exponent `(1, 1)`.

    The last of a stretch of powers may round differently from the others, so these are made of padded rows.
    """
    return base**exponent if len(base) % ROWS == 0 else (_padded_once(base) ** exponent)[: len(base)]


def power_of(base: float, exponent: Tensor) -> Tensor:
    """Return `base**exponent`, one base and exponents `(rows, 1)`; of padded rows as in `power`."""
    powers: Tensor = base ** padded(exponent)
    return powers[: len(exponent)]


def plus(start: Tensor, scale: Tensor, direction: Tensor) -> Tensor:
    """Return `start + scale * direction`."""
    return torch.addcmul(start, direction, scale.to(start.dtype))


def plus_ratio(start: Tensor, scale: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """Return `start + scale * above / below`."""
    return torch.addcdiv(start, scale.to(start.dtype) * above, below)


def mixed_squares(average: Tensor, value: Tensor, keep: Tensor, take: Tensor) -> Tensor:
    """Return `keep * average + take * value**2`."""
    return torch.addcmul(average * keep, take * value, value)
