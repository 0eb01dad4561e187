"""Samples as they are read, before they are split: features with targets, checked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.messages.errors import UserError
from runner.messages.ranges import shown
from runner.process.memory import available_bytes

# Numbers are read, standardised in double precision, and kept in the precision of the run.
BYTES_A_NUMBER = 20


@dataclass(frozen=True)
class Samples:
    """Features `(n, *sample_shape)` of any number type, and targets `(n,)`: numbers, flags or texts.

    Attributes:
        target: what the targets are called in messages.
    """

    features: Tensor
    targets: NDArray[Any]
    target: str


def check_fits(dataset: str, needed: int) -> None:
    """Check that memory for a data set is available.

    Raises:
        UserError: it is not.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise UserError(
            f"objective.dataset={dataset}: needs about {_size(needed)} of memory, "
            f"expected at most the {_size(available)} that are available"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def as_features(values: Any, name: str) -> Tensor:
    """Return an array of numbers as features `(n, *sample_shape)`.

    Raises:
        UserError: it holds no numbers, numbers that are not finite, or no samples.
    """
    tensor = _tensor_of(values, name)
    if tensor.dim() == 0 or tensor.numel() == 0:
        raise UserError(f"{name} has the shape {tuple(tensor.shape)}, expected (samples, ...)")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        wrong = tensor.numel() - int(tensor.isfinite().sum())
        raise UserError(f"{name} has {wrong:,} values that are missing or not finite, expected finite numbers")
    return tensor[:, None] if tensor.dim() == 1 else tensor


def _tensor_of(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
    else:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            raise UserError(f"{name} holds {_kind(array)}, expected numbers; objective.features names what to use")
        kind = {"u2": "i4", "u4": "i8", "u8": "i8", "f16": "f8"}.get(f"{array.dtype.kind}{array.dtype.itemsize}")
        tensor = torch.from_numpy(np.array(array, dtype=kind or array.dtype.newbyteorder("=")))
    if tensor.is_complex():
        raise UserError(f"{name} holds complex numbers, expected real ones")
    return tensor


def _kind(array: NDArray[Any]) -> str:
    return (
        f"text, such as {shown(str(array.flat[0]), 40)}"
        if array.dtype.kind in "UOS" and array.size
        else str(array.dtype)
    )


def as_targets(values: Any, name: str) -> NDArray[Any]:
    """Return an array of numbers, flags or texts as targets `(n,)`.

    Raises:
        UserError: it has another shape, or numbers that are not finite.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError(f"{name} has the shape {tuple(array.shape)}, expected one target for each sample, (samples,)")
    if array.dtype.kind not in "biufUO":
        raise UserError(f"{name} holds {_kind(array)}, expected numbers or text")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        wrong = int((~np.isfinite(array)).sum())
        raise UserError(f"{name} has {wrong:,} values that are missing or not finite, expected finite numbers")
    return array.astype(str) if array.dtype.kind == "O" else array
