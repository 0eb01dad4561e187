"""Sums, products, extremes and norms of some numbers of a run, in the order in which torch's kernels take them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from runner.compiling.lowering import Lowering, Operation, Value
from runner.compiling.nodes import letter_of
from runner.compiling.recording import Call, CannotCompileError

# How many numbers the kernels of reductions load at once.
LOADED = {"F": 8, "D": 4, "L": 4, "I": 8, "M": 32}
# For each reduction, its function of two vectors and of two numbers.
FOLDED = {
    "prod": ("mul", "mul"),
    "amax": ("maximum", "maximum_one"),
    "amin": ("minimum", "minimum_one"),
    "any": ("bitwise_or", "bitwise_or"),
    "all": ("bitwise_and", "bitwise_and"),
}


def _reduced(lowering: Lowering, call: Call) -> Value:
    given = call.given[0]
    value, found = lowering.value(given), call.found
    dims, keeps = _reduction(call)
    axes = {dim % max(1, given.dim()) for dim in dims} if dims else set(range(given.dim()))
    if value.axis is not None and given.dim() + value.axis in axes:
        raise CannotCompileError(f"{call.name} over the runs of a batch")
    kept = [axis for axis in range(given.dim()) if axis not in axes]
    codes = value.codes.transpose(kept + sorted(axes)).reshape([*[value.codes.shape[axis] for axis in kept], -1])
    count = codes.shape[-1]
    if count > 1 and call.name not in ("any", "all") and not _is_one_after_the_other(given, axes):
        lowering.nodes.inexact.add(call.name)
    rows = codes.reshape(-1, count)
    made = [
        _folded(lowering, call, [lowering.nodes.as_vector(int(node), value.letter) for node in row]) for row in rows
    ]
    shape = [1 if axis in axes else value.codes.shape[axis] for axis in range(given.dim())]
    axis = None if value.axis is None else given.dim() + value.axis
    if not keeps:
        shape = [shape[axis] for axis in kept]
        axis = None if axis is None else kept.index(axis)
    from_last = None if axis is None else axis - len(shape)
    return Value(np.array(made, dtype=np.int64).reshape(shape), from_last, found.dtype)


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


def _is_one_after_the_other(given: Tensor, axes: set[int]) -> bool:
    """Return whether the numbers that are reduced lie one after the other, as they are counted."""
    following = 1
    for axis in sorted(axes, reverse=True):
        if given.shape[axis] > 1 and given.stride(axis) != following:
            return False
        following *= given.shape[axis]
    return True


def _folded(lowering: Lowering, call: Call, row: Sequence[int]) -> int:
    nodes, letter = lowering.nodes, letter_of(call.found.dtype)
    row = [nodes.cast(node, letter) for node in row]
    if call.name in FOLDED:
        return _in_lanes(lowering, *FOLDED[call.name], row, letter)
    if call.name == "linalg_vector_norm":
        return _length(lowering, row, letter)
    total = _total(lowering, row, letter)
    return total if call.name == "sum" else nodes.add("div", (total, nodes.literal(len(row), letter)), letter)


def _in_lanes(lowering: Lowering, of_vectors: str, of_numbers: str, row: Sequence[int], letter: str) -> int:
    """Fold four vectors as often as there are four, then these and their numbers, then the numbers that are left."""
    width = LOADED[letter]
    whole = len(row) // (4 * width) * 4 * width
    if whole == 0:
        return _chain(lowering, of_numbers, row, letter)

    def vectors(*operands: Sequence[int]) -> list[int]:
        return [_chain(lowering, of_vectors, lane, letter) for lane in zip(*operands, strict=True)]

    parts = [row[start : start + width] for start in range(0, whole, width)]
    first, second, third, fourth = (vectors(*parts[part::4]) for part in range(4))
    lanes = vectors(vectors(first, second), vectors(third, fourth))
    return _chain(lowering, of_numbers, [*lanes, *row[whole:]], letter)


def _length(lowering: Lowering, row: Sequence[int], letter: str) -> int:
    """Return the norm: squares added in vectors where there are enough, four by four, and the last few fused."""
    nodes, width = lowering.nodes, LOADED[letter]
    if len(row) == 1:
        return nodes.add("abs", (row[0],), letter)
    squares = [nodes.add("square", (node,), letter) for node in row]
    whole = len(row) // width * width
    by_four = whole + (len(row) - whole) // 4 * 4
    total = nodes.literal(0, letter)
    if whole:
        lanes = [_chain(lowering, "add", squares[lane:whole:width], letter) for lane in range(width)]
        total = _chain(lowering, "add", lanes, letter)
    total = _chain(lowering, "add", [total, *squares[whole:by_four]], letter)
    for node in row[by_four:]:
        total = nodes.add("fused", (node, node, total), letter)
    return nodes.add("std_sqrt", (total,), letter)


def _products(lowering: Lowering, call: Call) -> Value:
    """Multiply as torch does: one number after the other, in float64."""
    value, dim = lowering.value(call.given[0]), call.given[1] % call.given[0].dim()
    if value.axis is not None and call.given[0].dim() + value.axis == dim:
        raise CannotCompileError("cumprod over the runs of a batch")
    nodes, letter = lowering.nodes, value.letter
    nodes.inexact.add("the derivative of prod")  # which has no cumprod where it is not recorded and no number is 0
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
    whole = len(row) // 4 * 4
    if whole == 0:
        return _in_levels(lowering, row, letter)
    sums = [_in_levels(lowering, row[part:whole:4], letter) for part in range(4)]
    first = _chain(lowering, "add", [sums[0], *row[whole:]], letter)
    return _chain(lowering, "add", [first, *sums[1:]], letter)


def _in_levels(lowering: Lowering, row: Sequence[int], letter: str) -> int:
    """Add 16 numbers or more to a sum, as many of such sums to one of a higher level, and so on, then the levels."""
    nodes = lowering.nodes
    bits = max(4, (len(row) - 1).bit_length() // 4)
    begun = 0
    levels: list[list[int]] = [[], [], [], []]

    def of_level(level: int) -> int:
        start = [nodes.literal(0, letter)] if level == 0 else []
        return _chain(lowering, "add", [*start, *levels[level]], letter)

    while begun + (1 << bits) <= len(row):
        levels[0] += row[begun : begun + (1 << bits)]
        begun += 1 << bits
        for level in range(1, 4):
            levels[level].append(of_level(level - 1))
            levels[level - 1] = []
            if begun >> level * bits & ((1 << bits) - 1):
                break
    levels[0] += row[begun:]
    return _chain(lowering, "add", [of_level(level) for level in range(4) if levels[level] or level == 0], letter)


REDUCTIONS: dict[str, Operation] = {
    **dict.fromkeys(("sum", "mean", "linalg_vector_norm", *FOLDED), _reduced),
    "cumprod": _products,
}
