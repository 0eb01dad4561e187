"""Only the two modules made for it use what is private in Hydra and OmegaConf."""

import ast
from collections.abc import Iterator
from pathlib import Path

import omegaconf
import pytest

from runner.config import hydra_private, omegaconf_private
from tests.config.private_names import imports, is_private, private_imports, replaced
from tests.conftest import ROOT

PRIVATE = {Path(module.__file__) for module in (hydra_private, omegaconf_private) if module.__file__}
CLASSES = [
    *(value for value in vars(hydra_private).values() if isinstance(value, type)),
    *(omegaconf_private.BaseContainer, omegaconf.DictConfig, omegaconf.ListConfig, omegaconf.AnyNode),
]
# All the private names that an object of Hydra's or OmegaConf's has.
THEIRS = {name for kind in CLASSES for name in dir(kind) if is_private(name)} | {"_value", "_return_value", "_content"}
OTHERS = sorted(path for path in (ROOT / "runner").rglob("*.py") if path not in PRIVATE)


def used_names(tree: ast.Module) -> Iterator[str]:
    """Yield names after a dot, in quotes and of overridden methods, but for those of the module's own classes."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = {item.name for kind in classes for item in kind.body if isinstance(item, ast.FunctionDef)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in methods:
                continue
            case ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                yield name
    for kind in classes:
        if kind.bases:
            yield from (item.name for item in kind.body if isinstance(item, ast.FunctionDef))


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_uses_private_names(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert private_imports(tree) | replaced(tree) == set()
    assert "hydra._internal" not in text
    if {*imports(tree)} or "hydra_private" in text or "omegaconf_private" in text:
        assert THEIRS & {*used_names(tree)} == set()
