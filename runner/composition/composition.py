"""Hydra's composition, checked: every mistake in names, types and ranges told at once, in a line each."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from hydra.core.config_search_path import ConfigSearchPath
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.composition.defaults_errors import explained_defaults
from runner.composition.defaults_lists import one_of, told
from runner.composition.hydra_errors import FILE_ERRORS, OPEN, SWEEP_KEYS, explain
from runner.composition.hydra_output import hide_from_files
from runner.composition.loader import ALONE, OwnConfigLoader
from runner.composition.overrides import beyond_sweeper, check_values, let_sweeper_read
from runner.composition.sources import CheckedSources
from runner.composition.spaces import parser
from runner.config import hydra_values
from runner.config.checking import checked_config, problems
from runner.config.declared import not_given, unlike_declared
from runner.config.environment import note_named
from runner.config.hydra_private import DefaultsList, IConfigRepository, create_config_search_path, use_config_loader
from runner.config.plain import plain, unresolved
from runner.config.schema import GROUPS, Config
from runner.config.shipped import config_folder as config_folder
from runner.messages.errors import UserError, nearest
from runner.messages.overrides import allows_code, key_of, split_override
from runner.messages.ranges import shown
from runner.messages.redaction import Hidden, shown_override
from runner.untrusted.composed import pickled, shut_out, strangers_in
from runner.untrusted.settings import check_search_path

ALREADY_SO = ("experiment=null",)
Compose: TypeAlias = Callable[[list[str]], DictConfig]


def install(is_completing: bool = False) -> None:
    """Make Hydra compose through our checks, or for a shell that completes, and know our help."""
    use_config_loader(CompletingConfigLoader if is_completing else CheckedConfigLoader)
    hide_from_files()


def compose(overrides: Sequence[str]) -> DictConfig:
    """Return the checked config that the overrides compose, without touching Hydra's global state.

    Raises:
        UserError: with a line for each mistake.
    """
    return _loader().load_configuration("config", list(overrides), RunMode.RUN)


def compose_sweep(overrides: Sequence[str]) -> "tuple[CheckedConfigLoader, DictConfig]":
    """Return what composes the jobs of a sweep, and the config that they start from.

    Raises:
        UserError: with a line for each mistake in what does not vary.
    """
    loader = _loader()
    return loader, loader.load_configuration("config", list(overrides), RunMode.MULTIRUN)


def _loader() -> "CheckedConfigLoader":
    with ALONE:
        return CheckedConfigLoader(create_config_search_path(str(config_folder())))


def to_config(cfg: DictConfig) -> Config:
    """Return the typed config of a composed one.

    Raises:
        UserError: with a line for each problem.
    """
    return checked_config(plain(cfg))


class CheckedConfigLoader(OwnConfigLoader):
    """Every config that Hydra composes - a run, --cfg, each job of a sweep - passes our checks here.

    That is before Hydra makes a folder or instantiates a callback.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        """Look for configs on the search path."""
        super().__init__(config_search_path)
        self.repository: CheckedSources = CheckedSources(config_search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
        is_job: bool = False,
    ) -> DictConfig:
        """Compose and check; `is_job` says that a launcher of Hydra's has asked for a job of a sweep.

        Raises:
            UserError: with a line for each mistake found.
        """

        def compose(chosen: list[str]) -> DictConfig:
            return self.composed(config_name, chosen, run_mode, from_shell, validate_sweep_overrides)

        typed = [text for text in overrides if text not in ALREADY_SO]
        is_trial = not validate_sweep_overrides  # Hydra's own look at hydra.mode, whose errors it swallows
        overrides = _as_hydra_takes_them(overrides)
        note_named(" ".join(overrides))
        check_values(typed, parser(self))
        is_grid = run_mode == RunMode.MULTIRUN  # swept values are checked job by job
        of_the_sweep = self._only_for_jobs(overrides) if is_grid else []
        overrides = [text for text in overrides if text not in of_the_sweep]
        if config_name is not None and not allows_code(overrides):
            check_search_path(_keys_in(self.repository, config_name), overrides)
        if config_name is None or is_trial:
            return compose(overrides)
        cfg, mistakes = self._compose_all_but_mistakes(compose, overrides, is_grid)
        if cfg is not None and not is_grid:
            mistakes += self._mistakes_in(cfg, is_job, blamed=mistakes)
        if cfg is not None:
            mistakes += shut_out(cfg, overrides, self.repository, is_grid or is_job, is_job)
        if cfg is not None and is_grid and not mistakes:
            mistakes += beyond_sweeper(cfg, typed, parser(self))
        if cfg is not None and is_grid:
            mistakes += pickled(cfg, typed)
        if mistakes or cfg is None:
            raise UserError(*mistakes)
        if is_grid:
            let_sweeper_read(cfg, typed, overrides)
        return cfg

    def compose_unchecked(self, *arguments: Any, **named: Any) -> DictConfig:
        """Compose a config.

        Raises:
            ConfigCompositionException: with the line that says what is wrong in a file's, among others of Hydra.
        """
        with explained_defaults():
            return super().compose_unchecked(*arguments, **named)

    def compute_defaults_list(self, *arguments: Any, **named: Any) -> DefaultsList:
        """Return the defaults list of a composition, for --info.

        Raises:
            ConfigCompositionException: with the line that says what is wrong in a file's, among others of Hydra.
        """
        with explained_defaults():
            return super().compute_defaults_list(*arguments, **named)

    def _only_for_jobs(self, overrides: list[str]) -> list[str]:
        """Return what a sweep's own config cannot take: its own keys, and those of groups whose option may vary."""
        try:
            parsed = parser(self).parse_overrides(overrides)
        except HydraException:  # told when all is composed
            return [text for text in overrides if text.startswith(SWEEP_KEYS)]
        varies = any(one.is_sweep_override() and self.is_group(one.key_or_group) for one in parsed)
        within = tuple(f"{group}." for group in GROUPS) if varies else ()
        pairs = zip(overrides, parsed, strict=True)
        return [
            text
            for text, one in pairs
            if text.startswith(SWEEP_KEYS)
            or one.key_or_group.startswith(within)
            or (varies and one.key_or_group in GROUPS and isinstance(one.value(), dict))
        ]

    def load_job(self, master: DictConfig, overrides: list[str]) -> tuple[DictConfig, dict[str, Any]]:
        """Compose a job of a sweep whose values are yet to be set and checked; return what its groups declare, too.

        Raises:
            UserError: with a line for each mistake in the composition.
        """
        name = master.hydra.job.config_name
        flags = OmegaConf.to_container(master.hydra.overrides.hydra)
        assert isinstance(flags, list)

        def compose(chosen: list[str]) -> DictConfig:
            return self.composed(name, chosen, RunMode.RUN)

        cfg, mistakes = self._compose_all_but_mistakes(
            compose, [*map(str, flags), *_as_hydra_takes_them(overrides)], True
        )
        if cfg is None or mistakes:
            raise UserError(*mistakes)
        missing = [group for group in GROUPS if OmegaConf.select(cfg, group) is None]
        if missing:
            raise UserError(*(self._without_option(group, cfg) for group in missing))
        if not allows_code(overrides) and (found := list(strangers_in(cfg, overrides, self.repository))):
            raise UserError(*found)
        if found := list(hydra_values.too_late(cfg, master)):
            raise UserError(*found)
        OmegaConf.copy_cache(from_config=master, to_config=cfg)
        hydra_values.settle(cfg)
        return cfg, self._declared(cfg)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose and check a job of a sweep, which its launcher is yet to number.

        Raises:
            UserError: with a line for each mistake found.
        """
        flags = unresolved(master_config.hydra.overrides)["hydra"]
        cfg = self.load_configuration(
            master_config.hydra.job.config_name, [*flags, *sweep_overrides], RunMode.RUN, is_job=True
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)
        return cfg

    def is_group(self, key: str) -> bool:
        """Return whether a key chooses an option of a config group."""
        return self.repository.group_exists(key)

    def _compose_all_but_mistakes(
        self, compose: Compose, overrides: list[str], is_sweep: bool = False
    ) -> tuple[DictConfig | None, list[str]]:
        """Compose; on a mistake find the override to blame, leave it out and go on, so that all are told."""
        remaining = list(overrides)
        mistakes: list[str] = []
        while True:
            error = _error_of(compose, remaining)
            if not isinstance(error, Exception):
                return error, mistakes
            culprit = next(
                (
                    o
                    for o in sorted(remaining, key=_suspected_last)
                    if str(_error_of(compose, _without(remaining, o))) != str(error)
                ),
                None,
            )
            if culprit is not None and _is_no_choice(error):
                given = split_override(culprit)
                mistakes.append(self._missing_group(given.key, given.value or ""))
            else:
                mistakes.append(explain(error, culprit, is_sweep))
            if culprit is None:
                return None, mistakes
            remaining = _without(remaining, culprit)

    def _mistakes_in(self, cfg: DictConfig, is_job: bool, blamed: list[str]) -> list[str]:
        missing = [group for group in GROUPS if OmegaConf.select(cfg, group) is None]
        found = [self._without_option(group, cfg) for group in missing]
        found = [line for line in found if not any(line.split("=")[0] == told.split("=")[0] for told in blamed)]
        if missing:
            return found
        try:
            tree = plain(cfg, is_job)
        except UserError as error:
            return list(error.lines)
        return mistakes_in(tree, self._declared(cfg))

    def _without_option(self, group: str, cfg: DictConfig) -> str:
        """Return the line for a group without an option, which the command line or a file has taken away."""
        given = unresolved(cfg.hydra.overrides)
        overrides = [*given["hydra"], *given["task"]]
        defaults = self.compute_defaults_list(cfg.hydra.job.config_name, overrides, RunMode.RUN)
        by = defaults.overrides.override_metadata.get(group)
        if by is None or by.containing_config_path is None:
            return self._missing_group(group)
        file = self.repository.file(by.containing_config_path)
        return told(file, {f"override {by.relative_key}": None}, one_of(file.options(group)))

    def _missing_group(self, group: str, given: str = "null") -> str:
        options = self.get_group_options(group)
        if given in options:
            return f"{group}={given}: a name that is a number stands in quotes, as in \"{group}='{given}'\""
        return f"{group}={given}: expected one of {', '.join(options)}{nearest(given, options)}"

    def _declared(self, cfg: DictConfig) -> dict[str, Any]:
        """Return what the YAML files of the chosen options declare, by group."""
        folders = [text for text in unresolved(cfg.hydra.overrides)["hydra"] if text.startswith("hydra.searchpath=")]
        repository = self.open_repository(cfg.hydra.job.config_name, self.parse(folders))
        declared = {}
        for group in GROUPS:
            option = str(cfg.hydra.runtime.choices.get(group))
            keys = _keys_in(repository, f"{group}/{option}")
            name = keys.get("name")
            if isinstance(name, str) and name != option and name in _names(group):
                keys = _keys_in(repository, f"{group}/{name}")  # a file of one's own has the keys of what it names
            declared[group] = keys
        return declared


def _keys_in(repository: IConfigRepository, path: str) -> dict[str, Any]:
    try:
        loaded = repository.load_config(path)
    except (HydraException, *FILE_ERRORS) as error:
        raise UserError(explain(error)) from None
    return {} if loaded is None else unresolved(loaded.config)


class CompletingConfigLoader(CheckedConfigLoader):
    """Composes what it can of a command line that is still being written, for the shell to complete."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
        is_job: bool = False,
    ) -> DictConfig:
        """Compose without the overrides in which something is wrong.

        Raises:
            UserError: something is wrong without any of them.
        """

        def compose(chosen: list[str]) -> DictConfig:
            return self.composed(config_name, chosen, run_mode, from_shell, validate_sweep_overrides)

        cfg, mistakes = self._compose_all_but_mistakes(compose, _as_hydra_takes_them(overrides))
        if cfg is None:
            raise UserError(*mistakes)
        return cfg


@functools.cache
def _names(group: str) -> tuple[str, ...]:
    """Return the names that can stand in a file of a group: those of our own files."""
    return tuple(sorted(file.stem for file in (config_folder() / group).glob("*.yaml")))


def mistakes_in(tree: dict[str, Any], declared: dict[str, Any]) -> list[str]:
    """Return a line for each mistake in a resolved tree whose groups' files declare these keys and kinds."""
    found = [line for group in declared for line in _unknown_name(group, tree[group])]
    if "experiment" in tree:
        given = shown(tree["experiment"])
        found.append(f"experiment={given}: expected '# @package _global_' as the first line of the experiment's file")
    for lines in (
        problems(tree),
        (line for group, keys in declared.items() for line in unlike_declared(tree[group], keys, group)),
        (line for group, keys in declared.items() for line in not_given(tree[group], keys, group)),
    ):
        told = set(map(_key_of_line, found))
        found += [line for line in lines if _key_of_line(line) not in told]
    return [f"{line}{_of_environment(tree, _key_of_line(line))}" for line in found]


def _of_environment(tree: dict[str, Any], path: str) -> str:
    """Return how a text of the environment becomes a number, where one stands at a path."""
    value: Any = tree
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, Hidden):
        return ""
    return f"; the environment gives text, '{path}=\"${{oc.decode:${{oc.env:NAME}}}}\"' reads it as a number"


def _unknown_name(group: str, settings: Any) -> Iterator[str]:
    name = settings.get("name") if isinstance(settings, dict) else None
    if isinstance(name, str) and name not in _names(group):
        yield f"{group}.name={shown(name)}: expected one of {', '.join(_names(group))}{nearest(name, _names(group))}"


def _key_of_line(line: str) -> str:
    return re.split("[=:]", line, maxsplit=1)[0]


def _as_hydra_takes_them(overrides: list[str]) -> list[str]:
    """Return the overrides with `++` before a new key of an open mapping, and without those that change nothing.

    Raises:
        UserError: with a line for each that is not text, or that has a sign before a key of sweeps.
    """
    broken = [text for text in overrides if any("\ud800" <= letter <= "\udfff" for letter in text)]
    if broken:
        raise UserError(*(f"{shown_override(ascii(text)[1:-1])}: expected text in UTF-8" for text in broken))
    signed = [given for given in map(split_override, overrides) if given.sign and f"{given.key}=" in SWEEP_KEYS]
    if signed:
        lines = (
            f"{one.sign}{one.key}: not a key of the config, expected {one.key}=... without {one.sign}" for one in signed
        )
        raise UserError(*lines)
    taken = [override for override in overrides if override not in ALREADY_SO]
    return [f"++{override}" if override.startswith(OPEN) else override for override in taken]


def _suspected_last(override: str) -> int:
    """Return a place in the order in which overrides are tried: what others depend on comes last."""
    key = key_of(override)
    return 2 if key.startswith("hydra.") else int(key in (*GROUPS, "experiment") or "/" in key)


def _without(overrides: list[str], left_out: str) -> list[str]:
    return [override for override in overrides if override is not left_out]


def _error_of(compose: Compose, overrides: list[str]) -> Exception | DictConfig:
    try:
        return compose(overrides)
    except (HydraException, OmegaConfBaseException, *FILE_ERRORS) as error:
        return error
    except ValueError as error:
        if "Config group override" not in str(error):  # as in objective=null or objective=5
            raise
        return error


def _is_no_choice(error: Exception) -> bool:
    """Tell whether an error is of a group without an option, as in objective=null, objective=5 or objective=???."""
    return (isinstance(error, ValueError) and not isinstance(error, FILE_ERRORS)) or "You must specify" in str(error)
