"""The private names of Hydra and OmegaConf that a module uses, and the tests that name them."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
LIBRARIES = ("hydra", "omegaconf")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def uses(covered: dict[str, str], *names: str, because: str) -> Callable[[F], F]:
    """Mark a test as covering these private names, and name the missing public interface."""
    covered.update(dict.fromkeys(names, because))
    return lambda test: test


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the full name of each import from the libraries, and the name it has in the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            yield from ((f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            found = [alias for alias in node.names if alias.name.split(".")[0] in LIBRARIES]
            yield from ((alias.name, alias.asname or alias.name.split(".")[0]) for alias in found)


def private_imports(tree: ast.Module) -> set[str]:
    return {full for full, _ in imports(tree) if any(map(is_private, full.split("."))) or ".basecontainer" in full}


def private_attributes(tree: ast.Module) -> set[str]:
    """Return the private names after a dot, of keyword arguments and of methods, whatever they belong to."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) if is_private(name):
                found.add(name)
            case ast.Subscript(slice=ast.Constant(value=str(name))) if is_private(name):
                found.add(name)
            case ast.ClassDef():
                found |= {
                    item.name for item in node.body if isinstance(item, ast.FunctionDef) and is_private(item.name)
                }
    return found


def replaced(tree: ast.Module) -> set[str]:
    """Return the attributes of libraries that a module assigns to."""
    names = {name for _, name in imports(tree)} | {"plugins"}
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
    targets = [target.value if isinstance(target, ast.Subscript) else target for target in targets]
    attributes = [target for target in targets if isinstance(target, ast.Attribute)]
    return {ast.unparse(target) for target in attributes if ast.unparse(target).split(".")[0] in names}


def private_uses(path: Path) -> set[str]:
    """Return everything that needs a test: private imports, private attributes and what is replaced."""
    tree = ast.parse(path.read_text())
    return private_imports(tree) | private_attributes(tree) | replaced(tree)
