"""The language of formulas: correct values, and refusal of everything else."""

import contextlib
import math
import operator
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner.formulas.functions import OF_NUMBERS
from runner.formulas.parser import DEEPEST, LONGEST, number, parse
from runner.messages.errors import UserError

Tree = tuple[str, Callable[[dict[str, float]], float]]
SMOOTH = ("sin", "cos", "tanh", "sigmoid", "abs")


def leaf(value: float) -> Tree:
    return repr(value), lambda _names: value


def named(name: str) -> Tree:
    return name, lambda names: names[name]


def joined(symbol: str, function: Callable[[float, float], float]) -> Callable[[Sequence[Tree]], Tree]:
    return lambda two: (
        f"({two[0][0]} {symbol} {two[1][0]})",
        lambda names: function(two[0][1](names), two[1][1](names)),
    )


def called(name: str) -> Callable[[Tree], Tree]:
    return lambda one: (f"{name}({one[0]})", lambda names: OF_NUMBERS[name](one[1](names)))


def grown(trees: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    pairs = st.tuples(trees, trees)
    return st.one_of(
        pairs.map(joined("+", operator.add)),
        pairs.map(joined("-", operator.sub)),
        pairs.map(joined("*", operator.mul)),
        trees.map(lambda one: (f"(-{one[0]})", lambda names: -one[1](names))),
        trees.map(lambda one: (f"({one[0]})**2", lambda names: one[1](names) ** 2)),
        *(trees.map(called(name)) for name in SMOOTH),
    )


LEAVES = st.one_of(st.floats(0, 3).map(leaf), st.sampled_from("xy").map(named))
TREES = st.recursive(LEAVES, grown, max_leaves=8)


@given(TREES, st.floats(-2, 2), st.floats(-2, 2))
def test_a_formula_has_the_value_of_its_tree(tree: Tree, x: float, y: float) -> None:
    text, value_of = tree
    names = {"x": x, "y": y}
    formula = parse(text, path="f", variables=["x", "y"])
    found = formula.evaluate(names)
    tensors = formula.evaluate({name: torch.tensor([value], dtype=torch.float64) for name, value in names.items()})
    assert float(found) == pytest.approx(float(tensors), rel=1e-9, abs=1e-9)
    assert float(found) == pytest.approx(value_of(names), rel=1e-9, abs=1e-9)


def test_variables_are_ordered_by_appearance_or_as_declared() -> None:
    text = "(1 - y)**2 + a*(x - y**2)**2 + pi - e"
    assert parse(text, path="f", constants=["a"]).variables == ("y", "x")
    assert parse(text, path="f", constants=["a"], variables=["x", "y"]).variables == ("x", "y")
    assert not parse("w**2 + 20", path="f").is_vector


def test_a_formula_of_a_vector_keeps_runs_apart() -> None:
    text = "a*sum(w**2 - cos(2*pi*w)) + mean(w) + norm(w) + w[0]*w[-1] + dot(w[1:], a*w[:-1])"
    formula = parse(text, path="f", constants=["a"])
    assert formula.is_vector
    weight, a = torch.rand(5, 4, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    together = formula.evaluate({"w": weight, "a": a})
    w = weight
    by_hand = (
        a * (w**2 - torch.cos(2 * math.pi * w)).sum(-1) + w.mean(-1) + w.norm(dim=-1) + w[:, 0] * w[:, -1]
        + a * (w[:, 1:] * w[:, :-1]).sum(-1)
    )  # fmt: skip
    assert torch.allclose(together, by_hand, rtol=1e-12)
    alone = [formula.evaluate({"w": weight[run], "a": a[run]}) for run in range(5)]
    assert torch.allclose(together, torch.stack(alone), rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "slope"),
    [("x**2", 0.0), ("x**(3 - 2)", 1.0), ("abs(x)", 0.0), ("maximum(x, -1, -2)", 1.0), ("exp(x)*sigmoid(x)", 0.75)],
)
def test_gradients_are_right_at_0(text: str, slope: float) -> None:
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(parse(text, path="f").evaluate({"x": x}), x)
    assert found == slope


FORBIDDEN = {
    "": r"f='': expected a formula.*",
    "x.real": r".*column 1: an attribute is not allowed in a formula.*",
    "1 + x.__class__": r".*column 5: an attribute .*",
    "__import__('os')": r".*column 1: function '__import__', expected one of .*",
    "(lambda: 1)()": r".*column 1: a call of something that is not a name .*",
    "[x for x in y]": r".*a comprehension is not allowed.*",
    "x if y else z": r".*a condition is not allowed.*",
    "x < y": r".*a comparison is not allowed.*",
    "1if x else 2": r".*column 1: invalid decimal literal",
    "(x := 3)": r".*an assignment is not allowed.*",
    "f'{x}'": r".*text is not allowed.*",
    "'a'": r".*'a', expected a number",
    "True": r".*True, expected a number",
    "x @ y": r".*this operator is not allowed.*",
    "x ^ 2": r".*\^ is not the power operator, write \*\*",
    "sinn(x)": r".*function 'sinn', .*; did you mean 'sin'\?",
    "sin": r".*sin is a function, write sin\(\.\.\.\)",
    "sin(x, y)": r".*sin takes one argument, given 2",
    "sin(*x)": r".*by position",
    "sin(x=1)": r".*by position",
    "minimum(x)": r".*minimum takes two or more arguments, given 1",
    "sum(x)": r".*sum takes one vector, made of w",
    "dot(w, 2)": r".*dot takes two vectors, made of w",
    "sum(w) + y": r".*column 10: name 'y', expected one of w, where w is the vector",
    "w*2 + sum(w)": r".*is a vector, expected a number.*",
    "w[1.5]": r".*expected a whole number as index of w",
    "w[::2]": r".*a slice of w takes no step",
    "x[0]": r".*only the vector w can be indexed.*",
    "_x": r".*name '_x', expected one that begins with a letter",
    "9**9**9": r".*column 4: power 3.8742e\+08, expected at most 1000",
    "x**5000": r".*column 4: power 5000, expected at most 1000",
    "1e999": r".*a number too large for a float",
    "9" * 500: r".*a number too large for a float",
    "1/0": r".*has no value \(float division by zero\)",
    "log(0)": r".*has no value .*",
    "x +": r".*column 4: invalid syntax",
    "x**2  # pull\n+ 10*(x+2)**2": r".*at column 7: # is not allowed in a formula: put comments before its key.*",
    "# pull\nx": r".*at column 1: # is not allowed.*",
    "x  # folded + 3": r".*at column 4: # is not allowed.*",
    "x \\\n+ 1": r".*column 4: unexpected character after line continuation character",
    "x; y": r".*column 2: invalid syntax",
    "x\0": r".*column 2: character '\\x00', expected plain ASCII",
    "\uff53in(x)": r".*column 1: character .*, expected plain ASCII",
    "(" * 150 + "x" + ")" * 150 + "+" * 100: r".*",
    "+".join(["x"] * (DEEPEST + 50)): r".*nested too deeply, expected at most 200 levels",
    "-" * 5000 + "x": r".*nested too deeply.*",
    "x" * (LONGEST + 1): r"f: 10,001 characters, expected at most 10,000",
}


@pytest.mark.parametrize("text", FORBIDDEN, ids=lambda text: repr(text[:20]))
def test_invalid_formulas_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=rf"\A(?:{FORBIDDEN[text]})\Z") as raised:
        parse(text, path="f")
    assert len(raised.value.lines) == 1
    assert "\n" not in raised.value.lines[0]


@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n  ", "\t", "\f"])
def test_a_formula_may_have_several_lines(between: str) -> None:
    text = f"{between}x**2{between}+ 10*({between}x+2)**2{between}"
    assert parse(text, path="f").evaluate({"x": 3.0}) == 259


def test_a_hash_in_a_string_does_not_start_a_comment() -> None:
    condition = parse("name == 'a#b' and not name == \"it's#\"", path="where", conditions=True)
    assert condition.evaluate({"name": "a#b"})
    with pytest.raises(UserError, match="at column 15: # is not allowed in a formula"):
        parse("name == 'a#b' # or so", path="where", conditions=True)


@given(st.text(max_size=30))
def test_any_text_is_a_formula_or_a_mistake(text: str) -> None:
    with contextlib.suppress(UserError):  # and no other error
        assert parse(text, path="f").text == text


def test_conditions_are_parsed_on_request() -> None:
    condition = parse(
        "lr*steps <= 100 and not (lr > 3 or lr == 2)", path="where", variables=["lr", "steps"], conditions=True
    )
    assert condition.evaluate({"lr": 0.1, "steps": 1000})
    assert not condition.evaluate({"lr": 0.1, "steps": 1001})
    assert not condition.evaluate({"lr": 2, "steps": 1})
    with pytest.raises(UserError, match="name 'stepz', expected one of lr, steps, pi, e; did you mean 'steps'"):
        parse("stepz < 3", path="where", variables=["lr", "steps"], conditions=True)


def test_a_number_may_be_given_as_a_formula() -> None:
    names: dict[str, Any] = {"n": 3.0, "i": 2.0}
    assert number(4, "p", names) == 4.0
    assert number("2**(-(2**i - 2) / 2**i)", "p", names) == pytest.approx(2**-0.5)
    with pytest.raises(UserError, match=r"p=1/\(i - 2\): has no value \(float division by zero\)"):
        number("1/(i - 2)", "p", names)
    with pytest.raises(UserError, match=r"p=\(0 - i\)\*\*0.5: has no value"):
        number("(0 - i)**0.5", "p", names)
    with pytest.raises(UserError, match=r"p=\(1000\*n\)\*\*n\*\*n\*\*n: has no value"):
        number("(1000*n)**n**n**n", "p", names)


def test_reading_a_formula_imports_no_torch() -> None:
    code = (
        "import sys; from runner.formulas.parser import parse;"
        " parse('x**2', path='f').evaluate({'x': 2}); print(*sys.modules)"
    )
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "torch" not in loaded
    assert "numpy" not in loaded
