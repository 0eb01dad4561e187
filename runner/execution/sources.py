"""The source of a user's function: its module, and the user's own modules that this one imports."""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from runner.messages.errors import UserError
from runner.process.user_code import is_user_code


@dataclass(frozen=True)
class Source:
    """The source of a module.

    Attributes:
        content: its file, or the text of the function alone where that was typed into a notebook.
        file: its path in the record, as `package/module.py`; None where it is not the user's own Python text.
    """

    content: bytes
    file: str | None

    @property
    def digest(self) -> str:
        """The SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


def sources_of(target: str) -> dict[str, Source]:
    """Return all the source that `package.module:function` depends on, by the names of the modules.

    These are the module, the module that defines the function where the first only imports it, and the user's own
    modules that these import, directly or not. Not included are installed packages, data files, and modules imported
    under a name that is computed while the function runs.
    """
    from runner.objectives.imported import import_function  # imports torch

    named = target.partition(":")[0]
    found: dict[str, Source] = {}
    try:
        function = import_function(target)
    except UserError:  # reported when the job is checked
        return found
    defining = _defining_module(function)
    if _file_of(defining) is None:  # typed into a notebook
        text = _text_of(function)
        file = _path_of(defining) if text is not None and defining == "__main__" else None
        found[defining] = Source(_code_of(function) if text is None else text, file)
    waiting = [named, defining]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None or not (is_user_code(str(path)) or name in (named, defining)):
            continue
        content = path.read_bytes()
        is_own_text = path.suffix == ".py" and is_user_code(str(path))
        found[name] = Source(content, _path_of(name, path.stem == "__init__") if is_own_text else None)
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        waiting += _imports_in(content, package)
    return found


@functools.cache
def first_sources_of(target: str) -> dict[str, Source]:
    """Return `sources_of` as they were at the first call: an imported module stays as it is when its file changes."""
    return sources_of(target)


def _path_of(module: str, is_package: bool = False) -> str:
    return module.replace(".", "/") + ("/__init__.py" if is_package else ".py")


def _defining_module(function: Callable[..., Any]) -> str:
    """Return the name of the module that defines a function, without its wrappers."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    module = getattr(function, "__module__", None) or type(function).__module__
    return str(module)


def _text_of(function: Callable[..., Any]) -> bytes | None:
    with contextlib.suppress(OSError, TypeError):
        return inspect.getsource(function).encode()
    return None


def _code_of(function: Callable[..., Any]) -> bytes:
    code = getattr(function, "__code__", None)
    return repr(code and (code.co_code, code.co_consts, code.co_names)).encode()


def _imports_in(content: bytes, package: str) -> Iterator[str]:
    """Yield the full names of the modules that a module may import, and of the packages above them."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # compiled, or not Python
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]  # a module, or a name in one
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
