"""Which learning rates the page tries: a wide range around the rate at which the runs begin to diverge."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from runner.engine.batches import Member, member_of
from runner.learn.descents import final_results
from runner.learn.field import evaluated
from runner.learn.regions import Border, Losses, Region, border_of, region_of

RATES = 60
# Of these, so many lie close to the border, and so many above, where that of a momentum lies, at even distances.
CLOSE, CLOSENESS = 15, 0.14
FAR = 12
BELOW, ABOVE = 1e-3, 2.5
FURTHEST = 1e3
# Where the border is looked for, with a batch of so many rates, twice; runs that cannot share a batch try fewer.
TRIED = (1e-9, 1e6)
TRIALS, TRIALS_ALONE = 64, 16
TRIAL_STEPS = 1000
DIGITS = 3


def rates_for(member: Member, losses: Losses) -> tuple[float, ...]:
    """Return the learning rates to run, in rising order; that of the config is among them exactly."""
    own, border = member.config.lr, find_border(member, losses)
    if border is None:
        return _rising(_spread(own / FURTHEST, own * FURTHEST, RATES - 1), own)
    middle = border.middle
    low, high = middle * BELOW, middle * ABOVE
    low = min(low, own / 2) if low / FURTHEST < own else low
    close = _even(middle * (1 - CLOSENESS), middle * (1 + CLOSENESS), CLOSE)
    far = _even(close[-1], high, FAR + 1)[1:]
    beyond = _spread(high, own * 2, FAR) if high < own < high * FURTHEST else []
    wide = _spread(low, close[0], RATES - 1 - CLOSE - FAR - len(beyond) + 1)[:-1]
    return _rising([*wide, *close, *far, *beyond], own)


def find_border(member: Member, losses: Losses) -> Border | None:
    """Return where runs of this config begin to diverge as the learning rate rises; None where they do not."""
    count = TRIALS if member.why_alone is None else TRIALS_ALONE
    wide = _border_among(member, _spread(*TRIED, count), losses)
    return wide and (_border_among(member, _spread(wide.below, wide.above, count), losses) or wide)


def _border_among(member: Member, rates: Sequence[float], losses: Losses) -> Border | None:
    config = member.config
    steps = min(config.steps, TRIAL_STEPS)
    results = final_results([member_of(replace(config, lr=rate, steps=steps)) for rate in rates])
    ends = evaluated(member, torch.stack([result.weight for result in results])).tolist()
    regions = [region_of(result.outcome, end, 0, losses) for result, end in zip(results, ends, strict=True)]
    return border_of(rates, ends, regions, losses) if Region.DIVERGING in regions else None


def _even(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * place / (count - 1) for place in range(count)]


def _spread(low: float, high: float, count: int) -> list[float]:
    ratio = (high / low) ** (1 / (count - 1))
    return [low * ratio**place for place in range(count)]


def _rising(rates: Sequence[float], own: float) -> tuple[float, ...]:
    """Return the rates with few digits, so that they can be typed, and the config's own with all of its."""
    return tuple(sorted({float(f"{rate:.{DIGITS}g}") for rate in rates} | {own}))
