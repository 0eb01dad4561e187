"""Which code is the user's own: neither Python's, nor ours, nor an installed package."""

import os
from pathlib import Path

PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
OURS = f"{Path(__file__).parents[1]}{os.sep}"
KNOWN_FOLDERS = (OURS, f"{Path(os.__file__).parent}{os.sep}")


def is_user_code(path: object) -> bool:
    """Return whether a module of the user's lies at a path; anything else, as the names of no files, is none."""
    if not isinstance(path, str) or not path.startswith(os.sep):
        return False
    return not path.startswith(KNOWN_FOLDERS) and not is_packaged(path)


def is_packaged(path: str) -> bool:
    """Return whether a path is of a file of an installed package."""
    return any(folder in path for folder in PACKAGES)
