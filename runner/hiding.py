"""Passwords and tokens: kept out of everything that is recorded or printed."""

import functools
import re
from typing import Any

HIDDEN = "***"
WORDS = r"pass(?:word|wd|phrase)?|pwd|secret|token|api_?key|access_?key|private_?key|credential"
SECRET_KEY = re.compile(rf"(?:^|[._/\-])(?:{WORDS})s?(?:$|[._/\-])", re.IGNORECASE)
# As in `tags.token=abc` and `?password=abc&`.
SETTING = re.compile(
    rf"(?P<key>(?:[\w./\-]*[._/\-])?(?:{WORDS})s?(?:[._/\-][\w./\-]*)?)=('[^']*'|\"[^\"]*\"|[^\s&;]+)", re.IGNORECASE
)
USER_INFO = re.compile(r"://[^/?#\s]*@")


class Hidden(str):
    """A text that came from the environment, used but never shown."""

    __slots__ = ()


@functools.cache
def hides(key: str) -> bool:
    """Return whether a key, or a part of a dotted one, is the name of something secret."""
    return SECRET_KEY.search(key) is not None


def shown_text(text: str) -> str:
    """Return a text without the passwords of URIs and the values of settings whose names say that they are secret."""
    return SETTING.sub(rf"\g<key>={HIDDEN}", USER_INFO.sub(f"://{HIDDEN}@", text))


def shown_tree(value: Any, key: str = "") -> Any:
    """Return a tree with everything secret in it hidden, mappings and lists copied."""
    if isinstance(value, Hidden) or (hides(key) and value is not None):
        return HIDDEN
    if isinstance(value, dict):
        return {name: shown_tree(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [shown_tree(item, key) for item in value]
    return shown_text(value) if isinstance(value, str) else value


def from_environment(resolved: Any, raw: Any) -> Any:
    """Return a resolved tree in which texts that the raw one takes from the environment are hidden ones."""
    if isinstance(resolved, dict) and isinstance(raw, dict):
        return {key: from_environment(value, raw.get(key)) for key, value in resolved.items()}
    if isinstance(resolved, list) and isinstance(raw, list) and len(resolved) == len(raw):
        return [from_environment(*pair) for pair in zip(resolved, raw, strict=True)]
    is_from_there = isinstance(raw, str) and "${oc.env:" in raw
    return Hidden(resolved) if is_from_there and isinstance(resolved, str) else resolved
