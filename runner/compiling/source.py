"""The C++ source of a program: a loop over steps for the vectors of runs of a tile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runner.compiling.nodes import Node, Nodes

KEPT_BYTES = 256 * 1024
MOST_VECTORS = 64
VECTOR_BYTES = {"F": 64, "I": 64, "M": 64, "D": 128, "L": 128}
MKL = {
    "sqrt": "Sqrt", "exp": "Exp", "log": "Ln", "sin": "Sin", "cos": "Cos", "tan": "Tan", "tanh": "Tanh", "acos": "Acos",
    "asin": "Asin", "atan": "Atan", "erf": "Erf", "log2": "Log2", "log10": "Log10",
}  # fmt: skip
SLEEF = {"expm1": "expm1", "log1p": "log1p", "sinh": "sinh", "cosh": "cosh", "exp2": "exp2"}
SLEEF_TWO = {"power": ("pow", "std::pow"), "atan2": ("atan2", "std::atan2")}
REMEMBERED = "power"
WITH_EXP = ("sigmoid", "softplus", "softplus_backward")
RARE = {
    "softplus": "template <class V> IN V softplus(V x, V beta, V limit) { V y = mul(x, beta); "
    "return where(gt(y, limit), x, div(sleef_log1p(sleef_exp(y)), beta)); }",
    "softplus_backward": "template <class V> IN V softplus_backward(V g, V x, V beta, V limit) { V y = mul(x, beta); "
    "V z = sleef_exp(y); return where(gt(y, limit), g, div(mul(g, z), add(z, one(z)))); }",
    "sigmoid": "template <class V> IN V sigmoid(V x) { return reciprocal(add(one(x), sleef_exp(sub(zero(x), x)))); }",
}


@dataclass(frozen=True)
class Assigned:
    """A node that is stored: as a number of an output, or of the next state.

    Attributes:
        number: of the output or state.
        item: the place in its tensor.
        node: what is stored.
    """

    number: int
    item: int
    node: int


@cache
def header() -> str:
    """Return the source of the vectors."""
    return Path(__file__).with_name("vectors.h").read_text(encoding="utf-8")


def source_of(nodes: Nodes, outputs: Sequence[Assigned], after: Sequence[Assigned]) -> str:
    """Return the source of the program that computes outputs and the state after each step."""
    return _Source(nodes, outputs, after).text()


class _Source:
    """The numbers of a step in stages: a library's functions are called for all vectors of a tile between two."""

    def __init__(self, nodes: Nodes, outputs: Sequence[Assigned], after: Sequence[Assigned]) -> None:
        self._nodes = nodes.nodes
        self._outputs = outputs
        self._after = after
        self._next = {f"{one.number},{one.item}": one for one in after}
        self._states = [index for index, node in enumerate(self._nodes) if node.call == "state"]
        self._used = self._needed([*self._states, *[one.node for one in (*outputs, *after)]])
        self._literals = [index for index in self._used if self._nodes[index].call == "literal"]
        self._fixed = self._constant_nodes()
        self._stage: dict[int, int] = {}

    def _needed(self, wanted: Sequence[int]) -> list[int]:
        found, todo = set[int](), list(wanted)
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo += self._nodes[node].arguments
        return sorted(found)

    def _constant_nodes(self) -> set[int]:
        """Return the nodes that are the same in all steps, but the literals."""
        literals, fixed = set(self._literals), set[int]()
        for index in self._used:
            node = self._nodes[index]
            is_read = node.call in ("input", "state")
            if index not in literals and not is_read and all(one in fixed | literals for one in node.arguments):
                fixed.add(index)
        return fixed

    def text(self) -> str:
        """Return the source."""
        before = [index for index in self._used if index in self._fixed]
        changing = set(self._used) - self._fixed - set(self._literals) - set(self._states)
        within = [index for index in self._used if index in changing]
        asked = self._asked(within) | {one.node for one in (*self._outputs, *self._after)}
        kept = [index for index in before if index in asked]
        stages, passed = self._in_stages(within, {*kept, *self._states})
        self._memory = {*kept, *self._states, *passed}
        begin, _ = self._in_stages(before, set())
        lines = [
            self._functions(),
            'extern "C" void descend(long steps, long runs, long first, long last, const Ref *constant, '
            "const Ref *input, const Ref *state, const Ref *after, const Ref *output) {",
            "  const OneThread of_mkl;",
            *self._declared(before, within),
            "  for (long tile = first; tile < last; tile += VECTORS * LANES) {",
            "    const int vectors = (int)std::min<long>(VECTORS, (last - tile + LANES - 1) / LANES);",
            "    {",
            "      const long step = 0;",
            *[line for number, stage in enumerate(begin) for line in self._loop(number, stage, 0)],
            *self._vectors([f"m{index}[k] = {self._read(self._nodes[index])};" for index in self._states]),
            "    }",
            "    for (long step = 0; step < steps; ++step) {",
            *[line for number, stage in enumerate(stages) for line in self._loop(number, stage, len(stages))],
            "    }",
            "    const long step = 0;",
            *self._vectors([self._stored("after", one, f"m{index}[k]") for index, one in self._last()]),
            "  }",
            "}",
        ]
        return "\n".join(lines) + "\n"

    def _asked(self, nodes: Iterable[int]) -> set[int]:
        return {argument for index in nodes for argument in self._nodes[index].arguments}

    def _declared(self, before: Sequence[int], within: Sequence[int]) -> list[str]:
        """Return the memory of a tile: the numbers of all its vectors that outlive a loop over these."""
        size = sum(VECTOR_BYTES[self._nodes[index].letter] for index in self._memory) or 1
        lines = [f"  constexpr int VECTORS = {max(1, min(MOST_VECTORS, KEPT_BYTES // size))};"]
        lines += [f"  {self._nodes[index].letter} m{index}[VECTORS];" for index in sorted(self._memory | set(before))]
        remembered = [index for index in within if self._nodes[index].call == REMEMBERED]
        return lines + [f"  Last<{self._nodes[index].letter}> last{index};" for index in remembered]

    def _in_stages(self, nodes: Sequence[int], ready: set[int]) -> tuple[list[list[int]], set[int]]:
        """Return nodes by stage, and those that a later stage needs; a library's functions are last in theirs."""
        stage: dict[int, int] = {}
        for index in nodes:
            earlier = [
                stage[one] + (self._nodes[one].call in MKL) for one in self._nodes[index].arguments if one in stage
            ]
            stage[index] = max(earlier, default=0)
        count = max(stage.values(), default=0) + 1
        passed = {
            one
            for index in nodes
            for one in self._nodes[index].arguments
            if one in stage and (stage[one] < stage[index] or self._nodes[index].call in MKL)
        }
        stored = {one.node for one in (*self._outputs, *self._after)}
        passed |= {index for index in nodes if self._nodes[index].call in MKL}
        passed |= {index for index in nodes if index in stored and stage[index] < count - 1}
        return [[index for index in nodes if stage[index] == number] for number in range(count)], passed - ready

    def _loop(self, number: int, stage: Sequence[int], count: int) -> list[str]:
        """Return a loop over the vectors, then calls of a library; `count`, of the stages, is 0 before the steps."""
        plain = [index for index in stage if self._nodes[index].call not in MKL]
        calls = [index for index in stage if self._nodes[index].call in MKL]
        asked = self._asked((*plain, *calls))
        is_last = count > 0 and number == count - 1
        if is_last:
            asked |= {one.node for one in (*self._outputs, *self._after)}
        literals = [index for index in self._literals if index in asked]
        remembered = self._memory if count > 0 else self._memory | set(self._used)
        own = {*plain, *calls}
        read = sorted(index for index in asked if index in remembered and index not in own and index not in literals)
        lines = [self._line(index) for index in literals]
        lines += [f"const {self._nodes[index].letter} v{index} = m{index}[k];" for index in read]
        lines += [self._line(index) for index in plain]
        lines += [f"m{index}[k] = v{index};" for index in plain if index in remembered]
        lines += [f"m{index}[k] = v{self._nodes[index].arguments[0]};" for index in calls]
        if is_last:
            lines += [self._stored("output", one, f"v{one.node}") for one in self._outputs]
            lines += [
                f"m{index}[k] = v{self._next[self._nodes[index].text].node};"
                for index in self._states
                if self._next[self._nodes[index].text].node != index
            ]
        return [*self._vectors(lines), *[f"      {self._nodes[index].call}(m{index}, vectors);" for index in calls]]

    def _vectors(self, lines: Sequence[str]) -> list[str]:
        """Return a loop over the vectors of the tile."""
        return [
            "      for (int k = 0; k < vectors; ++k) {",
            "        const long row = tile + k * LANES;",
            "        const int count = (int)std::min<long>(LANES, runs - row);",
            "        (void)row; (void)count; (void)step;",
            *[f"        {line}" for line in lines],
            "      }",
        ]

    def _functions(self) -> str:
        calls = {self._nodes[index].call for index in self._used}
        lines = [header(), "#include <algorithm>"]
        lines += [f"OF_MKL({name}, {of_mkl})" for name, of_mkl in MKL.items() if name in calls]
        lines += [
            f"OF_SLEEF({name})\ntemplate <class V> IN V {name}(V x) {{ return sleef_{name}(x); }}"
            for name in SLEEF
            if name in calls
        ]
        if "softplus" in calls and "log1p" not in calls:
            lines.append("OF_SLEEF(log1p)")
        lines += [f'OF_SLEEF_TWO({name}, "{a}", {b})' for name, (a, b) in SLEEF_TWO.items() if name in calls]
        if "remainder" in calls:
            lines.append("OF_SLEEF_NAMED(fmod_of, FMOD_F, FMOD_D, std::fmod)\nOF_REMAINDER(remainder, fmod_of)")
        if calls & set(WITH_EXP):
            lines.append("OF_SLEEF(exp)")
        lines += [text for name, text in RARE.items() if name in calls]
        return "\n".join(lines)

    def _line(self, index: int) -> str:
        node = self._nodes[index]
        arguments = ", ".join(f"v{argument}" for argument in node.arguments)
        if node.call == "literal":
            made = f"all_{node.letter}({node.text})"
        elif node.call in ("constant", "input", "held"):
            made = self._read(node)
        elif node.call == REMEMBERED and index not in self._fixed:
            made = f"remembered({arguments}, last{index}, [](auto x, auto y) {{ return {node.call}(x, y); }})"
        else:
            made = f"{node.call}({arguments})"
        return f"const {node.letter} v{index} = {made}; (void)v{index};"

    def _read(self, node: Node) -> str:
        where = "state" if node.call == "held" else node.call
        step = "step" if node.call == "input" else "0"
        number, item = node.text.split(",")
        return f"load_{node.letter}({where}[{number}], {step}, row, {item}, count)"

    def _stored(self, where: str, one: Assigned, value: str) -> str:
        return f"store_{self._nodes[one.node].letter}({where}[{one.number}], {value}, step, row, {one.item}, count);"

    def _last(self) -> list[tuple[int, Assigned]]:
        """Return the states with where they are stored after the last step."""
        return [(index, self._next[self._nodes[index].text]) for index in self._states]
