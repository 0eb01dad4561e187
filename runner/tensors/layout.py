"""How many rows of a batch are evaluated at once, so that no bit of a run depends on the other runs.

A kernel computes most numbers with vector instructions and the last few of a thread's share one by one; for some
functions the two differ in the last bit. Which numbers are the last depends on how many there are, and on the threads.
So the kernels that a function calls are recorded while it runs. If all of them round every number in the same way, all
rows are evaluated at once; if not, in pieces of a fixed size, the one that a single run has too.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from runner.tensors.rows import GRAIN, padded
from runner.tensors.tracing import is_recorded_at_once

RowFunction = Callable[..., Tensor]


def _names(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


# Kernels that round a number in the same way at any place, as do those of their derivatives.
ALIKE = _names(
    "add sub rsub mul div neg abs sgn sign reciprocal square minimum maximum clamp clamp_min clamp_max where fill",
    "exp expm1 log log1p sin cos tan tanh sqrt rsqrt",
    "sum mean prod linalg_vector_norm amax amin max min any all",
    "eq ne lt le gt ge isnan isinf isfinite logical_not logical_and logical_or bitwise_and",
    "view _unsafe_view reshape expand slice select unsqueeze squeeze t transpose permute alias detach clone copy",
    "_to_copy cat stack unbind split split_with_sizes unfold diagonal lift lift_fresh index gather index_select",
    "ones zeros full arange scalar_tensor empty ones_like zeros_like full_like empty_like new_zeros new_ones new_full",
)
# Kernels that do so on the CPU if the library multiplies many small matrices as it does one, which is tried out.
OF_MODELS = ALIKE | _names("bmm logsumexp argmax relu constant_pad_nd")
ALIKE_POWERS = (0, 1, 2, 3)
# Kernels that do so if no number is among the last of a thread's share: with rows by the 64, below GRAIN numbers.
ELEMENTWISE = ALIKE | _names(
    "pow sigmoid softplus log_sigmoid logaddexp logsumexp exp2 log2 log10 atan atan2 asin acos sinh cosh erf gelu silu",
    "relu leaky_relu hypot lerp addcmul addcdiv floor ceil round",
)


# Kernels whose order of summation depends on the strides: whether the rows lie side by side.
SUMS = _names("sum mean prod linalg_vector_norm")
ACROSS = "sum across rows that lie side by side"
# How many bytes the numbers of the rows that are evaluated at once have: more do not fit the cache of a CPU.
PIECE_BYTES = 16 * 2**20
# How many rows show the strides, if a single run is one row.
STRIDE_ROWS = 3


class _KernelRecorder(TorchDispatchMode):
    """Records which kernels run on some rows, and how many numbers the largest result has."""

    def __init__(self, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows = rows
        self.kernels: set[str] = set()
        self.widest = 0
        self.numbers = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler to disable it, which takes half as long as importing torch

    def __torch_dispatch__(self, kernel: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = kernel(*args, **(kwargs or {}))
        name = kernel._schema.name.removeprefix("aten::").rstrip("_")
        if name == "pow" and isinstance(args[1], int | float) and args[1] in ALIKE_POWERS:
            name = "square"
        if name in SUMS and _has_rows_within(args, found, self._rows):
            name = ACROSS
        self.kernels.add(name)
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, Tensor):
                self.widest = max(self.widest, one.numel())
                self.numbers += one.numel()
        return found


def _has_rows_within(args: Any, found: Any, rows: int) -> bool:
    """Return whether a dimension that is kept, possibly the rows', has a smaller stride than one that is summed."""
    summed, named = args[0], next((list(one) for one in args[1:] if isinstance(one, list | tuple)), [])
    sizes, strides = summed.shape, summed.stride()
    if not named:  # prod takes one dimension; the others sum over all
        named = (
            [args[1]] if found.numel() > 1 and len(args) > 1 and isinstance(args[1], int) else list(range(summed.dim()))
        )
    reduced = {dim % summed.dim() for dim in named} if summed.dim() else set()
    if not reduced:
        return False
    furthest = max(strides[dim] for dim in reduced)
    return any(
        size == rows and stride < furthest
        for dim, (size, stride) in enumerate(zip(sizes, strides, strict=True))
        if dim not in reduced
    )


def piece_of(kernels: set[str], width: int, unit: int) -> int | None:
    """Return how many rows to evaluate at once, None for any number.

    Args:
        kernels: those that run.
        width: how many numbers the largest result has for a row.
        unit: how many rows a single run has: 1, or the number that rows are padded to a multiple of.
    """
    if kernels <= ALIKE and (unit > 1 or width < GRAIN):
        return None
    if unit > 1 and kernels <= ELEMENTWISE:
        return max(unit, GRAIN // width // unit * unit)
    return unit


class InPieces:
    """A function of rows, `(rows, dim)` and more to `(rows,)`, evaluated so that no row's bits depend on the others."""

    def __init__(self, function: RowFunction, unit: int) -> None:
        self._function = function
        self._unit = unit
        self._pieces: dict[int | None, int | None] = {}

    def __call__(self, weight: Tensor, samples: Tensor | None, **parameters: Tensor) -> Tensor:
        """Return the values `(rows,)` of weights `(rows, dim)`, samples `(rows, n)` and parameters `(rows,)`."""
        if len(weight) == self._unit or is_recorded_at_once():
            return self._function(weight, samples, **parameters)
        size = None if samples is None else samples.shape[-1]
        if size not in self._pieces:
            self._pieces[size] = self._piece((weight, samples, parameters))
        piece = self._pieces[size]
        if piece is None or len(weight) <= piece:
            return self._function(weight, samples, **parameters)
        pieces = _cut(weight, samples, parameters, piece)
        return torch.cat([self._function(rows, seen, **own) for rows, seen, own in pieces])

    def _piece(self, whole: "Rows") -> int | None:
        """Return how many of such rows to evaluate at once, None for any number."""
        weight, samples, parameters = _cut(*whole, max(self._unit, STRIDE_ROWS))[0]
        with _KernelRecorder(len(weight)) as recorder:
            self._function(weight, samples, **parameters)
        piece = piece_of(recorder.kernels, max(1, recorder.widest // len(weight)), self._unit)
        if piece != 1 or not recorder.kernels <= OF_MODELS:
            return piece
        bytes_a_row = weight.element_size() * max(1, recorder.numbers // len(weight))
        most = max(1, PIECE_BYTES // bytes_a_row)
        return most if self._are_alike(*_cut(*whole, most)[0]) else 1

    def _are_alike(self, weight: Tensor, samples: Tensor | None, parameters: Mapping[str, Tensor]) -> bool:
        """Return whether some rows, each evaluated by itself, have the values and gradients that they have together."""

        def bits(rows: Tensor, seen: Tensor | None, own: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            point = rows.detach().requires_grad_()
            with torch.enable_grad():
                value = self._function(point, seen, **own)
            return value.detach(), torch.autograd.grad(value.sum(), point)[0]

        together = bits(weight, samples, parameters)
        for row in {0, len(weight) // 2, len(weight) - 1}:
            one = slice(row, row + 1)
            own = {name: values[one] for name, values in parameters.items()}
            alone = bits(weight[one], None if samples is None else samples[one], own)
            if not all(torch.equal(part[one], single) for part, single in zip(together, alone, strict=True)):
                return False
        return True


Rows = tuple[Tensor, Tensor | None, dict[str, Tensor]]


def _cut(weight: Tensor, samples: Tensor | None, parameters: Mapping[str, Tensor], piece: int) -> list[Rows]:
    seen: Sequence[Tensor | None] | Any = itertools.repeat(None) if samples is None else samples.split(piece)
    own = {name: values.split(piece) for name, values in parameters.items()}
    return [
        (rows, some, {name: values[index] for name, values in own.items()})
        for index, (rows, some) in enumerate(zip(weight.split(piece), seen, strict=False))
    ]


def measured_in_pieces(measure: Callable[[Tensor], dict[str, Tensor]], rows: Tensor, unit: int) -> dict[str, Tensor]:
    """Return metrics `(rows,)` of rows `(rows, dim)`, by key, computed `unit` rows at once."""
    parts = [measure(piece) for piece in padded(rows, unit).split(unit)]
    return {key: torch.cat([part[key] for part in parts])[: len(rows)] for key in parts[0]}
