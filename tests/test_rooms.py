"""The rooms of the package: imports run downwards only, and only some rooms import torch and MLflow."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "runner"
# From the bottom up: a module imports from its own room and from those before it here.
ROOMS = [
    "messages",
    "tensors",
    "formulas",
    "process",
    "compiling",
    "config",
    "untrusted",
    "composition",
    "objectives",
    "optimizers",
    "schedules",
    "engine",
    "tracking",
    "recorder",
    "reading",
    "report",
    "console",
    "execution",
    "launchers",
    "sweeps",
    "search",
    "plugins",
    "api",
    "rerun",
    "learn",
    "cli",
]
FACES = ["__init__", "__main__", "delete", "export", "reap", "replay", "ui"]
# The version is the package's own; nothing else of the faces may be imported from below.
VERSION = "runner.__version__"
NO_TORCH = [
    "messages",
    "process",
    "config",
    "untrusted",
    "composition",
    "tracking",
    "recorder",
    "reading",
    "report",
    "cli",
]
READS_THE_RECORD = ["recorder", "reading", "rerun", "ui"]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of every import of a module, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rank(room: str) -> int:
    return ROOMS.index(room) if room in ROOMS else len(ROOMS)


def test_every_module_is_in_a_room() -> None:
    assert {room_of(path) for path in modules()} == {*ROOMS, *FACES}


@pytest.mark.parametrize("room", ROOMS + FACES)
def test_imports_run_downwards(room: str) -> None:
    upwards = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules()
        if room_of(path) == room
        for line, name in imported(path)
        if name.startswith("runner.") and name != VERSION and not _is_below(room, name.split(".")[1])
    ]
    assert upwards == []


def _is_below(room: str, other: str) -> bool:
    return other == room or (other in ROOMS and rank(other) < rank(room))


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, in whatever number of steps."""
    reachable = {name: _reachable(graph, name) for name in graph}
    groups = {frozenset(other for other in reachable[name] if name in reachable.get(other, ())) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        for name in graph.get(todo.pop(), ()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def test_no_modules_import_each_other() -> None:
    names = {path: dotted(path) for path in modules()}
    known = set(names.values())
    graph: dict[str, set[str]] = {}
    for path, name in names.items():
        targets = {full if full in known else full.rpartition(".")[0] for _, full in imported(path)}
        graph[name] = targets & known - {name, "runner"}
    assert cycles(graph) == []


@pytest.mark.parametrize(("package", "allowed"), [("mlflow", READS_THE_RECORD), ("torch", None)])
def test_heavy_packages_are_imported_where_they_belong(package: str, allowed: list[str] | None) -> None:
    rooms = {room_of(path) for path in modules() for _, name in imported(path) if name.split(".")[0] == package}
    assert rooms <= ({*ROOMS} - {*NO_TORCH} if allowed is None else {*allowed})


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")]
    assert sorted(listed) == sorted([*found, "runner.conf"])


@pytest.mark.parametrize("package", sorted(PACKAGE.rglob("__init__.py")), ids=dotted)
def test_no_module_has_the_name_of_a_function_of_its_package(package: Path) -> None:
    defined = {node.name for node in ast.walk(ast.parse(package.read_text())) if isinstance(node, ast.FunctionDef)}
    assert defined & {path.stem for path in package.parent.iterdir()} == set()
