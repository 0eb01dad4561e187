"""Distinguishes the user's code from that of Python, the runner and installed packages."""

import os
from pathlib import Path

PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
RUNNER = f"{Path(__file__).parents[1]}{os.sep}"
KNOWN_FOLDERS = (RUNNER, f"{Path(os.__file__).parent}{os.sep}")


def is_user_code(path: object) -> bool:
    """Return whether a path is that of a module of the user; names such as `<string>` are not."""
    if not isinstance(path, str) or not path.startswith(os.sep):
        return False
    return not path.startswith(KNOWN_FOLDERS) and not is_packaged(path)


def is_packaged(path: str) -> bool:
    """Return whether a path is inside an installed package."""
    return any(folder in path for folder in PACKAGES)
