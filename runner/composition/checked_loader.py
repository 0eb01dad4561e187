"""The config loaders that Hydra uses: one checks each config, one composes for completion in a shell."""

from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.composition.config_checks import mistakes_in, shipped_options
from runner.composition.defaults_errors import explained_defaults
from runner.composition.defaults_lists import item_error, one_of
from runner.composition.faulty_overrides import NO_EFFECT, compose_without_faulty, prepared
from runner.composition.hydra_errors import FILE_ERRORS, SWEEP_KEYS, explain
from runner.composition.loader import GuardedConfigLoader
from runner.composition.override_functions import parser
from runner.composition.overrides import check_nesting, sweeper_mistakes, use_typed_overrides
from runner.composition.repository import UNCHOSEN, CheckedConfigRepository
from runner.config import hydra_values
from runner.config.hydra_private import DefaultsList, IConfigRepository
from runner.config.interpolation import note_variables
from runner.config.plain import plain, unresolved
from runner.config.schema import GROUPS
from runner.messages.errors import UserError, nearest
from runner.messages.overrides import allows_code
from runner.untrusted.config_files import refused_runner_settings, refused_settings, written_secrets
from runner.untrusted.settings import check_search_path

# What Hydra adds to the overrides once it has read the mode.
MODES = {f"hydra.mode={mode.name}": mode for mode in RunMode}


class CheckedConfigLoader(GuardedConfigLoader):
    """Checks every config that Hydra composes: a run's, that of --cfg, and each job's of a sweep.

    The checks run before Hydra creates a folder or instantiates a callback.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        """Look for configs on the search path."""
        super().__init__(config_search_path)
        self.repository: CheckedConfigRepository = CheckedConfigRepository(config_search_path)
        self._composed_for_mode: tuple[str | None, list[str], DictConfig] | None = None

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
        is_job: bool = False,
    ) -> DictConfig:
        """Compose and check a config; `is_job` says that one of Hydra's launchers asks for a job of a sweep.

        Raises:
            UserError: with a line for each mistake.
        """

        def compose(chosen: list[str]) -> DictConfig:
            if (known := self._known_config(config_name, chosen, run_mode, from_shell)) is not None:
                return known
            return self.composed(config_name, chosen, run_mode, from_shell, validate_sweep_overrides)

        typed = [text for text in overrides if text not in NO_EFFECT]
        overrides = prepared(overrides)
        note_variables(" ".join(overrides))
        check_nesting(typed, parser(self))
        is_sweep = run_mode == RunMode.MULTIRUN  # the swept values are checked job by job
        for_jobs = self._only_for_jobs(overrides) if is_sweep else []
        overrides = [text for text in overrides if text not in for_jobs]
        if config_name is not None and not allows_code(overrides):
            check_search_path(_keys_in(self.repository, config_name), overrides)
        if config_name is None or not validate_sweep_overrides:
            composed = compose(overrides)
            if not validate_sweep_overrides:
                self._composed_for_mode = config_name, overrides, composed
            return composed
        cfg, mistakes = compose_without_faulty(compose, overrides, self._missing_option, is_sweep)
        if cfg is not None and not is_sweep:
            mistakes += self._mistakes_in(cfg, is_job, reported=mistakes)
        if cfg is not None:
            mistakes += refused_settings(cfg, overrides, self.repository, is_sweep or is_job, is_job)
        if cfg is not None and is_sweep and not mistakes:
            mistakes += sweeper_mistakes(cfg, typed, parser(self))
        if cfg is not None and is_sweep:
            mistakes += written_secrets(cfg, typed)
        if mistakes or cfg is None:
            raise UserError(*mistakes)
        if is_sweep:
            use_typed_overrides(cfg, typed, overrides)
        return cfg

    def compose_unchecked(self, *arguments: Any, **named: Any) -> DictConfig:
        """Compose a config.

        Raises:
            ConfigCompositionException: an error in a defaults list has one line that names the file and the item.
        """
        with explained_defaults():
            return super().compose_unchecked(*arguments, **named)

    def compute_defaults_list(self, *arguments: Any, **named: Any) -> DefaultsList:
        """Return the defaults list of a composition, for --info.

        Raises:
            ConfigCompositionException: an error in a defaults list has one line that names the file and the item.
        """
        with explained_defaults():
            return super().compute_defaults_list(*arguments, **named)

    def load_job(self, master: DictConfig, overrides: list[str]) -> tuple[DictConfig, dict[str, Any]]:
        """Compose a job of a sweep without checking its values; return also the keys that its groups' files declare.

        Raises:
            UserError: with a line for each mistake in the composition.
        """
        name = master.hydra.job.config_name
        flags = OmegaConf.to_container(master.hydra.overrides.hydra)
        assert isinstance(flags, list)

        def compose(chosen: list[str]) -> DictConfig:
            return self.composed(name, chosen, RunMode.RUN)

        chosen = [*map(str, flags), *prepared(overrides)]
        cfg, mistakes = compose_without_faulty(compose, chosen, self._missing_option, is_sweep=True)
        if cfg is None or mistakes:
            raise UserError(*mistakes)
        missing = [group for group in GROUPS if OmegaConf.select(cfg, group) is None]
        if missing:
            raise UserError(*(self._without_option(group, cfg) for group in missing))
        if not allows_code(overrides) and (found := list(refused_runner_settings(cfg, overrides, self.repository))):
            raise UserError(*found)
        if found := list(hydra_values.changed_sweep_settings(cfg, master)):
            raise UserError(*found)
        OmegaConf.copy_cache(from_config=master, to_config=cfg)
        hydra_values.use_own_hydra(cfg)
        return cfg, self._declared(cfg)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose and check a job of a sweep that its launcher has not numbered yet.

        Raises:
            UserError: with a line for each mistake.
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

    def _known_config(
        self, name: str | None, overrides: list[str], run_mode: RunMode, from_shell: bool
    ) -> DictConfig | None:
        """Return the config that Hydra has composed to read hydra.mode, where composing again would give the same.

        Hydra composes once as for a sweep and without validation, ignores errors, and then composes with the mode.

        Raises:
            ConfigCompositionException: a value is swept where it cannot be.
        """
        composed, self._composed_for_mode = self._composed_for_mode, None
        if composed is None:
            return None
        own_name, first, cfg = composed
        mode = overrides[len(first) :]
        if (own_name, first) != (name, overrides[: len(first)]) or mode not in ([], *([text] for text in MODES)):
            return None
        # For a sweep, groups without an option are left out.
        if self.repository.unchosen or any(UNCHOSEN in text for text in overrides):
            return None
        self.validate_sweep_overrides_legal(self.parse(overrides), run_mode, from_shell)
        for text in mode:
            OmegaConf.update(cfg, "hydra.mode", MODES[text])
            cfg.hydra.overrides.hydra.append(text)
        return cfg

    def _only_for_jobs(self, overrides: list[str]) -> list[str]:
        """Return the overrides that the config of a whole sweep cannot take.

        These are the sweep's own keys and, where a group is swept, the keys of groups.
        """
        try:
            parsed = parser(self).parse_overrides(overrides)
        except HydraException:  # reported by the composition
            return [text for text in overrides if text.startswith(SWEEP_KEYS)]
        varies = any(one.is_sweep_override() and self.is_group(one.key_or_group) for one in parsed)
        within = tuple(f"{group}." for group in GROUPS) if varies else ()
        return [
            text
            for text, one in zip(overrides, parsed, strict=True)
            if text.startswith(SWEEP_KEYS)
            or one.key_or_group.startswith(within)
            or (varies and one.key_or_group in GROUPS and isinstance(one.value(), dict))
        ]

    def _mistakes_in(self, cfg: DictConfig, is_job: bool, reported: list[str]) -> list[str]:
        missing = [group for group in GROUPS if OmegaConf.select(cfg, group) is None]
        if missing:
            keys = {line.split("=")[0] for line in reported}
            lines = [self._without_option(group, cfg) for group in missing]
            return [line for line in lines if line.split("=")[0] not in keys]
        try:
            tree = plain(cfg, is_job)
        except UserError as error:
            return list(error.lines)
        return mistakes_in(tree, self._declared(cfg))

    def _without_option(self, group: str, cfg: DictConfig) -> str:
        """Return the line for a group whose option the command line or a file has removed."""
        given = unresolved(cfg.hydra.overrides)
        overrides = [*given["hydra"], *given["task"]]
        defaults = self.compute_defaults_list(cfg.hydra.job.config_name, overrides, RunMode.RUN)
        by = defaults.overrides.override_metadata.get(group)
        if by is None or by.containing_config_path is None:
            return self._missing_option(group)
        file = self.repository.file(by.containing_config_path)
        return item_error(file, {f"override {by.relative_key}": None}, one_of(file.options(group)))

    def _missing_option(self, group: str, given: str = "null") -> str:
        options = self.get_group_options(group)
        if given in options:
            return f"{group}={given}: a name that is a number needs quotes, as in \"{group}='{given}'\""
        return f"{group}={given}: expected one of {', '.join(options)}{nearest(given, options)}"

    def _declared(self, cfg: DictConfig) -> dict[str, Any]:
        """Return the keys that the files of the chosen options declare, by group."""
        folders = [text for text in unresolved(cfg.hydra.overrides)["hydra"] if text.startswith("hydra.searchpath=")]
        repository = self.open_repository(cfg.hydra.job.config_name, self.parse(folders))
        declared = {}
        for group in GROUPS:
            option = str(cfg.hydra.runtime.choices.get(group))
            keys = _keys_in(repository, f"{group}/{option}")
            name = keys.get("name")
            if isinstance(name, str) and name != option and name in shipped_options(group):
                keys = _keys_in(repository, f"{group}/{name}")  # a user's file has the keys of the option it names
            declared[group] = keys
        return declared


def _keys_in(repository: IConfigRepository, path: str) -> dict[str, Any]:
    try:
        loaded = repository.load_config(path)
    except (HydraException, *FILE_ERRORS) as error:
        raise UserError(explain(error)) from None
    return {} if loaded is None else unresolved(loaded.config)


class CompletingConfigLoader(CheckedConfigLoader):
    """Composes an unfinished command line as far as possible, so that a shell can complete it."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
        is_job: bool = False,
    ) -> DictConfig:
        """Compose a config without the overrides that are wrong.

        Raises:
            UserError: the composition fails without any of them.
        """

        def compose(chosen: list[str]) -> DictConfig:
            return self.composed(config_name, chosen, run_mode, from_shell, validate_sweep_overrides)

        cfg, mistakes = compose_without_faulty(compose, prepared(overrides), self._missing_option)
        if cfg is None:
            raise UserError(*mistakes)
        return cfg
