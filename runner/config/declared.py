"""Comparing a group's settings with its YAML file: unknown and missing keys, and values of another type."""

from collections.abc import Iterator

from runner.config.data_settings import LATER
from runner.config.group_ranges import MAPPING
from runner.config.groups import DECLARED
from runner.config.options import unknown_key_of_group
from runner.config.schema import GROUPS
from runner.messages.ranges import FLAG, POINT, TEXT, is_finite, is_point, is_text, is_whole, shown

# Keys that the files of users, which are older, need not have.
# Keys whose file has a number, but which take lists, too.
LISTS = ("objective.hidden",)
OPTIONAL = ("tracking.children", *(f"objective.{key}" for key in LATER))


def unlike_declared(given: object, declared: object, path: str) -> Iterator[str]:
    """Yield a line for each key of a group that its YAML file does not declare, or declares with another type.

    Where the file has an empty mapping, any key is allowed; where it has null or an interpolation, any value.
    """
    if isinstance(declared, dict) and isinstance(given, dict):
        if not declared:
            return
        for key, value in given.items():
            if path == "objective" and key in DECLARED[1:]:
                continue  # checked by `group_ranges.OBJECTIVE`
            if key == "name" and path in GROUPS and value != declared.get(key):
                yield from _other_name(path, value, declared.get(key))
            elif key in declared:
                yield from unlike_declared(value, declared[key], f"{path}.{key}")
            else:
                yield unknown_key_of_group(f"{path}.{key}", value, [f"{path}.{name}" for name in declared])
    elif not _same_kind(given, declared, path):
        yield f"{path}={shown(given)}: expected {_kind_of(declared)}"


def _other_name(group: str, given: object, declared: object) -> Iterator[str]:
    if is_text(given):
        yield f"{group}.name={shown(given)}: expected {shown(declared)}; {group}={shown(given)} chooses another"


def not_given(given: object, declared: object, path: str) -> Iterator[str]:
    """Yield a line for each missing key that the YAML file of a group declares."""
    if not isinstance(declared, dict) or not isinstance(given, dict):
        return
    for key, inner in declared.items():
        if (path == "objective" and key in DECLARED) or f"{path}.{key}" in OPTIONAL:
            continue
        if key in given:
            yield from not_given(given[key], inner, f"{path}.{key}")
        elif key != "name":
            yield f"{path}.{key}: missing, expected {_kind_of(inner)}"


def _same_kind(given: object, declared: object, path: str) -> bool:
    if declared is None or (isinstance(declared, str) and "${" in declared):
        return True
    if isinstance(declared, list):
        return _is_numeric(given) if is_point(declared) else isinstance(given, list)
    if is_finite(declared):
        if path in LISTS and isinstance(given, list):
            return True  # checked by `group_ranges.OBJECTIVE`
        return not isinstance(given, list) and _is_numeric(given)
    return isinstance(given, type(declared))


def _is_numeric(value: object) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(is_whole(item) or isinstance(item, float) for item in items)


def _kind_of(declared: object) -> str:
    if isinstance(declared, list):
        return POINT.allowed if is_point(declared) else "a list"
    if isinstance(declared, bool):
        return FLAG.allowed
    if isinstance(declared, dict):
        return f"keys {', '.join(map(str, declared))}" if declared else MAPPING.allowed
    return "a finite number" if is_finite(declared) else TEXT.allowed
