"""In what pieces the rows of a batch are evaluated, so that no bit of a run depends on its neighbours.

A kernel computes most numbers by vectors and the last few of its stretch one by one; for some functions the two
differ in the last bit. Which numbers are the last depends on how many there are, and on how threads share them.
So what a function is made of is looked at while it runs: where all of that rounds alike everywhere, all rows are
evaluated at once; where not, in pieces of one fixed layout, which that of a run alone has too.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from runner.tensors.rows import GRAIN, padded

RowFunction = Callable[..., Tensor]


def _names(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


# What gives a number the same bits wherever it stands among others, and whose derivative does so too.
ALIKE = _names(
    "add sub rsub mul div neg abs sgn sign reciprocal square minimum maximum clamp clamp_min clamp_max where fill",
    "exp expm1 log log1p sin cos tan tanh sqrt rsqrt",
    "sum mean prod linalg_vector_norm amax amin max min any all",
    "eq ne lt le gt ge isnan isinf isfinite logical_not logical_and logical_or bitwise_and",
    "view _unsafe_view reshape expand slice select unsqueeze squeeze t transpose permute alias detach clone copy",
    "_to_copy cat stack unbind split split_with_sizes unfold diagonal lift lift_fresh index gather index_select",
    "ones zeros full arange scalar_tensor empty ones_like zeros_like full_like empty_like new_zeros new_ones new_full",
)
ALIKE_POWERS = (0, 1, 2, 3)
# What does so as long as no number is among the last of a thread's stretch: rows by the 64 see to that, below GRAIN.
ELEMENTWISE = ALIKE | _names(
    "pow sigmoid softplus log_sigmoid logaddexp logsumexp exp2 log2 log10 atan atan2 asin acos sinh cosh erf gelu silu",
    "relu leaky_relu hypot lerp addcmul addcdiv floor ceil round",
)


# Of these, the order in which a row's numbers are put together depends on whether rows lie nearer to each other.
SUMS = _names("sum mean prod linalg_vector_norm")
ACROSS = "sum across rows that lie side by side"
# How many rows show how they lie, where a run alone is one.
SHOWN = 3


class _Watched(TorchDispatchMode):
    """Notes what kernels run on some rows, and how many numbers the widest of them makes."""

    def __init__(self, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows = rows
        self.kernels: set[str] = set()
        self.widest = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch imports its compiler, which takes as long as half of torch, to keep out of its way

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
        return found


def _has_rows_within(args: Any, found: Any, rows: int) -> bool:
    """Return whether what is summed lies further apart than a dimension that is kept, which may be that of the rows."""
    summed, named = args[0], next((list(one) for one in args[1:] if isinstance(one, list | tuple)), [])
    sizes, strides = summed.shape, summed.stride()
    if not named:  # prod has one dimension; the others then sum over all
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
    """Return how many rows are to be evaluated at once, None for any number.

    Args:
        kernels: what runs.
        width: how many numbers the widest of them makes of a row.
        unit: how many rows a run alone is: 1, or the number that all are padded to a multiple of.
    """
    if kernels <= ALIKE and (unit > 1 or width < GRAIN):
        return None
    if unit > 1 and kernels <= ELEMENTWISE:
        return max(unit, GRAIN // width // unit * unit)
    return unit


class InPieces:
    """A function of rows, `(rows, dim)` and more to `(rows,)`, evaluated in pieces that keep each row's bits."""

    def __init__(self, function: RowFunction, unit: int) -> None:
        self._function = function
        self._unit = unit
        self._is_known = False
        self._piece: int | None = unit

    def __call__(self, weight: Tensor, samples: Tensor | None, **parameters: Tensor) -> Tensor:
        """Return the values `(rows,)` of weights `(rows, dim)`, samples `(rows, n)` and parameters `(rows,)`."""
        if len(weight) == self._unit:
            return self._function(weight, samples, **parameters)
        if not self._is_known:
            self._watch(*_cut(weight, samples, parameters, max(self._unit, SHOWN))[0])
        if self._piece is None or len(weight) <= self._piece:
            return self._function(weight, samples, **parameters)
        pieces = _cut(weight, samples, parameters, self._piece)
        return torch.cat([self._function(rows, seen, **own) for rows, seen, own in pieces])

    def _watch(self, weight: Tensor, samples: Tensor | None, parameters: Mapping[str, Tensor]) -> None:
        with _Watched(len(weight)) as watched:
            self._function(weight, samples, **parameters)
        self._piece = piece_of(watched.kernels, max(1, watched.widest // len(weight)), self._unit)
        self._is_known = True


Rows = tuple[Tensor, Tensor | None, dict[str, Tensor]]


def _cut(weight: Tensor, samples: Tensor | None, parameters: Mapping[str, Tensor], piece: int) -> list[Rows]:
    seen: Sequence[Tensor | None] | Any = itertools.repeat(None) if samples is None else samples.split(piece)
    own = {name: values.split(piece) for name, values in parameters.items()}
    return [
        (rows, some, {name: values[index] for name, values in own.items()})
        for index, (rows, some) in enumerate(zip(weight.split(piece), seen, strict=False))
    ]


def measured_in_pieces(measure: Callable[[Tensor], dict[str, Tensor]], rows: Tensor, unit: int) -> dict[str, Tensor]:
    """Return what is measured of rows `(rows, dim)`, each `(rows,)`, always `unit` rows at once."""
    parts = [measure(piece) for piece in padded(rows, unit).split(unit)]
    return {key: torch.cat([part[key] for part in parts])[: len(rows)] for key in parts[0]}
