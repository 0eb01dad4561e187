"""The tables of the pages that are made from the schema and the files of `conf/`."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from runner.config.groups import DECLARED
from runner.config.schema import GROUPS, Config, keys_of
from runner.messages.ranges import shown

CONF = Path(__file__).parents[1] / "conf"
# Keys that every option of the group has, listed once in the pages.
COMMON = {"objective": DECLARED, "schedule": ("name", "warmup_steps", "warmup_start_factor")}


def options(group: str) -> dict[str, dict[str, Any]]:
    """Return what each option of a group sets, by name."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / group).glob("*.yaml"))}


def choices() -> str:
    """Return the options of each group."""
    groups = [group for group in GROUPS if len(options(group)) > 1]
    rows = [[f"`{group}=`", ", ".join(options(group))] for group in groups]
    stops = [f"`stop.{key}`" for key in _leaves(options("stop")["rules"])]
    return _table(["choose", "one of"], [*rows, ["stop early by", ", ".join(stops)]])


def keys() -> str:
    """Return the keys outside the groups: the default, what each means and takes."""
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())
    found = {name: key for name, key in keys_of(Config).items() if name not in GROUPS}
    rows = [
        [f"`{name}`", f"`{shown(defaults[name])}`", key.meaning, key.constraint.allowed] for name, key in found.items()
    ]
    return _table(["key", "default", "meaning", "takes"], rows)


def _group(group: str) -> Callable[[], str]:
    def table() -> str:
        rows = [[f"`{name}`", _says(group, name), _settings(group, tree)] for name, tree in options(group).items()]
        return _table([f"`{group}=`", "is", "keys"], rows)

    return table


def _says(group: str, name: str) -> str:
    """Return the comment at the top of an option's file."""
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    first = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    comment = " ".join(line.removeprefix("#").strip() for line in lines[:first])
    formula, separator, rest = re.fullmatch(r"(.*?)((?:: | at step |, c |; |$))(.*)", comment).groups()  # type: ignore[union-attr]
    return f"`{formula}`{separator}{rest}" if "*" in formula else comment


def _settings(group: str, tree: dict[str, Any]) -> str:
    own = {key: value for key, value in tree.items() if key not in COMMON.get(group, ("name",))}
    return ", ".join(f"`{key}={shown(value)}`" for key, value in own.items())


def _leaves(tree: dict[str, Any], above: str = "") -> list[str]:
    found = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{above}{key}.")
        elif value is None:
            found.append(f"{above}{key}")
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    rows = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [list(head), ["---" for _ in head], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


REFERENCES: dict[str, Callable[[], str]] = {
    "choices": choices,
    "keys": keys,
    **{group: _group(group) for group in ("objective", "optimizer", "schedule")},
}
