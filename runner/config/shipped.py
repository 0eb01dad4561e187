"""The config files of the package: where they are, and the words in them, which are not hidden as secrets."""

import functools
from pathlib import Path

from runner.config.schema import Config, Tracking, keys_of

OTHERS = ("outputs", "artifacts", "mlflow", "sqlite", "runner")


def config_folder() -> Path:
    """Return the folder of the YAML files: inside the package when installed, next to it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


@functools.cache
def public_words() -> frozenset[str]:
    """Return the names of all options, keys and named values."""
    options = {name for file in config_folder().rglob("*.yaml") for name in (file.stem, file.parent.name)}
    keys = {**keys_of(Config), **keys_of(Tracking)}
    values = {name for key in keys.values() for name in key.constraint.names}
    return frozenset(options | set(keys) | values | set(OTHERS))
