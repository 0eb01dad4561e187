"""What is wrong with a defaults list where Hydra's composition has failed: the file, the item and what was meant."""

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException

from runner.composition.defaults_lists import ConfigFile, one_of, spelled_out, told, written
from runner.composition.sources import CheckedSources
from runner.config.hydra_private import (
    CHECKS_DUPLICATES,
    CHECKS_OVERRIDES_USED,
    WALKS_DEFAULTS,
    CachingConfigRepository,
)
from runner.messages.errors import UserError, nearest


@contextlib.contextmanager
def explained_defaults() -> Iterator[None]:
    """Let Hydra compose, and explain what it finds wrong in files' defaults lists.

    Raises:
        ConfigCompositionException: with the line that says what is wrong there, as its cause has it, too.
    """
    try:
        yield
    except (HydraException, RecursionError, ValueError, AssertionError) as error:
        if (line := _explain(error)) is None:
            raise
        raise ConfigCompositionException(line) from UserError(line)


def _explain(error: Exception) -> str | None:
    """Return the line for an error in a file's defaults list; None for any other.

    Which file that was, and by way of which others, Hydra's messages mostly do not say; its frames do.
    """
    frames = [(frame.f_code, frame.f_locals) for frame, _ in traceback.walk_tb(error.__traceback__)]
    repository = next((found["caching_repo"] for _, found in frames if "caching_repo" in found), None)
    sources = getattr(repository, "delegate", None)
    if not isinstance(repository, CachingConfigRepository) or not isinstance(sources, CheckedSources):
        return None
    for code, found in reversed(frames):
        if code is CHECKS_OVERRIDES_USED:
            return _of_unused(sources, **{key: found[key] for key in ("self", "key", "meta")})
        if code is CHECKS_DUPLICATES:
            return _of_chosen(repository, sources, found["key"])
        if code is WALKS_DEFAULTS:
            walked = [inner for function, inner in frames if function is WALKS_DEFAULTS]
            if isinstance(error, RecursionError):
                return _of_circle(sources, walked)
            if str(error).startswith("Multiple values"):
                return _of_chosen(repository, sources, walked[-1]["root"].node.get_override_key())
            return _of_walk(sources, error, walked)
    return None


def _of_walk(sources: CheckedSources, error: Exception, walked: list[dict[str, Any]]) -> str | None:
    root, overrides = walked[-1]["root"], walked[-1]["overrides"]
    node: InputDefault = root.node
    chosen_in = walked[-2].get("d") if len(walked) > 1 else None
    option = node.get_name()
    if isinstance(node, ConfigDefault) and isinstance(chosen_in, GroupDefault):  # one of several options
        node = chosen_in
    if isinstance(interpolated := walked[-1].get("dd"), InputDefault):
        placed = _placed(sources, node, interpolated, overrides)
        return None if placed is None else told(*placed, f"cannot be resolved ({_sentence(error)})")
    placed = _placed(sources, root.parent.node if root.parent else None, node, overrides)
    if placed is None:
        return _of_override(sources, error, node, option)
    file, item = placed
    if isinstance(error, MissingConfigException):
        return _of_absent(file, item, node, option)
    if not isinstance(node, GroupDefault):
        return told(file, item, _sentence(error))
    group = node.get_group_path()
    if str(error).startswith("You must specify"):
        return told(file, item, f"{one_of(file.options(group))}; here, or as {group}=OPTION on the command line")
    return told(file, item, _sentence(error))


def _placed(
    sources: CheckedSources, parent: InputDefault | None, node: InputDefault, overrides: Any
) -> tuple[ConfigFile, dict[str, Any] | str] | None:
    """Return the file that holds a default, and the item there; None where it is the command line."""
    if isinstance(node, GroupDefault):
        by = overrides.override_metadata.get(node.get_override_key())
        if node.is_external_append() or (by is not None and by.external_override):
            return None
        if by is not None:
            return sources.file(by.containing_config_path), {f"override {by.relative_key}": node.value}
    if parent is None or node.primary or parent.is_virtual():
        return None
    return sources.file(parent.get_config_path()), _item(node)


def _of_override(sources: CheckedSources, error: Exception, node: InputDefault, option: str | None) -> str | None:
    """Return the line for one of several options chosen on the command line that there is not."""
    if not (isinstance(error, MissingConfigException) and isinstance(node, GroupDefault) and node.is_options()):
        return None
    group = node.get_group_path()
    return f"{group}={option}: {one_of(sources.get_group_options(group), option)}"


def _of_absent(file: ConfigFile, item: Any, node: InputDefault, option: str | None) -> str:
    if isinstance(node, GroupDefault):
        group, at_root = node.get_group_path(), str(node.group).strip("/")
        if not file.options(group) and file.options(at_root):
            return told(file, item, f"expected {file.choice(at_root, node.value)}")
        return told(file, item, one_of(file.options(group), option))
    assert isinstance(node, ConfigDefault)
    if (meant := spelled_out(file, str(node.path))) is not None:
        return told(file, item, f"expected {meant}")
    others = [name for name in file.options(node.get_group_path()) if name != file.path.rpartition("/")[2]]
    return told(file, item, f"no such file; {one_of(others, option)}")


def _of_unused(sources: CheckedSources, self: Any, key: str, meta: Any) -> str | None:
    """Return the line for an override of what no defaults list chooses."""
    if meta.external_override:
        return None
    file, given = sources.file(meta.containing_config_path), self.override_choices[key]
    item, group = {f"override {meta.relative_key}": given}, meta.relative_key.partition("@")[0].strip("/")
    known = sorted(self.known_choices_per_group)
    if group in known:
        is_so = file.choice(group, given) == f"'- {written(item)}'"
        header = "'# @package _global_' as the first line of the file"
        return told(file, item, f"expected {header if is_so else file.choice(group, given)}")
    if file.options(group):
        return told(file, item, f"nothing to override, expected '- /{group}: {given}'")
    ours = [name for name in known if not name.startswith("hydra/")]
    return told(file, item, f"expected one of the groups {', '.join(ours)}{nearest(group, known)}")


def _of_chosen(repository: CachingConfigRepository, sources: CheckedSources, key: str) -> str | None:
    """Return the line for an item that chooses an option of a group as if none were chosen already."""
    group = key.partition("@")[0]
    for cached in repository.cache:
        path = cached.removeprefix("config_path=")
        file, loaded = sources.file(path), repository.load_config(path)
        if loaded is None or path == "hydra/config" or not file.group:
            continue
        for node in loaded.defaults_list or ():
            if isinstance(node, GroupDefault) and not node.override and file.absolute(str(node.group)) == group:
                return told(file, _item(node), f"{group} is chosen already; expected {file.choice(group, node.value)}")
    return None


def _of_circle(sources: CheckedSources, walked: list[dict[str, Any]]) -> str | None:
    paths = [frame["root"].node.get_config_path() for frame in walked]
    circle = next((paths[index:end] for index, end in _repeats(paths)), None)
    if circle is None:
        return None
    way = ", which includes ".join([*circle[1:], circle[0]])
    return f"{sources.file(circle[0]).name}: in defaults, a circle: it includes {way}; expected none"


def _repeats(paths: list[str]) -> Iterator[tuple[int, int]]:
    last: dict[str, int] = {}
    for index, path in enumerate(paths):
        if path in last:
            yield last[path], index
        last[path] = index


def _item(node: InputDefault) -> dict[str, Any] | str:
    """Return an item as it stands in a file."""
    package = f"@{node.package}" if node.package else ""
    if isinstance(node, GroupDefault):
        return {f"{'optional ' if node.optional else ''}{node.group}{package}": node.value}
    assert isinstance(node, ConfigDefault)
    return f"{node.path}{package}"


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
