"""Weights of parameters in a safetensors file, from which a run starts."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from runner.config.initial import RUNS, is_saved, path_of
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown
from runner.tensors.shapes import Shape, Shapes


def saved_start(source: str, shapes: Shapes, objective: str) -> Tensor:
    """Return the weight `(dim,)` of parameters in a file, in float64.

    Args:
        source: the file, or `runs:ID`, whose file has been fetched.
        shapes: of the objective's parameters.
        objective: its name.

    Raises:
        UserError: there is no such file, or it holds other parameters.
    """
    path, given = path_of(source), f"initial_weight={shown(source)}"
    if not path.is_file():
        where = "its weights are not in this working directory" if source.startswith(RUNS) else "no such file"
        raise UserError(f"{given}: {where}, expected weights saved by save_weights=true")
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{given}: cannot be read as safetensors ({error})") from None
    _check_parameters(found, shapes, f"{given}: ", objective)
    return shapes.joined([found[name].to(torch.float64) for name in shapes.names])


def _check_parameters(found: dict[str, Tensor], shapes: Shapes, given: str, objective: str) -> None:
    for name, shape in shapes.named:
        if name not in found:
            raise UserError(f"{given}no parameter {name}, which objective {objective} has{nearest(name, found)}")
        if tuple(found[name].shape) != shape:
            other = _written(tuple(found[name].shape))
            raise UserError(
                f"{given}{name} has the shape {other}, expected {_written(shape)} as objective {objective} has"
            )
        if not found[name].is_floating_point():
            raise UserError(f"{given}{name} holds {found[name].dtype}, expected floating-point numbers")
    others = [name for name in found if name not in shapes.names]
    if others:
        raise UserError(f"{given}has a parameter {others[0]}, which objective {objective} does not have")


def _written(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def start_digest(initial_weight: object) -> str | None:
    """Return the SHA-256 of the file that a run starts from; None where it starts from none, or there is no file."""
    if not is_saved(initial_weight):
        return None
    path: Path = path_of(str(initial_weight))
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
