"""The line search of torch's LBFGS, of all rows of a batch at once.

A bracket is widened, then narrowed by cubic interpolation, after Nocedal and Wright, "Numerical optimization", 2006,
and Mark Schmidt's minFunc, with torch's constants.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from runner.optimizers.function import Line, Point, repeated, where
from runner.optimizers.more_thuente import Found

C1, C2 = 1e-4, 0.9
LEAST_GROWTH, MOST_GROWTH = 0.01, 10
MARGIN = 0.1


class Bracket(NamedTuple):
    """A search in progress; all `(rows, 1)`.

    Attributes:
        step: the next to try.
        low: step, loss and slope of the end with the lower loss, each of the next three; `high`: of the other end.
            Before there is a bracket, both are the point tried last.
        is_bracketed: whether the ends enclose a step that satisfies the conditions.
        is_near: whether the step tried last was close to an end.
        is_done: whether the search has ended.
        evaluations: so far.
    """

    step: Tensor
    low: Tensor
    low_loss: Tensor
    low_slope: Tensor
    high: Tensor
    high_loss: Tensor
    high_slope: Tensor
    is_bracketed: Tensor
    is_near: Tensor
    is_done: Tensor
    evaluations: Tensor


def torch_wolfe(line: Line, first: Tensor, has_ended: Tensor, tolerance_change: Tensor, most: int) -> Found:
    """Return a step that satisfies the strong Wolfe conditions, else the best one found.

    Args:
        line: to search along.
        first: the first step to try, `(rows, 1)` in float64.
        has_ended: which rows do not search, `(rows, 1)`.
        tolerance_change: how short a bracket may become, in the largest change of a coordinate.
        most: the largest number of evaluations after the first.
    """
    start = line.start
    never = torch.zeros_like(has_ended)
    longest = line.direction.abs().amax(-1, keepdim=True).to(torch.float64)
    search = Bracket(first, *start, *start, never, never, has_ended, torch.zeros_like(first))

    def tried(search: Bracket) -> Bracket:
        point = line.at(search.step)
        loss = torch.where(point.loss.isnan(), torch.inf, point.loss)
        point = point._replace(loss=loss)
        is_high = loss > start.loss + C1 * point.step * start.slope
        is_flat = point.slope.abs() <= -C2 * start.slope
        counted = search._replace(evaluations=search.evaluations + 1)
        widened = _widened(counted, point, is_high | ((search.evaluations > 1) & (loss >= search.low_loss)), is_flat)
        narrowed = _narrowed(counted, point, is_high | (loss >= search.low_loss), is_flat)
        found = where(search.is_bracketed, narrowed, widened)
        is_short = (found.high - found.low).abs() * longest < tolerance_change
        found = found._replace(is_done=found.is_done | (found.is_bracketed & is_short))
        return where(found.is_bracketed, _within(found), found)

    search = repeated(tried, lambda it: ~it.is_done, search, most + 1)
    is_better = search.is_done | search.is_bracketed | (search.low_loss < start.loss)
    return Found(torch.where(is_better, search.low, 0.0), search.evaluations)


def _widened(search: Bracket, point: Point, is_high: Tensor, is_flat: Tensor) -> Bracket:
    """Return the search after a step before there is a bracket: it ends, gets a bracket, or tries a longer step."""
    before = Point(search.low, search.low_loss, search.low_slope)
    is_bracketed = is_high | (~is_flat & (point.slope >= 0))
    is_lower = before.loss <= point.loss
    low = where(is_bracketed & is_lower, before, point)
    high = where(is_bracketed & ~is_lower, before, point)
    least, most = point.step + LEAST_GROWTH * (point.step - before.step), point.step * MOST_GROWTH
    return search._replace(
        step=_cubic(before, point, least, most),
        low=low.step, low_loss=low.loss, low_slope=low.slope,
        high=high.step, high_loss=high.loss, high_slope=high.slope,
        is_bracketed=is_bracketed, is_done=is_flat & ~is_high,
    )  # fmt: skip


def _narrowed(search: Bracket, point: Point, is_high: Tensor, is_flat: Tensor) -> Bracket:
    """Return the search after a step within the bracket, which becomes one of its ends."""
    low = Point(search.low, search.low_loss, search.low_slope)
    high = Point(search.high, search.high_loss, search.high_slope)
    swaps = ~is_flat & (point.slope * (high.step - low.step) >= 0)
    far = where(is_high, point, where(swaps, low, high))
    near = where(is_high, low, point)
    is_lower = near.loss <= far.loss
    low, high = where(is_lower, near, far), where(is_lower, far, near)
    return search._replace(
        low=low.step, low_loss=low.loss, low_slope=low.slope,
        high=high.step, high_loss=high.loss, high_slope=high.slope,
        is_done=is_flat & ~is_high,
    )  # fmt: skip


def _within(search: Bracket) -> Bracket:
    """Return the search with the next step within the bracket: not twice in a row close to an end."""
    low = Point(search.low, search.low_loss, search.low_slope)
    high = Point(search.high, search.high_loss, search.high_slope)
    least, most = torch.minimum(low.step, high.step), torch.maximum(low.step, high.step)
    step = _cubic(low, high, least, most)
    margin = MARGIN * (most - least)
    is_near = torch.minimum(most - step, step - least) < margin
    moves = is_near & (search.is_near | (step >= most) | (step <= least))
    inside = torch.where((step - most).abs() < (step - least).abs(), most - margin, least + margin)
    return search._replace(step=torch.where(moves, inside, step), is_near=is_near & ~moves)


def _cubic(one: Point, other: Point, least: Tensor, most: Tensor) -> Tensor:
    """Return where the cubic through two points is least, within bounds; where it has no minimum, the middle."""
    left, right = where(one.step <= other.step, one, other), where(one.step <= other.step, other, one)
    first = left.slope + right.slope - 3 * (left.loss - right.loss) / (left.step - right.step)
    square = first.square() - left.slope * right.slope
    second = square.clamp(min=0).sqrt()
    share = (right.slope + second - first) / (right.slope - left.slope + 2 * second)
    lowest = right.step - (right.step - left.step) * share
    bounded = torch.minimum(torch.maximum(lowest, least), most)
    return torch.where((square >= 0) & lowest.isfinite(), bounded, (least + most) / 2)
