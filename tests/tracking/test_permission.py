"""Folders that several users share, and read-only folders."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command, Done
from tests.support.record import rows

GROUP, FIRST, SECOND = 64_000, 64_001, 64_002
# MLflow asks os.access for its migrations, which counts the user's permissions and not the capabilities.
CAN_READ_MLFLOW = """
import importlib.util, os, pathlib, sys
migrations = pathlib.Path(importlib.util.find_spec("mlflow").origin).parent / "store/db_migrations"
sys.exit(0 if os.access(migrations, os.R_OK) else f"{migrations} is not readable")
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder shared by a group, created in the usual way."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only the superuser can be two users")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # tmp_path is in a private folder of this user
    try:
        os.chown(folder, 0, GROUP)
        folder.chmod(0o2775)
        _must_reach_mlflow(FIRST, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def _must_reach_mlflow(user: int, folder: Path) -> None:
    """Skip, in CI fail, where another user has no permission to read MLflow's package."""
    probed = _python_as(user, folder, "-c", CAN_READ_MLFLOW)
    if probed.code != 0:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"another user cannot read MLflow's package in {sys.prefix}: {probed.err.strip()}")


def as_user(user: int, folder: Path, *arguments: str, umask: str = "002") -> Done:
    return _python_as(user, folder, "-m", "runner", *arguments, umask=umask)


def _python_as(user: int, folder: Path, *arguments: str, umask: str = "002") -> Done:
    identity = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={GROUP}"]
    # If this Python belongs to the superuser, other users can read it, and write only their own files.
    identity += [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
    env = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*identity, "sh", "-c", f'umask {umask}; exec "$@"', "sh", sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_two_users_record_in_a_shared_folder(shared: Path) -> None:
    done = [as_user(FIRST, shared, "steps=3", "name=first", umask="022")]
    done += [as_user(SECOND, shared, "steps=3", "name=second", umask="077")]
    done += [as_user(FIRST, shared, "steps=3", "name=third")]
    assert [(one.code, one.err) for one in done] == [(0, "")] * 3
    assert rows(Command(shared), "select name, status from runs order by name") == [
        (name, "FINISHED") for name in ("first", "second", "third")
    ]
    for path in [shared / "outputs", *(shared / "outputs").rglob("*")]:
        found = path.stat()
        assert (found.st_gid, found.st_mode & stat.S_IWGRP) == (GROUP, stat.S_IWGRP), path


def test_unwritable_folders_are_reported_before_the_run_begins(shared: Path) -> None:
    shared.chmod(0o755)
    done = as_user(FIRST, shared, "steps=3")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "cannot be written (Permission denied)" in done.errors[0]
    assert "tracking=off" in done.errors[0]
    (shared / "outputs").mkdir()
    shutil.chown(shared / "outputs", FIRST, GROUP)
    (shared / "outputs/mlflow.db").write_bytes(b"")
    done = as_user(FIRST, shared, "steps=3")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "outputs/mlflow.db: cannot be written (Permission denied)" in done.errors[0]
    assert [path.name for path in (shared / "outputs").iterdir()] == ["mlflow.db"]
