"""The numbers that a step computes for one row, as expressions in C++."""

from dataclasses import dataclass, field

import torch

from runner.compiling.recording import CannotCompileError

MOST_NODES = 2500
# For each dtype: the letter of its vectors in the source.
LETTERS = {torch.float32: "F", torch.float64: "D", torch.int64: "L", torch.int32: "I", torch.bool: "M"}


def letter_of(dtype: torch.dtype) -> str:
    """Return the letter of a dtype's vectors.

    Raises:
        CannotCompileError: there are no such vectors.
    """
    if dtype not in LETTERS:
        raise CannotCompileError(f"it computes with {str(dtype).removeprefix('torch.')}")
    return LETTERS[dtype]


# Numbers that are the same in all dtypes, by how they are written.
SIMPLE = {float(value).hex(): value for value in range(-8, 9)}


@dataclass(frozen=True)
class Node:
    """A number of one row.

    Attributes:
        call: the function in the source that computes it, or where it is read from.
        arguments: the nodes that it is computed from.
        text: further arguments as source.
        letter: of its dtype.
    """

    call: str
    arguments: tuple[int, ...]
    text: str
    letter: str


@dataclass
class Nodes:
    """All numbers of a step; equal ones are one node. Node 0 is the number 0, of any dtype."""

    nodes: list[Node] = field(default_factory=lambda: [Node("literal", (), "0", "F")])
    inexact: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._known = {node: index for index, node in enumerate(self.nodes)}

    def add(self, call: str, arguments: tuple[int, ...], letter: str, text: str = "") -> int:
        """Return the node of an expression.

        Raises:
            CannotCompileError: there are too many.
        """
        if call == "same":
            return arguments[0]
        node = Node(call, arguments, text, letter)
        if node not in self._known:
            if len(self.nodes) >= MOST_NODES:
                raise CannotCompileError(f"a step computes more than {MOST_NODES:,} numbers a run")
            self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return self._known[node]

    def literal(self, value: float | int | bool, letter: str) -> int:
        """Return the node of a number that is known."""
        return self.add("literal", (), letter, _text(value, letter))

    def cast(self, node: int, letter: str) -> int:
        """Return a node as another dtype."""
        found = self.nodes[node]
        if found.letter == letter:
            return node
        if node == 0:
            return self.literal(0, letter)
        if found.call == "literal" and found.text in SIMPLE:
            return self.literal(SIMPLE[found.text], letter)
        return self.add(f"to_{letter}", (node,), letter)

    def as_vector(self, node: int, letter: str) -> int:
        """Return the zero node in the dtype of its tensor, any other node as it is."""
        return self.literal(0, letter) if node == 0 else node


def _text(value: float | int | bool, letter: str) -> str:
    if letter in "LI":
        return f"{int(value)}LL" if int(value) != -(2**63) else "(-9223372036854775807LL-1)"
    if letter == "M":
        return "-1" if value else "0"
    if letter == "F":
        value = float(torch.tensor(value, dtype=torch.float32))
    if value != value:
        return "(double)NAN"
    if value in (float("inf"), float("-inf")):
        return "(double)INFINITY" if value > 0 else "-(double)INFINITY"
    return float(value).hex()
