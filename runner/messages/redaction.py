"""Hiding passwords and tokens in everything that is recorded or printed."""

import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from runner.messages.overrides import split_override
from runner.messages.secret_names import hides as hides

HIDDEN = "***"
KEY = r"[+~]*(?P<key>[\w./\-%]*\w)"
# As in `tags.token=abc`, `a=1,tags.token=abc` and `?password=abc&`, and in `{token: abc}`.
SETTING = re.compile(rf"{KEY}=(?P<value>'[^']*'|\"[^\"]*\"|(?:(?!,[+~]*[\w./\-]+=)[^\s&;])+)")
ENTRY = re.compile(rf"(?<=[{{,])\s*[\"']?{KEY}[\"']?\s*:\s*")
# As in `password: abc` at the start of a line or after a separator; what the runner's messages put after a key is none.
LINE_ENTRY = re.compile(
    r"(?P<before>(?:^(?:error: |warning: )?|[,;(])\s*)(?P<key>['\"]?[\w\-]+['\"]?):[ \t]+"
    r"(?!missing\b|expected\b|unknown\b)(?P<value>'[^']*'|\"[^\"]*\"|[^,;\n)]+)",
    re.MULTILINE,
)
# As in `user:password@host`; in `{owner:me@host}` it is an entry of a mapping.
BARE_USER_INFO = re.compile(r"(?<![\w./@:%+\-{,])(?!mailto:)[\w.%+\-]+:(?!//)[^\s'\"<>]+@(?=[\w\[])")
# A password may hold any character, percent-encoded or not: everything before the last @ is hidden.
USER_INFO = re.compile(r"(?:(?<=^)(?P<scheme>[\w+.\-]+)://.*|://\S*)@", re.DOTALL)
# Values from the environment are searched for in printed text, if they and their words are at least this long: hiding
# shorter ones would mask ordinary text, and so give them away.
SHORTEST, SHORTEST_WORD = 4, 6
SHORTEST_NUMBER = 8
NUMBER = re.compile(r"[+-]?[\d_.]+(?:e[+-]?\d+)?", re.IGNORECASE)
SPOKEN = {"true", "false", "null", "none"}


class Hidden(str):
    """A text from the environment; it is used but never shown."""

    __slots__ = ()


class _Noted:
    """The values that this process has read from the environment, to be hidden in printed text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self.pattern: re.Pattern[str] | None = None

    def add(self, value: str, public: frozenset[str]) -> None:
        """Add a value, unless it is too short or too common to be a secret."""
        found = {text for text in _spellings(value) if text not in public}
        with self._lock:
            if not found <= self._values:
                self._values |= found
                longest_first = sorted(self._values, key=len, reverse=True)
                self.pattern = re.compile("|".join(map(re.escape, longest_first)))


_noted = _Noted()


def note(value: str, public: frozenset[str] = frozenset()) -> None:
    """Hide a value from the environment in everything that is printed from now on.

    Args:
        value: the value read.
        public: words that are not secret, such as the names of options.
    """
    _noted.add(value, public)


def _spellings(value: str) -> Iterator[str]:
    """Yield the forms in which a value may appear in a line: as is, on one line, quoted, or a word of it."""
    whole = {value.strip(), " ".join(value.split()), repr(value)[1:-1], ascii(value)[1:-1], quote(value, safe="")}
    for text in whole:
        shortest = SHORTEST_NUMBER if NUMBER.fullmatch(text) else SHORTEST
        if len(text) >= shortest and text.lower() not in SPOKEN:
            yield text
    for word in (
        *re.split(r"\W+", value),
        *value.split("/"),
    ):  # Hydra reports the name of an option without its folders
        if len(word) >= (SHORTEST_NUMBER if NUMBER.fullmatch(word) else SHORTEST_WORD):
            yield word


def without_noted(text: str) -> str:
    """Return a text with the values from the environment hidden."""
    pattern = _noted.pattern
    return text if pattern is None else pattern.sub(HIDDEN, text)


def shown_text(text: str) -> str:
    """Return a text with the passwords of URIs and the values of secret keys hidden."""
    if "@" in text:
        text = USER_INFO.sub(lambda match: f"{match['scheme'] or ''}://{HIDDEN}@", text)
        text = BARE_USER_INFO.sub(f"{HIDDEN}@", text)
    if ": " in text:
        text = LINE_ENTRY.sub(_shown_setting, text)
    return _without_entries(SETTING.sub(_shown_setting, text)) if "=" in text or "{" in text else text


def _without_entries(text: str) -> str:
    """Return a text with the values of secret keys in mappings hidden, nested ones too."""
    shown, place = "", 0
    for match in ENTRY.finditer(text):
        if match.start() >= place and hides(match["key"]):
            shown += text[place : match.end()] + HIDDEN
            place = _end_of_value(text, match.end())
    return shown + text[place:]


def _end_of_value(text: str, start: int) -> int:
    """Return the end of a value in a mapping: the next comma or closing bracket outside quotes and nested brackets."""
    depth, quote, place = 0, "", start
    while place < len(text):
        letter = text[place]
        if letter == "\\":
            place += 1
        elif quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        elif depth == 0 and letter in ",}])":
            return place
        else:
            depth += (letter in "{[(") - (letter in "}])")
        place += 1
    return len(text)


def _shown_setting(match: re.Match[str]) -> str:
    if not hides(unquote(match["key"])):
        return match[0]
    return match[0][: match.start("value") - match.start()] + HIDDEN


def shown_override(text: str) -> str:
    """Return an override, `key=value`, with its secrets hidden."""
    given = split_override(text)
    if given.value is None:
        return shown_text(text)
    return f"{given.sign}{given.key}={HIDDEN if hides(given.key) else shown_text(given.value)}"


def shown_tree(value: Any, key: str = "") -> Any:
    """Return a copy of a tree with all secrets hidden."""
    if isinstance(value, Hidden) or (hides(key) and value is not None):
        return HIDDEN
    if isinstance(value, dict):
        return {name: shown_tree(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [shown_tree(item, key) for item in value]
    return shown_text(value) if isinstance(value, str) else value


def hidden(value: Any) -> Any:
    """Return a copy of a tree in which every text is `Hidden`."""
    if isinstance(value, dict):
        return {key: hidden(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hidden(item) for item in value]
    return Hidden(value) if isinstance(value, str) else value
