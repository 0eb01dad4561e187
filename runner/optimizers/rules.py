"""Update rules: pure functions on `(rows, dim)` weights, hyper-parameters of shape `(rows, 1)` in float64.

To add one, write it here, enter it in RULES and give it a file in conf/optimizer/.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

State = tuple[Any, ...]


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        init: `init(weight, **hyper) -> state`.
        update: `update(weight, gradient, state, *, lr, **hyper) -> (weight, state)`.
    """

    init: Callable[..., State]
    update: Callable[..., tuple[Tensor, State]]


def no_state(_weight: Tensor, **_hyper: Any) -> State:
    """Return the state of a rule that keeps none."""
    return ()


def gd(weight: Tensor, gradient: Tensor, state: State, *, lr: Tensor) -> tuple[Tensor, State]:
    """Return `weight - lr * gradient`: gradient descent, the seed's rule."""
    return weight - lr.to(weight.dtype) * gradient, state


RULES: dict[str, Rule] = {
    "gd": Rule(no_state, gd),
}
