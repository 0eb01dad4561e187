"""The metrics of steps and of results, under their names in MLflow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.engine.descent import Block
from runner.engine.result import Result
from runner.tensors.norms import exact_norm
from runner.tensors.shapes import Shapes
from runner.tracking.journal import Metrics

# With more dimensions only the norm of a weight is recorded.
MOST_COMPONENTS = 16


def component_keys(name: str, dimension: int) -> list[str]:
    """Return the metric keys of a vector: `weight`, or `weight/0`..., or `weight_norm` for a long one."""
    if dimension == 1:
        return [name]
    if dimension <= MOST_COMPONENTS:
        return [f"{name}/{index}" for index in range(dimension)]
    return [f"{name}_norm"]


def components(vectors: Tensor) -> Tensor:
    """Return the values for `component_keys`: `(..., dim)` to `(..., keys)`, in float64."""
    exact = vectors.to(torch.float64)
    return exact if vectors.shape[-1] <= MOST_COMPONENTS else exact_norm(vectors)


def norms_by_name(name: str, vectors: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Return the norms `(..., 1)` of each parameter of vectors `(..., dim)`, by metric key.

    Nothing where all components are recorded, or where there is one parameter only.
    """
    if vectors.shape[-1] <= MOST_COMPONENTS or len(shapes.named) == 1:
        return {}
    parts = zip(shapes.names, vectors.split(shapes.sizes, dim=-1), strict=True)
    return {f"{name}_norms/{part}": exact_norm(values) for part, values in parts}


def start_metrics(runs: list[str], weight: Tensor, shapes: Shapes, time_ms: int) -> Metrics:
    """Return step 0: the weights `(runs, dim)` before the first update."""
    by_name = norms_by_name("weight", weight, shapes)
    values = torch.cat([components(weight), *by_name.values()], dim=-1)
    keys = [*component_keys("weight", weight.shape[-1]), *by_name]
    return Metrics(runs, keys, [0], time_ms, _as_bytes(values.T[None]))


@dataclass(frozen=True)
class Points:
    """The recorded steps of a block.

    Attributes:
        steps: their numbers.
        loss: `(steps, runs)`; `lr` likewise.
        gradient: `(steps, runs, dim)`; `weight` likewise.
    """

    steps: list[int]
    loss: Tensor
    gradient: Tensor
    weight: Tensor
    lr: Tensor


def points_of(block: Block, steps: list[int], runs: list[int]) -> Points:
    """Return the given steps of the given runs of a block."""
    rows = torch.tensor(steps, device=block.loss.device) - block.first
    taken = (values[rows] for values in (block.loss, block.gradient, block.weight, block.lr))
    if len(runs) == block.loss.shape[1]:
        return Points(steps, *taken)
    columns = torch.tensor(runs, device=block.loss.device)
    return Points(steps, *(values[:, columns] for values in taken))


def point_metrics(
    runs: list[str],
    points: Points,
    shapes: Shapes,
    measured: Mapping[str, Tensor],
    time_ms: int,
    since_ms: int | None = None,
) -> Metrics:
    """Return the metrics of recorded steps.

    Args:
        runs: the runner's ids of the runs.
        points: the steps.
        shapes: of the parameters.
        measured: further metrics, `(steps, runs)` by key.
        time_ms: the current time.
        since_ms: when the first of the steps began.
    """
    dimension = points.weight.shape[-1]
    keys = ["loss", *component_keys("weight", dimension)]
    values = [points.loss[..., None].to(torch.float64), components(points.weight)]
    if dimension <= MOST_COMPONENTS:
        keys += component_keys("gradient", dimension)
        values.append(components(points.gradient))
    by_name = norms_by_name("weight", points.weight, shapes) | norms_by_name("gradient", points.gradient, shapes)
    keys += ["gradient_norm", *by_name, *measured]
    values += [exact_norm(points.gradient), *by_name.values()]
    values += [*(one.to(points.loss.device)[..., None] for one in measured.values())]
    return Metrics(runs, keys, points.steps, time_ms, _as_bytes(torch.cat(values, dim=-1).transpose(1, 2)), since_ms)


def final_metrics(result: Result) -> dict[str, float]:
    """Return the final results of a run."""
    return dict(_final_metrics(result))


def _final_metrics(result: Result) -> Iterator[tuple[str, float]]:
    yield from _vector("final/weight", result.weight)
    if result.steps > 0:
        yield "final/loss", result.loss
        yield "final/gradient_norm", float(exact_norm(result.gradient))
        if result.loss_error is not None:
            yield "final/loss_error", result.loss_error
    if result.distance is not None:
        yield "final/distance", result.distance
    yield from ((f"final/{key}", value) for key, value in result.measured.items())
    if result.best is not None:
        yield "best/loss", result.best.loss
        yield "best/step", float(result.best.step)
        if len(result.best.weight) <= MOST_COMPONENTS:
            yield from _vector("best/weight", result.best.weight)
    yield from ((f"best/{key}", value) for key, value in result.best_measured.items())
    yield "steps_done", float(result.steps)
    yield "gradient_evaluations", float(result.gradient_evaluations)
    yield "seconds", result.seconds
    if result.seconds > 0:
        yield "steps_per_second", result.steps / result.seconds


def _vector(name: str, vector: Tensor) -> Iterator[tuple[str, float]]:
    return zip(component_keys(name, len(vector)), components(vector).tolist(), strict=True)


def _as_bytes(values: Tensor) -> bytes:
    return values.contiguous().cpu().numpy().astype("<f8").tobytes()
