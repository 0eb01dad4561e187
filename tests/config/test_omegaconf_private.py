"""OmegaConf's private parts that the runner uses work as expected; each test names the missing public interface."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, ListConfig, Node, OmegaConf

from runner.config import omegaconf_private
from runner.config.omegaconf_private import ResolvingContainer, raw_value, replace_writers, set_class, set_classes
from tests.config.private_names import private_uses, uses

COVERED: dict[str, str] = {}


class Resolving(ResolvingContainer, DictConfig):
    """Counts and changes what is resolved in it."""

    def resolve_value(self, *arguments: Any, **named: Any) -> Any:
        return f"<{super().resolve_value(*arguments, **named)}>"

    def resolve_node(self, *arguments: Any, **named: Any) -> Node | None:
        self.__dict__.setdefault("seen", []).append("node")
        return super().resolve_node(*arguments, **named)

    def call_resolver(self, name: str, arguments: tuple[Any, ...], texts: tuple[str, ...], key: Any, node: Node) -> Any:
        return f"{name}{arguments}{texts} as {super().call_resolver(name, arguments, texts, key, node)}"


def resolving(values: dict[str, Any]) -> DictConfig:
    config = OmegaConf.create(values)
    set_classes(config, {DictConfig: Resolving})
    return config


@uses(
    COVERED,
    *("omegaconf._utils.get_yaml_loader", "omegaconf._yaml.get_yaml_loader"),
    because="the loader that refuses duplicate keys has no public name",
)
def test_the_yaml_loader_reads_as_omegaconf_does() -> None:
    read = yaml.load("a: 1e3\nb: 2020-01-01\nc: off", Loader=omegaconf_private.yaml_loader())
    assert read == OmegaConf.to_container(OmegaConf.create("a: 1e3\nb: 2020-01-01\nc: off"))
    assert read == {"a": 1000.0, "b": "2020-01-01", "c": False}
    with pytest.raises(yaml.YAMLError, match="duplicate key a"):
        yaml.load("a: 1\na: 2", Loader=omegaconf_private.yaml_loader())


@uses(
    COVERED, "OmegaConf.to_yaml", "OmegaConf.save", because="Hydra calls both, and neither takes a filter for secrets"
)
def test_the_writers_of_configs_are_replaced(tmp_path: Path) -> None:
    saved: list[Any] = []
    try:
        replace_writers(lambda _config, **_named: "written", lambda *given: saved.append(given))
        OmegaConf.save({"a": 1}, tmp_path / "a.yaml")
        assert (OmegaConf.to_yaml(OmegaConf.create({"a": 1})), len(saved)) == ("written", 1)
        assert omegaconf_private.original_to_yaml(OmegaConf.create({"a": 1})) == "a: 1\n"
    finally:
        replace_writers(omegaconf_private.original_to_yaml, omegaconf_private.original_save)
    OmegaConf.save({"a": 1}, tmp_path / "a.yaml")
    assert (tmp_path / "a.yaml").read_text() == "a: 1\n"


@uses(COVERED, "_value", because="a resolver's result is a node or not, and no function takes both to a plain value")
def test_the_value_of_a_node_is_read() -> None:
    class Keeps(ResolvingContainer, DictConfig):
        def resolve_value(self, *arguments: Any, **named: Any) -> Any:
            found.append(raw_value(super().resolve_value(*arguments, **named)))
            return found[-1]

    found: list[Any] = []
    config = set_class(OmegaConf.create({"a": 5, "b": "${a}", "c": "x${a}"}), {DictConfig: Keeps})
    assert (config.b, config.c, found) == (5, "x5", [5, "x5"])


@uses(COVERED, "_content", because="what is in a config is read resolved, or as copies")
def test_the_classes_of_all_containers_in_a_config_change() -> None:
    class Other(ResolvingContainer, DictConfig):
        pass

    config = OmegaConf.create({"a": {"b": [{"c": 1}]}, "d": "${a}", "e": None, "f": "???"})
    set_classes(config, {DictConfig: Other})
    assert [type(found) for found in (config, config.a, config.a.b, config.a.b[0])] == [Other, Other, ListConfig, Other]
    assert OmegaConf.to_container(config, resolve=False) == {
        "a": {"b": [{"c": 1}]}, "d": "${a}", "e": None, "f": "???",
    }  # fmt: skip


@uses(
    COVERED,
    *("omegaconf.basecontainer.BaseContainer", "_evaluate_custom_resolver", "_resolve_interpolation_from_parse_tree"),
    because="resolvers are registered for the whole process, and no hook sees or bounds what is resolved",
)
def test_interpolations_of_one_config_are_resolved_in_another_way() -> None:
    config = resolving({"a": "x${b}", "b": 1, "c": "${oc.select:b}"})
    assert config.a == "<x1>"
    assert config.c == "<oc.select('b',)('b',) as 1>"
    assert config.__dict__["seen"] == ["node"] * 2
    assert OmegaConf.create({"a": "x${b}", "b": 1}).a == "x1"


@uses(
    COVERED,
    "_get_root",
    "_metadata",
    because="OmegaConf.get_cache is public, but nothing leads from a part to the root",
)
def test_cached_results_are_those_of_the_whole_config() -> None:
    OmegaConf.register_new_resolver("counted", lambda *_: next(numbers), use_cache=True)
    numbers = iter(range(9))
    try:
        config = OmegaConf.create({"a": {"b": "${counted:x}"}})
        set_classes(config, {DictConfig: type("Plain", (ResolvingContainer, DictConfig), {})})
        assert (config.a.b, config.a.b) == (0, 0)
        assert config.a.cached_results("counted") == OmegaConf.get_cache(config)["counted"] == {("x",): 0}
    finally:
        OmegaConf.clear_resolver("counted")


def test_each_private_use_has_a_test() -> None:
    assert private_uses(Path(str(omegaconf_private.__file__))) == set(COVERED)
