"""A user's source as it may be recorded: string literals that are secret are replaced by `***`."""

import ast
import bisect
import io
import itertools
import tokenize
from collections.abc import Iterator

from runner.messages.redaction import HIDDEN, shown_text
from runner.messages.secret_names import hides


def without_secrets(content: bytes) -> tuple[bytes, list[int]]:
    """Return Python source without its secrets, and the numbers of the lines that held one.

    Secret is a string literal that is assigned or passed to a name such as `password` or `api_key`, or is the value of
    such a key in a dictionary, and the password in a literal URL. A source that cannot be parsed is returned empty.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding).encode()
        tree = ast.parse(text)
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError):
        return b"", []
    starts = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    places = sorted({_place(node, starts) for node in _secrets(tree)})
    hidden, end = b"", 0
    for start, stop in places:
        if start >= end:  # else part of an f-string that is hidden already
            hidden += text[end:start] + repr(HIDDEN).encode()
            end = stop
    lines = sorted({bisect.bisect_right(starts, start) for start, _ in places})
    return ((hidden + text[end:]).decode().encode(encoding) if places else content), lines


def _place(node: ast.expr, starts: list[int]) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def _secrets(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        for name, value in _named_values(node):
            if hides(name):
                yield from _literals(value)
        if isinstance(node, ast.Constant) and _holds_password(node.value):
            yield node


def _literals(value: ast.expr) -> Iterator[ast.expr]:
    """Yield the literals that a value consists of, but not those that it passes to a function or looks up."""
    match value:
        case ast.Constant(value=str() | bytes()) | ast.JoinedStr():
            yield value
        case ast.BinOp(left=left, right=right):
            yield from (*_literals(left), *_literals(right))
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Dict(values=parts):
            yield from (literal for part in parts for literal in _literals(part))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_literals(body), *_literals(orelse))


def _named_values(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a node gives to values, and the values."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((name, value) for target in targets for name in _names(target))
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
            yield from ((name, value) for name in _names(target))
        case ast.keyword(arg=str() as name, value=value):
            yield name, value
        case ast.Dict(keys=keys, values=values):
            yield from (
                (key.value, value)
                for key, value in zip(keys, values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            )
        case ast.arguments():
            positional = [*node.posonlyargs, *node.args]
            defaults = zip(positional[len(positional) - len(node.defaults) :], node.defaults, strict=True)
            named = zip(node.kwonlyargs, node.kw_defaults, strict=True)
            yield from ((argument.arg, value) for argument, value in (*defaults, *named) if value is not None)


def _names(target: ast.expr) -> Iterator[str]:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str() as name)):
            yield name


def _holds_password(value: object) -> bool:
    return isinstance(value, str) and "://" in value and shown_text(value) != value
