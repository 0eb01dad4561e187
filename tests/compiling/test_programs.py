"""Programs are compiled once, kept in a private folder, and loaded from nowhere else."""

import os
from pathlib import Path

import pytest

from runner.compiling import programs
from runner.compiling.programs import Compilation, Source, cache_folder, compiled_file, kept, load
from runner.compiling.recording import CannotCompileError
from tests.support.compiler import with_compiler

pytestmark = pytest.mark.xdist_group("compiled")
SOURCE = Source('extern "C" void descend() {}\n')


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with_compiler(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache" / "programs"


def test_a_program_is_compiled_once_by_two_that_need_it(folder: Path) -> None:
    one, other = (Compilation(SOURCE) for _ in range(2))
    assert other.finished() is None
    path = one.wait()
    assert other.wait() == path == kept(SOURCE.key)
    load(path).descend()
    assert {each.name for each in folder.iterdir()} == {path.name}
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_file_that_others_may_have_written_is_not_loaded(folder: Path) -> None:
    path = compiled_file(SOURCE)
    path.chmod(0o620)
    assert kept(SOURCE.key) is None
    path.chmod(0o600)
    assert kept(SOURCE.key) == path
    folder.chmod(0o755)
    assert kept(SOURCE.key) is None
    with pytest.raises(CannotCompileError, match="open to others, expected your own with mode 700"):
        compiled_file(SOURCE)
    folder.chmod(0o700)
    path.rename(folder / "elsewhere.so")
    path.symlink_to(folder / "elsewhere.so")
    assert kept(SOURCE.key) is None


def test_a_compiler_that_fails_leaves_nothing_but_a_line(folder: Path) -> None:
    with pytest.raises(CannotCompileError, match=r"the C\+\+ compiler failed: step.cpp:1:1: error"):
        compiled_file(Source("no C++\n"))
    assert list(folder.iterdir()) == []


def test_a_compilation_that_is_closed_leaves_nothing(folder: Path) -> None:
    Compilation(SOURCE).close()
    assert list(folder.iterdir()) == []


def test_programs_that_were_used_least_recently_make_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = compiled_file(SOURCE), compiled_file(Source(SOURCE.text + "// again\n"))
    os.utime(second, (1, 1))
    monkeypatch.setattr(programs, "MOST_BYTES", 2.5 * first.stat().st_size)
    third = compiled_file(Source(SOURCE.text + "// and again\n"))
    assert {each.name for each in folder.iterdir()} == {first.name, third.name}


def test_a_broken_program_is_removed(folder: Path) -> None:
    path = compiled_file(SOURCE)
    path.write_bytes(b"no program")
    with pytest.raises(CannotCompileError, match="cannot be loaded"):
        load(path)
    assert list(folder.iterdir()) == []


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNNER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/gradient-descent-runner/programs")
