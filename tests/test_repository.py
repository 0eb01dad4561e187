"""The repository: what lies at its top level."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {"conf", "runner", "tests", "outputs", "pyproject.toml", "README.md", "constraints.txt"}
PAGES = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"}


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a clone")
def test_nothing_else_lies_at_the_top_level() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.partition("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} == TOP | PAGES
