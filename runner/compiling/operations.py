"""What the source computes for each of torch's operations, to the bit of torch's kernel where that is known."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.compiling.lowering import Lowering, Operation, Value
from runner.compiling.nodes import letter_of
from runner.compiling.places import Places, taken_together
from runner.compiling.programs import vector_bytes
from runner.compiling.recording import Call, CannotCompileError
from runner.compiling.reductions import REDUCTIONS

OPERATIONS: dict[str, Operation] = {**REDUCTIONS}
MOVING = (
    "view _unsafe_view reshape _reshape_alias expand slice select unsqueeze squeeze t transpose permute alias detach "
    "clone cat stack unbind split split_with_sizes unfold diagonal lift lift_fresh lift_fresh_copy flip repeat "
    "select_backward slice_backward index gather index_select as_strided diag_embed tril triu roll"
)
MAKING = (
    "ones zeros full arange scalar_tensor eye linspace ones_like zeros_like full_like new_zeros new_ones new_full "
    "zeros_like _efficientzerotensor"
)
Scalar = bool | int | float


def operation(names: str) -> Callable[[Operation], Operation]:
    """Register what is done for operations of these names."""

    def register(done: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names.split(), done))
        return done

    return register


def tensors_of(call: Call) -> list[Tensor]:
    """Return the tensors that a call is given."""
    given = itertools.chain(call.given, call.named.values())
    flat = itertools.chain.from_iterable(one if isinstance(one, list | tuple) else [one] for one in given)
    return [one for one in flat if isinstance(one, Tensor)]


@operation(MOVING)
def _move(lowering: Lowering, call: Call) -> Any:
    """Find where each number goes by moving codes in place of the numbers."""
    if call.name == "view" and len(call.given) > 1 and isinstance(call.given[1], torch.dtype):
        return _reinterpreted(lowering, call)

    def coded(one: Any, is_index: bool) -> Any:
        if isinstance(one, list | tuple):
            return type(one)(coded(item, is_index) for item in one)
        if not isinstance(one, Tensor):
            return one
        if is_index:
            if lowering.is_known(one):
                raise CannotCompileError(f"{call.name} by indices that are computed or drawn")
            return one
        return lowering.full(lowering.value(one))

    is_indexed = call.name in ("index", "gather", "index_select")
    given = [coded(one, is_indexed and place > 0) for place, one in enumerate(call.given)]
    named = {key: one for key, one in call.named.items() if key not in ("memory_format", "dtype")}
    found = call.kernel(*given, **named)
    if isinstance(found, Tensor):
        return lowering.moved(found, call.found.dtype)
    return [lowering.moved(one, like.dtype) for one, like in zip(found, call.found, strict=True)]


def _reinterpreted(lowering: Lowering, call: Call) -> Value:
    value, dtype = lowering.value(call.given[0]), call.given[1]
    letter = letter_of(dtype)
    return _each(lowering, [value], dtype, lambda node: lowering.nodes.add(f"bits_{letter}", (node,), letter))


@operation(MAKING)
def _make(lowering: Lowering, call: Call) -> Value:
    """Take the numbers of a tensor that depends on no other as they are."""
    found: Tensor = call.found
    shared = found
    axis = next((lowering.value(one).axis for one in tensors_of(call)[:1]), None)
    if axis is None and lowering.rows > 1 and found.dim() > 0 and found.shape[0] == lowering.rows:
        axis = -found.dim()
    if axis is not None and (-axis > found.dim() or found.shape[axis] != lowering.rows):
        axis = None
    if axis is not None:
        shared = found.narrow(axis, 0, 1)
        if not bool((found == shared).all()):
            axis, shared = None, found
    letter = letter_of(found.dtype)
    codes = [lowering.nodes.literal(number, letter) for number in shared.flatten().tolist()]
    return Value(np.array(codes, dtype=np.int64).reshape(tuple(shared.shape)), axis, found.dtype)


def _each(lowering: Lowering, values: Sequence[Value], dtype: torch.dtype, made: Callable[..., int]) -> Value:
    """Return the value whose numbers are made of the numbers of others, broadcast against each other."""
    axes = {value.axis for value in values if value.axis is not None}
    if len(axes) > 1:
        raise CannotCompileError("it mixes the numbers of several runs")
    axis = next(iter(axes), None)
    arrays = np.broadcast_arrays(*[value.codes for value in values])
    if axis is not None and arrays[0].shape[axis] != 1:
        raise CannotCompileError("it mixes the numbers of several runs")
    known: dict[tuple[int, ...], int] = {}
    flat = list(zip(*[array.ravel().tolist() for array in arrays], strict=True))
    letters = [value.letter for value in values]
    for place in flat:
        if place not in known:
            nodes = [lowering.nodes.as_vector(node, letter) for node, letter in zip(place, letters, strict=True)]
            known[place] = made(*nodes)
    codes = np.array([known[place] for place in flat], dtype=np.int64).reshape(arrays[0].shape)
    return Value(codes, axis, dtype)


def _operand(lowering: Lowering, one: Tensor | Scalar, letter: str) -> Value:
    if isinstance(one, Tensor):
        return lowering.value(one)
    dtype = {"F": torch.float32, "D": torch.float64, "L": torch.int64, "I": torch.int32, "M": torch.bool}[letter]
    return Value(np.array(lowering.nodes.literal(one, letter), dtype=np.int64), None, dtype)


def elementwise(
    lowering: Lowering, call: str, operands: Sequence[Tensor | Scalar], found: torch.dtype, alone: str = ""
) -> Value:
    """Return the value of a function of numbers, computed in the dtype that torch computes it in.

    Args:
        lowering: of the step.
        call: the function in the source.
        operands: of the operation.
        found: the dtype of what torch returns.
        alone: the function of numbers that the kernel takes alone, where it takes others in vectors.
    """
    nodes, computed = lowering.nodes, _computed_dtype(operands, found)
    letter, result = letter_of(computed), letter_of(found)
    values = [_operand(lowering, one, letter) for one in operands]

    def of(function: str) -> Value:
        def made(*given: int) -> int:
            return nodes.add(function, tuple(nodes.cast(node, letter) for node in given), result)

        return _each(lowering, values, found, made)

    if call not in IN_VECTORS:
        return of(call)
    places = _places(lowering, [one for one in operands if isinstance(one, Tensor)], computed, IN_VECTORS[call]())
    # The two ways of lerp differ in the sign of a zero alone, where the weight is 1.
    if places is None and call != "lerp":
        nodes.inexact.add(call)
    if places is None or places.all():
        return of(call)
    one_by_one = of(alone or f"{call}_one")
    if not places.any():
        return one_by_one
    return Value(np.where(places, of(call).codes, one_by_one.codes), one_by_one.axis, found)


def _computed_dtype(operands: Sequence[Tensor | Scalar], found: torch.dtype) -> torch.dtype:
    if found != torch.bool:
        return found
    first, *others = operands
    if not isinstance(first, Tensor):
        return torch.float32
    return torch.result_type(first, others[0]) if others else first.dtype


def _places(lowering: Lowering, operands: Sequence[Tensor], dtype: torch.dtype, vector_bytes: int) -> Places | None:
    """Return which numbers of a run the kernel takes in vectors, None where that depends on the other runs."""
    values = [lowering.value(one) for one in operands]
    axis = next((value.axis for value in values if value.axis is not None), None)
    found = taken_together(operands, dtype, vector_bytes)
    if axis is None or found is None:
        return found
    first = found.take([0], axis)
    if not bool((found == first).all()):
        return None
    if not lowering.is_padded:  # then a run alone has one row
        rows = [
            one if value.axis is None else one.narrow(value.axis, 0, 1)
            for one, value in zip(operands, values, strict=True)
        ]
        alone = taken_together(rows, dtype, vector_bytes)
        return first if alone is not None and bool((alone == first).all()) else None
    return first


def _simple(call: Call) -> list[Any]:
    return [one for one in call.given if isinstance(one, Tensor | bool | int | float)]


SAME_NAME = (
    "mul div abs neg sqrt reciprocal rsqrt maximum minimum floor ceil trunc exp log sin cos tan tanh acos asin atan "
    "erf log2 log10 expm1 log1p sigmoid sign sgn eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor bitwise_not "
    "logical_and logical_or logical_not isnan remainder cosh sinh exp2 atan2 round addcmul addcdiv lerp relu square"
)
# Functions that round differently for numbers that a kernel takes in vectors, and how many bytes these have.
IN_VECTORS: dict[str, Callable[[], int]] = {
    **dict.fromkeys(("maximum", "minimum", "clamp_at", "lerp", "remainder"), lambda: 32),
    **dict.fromkeys(
        ("power", "sigmoid", "softplus", "softplus_backward", "atan2", "sinh", "cosh", "exp2"), vector_bytes
    ),
}


@operation(SAME_NAME)
def _alike(lowering: Lowering, call: Call) -> Value:
    name = call.name
    if name in ("div", "round") and (call.named.get("rounding_mode") or call.named.get("decimals")):
        raise CannotCompileError(f"{name} with options is not translated")
    operands = _simple(call)
    if name in ("addcmul", "addcdiv"):
        operands = [*operands[:3], call.named.get("value", 1)]
    return elementwise(lowering, name, operands, call.found.dtype)


@operation("add sub rsub add_ sub_ mul_ div_")
def _sum_of_two(lowering: Lowering, call: Call) -> Value:
    one, other, *more = call.given
    alpha = more[0] if more else call.named.get("alpha", 1)
    name = call.name.removesuffix("_")
    if name == "rsub":
        name, one, other = "sub", other, one
    if alpha == 1:
        return elementwise(lowering, name, [one, other], call.found.dtype)
    if isinstance(other, Tensor) and other.shape[-1:] != call.found.shape[-1:]:
        lowering.nodes.inexact.add(name)  # kernels round the multiple of a number for some of its sums, not for others
    return elementwise(lowering, "plus_scaled", [one, other, alpha if name == "add" else -alpha], call.found.dtype)


@operation("pow")
def _power(lowering: Lowering, call: Call) -> Value:
    base, exponent = call.given[:2]
    special = {2: "square", 3: "cube", 1: "same", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal", -2: "rsquare"}
    if isinstance(exponent, int | float) and exponent == 0:
        return elementwise(lowering, "one", [base], call.found.dtype)
    if isinstance(exponent, int | float) and exponent in special:
        return elementwise(lowering, special[exponent], [base], call.found.dtype)
    alone = "power_one" if isinstance(exponent, Tensor) else "power_wide"
    return elementwise(lowering, "power", [base, exponent], call.found.dtype, alone)


@operation("clamp clamp_min clamp_max")
def _clamped(lowering: Lowering, call: Call) -> Value:
    value, *limits = call.given
    low: Any
    high: Any
    low = limits[0] if limits and call.name != "clamp_max" else call.named.get("min")
    high = limits[-1] if call.name == "clamp_max" else limits[1] if len(limits) > 1 else call.named.get("max")
    kind = "_at" if any(isinstance(one, Tensor) for one in (low, high)) else ""
    if low is not None and high is not None:
        return elementwise(lowering, f"clamp{kind}", [value, low, high], call.found.dtype)
    limit = high if low is None else low
    names = ("minimum", "maximum") if kind else ("clamp_max", "clamp_min")
    return elementwise(lowering, names[low is not None], [value, limit], call.found.dtype)


@operation("where")
def _where(lowering: Lowering, call: Call) -> Value:
    if len(call.given) != 3:
        raise CannotCompileError("where without values is not translated")
    mask, one, other = call.given
    return _chosen(lowering, mask, one, other, call.found.dtype)


@operation("masked_fill masked_fill_")
def _filled(lowering: Lowering, call: Call) -> Value:
    return _chosen(lowering, call.given[1], call.given[2], call.given[0], call.found.dtype)


def _chosen(lowering: Lowering, mask: Any, one: Any, other: Any, dtype: torch.dtype) -> Value:
    nodes, letter = lowering.nodes, letter_of(dtype)
    values = [_operand(lowering, mask, "M"), _operand(lowering, one, letter), _operand(lowering, other, letter)]

    def made(mask: int, one: int, other: int) -> int:
        return nodes.add("where", (mask, nodes.cast(one, letter), nodes.cast(other, letter)), letter)

    return _each(lowering, values, dtype, made)


@operation("_to_copy")
def _copied(lowering: Lowering, call: Call) -> Value:
    letter = letter_of(call.found.dtype)
    value = _operand(lowering, call.given[0], letter)  # vmap may give a number
    return _each(lowering, [value], call.found.dtype, lambda node: lowering.nodes.cast(node, letter))


@operation("copy_ fill_ fill zero_")
def _replaced(lowering: Lowering, call: Call) -> Value:
    letter = letter_of(call.found.dtype)
    like = lowering.value(call.given[0])
    source = _operand(lowering, call.given[1] if len(call.given) > 1 else 0, letter)
    return _each(lowering, [like, source], call.found.dtype, lambda _, node: lowering.nodes.cast(node, letter))


@operation("sigmoid_backward tanh_backward threshold_backward softplus softplus_backward")
def _of_models(lowering: Lowering, call: Call) -> Value:
    operands = _simple(call)
    if call.name.startswith("softplus"):
        operands += [1, 20][len(operands) - call.name.count("_") - 1 :]
    return elementwise(lowering, call.name, operands, call.found.dtype)
