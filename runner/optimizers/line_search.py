"""Gradient descent whose steps are found by further evaluations, or from the gradients so far.

Each row of a batch makes its own search. A search that finds no step leaves the weight as it is.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.function import Function, Line, repeated
from runner.optimizers.more_thuente import more_thuente
from runner.optimizers.update_rule import State, plus, rule
from runner.tensors.norms import dot


@rule(evaluates=True)
def polyak(
    weight: Tensor, gradient: Tensor, state: State, function: Function, *, lr: Tensor, f_star: Tensor | None
) -> tuple[Tensor, State, Tensor]:
    """`w = w - min(lr, (loss - f_star) / |g|**2) * g`; a null `f_star` is the objective's minimum, or 0.

    Polyak, "Introduction to optimization", 1987, with a largest step as in optax's polyak_sgd.
    """
    above = function.loss.to(torch.float64) - (function.minimum if f_star is None else f_star)
    squares = dot(gradient, gradient).to(torch.float64)
    step = torch.where(squares > 0, above / squares, 0.0).clamp(min=0)
    return plus(weight, -torch.minimum(step, lr), gradient), state, torch.zeros_like(lr)


class Previous(NamedTuple):
    """The weight and the gradient of the step before, `(rows, dim)`, and the number of steps made, `(1, 1)`."""

    weight: Tensor
    gradient: Tensor
    step: Tensor


def _begin_previous(weight: Tensor, **_hyper: Any) -> Previous:
    nothing = torch.zeros_like(weight)
    return Previous(nothing, nothing.clone(), torch.zeros((1, 1), dtype=torch.float64, device=weight.device))


@rule(_begin_previous)
def barzilai_borwein(
    weight: Tensor, gradient: Tensor, state: Previous, *, lr: Tensor, variant: str
) -> tuple[Tensor, Previous]:
    """`w = w - a * g`, `a = |s|**2 / (s . y)` (long) or `(s . y) / |y|**2` (short), s and y the changes of w and g.

    The first step, and each where `s . y` is not above 0, is `lr * g`.

    Barzilai and Borwein, "Two-point step size gradient methods", 1988.
    """
    moved, turned = weight - state.weight, gradient - state.gradient
    curved = dot(moved, turned).to(torch.float64)
    if variant == "long":
        above, below = dot(moved, moved).to(torch.float64), curved
    else:
        above, below = curved, dot(turned, turned).to(torch.float64)
    is_known = (state.step > 0) & (curved > 0) & (below > 0)
    step = torch.where(is_known, above / torch.where(is_known, below, 1.0), lr)
    return plus(weight, -step, gradient), Previous(weight, gradient, state.step + 1)


class Backtracking(NamedTuple):
    """A search in progress: the step to try, whether it was accepted, and the number of evaluations, `(rows, 1)`."""

    step: Tensor
    is_accepted: Tensor
    evaluations: Tensor


class LastStep(NamedTuple):
    """The step of the search before, `(rows, 1)` in float64."""

    step: Tensor


def _begin_last_step(weight: Tensor, **_hyper: Any) -> LastStep:
    return LastStep(torch.full_like(weight[:, :1], torch.inf, dtype=torch.float64))


@rule(_begin_last_step, evaluates=True)
def armijo(
    weight: Tensor,
    gradient: Tensor,
    state: LastStep,
    function: Function,
    *,
    lr: Tensor,
    slope_rtol: Tensor,
    decrease_factor: Tensor,
    increase_factor: Tensor,
    max_backtracking_steps: int,
) -> tuple[Tensor, LastStep, Tensor]:
    """`w = w - a * g`, a the first of `a, decrease_factor * a...` with `f <= f(w) - slope_rtol * a * |g|**2`.

    The first a is `increase_factor` times that of the step before, at most `lr`: optax's
    `scale_by_backtracking_linesearch`, whose `max_learning_rate` is `lr` here.

    Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives", 1966.
    """
    line = Line.of(function, weight, gradient, -gradient)

    def tried(search: Backtracking) -> Backtracking:
        point = line.at(search.step)
        is_accepted = point.loss <= line.start.loss + slope_rtol * search.step * line.start.slope
        step = torch.where(is_accepted, search.step, search.step * decrease_factor)
        return Backtracking(step, is_accepted, search.evaluations + 1)

    first = torch.minimum(lr, state.step * increase_factor)
    never = torch.zeros_like(first, dtype=torch.bool)
    search = Backtracking(first, never, torch.zeros_like(first))
    search = repeated(tried, lambda it: ~it.is_accepted, search, max_backtracking_steps)
    moved = torch.where(search.is_accepted, line.weight_at(search.step), weight)
    return moved, LastStep(search.step), search.evaluations


class LastLoss(NamedTuple):
    """The loss of the step before, and whether there was a step, `(rows, 1)` in float64."""

    loss: Tensor
    step: Tensor


def begin_last_loss(weight: Tensor, **_hyper: Any) -> LastLoss:
    """Return the state before the first step."""
    nothing = torch.zeros_like(weight[:, :1], dtype=torch.float64)
    return LastLoss(nothing, nothing.clone())


def first_trial(line: Line, gradient: Tensor, state: LastLoss, lr: Tensor) -> Tensor:
    """Return the first step of a search: twice what a parabola would lower the loss by as in the step before.

    At most `lr`; the first step of all is to lower it by about half the norm of the gradient. So does SciPy.
    """
    change = torch.where(state.step > 0, line.start.loss - state.loss, -dot(gradient, gradient).sqrt() / 2)
    slope = torch.where(line.start.slope == 0, 1.0, line.start.slope)
    guess = torch.where(line.start.slope == 0, lr, 1.01 * 2 * change / slope)
    return torch.where(guess < 0, lr, torch.minimum(guess, lr))


@rule(begin_last_loss, evaluates=True)
def strong_wolfe(
    weight: Tensor,
    gradient: Tensor,
    state: LastLoss,
    function: Function,
    *,
    lr: Tensor,
    c1: Tensor,
    c2: Tensor,
    max_iterations: int,
) -> tuple[Tensor, LastLoss, Tensor]:
    """`w = w - a * g`, a from a search with the strong Wolfe conditions, whose first trial is at most `lr`.

    `f <= f(w) + c1 * a * slope` and `|slope at a| <= c2 * |slope|`.

    Wolfe, "Convergence conditions for ascent methods", 1969; the search is that of More and Thuente.
    """
    line = Line.of(function, weight, gradient, -gradient)
    found = more_thuente(line, first_trial(line, gradient, state, lr), c1, c2, max_iterations)
    return line.weight_at(found.step), LastLoss(line.start.loss, state.step + 1), found.evaluations
