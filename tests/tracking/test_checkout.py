"""The commit that a run is recorded with; a folder's own git config runs nothing."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.tracking.checkout import Look
from tests.conftest import Command

Git = Callable[..., str]
OWN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git_in(folder: Path) -> Git:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        command = ["git", *who, *arguments]
        return subprocess.check_output(command, cwd=folder, text=True, env=os.environ | OWN).strip()

    return git


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Give git in a repository with one commit of one file."""
    git = git_in(tmp_path)
    git("init", "-q")
    (tmp_path / "notes.txt").write_text("first\n")
    git("add", ".")
    git("commit", "-qm", "First")
    return git


def tags_at(folder: Path) -> dict[str, str]:
    return Look.at(folder).tags()


def test_a_clean_checkout_has_its_commit_in_every_subfolder(git: Git, tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    assert tags_at(tmp_path / "deep/er") == {"git.commit": git("rev-parse", "HEAD"), "git.dirty": "false"}


@pytest.mark.usefixtures("git")
@pytest.mark.parametrize(
    ("name", "text", "dirty"), [("notes.txt", "second\n", "true"), ("new.py", "", "true"), ("seen.log", "", "false")]
)
def test_changed_and_new_files_are_dirty_but_ignored_ones_are_not(
    tmp_path: Path, name: str, text: str, dirty: str
) -> None:
    (tmp_path / ".git/info").mkdir(exist_ok=True)
    (tmp_path / ".git/info/exclude").write_text("*.log\n")
    (tmp_path / name).write_text(text)
    assert tags_at(tmp_path)["git.dirty"] == dirty


def test_staged_and_deleted_files_are_dirty(git: Git, tmp_path: Path) -> None:
    git("rm", "-q", "--cached", "notes.txt")
    (tmp_path / ".gitignore").write_text("*\n")
    assert tags_at(tmp_path)["git.dirty"] == "true"


@pytest.mark.usefixtures("git")
def test_globally_ignored_files_are_not_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ".git/home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\nexcludesFile = ~/ignored\n")
    (home / "ignored").write_text(".DS_Store\n")
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / ".DS_Store").touch()
    assert tags_at(tmp_path)["git.dirty"] == "false"


@pytest.mark.parametrize("change", ["pack-refs --all", "checkout -q --detach", "checkout -q -b topic/deep", "gc -q"])
def test_the_commit_is_found_however_it_is_stored(git: Git, tmp_path: Path, change: str) -> None:
    git(*change.split())
    assert tags_at(tmp_path) == {"git.commit": git("rev-parse", "HEAD"), "git.dirty": "false"}


@pytest.mark.parametrize("options", [["--object-format=sha256"], ["--separate-git-dir", "../elsewhere"]])
def test_other_kinds_of_repositories_are_known(tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    git = git_in(folder)
    git("init", "-q", *options)
    git("commit", "-qm", "First", "--allow-empty")
    assert tags_at(folder) == {"git.commit": git("rev-parse", "HEAD"), "git.dirty": "false"}


def test_a_second_working_tree_has_its_own_commit_and_files(git: Git, tmp_path: Path) -> None:
    git("worktree", "add", "-q", "../second", "-b", "second")
    second = tmp_path.parent / "second"
    there = git_in(second)
    there("commit", "-qm", "Second", "--allow-empty")
    (tmp_path / "notes.txt").write_text("changed in the first tree\n")
    assert tags_at(second) == {"git.commit": there("rev-parse", "HEAD"), "git.dirty": "false"}
    there("worktree", "remove", str(second))


def test_without_a_commit_or_a_checkout_there_are_no_tags(tmp_path: Path) -> None:
    git_in(tmp_path)("init", "-q")
    assert tags_at(tmp_path) == {}
    (tmp_path / ".git/HEAD").unlink()
    assert tags_at(tmp_path) == {}


def test_a_branch_name_that_leads_outside_the_repository_is_not_read(git: Git, tmp_path: Path) -> None:
    (tmp_path.parent / "private").write_text(git("rev-parse", "HEAD"))
    (tmp_path / ".git/HEAD").write_text("ref: refs/../../../private\n")
    assert tags_at(tmp_path) == {}


@pytest.mark.usefixtures("git")
def test_a_pipe_instead_of_a_file_does_not_block(tmp_path: Path) -> None:
    for name in ("HEAD", "packed-refs"):
        (tmp_path / ".git" / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / ".git" / name)
    assert tags_at(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [("HEAD", "ref: refs/heads/\0x\n"), ("commondir", "a\0b\n"), ("HEAD", f"ref: refs/{'a' * 9000}\n")],
)
@pytest.mark.usefixtures("git")
def test_an_invalid_file_name_does_not_stop_a_run(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / ".git" / name).write_text(text)
    assert tags_at(tmp_path) == {}
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / ".git").write_text("gitdir: a\0b\n")
    assert tags_at(inner) == {}


@pytest.mark.usefixtures("git")
def test_a_check_changes_nothing_and_creates_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spare = tmp_path.parent / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert tags_at(tmp_path)["git.dirty"] == "false"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert list(spare.iterdir()) == []


PROGRAMS = """
[core]
    fsmonitor = {program}
    hooksPath = {folder}
    sshCommand = {program}
    pager = {program}
[filter "theirs"]
    clean = {program}
    process = {program}
    smudge = {program}
    required = true
[diff]
    external = {program}
[diff "theirs"]
    textconv = {program}
    command = {program}
[include]
    path = {folder}/more
[status]
    submoduleSummary = true
[extensions]
    partialClone = theirs
[remote "theirs"]
    url = ext::{program}
    promisor = true
    uploadpack = {program}
[protocol "ext"]
    allow = always
"""


def test_an_untrusted_git_config_runs_no_program(runner: Command, tmp_path: Path) -> None:
    # Each program that a config can name leaves a trace; so does each hook.
    traps = tmp_path.parent / "traps"
    traps.mkdir()
    program, trace = traps / "program", traps / "trace"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {trace}\ncat\n')
    program.chmod(0o755)
    git = git_in(tmp_path)
    git("init", "-q")
    inner = tmp_path / "inner"
    inner.mkdir()
    git_in(inner)("init", "-q")
    git_in(inner)("commit", "-qm", "Inner", "--allow-empty")
    (tmp_path / ".gitattributes").write_text("*.txt filter=theirs diff=theirs\n")
    (tmp_path / "notes.txt").write_text("first\n")
    git("-c", "advice.addEmbeddedRepo=false", "add", ".")
    git("commit", "-qm", "First")
    (inner / "changed").touch()
    (tmp_path / "notes.txt").write_text("other\n")  # as long as before: git must read it to know
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction"):
        (traps / hook).symlink_to(program)
        (tmp_path / ".git/hooks").mkdir(exist_ok=True)
        (tmp_path / ".git/hooks" / hook).symlink_to(program)
    (traps / "more").write_text(f"[core]\nfsmonitor = {program}\n")
    config = PROGRAMS.format(program=program, folder=traps)
    for folder in (tmp_path, inner):
        with (folder / ".git/config").open("a") as file:
            file.write(config)
    subprocess.run(["git", "status"], cwd=tmp_path, check=False, capture_output=True)
    assert trace.exists(), "git itself runs what the config names"
    trace.unlink()
    assert runner("steps=1", "tracking=off").code == 0
    assert runner("steps=1", "quiet=true").code == 0
    assert runner("-m", "lr=0.1,0.2", "steps=1", "quiet=true").code == 0
    assert not trace.exists()
