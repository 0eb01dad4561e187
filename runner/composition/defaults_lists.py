"""Checks of the defaults list of a config file, before Hydra composes the files that it names."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from runner.config.omegaconf_private import yaml_loader
from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown
from runner.messages.redaction import shown_text

KEYWORDS = ("override", "optional")
ITEM = "expected GROUP: OPTION, override GROUP: OPTION or the name of another file"
# A choice without the colon and space of YAML.
RUN_TOGETHER = re.compile(r"(?P<words>(?:\w+ +)*)(?P<group>[\w/@.\-]+?)\s*[:= ]\s*(?P<option>[\w.\-]+)")


@dataclass(frozen=True)
class ConfigFile:
    """A config file.

    Attributes:
        path: relative to its search path, without the suffix.
        name: as shown in messages.
        options: returns the options of a group.
    """

    path: str
    name: str
    options: Callable[[str], Sequence[str]]

    @property
    def group(self) -> str:
        """The group of which the file is an option."""
        return self.path.rpartition("/")[0]

    def absolute(self, group: str) -> str:
        """Return the absolute name of a group, which a file may name relative to its own."""
        group = group.partition("@")[0]
        return group[1:] if group.startswith("/") or not self.group else f"{self.group}/{group}"

    def choice(self, group: str, option: object) -> str:
        """Return the item that overrides the option of a group."""
        if group == self.group:
            return f"'- {option}'"
        root = "/" if self.group else ""
        return f"'- override {root}{group.strip('/')}: {option}'"


def file_name(source: str, path: str) -> str:
    """Return the name of a config file for messages, relative to the working directory where it is inside it."""
    if not source.startswith("file://"):
        return f"{source.rstrip('/')}/{path}"
    file = Path(source.removeprefix("file://")) / f"{path}.yaml"
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def item_error(file: ConfigFile | str, item: object, expected: str) -> str:
    """Return the line for a wrong item of a defaults list."""
    name = file if isinstance(file, str) else file.name
    return f"{name}: in defaults, '- {item_text(item)}': {expected}"


def item_text(item: object) -> str:
    """Return an item as it is written in a file."""
    if isinstance(item, dict) and item:
        return ", ".join(f"{shown_text(str(key))}: {shown(value)}" for key, value in item.items())
    return shown(item)


def checked_items(file: ConfigFile, items: Sequence[Any]) -> list[Any]:
    """Return the items of a defaults list, with names such as `off`, which YAML reads as false, as text again.

    Raises:
        UserError: with a line for each wrong item.
    """
    mistakes: list[str] = []
    taken: list[Any] = []
    for number, item in enumerate(items, start=1):
        if item is None or item in ("", {}, []):
            mistakes.append(f"{file.name}: in defaults, item {number} is empty: {ITEM}, or none")
            continue
        try:
            taken.append(_checked(file, item))
        except UserError as error:
            mistakes += error.lines
    mistakes += _out_of_order(file, taken)
    if mistakes:
        raise UserError(*mistakes)
    return taken


def _checked(file: ConfigFile, item: Any) -> Any:
    if isinstance(item, str):
        if item.endswith("???"):
            _refused(file, item, ITEM)
        if item.startswith("_self_@"):
            _refused(file, item, "expected _self_ by itself")
        return item
    if not isinstance(item, dict):
        return option_read_as(file.options(file.group), item) or _refused(file, item, f"{ITEM}{_in_quotes(item)}")
    if len(item) > 1:
        _refused(file, item, "expected one choice per item, each after its own dash")
    ((key, value),) = item.items()
    if not isinstance(key, str):
        _refused(file, item, "expected the name of a group before the colon")
    group = _group_in(file, key, item)
    return {key: _option(file, group, value, item)}


def _group_in(file: ConfigFile, key: str, item: Any) -> str:
    *words, group = key.split() or [""]
    for word in words:
        if word not in KEYWORDS:
            _refused(file, item, f"expected override or optional before the group{nearest(word, KEYWORDS)}")
    if group in ("", *KEYWORDS):
        _refused(file, item, "expected the name of a group before the colon")
    if group == "_self_":
        _refused(file, item, "expected _self_ by itself")
    return group


def _option(file: ConfigFile, group: str, value: Any, item: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    options = file.options(file.absolute(group))
    if isinstance(value, list):
        return [_one_of(file, options, inner, item) for inner in value]
    return _one_of(file, options, value, item)


def _one_of(file: ConfigFile, options: Sequence[str], value: Any, item: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        _refused(file, item, "expected the name of an option; settings go below the defaults list")
    return option_read_as(options, value) or _refused(file, item, f"{one_of(options)}{_in_quotes(value)}")


def _refused(file: ConfigFile, item: Any, expected: str) -> NoReturn:
    raise UserError(item_error(file, item, expected))


def option_read_as(options: Sequence[str], value: Any) -> str | None:
    """Return the only option whose unquoted name YAML reads as this value, as it reads `off` as false."""
    loader = yaml_loader()
    read = {option: yaml.load(option, Loader=loader) for option in options}
    same = [option for option in options if type(read[option]) is type(value) and read[option] == value]
    return same[0] if len(same) == 1 else None


def one_of(options: Iterable[str], given: str | None = None) -> str:
    """Return the expected options, and the one closest to the given one."""
    names = list(options)
    listed = f"expected one of {', '.join(names)}" if names else "expected an option, but the group has none"
    return listed + ("" if given is None else nearest(given, names))


def _in_quotes(value: Any) -> str:
    if isinstance(value, bool):
        words = "on, yes or true" if value else "off, no or false"
        return f"; YAML reads {words} as {shown(value)}, unless quoted"
    return "; a name that is a number needs quotes" if isinstance(value, int | float) else ""


def _out_of_order(file: ConfigFile, items: Sequence[Any]) -> Iterator[str]:
    """Yield a line for each repeated item, and each after an override."""
    seen: set[str] = set()
    last_override: Any = None
    for item in items:
        key = next(iter(item)) if isinstance(item, dict) else item
        words = key.split()
        place = file.absolute(words[-1]) + words[-1].partition("@")[2] if isinstance(item, dict) else item
        if (isinstance(item, dict) or item == "_self_") and place in seen:
            yield item_error(file, item, f"expected {words[-1].lstrip('/')} only once in the list")
        seen.add(place)
        if isinstance(item, dict) and file.group == file.absolute(words[-1]) and "@" not in words[-1]:
            yield item_error(
                file, item, f"the file itself is an option of {file.group}; expected '- {item_text(item[key])}'"
            )
        elif "override" in words[:-1]:
            last_override = item
        elif last_override is not None and item != "_self_":
            yield item_error(file, item, f"expected before '- {item_text(last_override)}', since overrides go last")


def spelled_out(file: ConfigFile, text: str) -> str | None:
    """Return the item that a text probably means: a choice without the colon and space, or without an option."""
    match = RUN_TOGETHER.fullmatch(text)
    words, group, option = (match["words"], match["group"], match["option"]) if match else ("", text, "OPTION")
    for root in (file.absolute(group), group.strip("/")):
        if file.options(root):
            is_new = "optional" in words and "override" not in words
            return f"'- {words}{group}: {option}'" if is_new else file.choice(root, option)
    return None
