"""Everything private of OmegaConf that the runner uses, and the methods that it replaces there.

No other module imports `omegaconf._utils` or `omegaconf.basecontainer`, or uses a name of OmegaConf's that begins with
an underscore. tests/config/test_omegaconf_private.py has a test for each entry, which says what public way is missing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import Node, OmegaConf
from omegaconf.basecontainer import BaseContainer as BaseContainer

try:
    from omegaconf._utils import get_yaml_loader
except ImportError:  # OmegaConf 2.4
    from omegaconf._yaml import get_yaml_loader  # type: ignore[import-not-found, no-redef]

original_save = OmegaConf.save
original_to_yaml = OmegaConf.to_yaml


def yaml_loader() -> Any:
    """Return the class of the YAML loader that OmegaConf reads files with."""
    return get_yaml_loader()


def replace_writers(to_yaml: Callable[..., str], save: Callable[..., None]) -> None:
    """Replace `OmegaConf.to_yaml` and `OmegaConf.save`, which Hydra calls, by these functions."""
    OmegaConf.to_yaml = staticmethod(to_yaml)  # type: ignore[method-assign]
    OmegaConf.save = staticmethod(save)  # type: ignore[method-assign]


def raw_value(value: Any) -> Any:
    """Return the unresolved value of a node, or the value itself if it is not a node."""
    return value._value() if isinstance(value, Node) else value


def set_class(container: Any, classes: Mapping[type, type]) -> Any:
    """Change the class of a container to the one given for it, and return it; its contents are not changed."""
    if type(container) in classes:
        object.__setattr__(container, "__class__", classes[type(container)])
    return container


def set_classes(container: BaseContainer, classes: Mapping[type, type]) -> None:
    """Change the class of a container, and of each container in it, to the one given for it."""
    set_class(container, classes)
    content = container.__dict__["_content"]
    for inner in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        if isinstance(inner, BaseContainer):
            set_classes(inner, classes)


class ResolvingContainer(BaseContainer):
    """A container whose subclasses can change how the interpolations in it are resolved."""

    def resolve_value(self, *arguments: Any, **named: Any) -> Any:
        """Resolve one value, given as OmegaConf has parsed it."""
        return super().resolve_parse_tree(*arguments, **named)

    def resolve_node(self, *arguments: Any, **named: Any) -> Node | None:
        """Resolve one interpolation to a node."""
        found: Node | None = super()._resolve_interpolation_from_parse_tree(*arguments, **named)
        return found

    def call_resolver(self, name: str, arguments: tuple[Any, ...], texts: tuple[str, ...], key: Any, node: Node) -> Any:
        """Return a resolver's result for its arguments; `texts` are the arguments as written."""
        return super()._evaluate_custom_resolver(key, node, name, arguments, texts)

    def cached_results(self, resolver: str) -> dict[Any, Any]:
        """Return the results of a resolver that are cached in the whole config, by the texts of its arguments."""
        cache: dict[Any, Any] = self._get_root()._metadata.resolver_cache[resolver]
        return cache

    def resolve_parse_tree(self, *arguments: Any, **named: Any) -> Any:
        """Resolve one value; OmegaConf calls this."""
        return self.resolve_value(*arguments, **named)

    def _resolve_interpolation_from_parse_tree(self, *arguments: Any, **named: Any) -> Node | None:
        return self.resolve_node(*arguments, **named)

    def _evaluate_custom_resolver(
        self, key: Any, node: Node, inter_type: str, inter_args: tuple[Any, ...], inter_args_str: tuple[str, ...]
    ) -> Any:
        return self.call_resolver(inter_type, inter_args, inter_args_str, key, node)
