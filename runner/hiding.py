"""Passwords and tokens: kept out of everything that is recorded or printed."""

import re
from typing import Any

from runner.secret_names import hides as hides

HIDDEN = "***"
KEY = r"[+~]*(?P<key>[\w./\-]*\w)"
# As in `tags.token=abc`, `a=1,tags.token=abc` and `?password=abc&`, and in `{token: abc}`.
SETTING = re.compile(rf"{KEY}=(?P<value>'[^']*'|\"[^\"]*\"|(?:(?!,[+~]*[\w./\-]+=)[^\s&;])+)")
ENTRY = re.compile(
    rf"(?<=[{{,])\s*[\"']?{KEY}[\"']?\s*:\s*(?P<value>'[^']*'|\"[^\"]*\"|\{{[^}}]*\}}|\[[^\]]*\]|[^,}}\]]+)"
)
# A password may hold anything, written as it must be or not: what comes before the last @ is hidden.
USER_INFO = re.compile(r"(?:(?<=^)(?P<scheme>[\w+.\-]+)://.*|://\S*)@", re.DOTALL)


class Hidden(str):
    """A text that came from the environment, used but never shown."""

    __slots__ = ()


def shown_text(text: str) -> str:
    """Return a text without the passwords of URIs and the values of settings whose names say that they are secret."""
    text = USER_INFO.sub(lambda match: f"{match['scheme'] or ''}://{HIDDEN}@", text)
    return ENTRY.sub(_shown_setting, SETTING.sub(_shown_setting, text)) if "=" in text or "{" in text else text


def _shown_setting(match: re.Match[str]) -> str:
    if not hides(match["key"]):
        return match[0]
    return match[0][: match.start("value") - match.start()] + HIDDEN


def shown_override(text: str) -> str:
    """Return an override, `key=value`, without what is secret in it, whatever stands in the value."""
    key, equals, value = text.partition("=")
    if not equals:
        return shown_text(text)
    return f"{key}={HIDDEN if hides(key.lstrip('+~')) else shown_text(value)}"


def shown_tree(value: Any, key: str = "") -> Any:
    """Return a tree with everything secret in it hidden, mappings and lists copied."""
    if isinstance(value, Hidden) or (hides(key) and value is not None):
        return HIDDEN
    if isinstance(value, dict):
        return {name: shown_tree(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [shown_tree(item, key) for item in value]
    return shown_text(value) if isinstance(value, str) else value


def hidden(value: Any) -> Any:
    """Return a tree whose texts are hidden ones."""
    if isinstance(value, dict):
        return {key: hidden(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hidden(item) for item in value]
    return Hidden(value) if isinstance(value, str) else value
