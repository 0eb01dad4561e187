"""The folders in which nodes keep the journals of their shards."""

import tempfile
from pathlib import Path

import pytest

from runner.launchers.node_record import PREFIX, remove_abandoned
from runner.tracking.journal import JOURNALS, Close, JournalWriter


def test_only_folders_that_no_process_uses_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    used, left, new = (tmp_path / f"{PREFIX}{name}" for name in ("used", "left", "new"))
    new.mkdir()
    writers = [JournalWriter(folder / JOURNALS / "a.journal") for folder in (used, left)]
    for writer in writers:
        writer.append(Close())
    writers[1].close()
    remove_abandoned()
    assert sorted(tmp_path.iterdir()) == sorted([used, new])
