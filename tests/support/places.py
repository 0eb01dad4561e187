"""Folders in which tests of this process record runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def working_in(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Work in a folder, recording in its own store and drawing nothing; give what undoes further changes, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("RUNNER_REPORT", "false")
        yield patch
