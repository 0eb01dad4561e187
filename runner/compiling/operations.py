"""What the source computes for each of torch's operations, to the bit of torch's kernel where that is known."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.compiling.lowering import Lowering, Operation, Value
from runner.compiling.nodes import letter_of
from runner.compiling.recording import Call, CannotCompileError

OPERATIONS: dict[str, Operation] = {}
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
    lowering: Lowering, call: str, operands: Sequence[Tensor | Scalar], found: torch.dtype, text: str = ""
) -> Value:
    """Return the value of a function of numbers, computed in the dtype that torch computes it in.

    Args:
        lowering: of the step.
        call: the function in the source.
        operands: of the operation.
        found: the dtype of what torch returns.
        text: further arguments as source.
    """
    nodes = lowering.nodes
    if call in ALONE or call in ONLY_TOGETHER:
        is_together = _are_together(operands)
        # The two ways of lerp differ in the sign of a zero alone, where the weight is 1.
        if (is_together is None and call != "lerp") or (not is_together and call in ONLY_TOGETHER):
            nodes.inexact.add(call)
        call = ALONE.get(call, call) if is_together is False else call
    computed = found
    if found == torch.bool:
        computed = operands[0].dtype if isinstance(operands[0], Tensor) else torch.float32
        for other in operands[1:]:
            computed = torch.result_type(operands[0], other) if isinstance(operands[0], Tensor) else computed
    letter, result = letter_of(computed), letter_of(found)
    values = [_operand(lowering, one, letter) for one in operands]

    def made(*given: int) -> int:
        return nodes.add(call, tuple(nodes.cast(node, letter) for node in given), result, text)

    return _each(lowering, values, found, made)


def _are_together(operands: Sequence[Tensor | Scalar]) -> bool | None:
    """Return whether a kernel takes the numbers in vectors, or one by one; None where it does both."""
    tensors = [one for one in operands if isinstance(one, Tensor) and not _is_one_number(one)]
    if not tensors:
        return False
    shapes = {tuple(one.shape) for one in tensors}
    if len(shapes) == 1 and all(one.is_contiguous() for one in tensors):
        return True if tensors[0].numel() % TOGETHER == 0 else None
    sizes = [size for size in torch.broadcast_shapes(*shapes) if size > 1]
    # The last dimension is gone through first, in vectors where it is longer than a kernel's least number of these.
    return False if len(sizes) < 2 or sizes[-1] < 8 else None


def _is_one_number(tensor: Tensor) -> bool:
    return all(size == 1 or stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _simple(call: Call) -> list[Any]:
    return [one for one in call.given if isinstance(one, Tensor | bool | int | float)]


SAME_NAME = (
    "mul div abs neg sqrt reciprocal rsqrt maximum minimum floor ceil trunc exp log sin cos tan tanh acos asin atan "
    "erf log2 log10 expm1 log1p sigmoid sign sgn eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor bitwise_not "
    "logical_and logical_or logical_not isnan remainder cosh sinh exp2 atan2 round addcmul addcdiv lerp relu square"
)
# Functions that torch's kernels compute in another way for a number alone than for a vector of numbers.
ALONE = {"maximum": "maximum_one", "minimum": "minimum_one", "clamp_at": "clamp_at_one", "lerp": "lerp_one"}
ALONE["power"] = "power_one"
ONLY_TOGETHER = {"sigmoid", "softplus", "softplus_backward", "atan2", "sinh", "cosh", "exp2"}
# The least numbers that a kernel takes together.
TOGETHER = 64


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
    return elementwise(lowering, "plus_scaled", [one, other, alpha if name == "add" else -alpha], call.found.dtype)


@operation("pow")
def _power(lowering: Lowering, call: Call) -> Value:
    base, exponent = call.given[:2]
    special = {2: "square", 3: "cube", 1: "same", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal", -2: "rsquare"}
    if isinstance(exponent, int | float) and exponent == 0:
        return elementwise(lowering, "one", [base], call.found.dtype)
    if isinstance(exponent, int | float) and exponent in special:
        return elementwise(lowering, special[exponent], [base], call.found.dtype)
    if not isinstance(exponent, Tensor) and _are_together([base]) is False:
        return elementwise(lowering, "power_wide", [base, exponent], call.found.dtype)
    return elementwise(lowering, "power", [base, exponent], call.found.dtype)


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
    value, letter = lowering.value(call.given[0]), letter_of(call.found.dtype)
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


@operation("sum mean prod amax amin any all linalg_vector_norm")
def _reduced(lowering: Lowering, call: Call) -> Value:
    given = call.given[0]
    value, found = lowering.value(given), call.found
    dims, keeps = _reduction(call)
    axes = {dim % max(1, given.dim()) for dim in dims} if dims else set(range(given.dim()))
    if value.axis is not None and given.dim() + value.axis in axes:
        raise CannotCompileError(f"{call.name} over the runs of a batch")
    kept = [axis for axis in range(given.dim()) if axis not in axes]
    summed = sorted(axes)
    codes = value.codes.transpose(kept + summed).reshape([*[value.codes.shape[axis] for axis in kept], -1])
    count = codes.shape[-1]
    made = [
        _folded(lowering, call, given, [lowering.nodes.as_vector(int(node), value.letter) for node in row], count)
        for row in codes.reshape(-1, count)
    ]
    shape = [1 if axis in axes else value.codes.shape[axis] for axis in range(given.dim())]
    axis = None if value.axis is None else given.dim() + value.axis
    if not keeps:
        shape = [shape[axis] for axis in kept]
        axis = None if axis is None else kept.index(axis)
    return Value(
        np.array(made, dtype=np.int64).reshape(shape), None if axis is None else axis - len(shape), found.dtype
    )


def _reduction(call: Call) -> tuple[list[int], bool]:
    """Return the dimensions that a call reduces, none for all, and whether they are kept."""
    given = list(call.given[1:])
    if call.name == "linalg_vector_norm":
        if (given[0] if given else call.named.get("ord", 2)) != 2:
            raise CannotCompileError("norms of another order than 2 are not translated")
        given = given[1:]
    dims = given[0] if given else call.named.get("dim")
    keeps = given[1] if len(given) > 1 else call.named.get("keepdim", False)
    if isinstance(dims, int):
        dims = [dims]
    return list(dims or []), bool(keeps)


def _folded(lowering: Lowering, call: Call, given: Tensor, row: list[int], count: int) -> int:
    nodes, letter = lowering.nodes, letter_of(call.found.dtype)
    row = [nodes.cast(node, letter) for node in row]
    if call.name in ("amax", "amin"):
        if count >= 16:
            nodes.inexact.add(call.name)
        return _chain(lowering, {"amax": "maximum_one", "amin": "minimum_one"}[call.name], row, letter)
    if call.name in ("any", "all"):
        return _chain(lowering, {"any": "bitwise_or", "all": "bitwise_and"}[call.name], row, "M")
    if call.name == "prod":
        nodes.inexact.add("prod")  # its derivative is computed in another way while operations are recorded
        return _chain(lowering, "mul", [nodes.literal(1, letter), *row], letter)
    if call.name == "linalg_vector_norm":
        return _length(lowering, row, letter)
    total = _total(lowering, row, letter)
    is_plain = count < 4 or (given.stride(-1) == 1 and _is_one_after_the_other(given, count))
    if not is_plain or count > 16 * LOADED[letter]:
        nodes.inexact.add("sum")
    return total if call.name == "sum" else nodes.add("div", (total, nodes.literal(count, letter)), letter)


# How many numbers torch's sums load at once.
LOADED = {"F": 8, "D": 4, "L": 4, "I": 8, "M": 32}


def _is_one_after_the_other(given: Tensor, count: int) -> bool:
    """Return whether the numbers that are summed, those of the last dimensions, lie one after the other."""
    return given.is_contiguous() or given.shape[-1] == count


def _length(lowering: Lowering, row: Sequence[int], letter: str) -> int:
    """Return the norm: squares added in vectors where there are enough, four by four, and the last few fused."""
    nodes = lowering.nodes
    if len(row) == 1:
        return nodes.add("abs", (row[0],), letter)
    if letter != "F" and len(row) >= 8:
        nodes.inexact.add("linalg_vector_norm")
    squares = [nodes.add("square", (node,), letter) for node in row]
    whole = len(row) // LOADED["F"] * LOADED["F"] if letter == "F" else 0
    by_four = whole + (len(row) - whole) // 4 * 4
    total = nodes.literal(0, letter)
    if whole:
        lanes = [_chain(lowering, "add", squares[lane : whole : LOADED["F"]], letter) for lane in range(LOADED["F"])]
        total = _chain(lowering, "add", lanes, letter)
    total = _chain(lowering, "add", [total, *squares[whole:by_four]], letter)
    for node in row[by_four:]:
        total = nodes.add("fused", (node, node, total), letter)
    return nodes.add("std_sqrt", (total,), letter)


@operation("cumprod")
def _products(lowering: Lowering, call: Call) -> Value:
    """Multiply as torch does: one number after the other, in float64."""
    value, dim = lowering.value(call.given[0]), call.given[1] % call.given[0].dim()
    if value.axis is not None and call.given[0].dim() + value.axis == dim:
        raise CannotCompileError("cumprod over the runs of a batch")
    nodes, letter = lowering.nodes, value.letter
    codes = np.moveaxis(value.codes, dim, -1)
    found = np.empty_like(codes)
    for place in np.ndindex(*codes.shape[:-1]):
        total = nodes.literal(1, "D")
        for index, node in enumerate(codes[place]):
            total = nodes.add("mul", (total, nodes.cast(nodes.as_vector(int(node), letter), "D")), "D")
            found[(*place, index)] = nodes.cast(total, letter)
    return Value(np.moveaxis(found, -1, dim), value.axis, value.dtype)


def _chain(lowering: Lowering, call: str, row: Sequence[int], letter: str) -> int:
    total = row[0]
    for node in row[1:]:
        total = lowering.nodes.add(call, (total, node), letter)
    return total


def _total(lowering: Lowering, row: Sequence[int], letter: str) -> int:
    """Add as torch's sums do: vectors of numbers where there are enough, the others and the parts of these at last."""
    nodes, width = lowering.nodes, LOADED[letter]
    whole = len(row) // width * width
    if whole == 0:
        return _quartered(lowering, row, letter)
    parts = [_quartered(lowering, row[lane:whole:width], letter) for lane in range(width)]
    rest = _chain(lowering, "add", [nodes.literal(0, letter), *row[whole:]], letter)
    return _chain(lowering, "add", [rest, *parts], letter)


def _quartered(lowering: Lowering, row: Sequence[int], letter: str) -> int:
    """Add every fourth number to one of four sums, then the last few to the first, then the four."""
    nodes, whole = lowering.nodes, len(row) // 4 * 4
    zero = nodes.literal(0, letter)
    if whole == 0:
        return _chain(lowering, "add", [zero, *row], letter)
    sums = [_chain(lowering, "add", [zero, *row[part:whole:4]], letter) for part in range(4)]
    first = _chain(lowering, "add", [sums[0], *row[whole:]], letter)
    return _chain(lowering, "add", [first, *sums[1:]], letter)
