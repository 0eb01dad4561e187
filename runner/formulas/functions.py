"""The operators and functions of formulas, for plain numbers and for tensors."""

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from runner.messages.ranges import shown
from runner.messages.redaction import shown_tree

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
# An int with more bits is larger than any float, and computing with it could take too long.
MOST_BITS = 1024
COMPARISONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of plain numbers as one whose results are real and of bounded size.

    It raises OverflowError for a result that is too large, TypeError for a text, and ArithmeticError for a complex
    result.
    """

    def compute(*values: Any) -> Any:
        texts = [shown(shown_tree(value)) for value in values if isinstance(value, str)]
        if texts:
            raise TypeError(f"'{texts[0]}' is text, expected a number")
        if function is operator.pow and all(isinstance(value, int) for value in values):
            base, exponent = values
            if (abs(base).bit_length() - 1) * exponent > MOST_BITS:
                raise OverflowError(f"the power {exponent} of {shown(base)} is too large")
        found = function(*values)
        if type(found) is complex:
            raise ArithmeticError(f"{found:.6g} is not a real number")
        if isinstance(found, int) and found.bit_length() > MOST_BITS:
            raise OverflowError(f"a whole number of {found.bit_length():,} bits is too large")
        return found

    return compute


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


# Functions of plain numbers; for tensors, torch's functions of the same names are used.
OF_NUMBERS: dict[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "abs": abs,
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
}
EXTREMES: dict[str, Callable[..., float]] = {"minimum": min, "maximum": max}
REDUCTIONS = {"sum": 1, "mean": 1, "norm": 1, "dot": 2}
FUNCTIONS = (*OF_NUMBERS, *EXTREMES, *REDUCTIONS)


def applied(name: str, values: Sequence[Any]) -> Any:
    """Return a function of numbers `(...)`: a plain number if all are plain, else a tensor."""
    if all(isinstance(value, int | float) for value in values):
        return (OF_NUMBERS.get(name) or EXTREMES[name])(*values)
    import torch

    function = getattr(torch, name)
    if name in OF_NUMBERS:
        return function(values[0])
    like = next(value for value in values if isinstance(value, torch.Tensor))
    found = torch.as_tensor(values[0], dtype=like.dtype, device=like.device)
    for value in values[1:]:
        found = function(found, torch.as_tensor(value, dtype=like.dtype, device=like.device))
    return found


def reduced(name: str, vectors: Sequence[Any]) -> Any:
    """Return a reduction of vectors `(..., dim)` to numbers `(...)`."""
    if name == "dot":
        return (vectors[0] * vectors[1]).sum(-1)
    if name == "norm":  # its gradient at 0 is 0
        from runner.tensors.norms import norm  # imports torch

        return norm(vectors[0])[..., 0]
    return vectors[0].sum(-1) if name == "sum" else vectors[0].mean(-1)
