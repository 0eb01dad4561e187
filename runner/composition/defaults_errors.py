"""Explains errors that Hydra finds in defaults lists: the file, the item and what is expected."""

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException

from runner.composition.defaults_lists import ConfigFile, item_error, item_text, one_of, spelled_out
from runner.composition.repository import CheckedConfigRepository
from runner.config.hydra_private import (
    CHECKS_DUPLICATES,
    CHECKS_OVERRIDES_USED,
    WALKS_DEFAULTS,
    CachingConfigRepository,
)
from runner.messages.errors import UserError, nearest


@contextlib.contextmanager
def explained_defaults() -> Iterator[None]:
    """Explain the errors in defaults lists that a composition raises.

    Raises:
        ConfigCompositionException: with one line for the error, which its cause holds as well.
    """
    try:
        yield
    except (HydraException, RecursionError, ValueError, AssertionError) as error:
        if (line := _explain(error)) is None:
            raise
        raise ConfigCompositionException(line) from UserError(line)


def _explain(error: Exception) -> str | None:
    """Return the line for an error in a defaults list; None for any other error.

    Hydra's messages mostly do not name the file; the frames of the traceback hold it.
    """
    frames = [(frame.f_code, frame.f_locals) for frame, _ in traceback.walk_tb(error.__traceback__)]
    repository = next((found["caching_repo"] for _, found in frames if "caching_repo" in found), None)
    sources = getattr(repository, "delegate", None)
    if not isinstance(repository, CachingConfigRepository) or not isinstance(sources, CheckedConfigRepository):
        return None
    for code, found in reversed(frames):
        if code is CHECKS_OVERRIDES_USED:
            return _unused_override(sources, **{key: found[key] for key in ("self", "key", "meta")})
        if code is CHECKS_DUPLICATES:
            return _missing_override_keyword(repository, sources, found["key"])
        if code is WALKS_DEFAULTS:
            walked = [inner for function, inner in frames if function is WALKS_DEFAULTS]
            if isinstance(error, RecursionError):
                return _cycle(sources, walked)
            if str(error).startswith("Multiple values"):
                return _missing_override_keyword(repository, sources, walked[-1]["root"].node.get_override_key())
            return _in_tree(sources, error, walked)
    return None


def _in_tree(sources: CheckedConfigRepository, error: Exception, walked: list[dict[str, Any]]) -> str | None:
    root, overrides = walked[-1]["root"], walked[-1]["overrides"]
    node: InputDefault = root.node
    chosen_in = walked[-2].get("d") if len(walked) > 1 else None
    option = node.get_name()
    if isinstance(node, ConfigDefault) and isinstance(chosen_in, GroupDefault):  # one of several options
        node = chosen_in
    if isinstance(interpolated := walked[-1].get("dd"), InputDefault):
        placed = _placed(sources, node, interpolated, overrides)
        return None if placed is None else item_error(*placed, f"cannot be resolved ({_sentence(error)})")
    placed = _placed(sources, root.parent.node if root.parent else None, node, overrides)
    if placed is None:
        return _missing_option(sources, error, node, option)
    file, item = placed
    if isinstance(error, MissingConfigException):
        return _missing_file(file, item, node, option)
    if not isinstance(node, GroupDefault):
        return item_error(file, item, _sentence(error))
    group = node.get_group_path()
    if str(error).startswith("You must specify"):
        return item_error(file, item, f"{one_of(file.options(group))}; here, or as {group}=OPTION on the command line")
    return item_error(file, item, _sentence(error))


def _placed(
    sources: CheckedConfigRepository, parent: InputDefault | None, node: InputDefault, overrides: Any
) -> tuple[ConfigFile, dict[str, Any] | str] | None:
    """Return the file that holds a default, and the item there; None for the command line."""
    if isinstance(node, GroupDefault):
        by = overrides.override_metadata.get(node.get_override_key())
        if node.is_external_append() or (by is not None and by.external_override):
            return None
        if by is not None:
            return sources.file(by.containing_config_path), {f"override {by.relative_key}": node.value}
    if parent is None or node.primary or parent.is_virtual():
        return None
    return sources.file(parent.get_config_path()), _item(node)


def _missing_option(
    sources: CheckedConfigRepository, error: Exception, node: InputDefault, option: str | None
) -> str | None:
    """Return the line for an unknown option among several chosen on the command line."""
    if not (isinstance(error, MissingConfigException) and isinstance(node, GroupDefault) and node.is_options()):
        return None
    group = node.get_group_path()
    return f"{group}={option}: {one_of(sources.get_group_options(group), option)}"


def _missing_file(file: ConfigFile, item: Any, node: InputDefault, option: str | None) -> str:
    if isinstance(node, GroupDefault):
        group, at_root = node.get_group_path(), str(node.group).strip("/")
        if not file.options(group) and file.options(at_root):
            return item_error(file, item, f"expected {file.choice(at_root, node.value)}")
        return item_error(file, item, one_of(file.options(group), option))
    assert isinstance(node, ConfigDefault)
    if (meant := spelled_out(file, str(node.path))) is not None:
        return item_error(file, item, f"expected {meant}")
    others = [name for name in file.options(node.get_group_path()) if name != file.path.rpartition("/")[2]]
    return item_error(file, item, f"no such file; {one_of(others, option)}")


def _unused_override(sources: CheckedConfigRepository, self: Any, key: str, meta: Any) -> str | None:
    """Return the line for an override of a group that no defaults list chooses."""
    if meta.external_override:
        return None
    file, given = sources.file(meta.containing_config_path), self.override_choices[key]
    item, group = {f"override {meta.relative_key}": given}, meta.relative_key.partition("@")[0].strip("/")
    known = sorted(self.known_choices_per_group)
    if group in known:
        is_so = file.choice(group, given) == f"'- {item_text(item)}'"
        header = "'# @package _global_' as the first line of the file"
        return item_error(file, item, f"expected {header if is_so else file.choice(group, given)}")
    if file.options(group):
        return item_error(file, item, f"nothing to override, expected '- /{group}: {given}'")
    shown_groups = [name for name in known if not name.startswith("hydra/")]
    return item_error(file, item, f"expected one of the groups {', '.join(shown_groups)}{nearest(group, known)}")


def _missing_override_keyword(
    repository: CachingConfigRepository, sources: CheckedConfigRepository, key: str
) -> str | None:
    """Return the line for an item that lacks `override`: the group has an option already."""
    group = key.partition("@")[0]
    for cached in repository.cache:
        path = cached.removeprefix("config_path=")
        file, loaded = sources.file(path), repository.load_config(path)
        if loaded is None or path == "hydra/config" or not file.group:
            continue
        for node in loaded.defaults_list or ():
            if isinstance(node, GroupDefault) and not node.override and file.absolute(str(node.group)) == group:
                return item_error(
                    file, _item(node), f"{group} has an option already; expected {file.choice(group, node.value)}"
                )
    return None


def _cycle(sources: CheckedConfigRepository, walked: list[dict[str, Any]]) -> str | None:
    paths = [frame["root"].node.get_config_path() for frame in walked]
    cycle = next((paths[index:end] for index, end in _repeats(paths)), None)
    if cycle is None:
        return None
    way = ", which includes ".join([*cycle[1:], cycle[0]])
    return f"{sources.file(cycle[0]).name}: in defaults, a cycle: it includes {way}; expected none"


def _repeats(paths: list[str]) -> Iterator[tuple[int, int]]:
    last: dict[str, int] = {}
    for index, path in enumerate(paths):
        if path in last:
            yield last[path], index
        last[path] = index


def _item(node: InputDefault) -> dict[str, Any] | str:
    """Return an item as it is written in a file."""
    package = f"@{node.package}" if node.package else ""
    if isinstance(node, GroupDefault):
        return {f"{'optional ' if node.optional else ''}{node.group}{package}": node.value}
    assert isinstance(node, ConfigDefault)
    return f"{node.path}{package}"


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
