"""The line search of More and Thuente, of all rows of a batch at once.

More and Thuente, "Line search algorithms with guaranteed sufficient decrease", 1994; the steps and constants of
MINPACK's `dcsrch`, which SciPy's `minimize` uses.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from runner.optimizers.function import Line, Point, repeated, where

SHORTEST, LEAST, MOST = 1e-14, 1e-100, 1e100
LEAST_GROWTH, MOST_GROWTH = 1.1, 4.0
SHRINKAGE = 0.66


class Found(NamedTuple):
    """The step that a search found, 0 where it found none, and the number of its evaluations, `(rows, 1)`."""

    step: Tensor
    evaluations: Tensor


class Interval(NamedTuple):
    """A search in progress; all `(rows, 1)`.

    Attributes:
        step: the next to try.
        x: step, loss and slope of the end with the least loss, each of the next three; `y`: of the other end.
        is_bracketed: whether a minimum lies between the ends.
        is_late: whether the search is in its second stage, where a step lowers the loss enough.
        low: the least and `high` the largest step to try.
        width: of the interval, and `width_before` of the one before.
        is_done: whether it has ended; `has_converged`: whether with a step that satisfies the conditions.
        evaluations: so far.
    """

    step: Tensor
    x: Tensor
    x_loss: Tensor
    x_slope: Tensor
    y: Tensor
    y_loss: Tensor
    y_slope: Tensor
    is_bracketed: Tensor
    is_late: Tensor
    low: Tensor
    high: Tensor
    width: Tensor
    width_before: Tensor
    is_done: Tensor
    has_converged: Tensor
    evaluations: Tensor


class Ends(NamedTuple):
    """The ends x and y of an interval, and whether it holds a minimum, as in `Interval`."""

    x: Tensor
    x_loss: Tensor
    x_slope: Tensor
    y: Tensor
    y_loss: Tensor
    y_slope: Tensor
    is_bracketed: Tensor


def more_thuente(line: Line, first: Tensor, c1: Tensor, c2: Tensor, most: int) -> Found:
    """Return a step that satisfies the strong Wolfe conditions, else the best one found, else 0.

    Args:
        line: to search along.
        first: the first step to try, `(rows, 1)` in float64.
        c1: of the condition on the loss.
        c2: of the condition on the slope.
        most: the largest number of evaluations.
    """
    start, nothing = line.start, torch.zeros_like(first)
    never, slope = torch.zeros_like(first, dtype=torch.bool), c1 * line.start.slope
    width, shortest = torch.full_like(first, MOST - LEAST), max(SHORTEST, torch.finfo(line.weight.dtype).eps)
    search = Interval(
        first, nothing, start.loss, start.slope, nothing, start.loss, start.slope, never, never, nothing,
        first + MOST_GROWTH * first, width, 2 * width, ~(start.slope < 0), never, nothing,
    )  # fmt: skip

    def tried(search: Interval) -> Interval:
        point = line.at(search.step)
        bound = start.loss + search.step * slope
        is_late = search.is_late | ((point.loss <= bound) & (point.slope >= 0))
        has_converged = (point.loss <= bound) & (point.slope.abs() <= c2 * -start.slope)
        is_stuck = search.is_bracketed & (
            (search.step <= search.low)
            | (search.step >= search.high)
            | (search.high - search.low <= shortest * search.high)
        )
        is_stuck = is_stuck | ((search.step == MOST) & (point.loss <= bound) & (point.slope <= slope))
        is_stuck = is_stuck | ((search.step == LEAST) & ((point.loss > bound) | (point.slope >= slope)))
        counted = search._replace(evaluations=search.evaluations + 1, is_late=is_late)
        ended = counted._replace(is_done=~never, has_converged=has_converged)
        is_finite = point.loss.isfinite() & point.slope.isfinite()
        shorter = search._replace(evaluations=counted.evaluations, step=(search.x + search.step) / 2)
        going = where(is_finite, _narrowed(counted, point, bound, slope, shortest), shorter)
        return where(is_finite & (has_converged | is_stuck), ended, going)

    search = repeated(tried, lambda it: ~it.is_done, search, most)
    best = torch.where(search.x_loss < start.loss, search.x, 0.0)
    return Found(torch.where(search.has_converged, search.step, best), search.evaluations)


def _narrowed(search: Interval, point: Point, bound: Tensor, slope: Tensor, shortest: float) -> Interval:
    """Return the search after a step that is not accepted."""
    # In the first stage, the loss is replaced by its distance to the line of sufficient decrease.
    tilts = ~search.is_late & (point.loss <= search.x_loss) & (point.loss > bound)
    tilt = torch.where(tilts, slope, 0.0)
    ends = Ends(
        search.x, search.x_loss - search.x * tilt, search.x_slope - tilt,
        search.y, search.y_loss - search.y * tilt, search.y_slope - tilt, search.is_bracketed,
    )  # fmt: skip
    tilted = Point(point.step, point.loss - point.step * tilt, point.slope - tilt)
    step, ends = _next(ends, tilted, search.low, search.high)
    ends = ends._replace(
        x_loss=ends.x_loss + ends.x * tilt, x_slope=ends.x_slope + tilt,
        y_loss=ends.y_loss + ends.y * tilt, y_slope=ends.y_slope + tilt,
    )  # fmt: skip
    width, is_bracketed = (ends.y - ends.x).abs(), ends.is_bracketed
    is_slow = is_bracketed & (width >= SHRINKAGE * search.width_before)
    step = torch.where(is_slow, ends.x + 0.5 * (ends.y - ends.x), step)
    low = torch.where(is_bracketed, torch.minimum(ends.x, ends.y), step + LEAST_GROWTH * (step - ends.x))
    high = torch.where(is_bracketed, torch.maximum(ends.x, ends.y), step + MOST_GROWTH * (step - ends.x))
    step = step.clamp(LEAST, MOST)
    is_small = is_bracketed & ((step <= low) | (step >= high) | (high - low <= shortest * high))
    return search._replace(
        **ends._asdict(),
        step=torch.where(is_small, ends.x, step),
        low=low,
        high=high,
        width=torch.where(is_bracketed, width, search.width),
        width_before=torch.where(is_bracketed, search.width, search.width_before),
        is_done=~step.isfinite(),
    )


def _cubic(at: Point, to: Point, sign: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of the way from `at` to `to` where the cubic through both is least, and its root's gamma."""
    theta = 3 * (to.loss - at.loss) / (at.step - to.step) + to.slope + at.slope
    scale = torch.maximum(torch.maximum(theta.abs(), at.slope.abs()), to.slope.abs())
    inner = ((theta / scale).square() - (at.slope / scale) * (to.slope / scale)).clamp(min=0)
    gamma = sign * scale * inner.sqrt()
    above, below = (gamma - at.slope) + theta, ((gamma - at.slope) + gamma) + to.slope
    return above / below, gamma


def _next(ends: Ends, point: Point, low: Tensor, high: Tensor) -> tuple[Tensor, Ends]:
    """Return the next step to try, and the ends of the interval with the point as one of them: MINPACK's `dcstep`."""
    x, y = Point(ends.x, ends.x_loss, ends.x_slope), Point(ends.y, ends.y_loss, ends.y_slope)
    t, forth = point.step, torch.where(point.step > x.step, 1.0, -1.0)
    is_higher = point.loss > x.loss
    turns = torch.sign(point.slope) * torch.sign(x.slope) < 0
    flattens = point.slope.abs() < x.slope.abs()

    share, _ = _cubic(x, point, torch.where(t < x.step, -1.0, 1.0))
    cubic = x.step + share * (t - x.step)
    parabola = x.step + x.slope / ((x.loss - point.loss) / (t - x.step) + x.slope) / 2 * (t - x.step)
    is_near = (cubic - x.step).abs() <= (parabola - x.step).abs()
    if_higher = torch.where(is_near, cubic, cubic + (parabola - cubic) / 2)

    share, gamma = _cubic(point, x, -forth)
    cubic, secant = t + share * (x.step - t), t + point.slope / (point.slope - x.slope) * (x.step - t)
    is_far = (cubic - t).abs() > (secant - t).abs()
    if_turned = torch.where(is_far, cubic, secant)

    edge = torch.where(t > x.step, high, low)
    cubic = torch.where((share < 0) & (gamma != 0), cubic, edge)
    is_far = (cubic - t).abs() > (secant - t).abs()
    within = torch.where((cubic - t).abs() < (secant - t).abs(), cubic, secant)
    limit = t + SHRINKAGE * (y.step - t)
    within = torch.where(t > x.step, torch.minimum(limit, within), torch.maximum(limit, within))
    beyond = torch.minimum(torch.maximum(torch.where(is_far, cubic, secant), low), high)
    if_flatter = torch.where(ends.is_bracketed, within, beyond)

    share, _ = _cubic(point, y, torch.where(t > y.step, -1.0, 1.0))
    if_steeper = torch.where(ends.is_bracketed, t + share * (y.step - t), edge)

    step = torch.where(flattens, if_flatter, if_steeper)
    step = torch.where(is_higher, if_higher, torch.where(turns, if_turned, step))
    far = where(is_higher, point, where(turns, x, y))
    best = where(is_higher, x, point)
    return step, Ends(*best, *far, ends.is_bracketed | is_higher | turns)
