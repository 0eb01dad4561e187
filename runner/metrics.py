"""What is recorded of a step: loss, weight and gradient under their names in MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.descent import Block
from runner.norms import exact_norm
from runner.tracking.journal import Metrics

# Past this many dimensions a weight is recorded by its norm only.
MOST_COMPONENTS = 16


def component_keys(name: str, dimension: int) -> list[str]:
    """Return the metric keys of a vector: `weight`, or `weight/0`..., or `weight_norm` for a long one."""
    if dimension == 1:
        return [name]
    if dimension <= MOST_COMPONENTS:
        return [f"{name}/{index}" for index in range(dimension)]
    return [f"{name}_norm"]


def components(vectors: Tensor) -> Tensor:
    """Return what `component_keys` names: `(..., dim)` to `(..., keys)`, in float64."""
    exact = vectors.to(torch.float64)
    return exact if vectors.shape[-1] <= MOST_COMPONENTS else exact_norm(vectors)


def start_metrics(runs: list[str], weight: Tensor, time_ms: int) -> Metrics:
    """Return step 0: the weights `(runs, dim)` before the first update."""
    values = components(weight)
    return Metrics(runs, component_keys("weight", weight.shape[-1]), [0], time_ms, _as_bytes(values.T[None]))


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
    """Return some steps of some runs of a block."""
    rows = torch.tensor(steps, device=block.loss.device) - block.first
    taken = (values[rows] for values in (block.loss, block.gradient, block.weight, block.lr))
    if len(runs) == block.loss.shape[1]:
        return Points(steps, *taken)
    columns = torch.tensor(runs, device=block.loss.device)
    return Points(steps, *(values[:, columns] for values in taken))


def point_metrics(
    runs: list[str], points: Points, measured: Mapping[str, Tensor], time_ms: int, since_ms: int | None = None
) -> Metrics:
    """Return the metrics of recorded steps, and what else was `measured` there, `(steps, runs)` by key.

    Args:
        runs: our ids of them.
        points: the steps.
        measured: beside loss, weight and gradient.
        time_ms: now.
        since_ms: when the first of the steps began.
    """
    dimension = points.weight.shape[-1]
    keys = ["loss", *component_keys("weight", dimension)]
    values = [points.loss[..., None].to(torch.float64), components(points.weight)]
    if dimension <= MOST_COMPONENTS:
        keys += component_keys("gradient", dimension)
        values.append(components(points.gradient))
    keys += ["gradient_norm", *measured]
    values += [exact_norm(points.gradient), *(one.to(points.loss.device)[..., None] for one in measured.values())]
    return Metrics(runs, keys, points.steps, time_ms, _as_bytes(torch.cat(values, dim=-1).transpose(1, 2)), since_ms)


def _as_bytes(values: Tensor) -> bytes:
    return values.contiguous().cpu().numpy().astype("<f8").tobytes()
