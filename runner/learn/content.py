"""What the page holds: runs, regions and the objective around them, packed as arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runner.config.direction import Direction
from runner.config.groups import DECLARED
from runner.config.schema import Config
from runner.engine.batches import DTYPES, PADDED_DIMENSION, Member, member_of
from runner.engine.curvature import largest_eigenvalue
from runner.formulas.parser import parse
from runner.learn.descents import Paths, Watch, check_start, descend_all, kept_steps
from runner.learn.field import ZOOM, Array, Level, Plane, evaluated, levels_of, plane_of
from runner.learn.grid import Grid, grid_of
from runner.learn.rates import rates_for
from runner.learn.regions import Border, Losses, Region, border_of, bounds_of, region_of
from runner.messages.errors import UserError
from runner.messages.ranges import shown
from runner.messages.redaction import shown_tree
from runner.tensors.device import choose_device

MOST_BYTES = 1_050_000
FEWEST_STEPS, MOST_STEPS = 40, 400


@dataclass(frozen=True, eq=False)
class Content:
    """The runs of the page and what is known of them.

    Attributes:
        member: the run of the config itself.
        steps: the kept steps.
        losses: of the start, and the lowest.
        ends: the loss after the last update of each run.
        regions: what each run did.
        borders: where the runs begin to diverge, for each momentum.
        curvature: the largest eigenvalue of the Hessian at the start, and where the best run ends.
        bounds: the largest stable learning rate on a quadratic of the latter curvature, for each momentum.
    """

    member: Member
    grid: Grid
    steps: list[int]
    paths: Paths
    losses: Losses
    ends: list[float]
    regions: list[Region]
    borders: list[Border | None]
    curvature: tuple[float, float]
    bounds: list[float | None]
    plane: Plane | None
    levels: list[Level]


def content_of(overrides: Sequence[str], config: Config, watch: Watch = lambda *_done: None) -> Content:
    """Run what the page shows, and measure it.

    Args:
        overrides: what the config was composed of.
        config: of the run that the page starts with.
        watch: called now and then with how many steps are done, and how many there are.

    Raises:
        UserError: with a line for each mistake in the config, or the objective has too many numbers.
    """
    member = check_start(config)
    if member.objective.dimension > PADDED_DIMENSION:
        raise UserError(
            f"objective={config.objective.name}: has {member.objective.dimension:,} numbers, expected at most "
            f"{PADDED_DIMENSION}: the runs of a batch of larger ones need not equal single runs to the bit"
        )
    first = float(evaluated(member, member.start[None])[0])
    rates = rates_for(member, Losses(first, first, False, config.direction))
    grid = grid_of(overrides, config, rates)
    steps = kept_steps(config.steps, _most_steps(len(grid.configs), member))
    paths = descend_all([member_of(one) for one in grid.configs], steps, watch)
    ends = evaluated(member, torch.stack([result.weight for result in paths.results])).tolist()
    losses = _losses(member, first, ends)
    regions = [
        region_of(result.outcome, end, turns, losses)
        for result, end, turns in zip(paths.results, ends, paths.turns, strict=True)
    ]
    rows = [slice(row * len(rates), (row + 1) * len(rates)) for row in range(len(grid.momenta.values))]
    borders = [border_of(rates, ends[row], regions[row], losses) for row in rows]
    best = _best(ends, losses)
    curvature = _curvature(member, member.start), _curvature(member, paths.results[best].weight)
    plane = plane_of(member, paths, best)
    return Content(
        member, grid, steps, paths, losses, ends, regions, borders, curvature,
        bounds_of(config, curvature[1], grid.momenta.values), plane, _levels(member, paths, best, plane),
    )  # fmt: skip


def _most_steps(runs: int, member: Member) -> int:
    """Return how many steps of each run fit the page, even where their numbers cannot be compressed."""
    numbers = 2 * min(2, member.objective.dimension) + 1 + (not member.config.schedule.is_constant)
    bytes_a_step = runs * numbers * DTYPES[member.config.dtype].itemsize
    return max(FEWEST_STEPS, min(MOST_STEPS, MOST_BYTES // bytes_a_step))


def _losses(member: Member, first: float, ends: Sequence[float]) -> Losses:
    known, direction = member.objective.known.minimum, member.config.direction
    finite = [first, *(end for end in ends if math.isfinite(end))]
    lowest = min(finite) if direction is Direction.DOWN else max(finite)
    is_known = known is not None and direction is Direction.DOWN
    return Losses(first, known if known is not None and is_known else lowest, is_known, direction)


def _best(ends: Sequence[float], losses: Losses) -> int:
    return min(range(len(ends)), key=lambda run: losses.above(ends[run]) if math.isfinite(ends[run]) else math.inf)


def _curvature(member: Member, point: torch.Tensor) -> float:
    def loss(points: torch.Tensor) -> torch.Tensor:
        return member.objective.function(points, None, **member.objective.parameters_for(points))

    try:
        return largest_eigenvalue(loss, point.to(choose_device(member.config.device))).value
    except Exception:  # a user's function need not have a second derivative
        return math.nan


def _levels(member: Member, paths: Paths, best: int, plane: Plane | None) -> list[Level]:
    places = torch.stack([paths.results[best].weight.cpu(), member.start])
    seen = (places if plane is None else plane.project(places)).to(torch.float64).tolist()
    if not all(map(math.isfinite, seen[0])):
        seen[0] = seen[1]
    return levels_of(member, plane, seen + ([] if plane else [list(point) for point in _minima(member)]))


def _minima(member: Member) -> list[tuple[float, ...]]:
    return list(member.objective.known.minimum_at) if member.config.direction is Direction.DOWN else []


def data_of(content: Content) -> dict[str, Any]:
    """Return what the page's script gets; its attributes are described in `page/data.js`."""
    config, grid = content.member.config, content.grid
    paths, plane = content.paths, content.plane
    weight = paths.weight if plane is None else plane.project(paths.weight)
    gradient = paths.gradient if plane is None else plane.turn(paths.gradient)
    kind = "f8" if config.dtype == "float64" else "f4"
    varies = not config.schedule.is_constant
    parts = [weight, paths.loss[..., None], gradient, *([paths.lr[..., None]] if varies else [])]
    with np.errstate(over="ignore"):  # coordinates in the plane may be beyond float32, as the weights nearly are
        values = np.concatenate([part.to(torch.float64).numpy() for part in parts], axis=-1).astype(kind)
    return {
        "objective": _described(shown_tree(config.objective.tree)),
        "rule": _described(shown_tree(config.optimizer.tree)),
        "names": _names(content.member, plane),
        "dimension": content.member.objective.dimension,
        "in_plane": plane is not None,
        "maximizes": config.direction is Direction.UP,
        "is_noisy": config.gradient_noise > 0 or content.member.objective.batches is not None,
        "kind": kind,
        "total": config.steps,
        "steps": np.array(content.steps, dtype=np.uint32),
        "rates": [float(rate) for rate in grid.rates],
        "rate_texts": [shown(rate) for rate in grid.rates],
        "own_rate": grid.rates.index(config.lr),
        "momentum_key": grid.momenta.key,
        "momenta": list(grid.momenta.values),
        "own_momentum": grid.momenta.own,
        "commands": list(grid.commands),
        "updates": _updates(config, grid),
        "can_cut": config.schedule.is_constant,
        "varies": varies,
        "width": values.shape[-1],
        "values": packed_series(values),
        "ends": np.array(paths.ends, dtype=np.uint16),
        "lasts": np.array([result.steps for result in paths.results], dtype=np.uint32),
        "outcomes": [result.outcome.name for result in paths.results],
        "regions": np.array(content.regions, dtype=np.uint8),
        "borders": [border and [border.below, border.above] for border in content.borders],
        "bounds": content.bounds,
        "curvature": list(content.curvature),
        "start": content.losses.start,
        "lowest": content.losses.lowest,
        "is_known": content.losses.is_known,
        "minima": [] if plane else [list(point) for point in _minima(content.member)],
        "zoom": ZOOM,
        "levels": [{"box": level.box, "values": _packed_level(level)} for level in content.levels],
    }


def _updates(config: Config, grid: Grid) -> list[str]:
    """Return by which formula each momentum's update is shown: that of plain descent, of heavy ball, or none."""
    settings = config.optimizer.settings
    is_plain = config.optimizer.name == "gd" or (
        config.optimizer.name == "momentum"
        and not any(settings[key] for key in ("dampening", "weight_decay", "maximize"))
    )
    if not is_plain or config.clip_norm is not None or config.clip_value is not None:
        return ["other"] * len(grid.momenta.values)
    return ["ball" if momentum else "plain" for momentum in grid.momenta.values]


def packed_series(values: Array) -> Array:
    """Return series `(runs, kept, width)` as bytes that compress well: of each number, what differs from the last.

    The bytes of each series are combined with those of the entry before by exclusive or, and sorted by their place in
    the number: bytes that rarely change lie together.
    """
    series = np.ascontiguousarray(values.transpose(2, 0, 1))
    size = series.dtype.itemsize
    bits = series.view(f"u{size}")
    changed = bits.copy()
    changed[..., 1:] ^= bits[..., :-1]
    return np.ascontiguousarray(changed.reshape(-1).view(np.uint8).reshape(-1, size).T).reshape(-1)


def _packed_level(level: Level) -> Array:
    if level.values.dtype != np.uint16:
        return level.values.astype("f4")
    rows = level.values.copy()
    rows[:, 1:] -= level.values[:, :-1]  # what differs from the left neighbour, modulo 2**16
    return rows.reshape(-1)


def _described(settings: dict[str, Any]) -> str:
    """Return a group's name and its parameters in one line, without flags and what is empty or 0."""
    chosen = {key: value for key, value in settings.items() if key not in DECLARED and value and value is not True}
    return ", ".join([str(settings["name"]), *(f"{key} {shown(value)}" for key, value in chosen.items())])


def _names(member: Member, plane: Plane | None) -> list[str]:
    """Return the names of the coordinates that the page shows."""
    if plane is not None:
        return ["a", "b"]
    variables = member.config.objective.parameters.get("variables")
    if member.config.objective.name == "expression":
        settings = member.config.objective.parameters
        found = parse(
            settings["formula"], path="objective.formula", variables=variables, constants=settings["constants"]
        )
        if not found.is_vector:
            return list(found.variables)
    return ["w"] if member.objective.dimension == 1 else [f"w{index}" for index in range(member.objective.dimension)]
