"""What a schedule is: the learning rate as a function of the step, for all the runs of a batch at once.

Each schedule equals its twin in `torch.optim.lr_scheduler`, whose argument names and defaults it takes. Numbers are
float64 tensors `(rows, 1)`. Steps are counted from 1: the rate at step i is the one that torch's scheduler has set at
epoch i - 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

State: TypeAlias = tuple[Tensor, ...]


def _base_rate(lr: Tensor, **_hyper: Any) -> Tensor:
    return lr


@dataclass(frozen=True)
class ClosedForm:
    """A schedule whose rate depends on the step alone.

    Attributes:
        form: `form(epoch, lr, **hyper) -> rate`, all of shape `(..., rows, 1)`; epoch 0 is the first after warm-up.
        warmup_end: `warmup_end(lr, **hyper) -> rate`, the rate that warm-up rises to; by default the base rate.
    """

    form: Callable[..., Tensor]
    warmup_end: Callable[..., Tensor] = _base_rate

    def rates(
        self, step: int | Tensor, lr: Tensor, *, warmup_steps: Tensor, warmup_start_factor: Tensor, **hyper: Any
    ) -> Tensor:
        """Return the rate of one step as `(rows, 1)`, or of steps `(steps, 1, 1)` as `(steps, rows, 1)`."""
        epoch = torch.as_tensor(step, dtype=torch.float64, device=lr.device) - 1
        rate = self.form((epoch - warmup_steps).clamp(min=0), lr, **hyper)
        rising = self.warmup_end(lr, **hyper) * warmup_factor(epoch, warmup_steps, warmup_start_factor)
        return torch.where(epoch < warmup_steps, rising, rate)

    def block(self, first: int, count: int, lr: Tensor, **hyper: Any) -> Tensor:
        """Return the rates of `count` steps from step `first` on, `(count, rows, 1)`."""
        steps = torch.arange(first, first + count, dtype=torch.float64, device=lr.device)
        return self.rates(steps[:, None, None], lr, **hyper)


@dataclass(frozen=True)
class LossDriven:
    """A schedule whose rate depends on the losses so far, except those of warm-up, which precedes it.

    Attributes:
        begin: `begin(lr, **hyper) -> state`, whose first tensor is the rate, all `(rows, 1)`.
        form: `form(loss, state, **hyper) -> state`, called with the losses `(rows, 1)` of one step after the other.
    """

    begin: Callable[..., State]
    form: Callable[..., State]

    def init(self, lr: Tensor, *, warmup_steps: Tensor, warmup_start_factor: Tensor, **hyper: Any) -> State:
        """Return the state before step 1."""
        return self.begin(lr, **hyper)

    def rate(
        self, step: Tensor, state: State, *, warmup_steps: Tensor, warmup_start_factor: Tensor, **_hyper: Any
    ) -> Tensor:
        """Return the rate `(rows, 1)` of a step.

        Args:
            step: its number, from 1 on, in float64, of any shape that broadcasts with `(rows, 1)`.
            state: as `after` returned it for the step before, or `init`.
            warmup_steps: as in `warmup_factor`.
            warmup_start_factor: as in `warmup_factor`.
        """
        return state[0] * warmup_factor(step - 1, warmup_steps, warmup_start_factor)

    def after(
        self,
        step: Tensor,
        loss: Tensor,
        state: State,
        *,
        warmup_steps: Tensor,
        warmup_start_factor: Tensor,
        **hyper: Any,
    ) -> State:
        """Return the state after a step with losses `(rows, 1)`; arguments as in `rate`."""
        updated = self.form(loss.to(torch.float64), state, **hyper)
        counts = step > warmup_steps
        return tuple(torch.where(counts, new, old) for new, old in zip(updated, state, strict=True))


Schedule: TypeAlias = ClosedForm | LossDriven
Form = TypeVar("Form", bound=Callable[..., Any])
SCHEDULES: dict[str, Schedule] = {}


def closed_form(warmup_end: Callable[..., Tensor] = _base_rate) -> Callable[[Form], Form]:
    """Register a form that depends on the step alone under its name; `warmup_end` as in `ClosedForm`."""

    def register(form: Form) -> Form:
        SCHEDULES[form.__name__] = ClosedForm(form, warmup_end)
        return form

    return register


def loss_driven(begin: Callable[..., State]) -> Callable[[Form], Form]:
    """Register a form that depends on the losses under its name; `begin` as in `LossDriven`."""

    def register(form: Form) -> Form:
        SCHEDULES[form.__name__] = LossDriven(begin, form)
        return form

    return register


def warmup_factor(epoch: Tensor, warmup_steps: Tensor, warmup_start_factor: Tensor) -> Tensor:
    """Return what warm-up multiplies the rate by: it rises linearly from the start factor to 1, and stays there.

    `f + (1 - f) * epoch / warmup_steps`: torch's LinearLR, followed by the schedule under a SequentialLR.
    """
    rising = warmup_start_factor + (1 - warmup_start_factor) * epoch / warmup_steps
    return torch.where(epoch < warmup_steps, rising, 1.0)
