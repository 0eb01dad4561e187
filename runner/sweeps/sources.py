"""The source that a function of the user's is made of: its own module, and those of the user's that it imports."""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from runner.messages.errors import UserError
from runner.process.user_code import is_user_code


def sources_of(target: str) -> dict[str, str]:
    """Return digests of all the source that `package.module:function` depends on, by the names of the modules.

    Those are the module, the one that defines the function where it is only named here, and the user's own modules that
    these import, anywhere in them, and so on. Installed packages and files of data are not among them, nor what is
    imported under a name that is made while the function runs.
    """
    from runner.objectives.imported import import_function  # which knows torch

    named = target.partition(":")[0]
    found: dict[str, str] = {}
    try:
        function = import_function(target)
    except UserError:  # told when the job is looked at
        return found
    home = _home(function)
    if _file_of(home) is None:  # typed into a notebook
        found[home] = _digest(_text_of(function))
    waiting = [named, home]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None or not (is_user_code(str(path)) or name in (named, home)):
            continue
        content = path.read_bytes()
        found[name] = _digest(content)
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        waiting += _imports_in(content, package)
    return found


def _home(function: Callable[..., Any]) -> str:
    """Return the name of the module that defines a function, under whatever wraps it."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    module = getattr(function, "__module__", None) or type(function).__module__
    return str(module)


def _text_of(function: Callable[..., Any]) -> bytes:
    with contextlib.suppress(OSError, TypeError):
        return inspect.getsource(function).encode()
    code = getattr(function, "__code__", None)
    return repr(code and (code.co_code, code.co_consts, code.co_names)).encode()


def _imports_in(content: bytes, package: str) -> Iterator[str]:
    """Yield the full names of all that a module of a package may import, and of the packages that these lie in."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # compiled, or not Python's
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]  # a module of that name, or something in the base
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


@functools.cache
def _file_of(name: str) -> Path | None:
    """Return the file of a module, found without importing it; None where there is none."""
    spec = _spec_of(name)
    path = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return path if path is not None and path.is_file() else None


def _spec_of(name: str) -> ModuleSpec | None:
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        loaded = getattr(sys.modules.get(name), "__spec__", None)
        if isinstance(loaded, ModuleSpec):
            return loaded
        parent, _, _ = name.rpartition(".")
        if not parent:
            return importlib.util.find_spec(name)
        package = _spec_of(parent)
        if package is not None and package.submodule_search_locations is not None:
            return PathFinder.find_spec(name, list(package.submodule_search_locations))
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
