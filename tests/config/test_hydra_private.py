"""Hydra's private parts that the runner uses work as expected; each test names the missing public interface."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import hydra._internal.hydra as hydra_main
import hydra.core.utils as hydra_utils
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode
from omegaconf import Container, DictConfig, ListConfig, OmegaConf

from runner.config import hydra_private as private
from tests.config.private_names import private_uses, uses

COVERED: dict[str, str] = {}


class Sweeping(Sweeper):
    """A sweeper of a module that is not in `hydra_plugins`."""

    def __init__(self, size: int) -> None:
        self.size = size

    def setup(self, **_named: Any) -> None:
        """Take nothing."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("defaults: [db: one, _self_]\na: 1\n")
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "one.yaml").write_text("host: here\n")
    (tmp_path / "db" / "loop.yaml").write_text("defaults: [loop]\n")
    return tmp_path


def composed(loader: type[ConfigLoaderImpl], folder: Path, *overrides: str) -> DictConfig:
    path = private.create_config_search_path(str(folder))
    cfg = loader(path).load_configuration("config", list(overrides), RunMode.RUN)
    return OmegaConf.masked_copy(cfg, [key for key in map(str, cfg) if key != "hydra"])


def parsed(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


@uses(
    COVERED,
    *("hydra._internal.config_loader_impl.ConfigLoaderImpl", "hydra._internal.utils.create_config_search_path"),
    because="hydra.compose needs Hydra's global state, which threads share; the loader itself has no public name",
)
def test_a_config_is_composed_without_global_state_as_by_hydra_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hydra_main, "ConfigLoaderImpl", ConfigLoaderImpl)
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        expected = hydra.compose("config", ["a=2"])
    assert composed(private.HookedConfigLoader, folder, "a=2") == expected == {"a": 2, "db": {"host": "here"}}


@uses(
    COVERED,
    *("_parse_overrides_and_create_caching_repo", "_process_config_searchpath", "_load_configuration_impl"),
    *("_compose_config_from_defaults_list", "hydra._internal.config_repository.CachingConfigRepository"),
    because="none of the steps of a composition can be given or observed",
)
def test_steps_of_a_composition_are_changed(folder: Path) -> None:
    class Loader(private.HookedConfigLoader):
        steps: list[str] = []  # noqa: RUF012

        def parse(self, overrides: list[str]) -> list[Override]:
            self.steps.append("parse")
            return super().parse([text.replace("alpha", "a") for text in overrides])

        def open_repository(self, config_name: str | None, parsed: list[Override]) -> private.CachingConfigRepository:
            self.steps.append("open")
            return super().open_repository(config_name, parsed)

        def compose_unchecked(self, *arguments: Any, **named: Any) -> DictConfig:
            self.steps.append("compose")
            return super().compose_unchecked(*arguments, **named)

        def merge_files(self, defaults: list[Any], repository: private.IConfigRepository) -> DictConfig:
            self.steps.append("merge")
            return super().merge_files(defaults, repository)

    assert composed(Loader, folder, "alpha=3").a == 3
    assert Loader.steps == ["compose", "parse", "open", "merge"]


@uses(
    COVERED,
    *("hydra._internal.config_repository.ConfigRepository", "hydra._internal.config_repository.IConfigRepository"),
    *("_find_object_source", "_extract_defaults_list", "_create_defaults_list"),
    because="Hydra checks a defaults list where its file is no longer known, and says nothing of a source's place",
)
def test_defaults_lists_can_be_observed_while_they_are_read(folder: Path) -> None:
    seen: list[Any] = []

    class Repository(private.HookedConfigRepository):
        def take_defaults(self, config_path: str, cfg: Container) -> ListConfig:
            seen.append(config_path)
            return super().take_defaults(config_path, cfg)

        def read_defaults(self, config_path: str, items: ListConfig) -> list[Any]:
            seen.append(OmegaConf.to_container(items))
            return super().read_defaults(config_path, items)

    repository = Repository(private.create_config_search_path(str(folder)))
    assert isinstance(repository, private.IConfigRepository)
    loaded = repository.load_config("config")
    assert loaded is not None
    assert seen == ["config", [{"db": "one"}, "_self_"]]
    assert [type(default).__name__ for default in loaded.defaults_list or ()] == ["GroupDefault", "ConfigDefault"]
    source = repository.source_of("db/one")
    assert source is not None
    assert source.path == str(folder)
    assert repository.source_of("db/two") is None


@uses(
    COVERED,
    *("hydra._internal.core_plugins.file_config_source.FileConfigSource", "_read_config", "_normalize_file_name"),
    *("hydra._internal.core_plugins.importlib_resources_config_source.ImportlibResourcesConfigSource",),
    *("_get_header_dict",),
    because="OmegaConf.load of this version bounds neither depth nor aliases, and a source takes no other reader",
)
def test_sources_read_files_in_another_way(folder: Path) -> None:
    class Source(private.HookedPackageSource):
        def read_resource(self, resource: Any) -> ConfigResult:
            found = super().read_resource(resource)
            found.config["read"] = resource.name
            return found

    package = Source("test", "pkg://hydra.conf")
    assert package.load_config("hydra/output/default").config["read"] == "default.yaml"
    assert private.FileConfigSource("test", str(folder)).load_config("db/one").config == {"host": "here"}
    assert private.config_file_name("db/one") == "db/one.yaml"
    assert private.header_of("# @package _global_\na: 1")["package"] == "_global_"


@uses(COVERED, "hydra._internal.hydra", "hydra_main.ConfigLoaderImpl", because="hydra.main takes no loader")
def test_the_loader_of_hydra_main_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader(private.HookedConfigLoader):
        def compose_unchecked(self, *arguments: Any, **named: Any) -> DictConfig:
            raise ConfigCompositionException("wrapped")

    monkeypatch.setattr(hydra_main, "ConfigLoaderImpl", ConfigLoaderImpl)
    monkeypatch.setattr("sys.argv", ["program"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    private.use_config_loader(Loader)
    with pytest.raises(ConfigCompositionException, match="wrapped"):
        hydra.main(config_path=str(folder), config_name="config", version_base="1.3")(print)()


@uses(
    COVERED,
    *("overrides_parser.create_functions", "hydra._internal.grammar.functions.Functions"),
    *("hydra._internal.grammar.grammar_functions",),
    because="functions in overrides cannot be registered, and those of Hydra cannot be called",
)
def test_functions_in_overrides_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    def functions() -> private.Functions:
        found = private.original_functions()
        found.register("double", lambda value: 2 * value)
        return found

    monkeypatch.setattr(overrides_parser, "create_functions", private.original_functions)
    private.use_override_functions(functions)
    assert parsed("a=double(3)").value() == 6
    assert private.grammar_functions.cast_int("7") == 7


@uses(
    COVERED,
    "plugins.class_name_to_class",
    because="Hydra takes a target in the package hydra_plugins alone, and imports the class by its own module and name",
)
def test_a_plugin_outside_hydra_plugins_is_instantiated() -> None:
    plugins = Plugins.instance()
    names, kinds = dict(plugins.class_name_to_class), [*plugins.plugin_type_to_subclass_list[Sweeper]]
    try:
        private.register_plugin(plugins, Sweeping, "hydra_plugins.mine.Sweeping")
        assert Sweeping in plugins.discover(Sweeper)
        config = OmegaConf.create({"hydra": {"sweeper": {"_target_": "hydra_plugins.mine.Sweeping", "size": 3}}})
        context = HydraContext(config_loader=None, callbacks=None)  # type: ignore[arg-type]
        made = plugins.instantiate_sweeper(hydra_context=context, task_function=print, config=config)
        assert isinstance(made, Sweeping)
        assert made.size == 3
    finally:
        plugins.class_name_to_class = names
        plugins.plugin_type_to_subclass_list[Sweeper] = kinds


@uses(COVERED, "_value", because="value() takes quotes away, and an override has no method that sets another value")
def test_the_value_of_an_override_is_read_and_changed() -> None:
    override = parsed("a='1',2")
    one = private.override_with(override, QuotedString("1", Quote.single))
    assert (one.get_value_element_as_str(), one.value(), one.is_sweep_override()) == ("'1'", "1", False)
    assert private.raw_override_value(one) == QuotedString("1", Quote.single)
    assert (one.key_or_group, one.type, one.input_line) == (override.key_or_group, override.type, None)


@uses(COVERED, "_save_config", "hydra_utils._save_config", because="callbacks cannot change the files in output_subdir")
def test_the_writer_of_files_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hydra_utils, "_save_config", hydra_utils._save_config)
    written: list[str] = []
    private.replace_file_writer(lambda _cfg, name, _folder: written.append(name))
    hydra_utils._save_config(OmegaConf.create({"a": 1}), "a.yaml", tmp_path)
    assert written == ["a.yaml"]
    assert "_save_config" in hydra_utils.run_job.__code__.co_names


@uses(
    COVERED,
    *("_return_value", "hydra_utils.JobReturn.return_value"),
    because="to read what a failed job returned is to raise it, after a line with all overrides as they were typed",
)
def test_the_message_of_a_failed_job_is_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(JobReturn, "return_value", JobReturn.return_value)
    shown: list[Sequence[str]] = []
    private.replace_failure_message(shown.append)
    failed = JobReturn(overrides=["a=1"], status=JobStatus.FAILED)
    failed.return_value = KeyError("x")
    with pytest.raises(KeyError, match="x"):
        _ = failed.return_value
    assert isinstance(private.failure_of(failed), KeyError)
    done = JobReturn(status=JobStatus.COMPLETED)
    done.return_value = 3
    assert (done.return_value, shown, capsys.readouterr().err) == (3, [["a=1"]], "")


@uses(
    COVERED,
    *("hydra._internal.defaults_list", "_create_defaults_tree_impl", "hydra._internal.defaults_list.DefaultsList"),
    because="errors in a defaults list do not say in which file and item they are",
)
def test_an_error_in_a_defaults_list_has_the_expected_frames(folder: Path) -> None:
    loader = private.HookedConfigLoader(private.create_config_search_path(str(folder)))
    defaults = loader.compute_defaults_list("config", [], RunMode.RUN)
    assert isinstance(defaults, private.DefaultsList)
    assert "db/one" in [default.config_path for default in defaults.defaults]
    (folder / "unused.yaml").write_text("defaults: [config, override dbs: one]\n")
    (folder / "twice.yaml").write_text("defaults: [db: one, /db: one]\n")
    for name, override, function in (
        ("config", "db=loop", private.WALKS_DEFAULTS),
        ("config", "db=two", private.WALKS_DEFAULTS),
        ("unused", "a=1", private.CHECKS_OVERRIDES_USED),
        ("twice", "a=1", private.CHECKS_DUPLICATES),
    ):
        with pytest.raises((ConfigCompositionException, MissingConfigException, RecursionError)) as raised:
            loader.compute_defaults_list(name, [override], RunMode.RUN)
        frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
        assert function in [frame.f_code for frame in frames]
        assert any("caching_repo" in frame.f_locals for frame in frames)


@uses(
    COVERED, "hydra._internal.utils.get_args_parser", "_actions", because="the names of Hydra's flags cannot be listed"
)
def test_hydra_has_the_expected_flags() -> None:
    parser = private.flag_parser()
    assert parser.parse_args(["-m", "a=1"]).multirun is True
    assert {"--multirun", "-m", "--cfg", "--info"} <= {*private.flag_names(parser)}


def test_hydras_sweeper_has_the_expected_name(folder: Path) -> None:
    loader = private.HookedConfigLoader(private.create_config_search_path(str(folder)))
    cfg = loader.load_configuration("config", [], RunMode.MULTIRUN)
    assert cfg.hydra.sweeper._target_ == private.BASIC_SWEEPER


def test_each_private_use_has_a_test() -> None:
    assert private_uses(Path(str(private.__file__))) == set(COVERED)
