"""The options of the config groups, and which keys each of them has."""

import functools
import re
from collections.abc import Sequence

from runner.config.shipped import config_folder
from runner.messages.ranges import unknown_key

KEY = re.compile(r"^(\w+):", re.MULTILINE)


@functools.cache
def keys_of_options(group: str) -> dict[str, frozenset[str]]:
    """Return the keys in the files of a group, by option."""
    files = sorted((config_folder() / group).glob("*.yaml"))
    return {file.stem: frozenset(KEY.findall(file.read_text("utf-8"))) for file in files}


def unknown_key_of_group(path: str, value: object, known: Sequence[str]) -> str:
    """Return the line for a key that its group's option does not have, with the options that have it."""
    line = unknown_key(path, value, known)
    group, _, key = path.partition(".")
    options = [option for option, keys in keys_of_options(group).items() if key in keys]
    if not options:
        return line
    return f"{line.partition('; did you mean')[0]}; options that have it: {group}={', '.join(options)}"
