"""A small language of formulas: Python's syntax tree restricted by a whitelist; no code of the text is executed.

`(1 - x)**2 + 100*(y - x**2)**2` is a formula of two numbers, `sum(w**2) + w[0]` of one vector. torch is imported only
when a formula is evaluated on tensors.
"""

import ast
import math
import operator
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from runner.formulas.functions import (
    COMPARISONS,
    FUNCTIONS,
    OF_NUMBERS,
    OPERATORS,
    REDUCTIONS,
    applied,
    bounded,
    reduced,
)
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import is_finite, shown

VECTOR = "w"
NAMED = {"pi": math.pi, "e": math.e}
LONGEST = 10_000
DEEPEST = 200
LARGEST_POWER = 1000
# A comment, or a number directly followed by a word, as in 1if, outside of strings.
STRAY = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?P<comment>#)|"""
    rf"(?<![\w.])(?P<number>(?>{tokenize.Number})(?=[A-Za-z_]))"
)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class _Term:
    """A part of a formula: how to compute it, whether it is a vector, and its value if it is constant."""

    compute: Callable[[Values], Any]
    is_vector: bool = False
    constant: float | None = None


@dataclass(frozen=True)
class Formula:
    """A parsed formula.

    Attributes:
        text: as written.
        variables: its variables, in the order of their first appearance, or as declared.
        is_vector: whether it is a formula of the vector `w`, used in sums and by index.
        texts: the variables that a condition compares with a text.
    """

    text: str
    variables: tuple[str, ...]
    is_vector: bool
    _compute: Callable[[Values], Any]
    texts: frozenset[str] = frozenset()

    def evaluate(self, values: Values) -> Any:
        """Return the value of the formula `(...)`, for tensors or plain numbers.

        Args:
            values: by name, numbers `(...)` for variables and constants, `(..., dim)` for the vector `w`.
        """
        return self._compute(values)


def parse(
    text: str,
    *,
    path: str,
    variables: Sequence[str] | None = None,
    constants: Sequence[str] = (),
    conditions: bool = False,
) -> Formula:
    """Parse a formula.

    Args:
        text: the formula.
        path: its config key, for error messages.
        variables: the allowed variables; None allows any.
        constants: the names of constants.
        conditions: whether to allow comparisons, `and`, `or`, `not`, dotted names and texts, as in `a.b == 'c'`.

    Raises:
        UserError: with the position of the first part that the language does not allow.
    """
    reader = _Reader(text, path, variables, tuple(constants), conditions)
    tree = reader.tree()
    term = reader.term(tree, DEEPEST)
    if term.is_vector:
        reader.refuse(tree, "is a vector, expected a number, as sum(...) makes one")
    found = tuple(variables) if variables is not None else reader.found(tree)
    return Formula(text, found, reader.is_vector, term.compute, frozenset(reader.texts))


def number(value: object, path: str, names: Mapping[str, float]) -> float:
    """Return a number that a config gives as a number or as a formula of `names`.

    Raises:
        UserError: it is neither a finite number nor a formula with a finite value.
    """
    if not isinstance(value, str):
        if not is_finite(value):
            raise UserError(f"{path}={shown(value)}: expected a finite number or a formula")
        return float(value)  # type: ignore[arg-type]  # is_finite has checked that it is a number
    formula = parse(value, path=path, variables=tuple(names))
    try:
        found = float(formula.evaluate(names))
    except (ArithmeticError, ValueError, TypeError) as error:  # TypeError: float() of a complex number
        raise UserError(f"{path}={value}: has no value ({error})") from None
    if not math.isfinite(found):
        raise UserError(f"{path}={value}: expected a finite number, it is {found}")
    return found


class _Reader:
    def __init__(
        self, text: str, path: str, variables: Sequence[str] | None, constants: tuple[str, ...], conditions: bool
    ) -> None:
        self._text = text
        self._path = path
        self._variables = variables
        self._constants = constants
        self._conditions = conditions
        self._indent = len(text) - len(text.lstrip())
        self.is_vector = False
        self.texts: set[str] = set()

    def tree(self) -> ast.expr:
        """Return the syntax tree, after checking length, characters and syntax."""
        if not self._text.strip():
            raise UserError(f"{self._path}='': expected a formula, such as (x - 1)**2")
        if len(self._text) > LONGEST:
            raise UserError(f"{self._path}: {len(self._text):,} characters, expected at most {LONGEST:,}")
        for column, character in enumerate(self._text, 1):
            if not (character.isascii() and (character.isprintable() or character.isspace())):
                self._fail(column, f"character {character!r}, expected plain ASCII")
        for found in STRAY.finditer(self._text):
            if found["comment"]:  # it would comment out the lines that YAML folds behind it
                self._fail(found.start() + 1, "# is not allowed in a formula: put comments before its key in the YAML")
            if found["number"]:  # Python only warns of it
                self._fail(found.start() + 1, "invalid decimal literal")
        try:
            # Line breaks become spaces, as in YAML's folded blocks.
            body = ast.parse(" ".join(self._text.strip().splitlines()), mode="eval").body
        except SyntaxError as error:
            at_end = len(self._text.strip()) + 1  # where an offset of 0 or None points
            self._fail((error.offset or at_end) + self._indent, error.msg)
        except (ValueError, MemoryError, RecursionError):
            raise UserError(f"{self._path}: nested too deeply, expected at most {DEEPEST} levels") from None
        self.is_vector = any(map(self._is_of_vector, ast.walk(body)))
        return body

    def refuse(self, node: ast.AST, reason: str) -> NoReturn:
        """Raise a UserError at the position of a part."""
        self._fail(getattr(node, "col_offset", 0) + 1 + self._indent, reason)

    def _fail(self, column: int, reason: str) -> NoReturn:
        raise UserError(f"{self._path}={shown(self._text, 80)}: at column {column}: {reason}")

    def found(self, tree: ast.expr) -> tuple[str, ...]:
        """Return the variables in the order of their first appearance."""
        taken = {*FUNCTIONS, *NAMED, *self._constants}
        return tuple(dict.fromkeys(name for _, name in sorted(self._names(tree)) if name not in taken))

    def _names(self, node: ast.AST) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.expr) and (name := _name_of(node)) is not None:
            yield node.col_offset, name
            return
        for inner in ast.iter_child_nodes(node):
            yield from self._names(inner)

    def _is_of_vector(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REDUCTIONS:
            return any(isinstance(inner, ast.Name) and inner.id == VECTOR for inner in ast.walk(node))
        return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == VECTOR

    def term(self, node: ast.expr, depth: int) -> _Term:
        """Return the term of a part of the tree."""
        if depth == 0:
            self.refuse(node, f"nested too deeply, expected at most {DEEPEST} levels")
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
                return self._apply(node, OPERATORS[type(node.op)], [self.term(node.operand, depth - 1)])
            case ast.BinOp() if type(node.op) in OPERATORS:
                return self._binary(node, depth - 1)
            case ast.Call(func=ast.Name()):
                return self._call(node, depth - 1)
            case ast.Subscript():
                return self._subscript(node)
            case ast.Attribute() if self._conditions and (key := _name_of(node)) is not None:
                return _Term(lambda values: values[key])
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp() if self._conditions:
                return self._condition(node, depth - 1)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            self.refuse(node, "^ is not the power operator, write **")
        self.refuse(
            node, f"{_described(node)} is not allowed in a formula, expected numbers, names, + - * / ** and functions"
        )

    def _literal(self, node: ast.Constant) -> _Term:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.refuse(node, f"{node.value!r}, expected a number")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            self.refuse(node, "a number too large for a float")
        return _Term(lambda _values: value, constant=value)

    def _name(self, node: ast.Name) -> _Term:
        name = node.id
        if name in self._constants:
            return _Term(lambda values: values[name])
        if name in NAMED and name not in (self._variables or ()):
            value = NAMED[name]
            return _Term(lambda _values: value, constant=value)
        self._check_variable(node)
        return _Term(lambda values: values[name], is_vector=self.is_vector)

    def _check_variable(self, node: ast.Name) -> None:
        name = node.id
        if name in FUNCTIONS:
            self.refuse(node, f"{name} is a function, write {name}(...)")
        if name.startswith("_"):
            self.refuse(node, f"name '{name}', expected one that begins with a letter")
        if self.is_vector and name != VECTOR:
            known = [VECTOR, *self._constants]
            self.refuse(node, f"name '{name}', expected one of {', '.join(known)}, where w is the vector")
        if self._variables is not None and name not in self._variables:
            known = [*self._variables, *self._constants, *NAMED]
            self.refuse(node, f"name '{name}', expected one of {', '.join(known)}{nearest(name, known)}")

    def _binary(self, node: ast.BinOp, depth: int) -> _Term:
        left, right = self.term(node.left, depth), self.term(node.right, depth)
        if isinstance(node.op, ast.Pow) and right.constant is not None:
            right = self._exponent(node.right, right.constant)
        return self._apply(node, OPERATORS[type(node.op)], [left, right])

    def _exponent(self, node: ast.expr, value: float) -> _Term:
        if abs(value) > LARGEST_POWER:
            self.refuse(node, f"power {value:g}, expected at most {LARGEST_POWER}")
        # A whole exponent stays an int, so that x**2 and its gradient are defined for x <= 0.
        exponent = int(value) if value == int(value) else value
        return _Term(lambda _values: exponent, constant=value)

    def _call(self, node: ast.Call, depth: int) -> _Term:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name not in FUNCTIONS:
            self.refuse(node, f"function '{name}', expected one of {', '.join(FUNCTIONS)}{nearest(name, FUNCTIONS)}")
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            self.refuse(node, f"{name} takes its arguments by position")
        arguments = [self.term(argument, depth) for argument in node.args]
        if name in REDUCTIONS:
            return self._reduction(node, name, arguments)
        wanted = "one argument" if name in OF_NUMBERS else "two or more arguments"
        if (len(arguments) != 1) if name in OF_NUMBERS else (len(arguments) < 2):
            self.refuse(node, f"{name} takes {wanted}, given {len(arguments)}")
        return self._apply(node, lambda *values: applied(name, values), arguments)

    def _reduction(self, node: ast.Call, name: str, arguments: list[_Term]) -> _Term:
        if len(arguments) != REDUCTIONS[name] or not all(argument.is_vector for argument in arguments):
            what = "two vectors" if REDUCTIONS[name] == 2 else "one vector"
            self.refuse(node, f"{name} takes {what}, made of w")
        return _Term(lambda values: reduced(name, [argument.compute(values) for argument in arguments]))

    def _subscript(self, node: ast.Subscript) -> _Term:
        if not (isinstance(node.value, ast.Name) and node.value.id == VECTOR):
            self.refuse(node, "only the vector w can be indexed, as in w[0]")
        if isinstance(node.slice, ast.Slice):
            if node.slice.step is not None:
                self.refuse(node, "a slice of w takes no step")
            part = slice(self._index(node.slice.lower), self._index(node.slice.upper))
            return _Term(lambda values: values[VECTOR][..., part], is_vector=True)
        index = self._index(node.slice)
        return _Term(lambda values: values[VECTOR][..., index])

    def _index(self, node: ast.expr | None) -> int | None:
        if node is None:
            return None
        inner = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
        if not (isinstance(inner, ast.Constant) and type(inner.value) is int and inner.value < 2**31):
            self.refuse(node, "expected a whole number as index of w")
        return inner.value if inner is node else -inner.value

    def _condition(self, node: ast.expr, depth: int) -> _Term:
        match node:
            case ast.UnaryOp(op=ast.Not()):
                return self._apply(node, operator.not_, [self.term(node.operand, depth)])
            case ast.BoolOp():
                terms = [self.term(value, depth) for value in node.values]
                decide = all if isinstance(node.op, ast.And) else any
                return _Term(lambda values: decide(term.compute(values) for term in terms))
            case ast.Compare(ops=[ast.Eq() | ast.NotEq() as op], comparators=[ast.Constant(value=str(text))]) if (
                name := _name_of(node.left)
            ):
                self.texts.add(name)
                return _Term(lambda values: COMPARISONS[type(op)](values[name], text))
            case ast.Compare() if all(type(op) in COMPARISONS for op in node.ops):
                sides = [self.term(side, depth) for side in (node.left, *node.comparators)]
                holds = [COMPARISONS[type(op)] for op in node.ops]
                return _Term(lambda values: _chain(holds, [side.compute(values) for side in sides]))
        self.refuse(node, f"{_described(node)} is not allowed in a condition")

    def _apply(self, node: ast.expr, function: Callable[..., Any], terms: list[_Term]) -> _Term:
        function = bounded(function) if self._conditions else function
        is_vector = any(term.is_vector for term in terms)
        parts = [_as_column(term) if is_vector and not term.is_vector else term.compute for term in terms]
        if any(term.constant is None for term in terms):
            return _Term(lambda values: function(*(part(values) for part in parts)), is_vector)
        try:
            value = float(function(*(part({}) for part in parts)))
        except (ArithmeticError, ValueError, TypeError) as error:  # TypeError: float() of a complex number
            self.refuse(node, f"has no value ({error})")
        return _Term(lambda _values: value, constant=value)


def _name_of(node: ast.expr) -> str | None:
    """Return the possibly dotted name that a part of the tree is; None if it is not a name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=owner, attr=name) if (before := _name_of(owner)) is not None:
            return f"{before}.{name}"
    return None


def _as_column(term: _Term) -> Callable[[Values], Any]:
    """Return a computation whose numbers `(...)` broadcast with vectors `(..., dim)`."""

    def column(values: Values) -> Any:
        value = term.compute(values)
        return value if isinstance(value, int | float) else value[..., None]

    return column


def _chain(holds: Sequence[Callable[..., Any]], sides: Sequence[Any]) -> bool:
    return all(bool(hold(sides[place], sides[place + 1])) for place, hold in enumerate(holds))


DESCRIBED: dict[type[ast.AST], str] = {
    ast.Attribute: "an attribute",
    ast.Call: "a call of something that is not a name",
    ast.Lambda: "a lambda",
    ast.IfExp: "a condition",
    ast.Compare: "a comparison",
    ast.BoolOp: "a condition",
    ast.JoinedStr: "text",
    ast.NamedExpr: "an assignment",
    ast.List: "a list",
    ast.Tuple: "a tuple",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
}


def _described(node: ast.AST) -> str:
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return "a comprehension"
    return DESCRIBED.get(type(node), "this operator" if isinstance(node, ast.BinOp | ast.UnaryOp) else "this")
