"""The git checkout around the working directory: its commit, and whether it has uncommitted changes.

The folder may be untrusted, and the config in its `.git` can name programs to run: monitors, filters, hooks and
transports. Therefore the commit is read from git's files, and git compares the files with a separate git directory,
whose config takes nothing from the folder.
"""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

GIT_SECONDS = 5
# Larger than any file that names commits: `packed-refs` of the largest repositories has some tens of MiB.
MOST_BYTES = 2**26
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
DETACHED = ["--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]


@dataclass(frozen=True)
class Checkout:
    """A working tree, and the folders in which git keeps its data.

    Attributes:
        tree: the folder with the files.
        git: the folder with the HEAD and index of this working tree.
        common: the folder with branches and objects, which several working trees may share.
    """

    tree: Path
    git: Path
    common: Path

    @classmethod
    def around(cls, folder: Path) -> "Checkout | None":
        """Return the checkout that contains a folder, or None."""
        for tree in (folder, *folder.parents):
            place = tree / ".git"
            if not place.is_dir():
                named = _text(place)
                if named is None or not named.startswith("gitdir: "):
                    continue
                place = tree / named.removeprefix("gitdir: ").rstrip("\n")
            common = _text(place / "commondir")
            return cls(tree, place, place if common is None else place / common.rstrip("\n"))
        return None

    @property
    def commit(self) -> str | None:
        """The commit that is checked out; None if there is none yet, or if it is stored in another format."""
        head = (_text(self.git / "HEAD") or "").strip()
        if not head.startswith("ref: refs/"):
            return _commit(head)
        name = head.removeprefix("ref: ")
        if ".." in name:
            return None
        loose = _text(self.common / name)
        return _commit(loose.strip()) if loose is not None else self._packed(name)

    def _packed(self, name: str) -> str | None:
        for line in (_text(self.common / "packed-refs") or "").splitlines():
            commit, _, packed = line.partition(" ")
            if packed == name:
                return _commit(commit)
        return None


def _commit(text: str) -> str | None:
    return text if COMMIT.fullmatch(text) else None


def _text(path: Path) -> str | None:
    """Return the text of a file, or None if it is not a readable regular file; never wait for a pipe."""
    with contextlib.suppress(OSError, ValueError):  # a name may hold anything
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(number, "rb") as file:
            if stat.S_ISREG(os.fstat(number).st_mode):
                return file.read(MOST_BYTES).decode(errors="replace")
    return None


@dataclass
class Look:
    """A check of the checkout, which runs in the background until its answer is needed.

    Attributes:
        commit: the commit that is checked out.
        is_read: whether the answer has been read.
    """

    commit: str | None = None
    is_read: bool = False
    _git: "subprocess.Popen[bytes] | None" = None
    _folder: str | None = None
    _is_dirty: bool | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def at(cls, folder: Path) -> "Look":
        """Start checking the checkout around a folder."""
        checkout = Checkout.around(folder)
        commit = None if checkout is None else checkout.commit
        look = cls(commit)
        if checkout is not None and commit is not None:
            # git is missing or does not answer, nothing can be written, or a name is not valid.
            with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
                look._folder = tempfile.mkdtemp(prefix="runner-git-")
                look._git = _compare(checkout, commit, Path(look._folder))
        return look

    def tags(self) -> dict[str, str]:
        """Return the commit and whether the folder has uncommitted changes, as far as they are known."""
        with self._lock:
            if not self.is_read:
                self._read()
                self.is_read = True
        if self.commit is None:
            return {}
        dirty = {} if self._is_dirty is None else {"git.dirty": str(self._is_dirty).lower()}
        return {"git.commit": self.commit} | dirty

    def _read(self) -> None:
        if self._git is not None:
            try:
                listed = self._git.communicate(timeout=GIT_SECONDS)[0]
                self._is_dirty = bool(listed) if self._git.returncode == 0 else None
            except subprocess.TimeoutExpired:
                self._git.kill()
                self._git.communicate()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _compare(checkout: Checkout, commit: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start git on the files, index and objects of a checkout, with a separate git directory in `folder`.

    It prints what differs from the commit. It does not enter submodules, whose configs are as untrusted.
    """
    is_sha256 = len(commit) == 64
    lines = ["[core]", f"repositoryformatversion = {int(is_sha256)}", "bare = false"]
    lines += ["[extensions]", "objectformat = sha256"] if is_sha256 else []
    (folder / "config").write_text("\n".join(lines) + "\n")
    (folder / "HEAD").write_text(f"{commit}\n")
    (folder / "refs").mkdir()
    (folder / "info").symlink_to(checkout.common.absolute() / "info")  # the ignore patterns of this checkout
    for shared in checkout.git.glob("sharedindex.*"):
        (folder / shared.name).symlink_to(shared.absolute())
    own = {
        "GIT_DIR": str(folder),
        "GIT_WORK_TREE": str(checkout.tree),
        "GIT_INDEX_FILE": str(checkout.git.absolute() / "index"),
        "GIT_OBJECT_DIRECTORY": str(checkout.common.absolute() / "objects"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }
    others = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.Popen(
        ["git", *DETACHED, *_ignored(others), "status", "--porcelain", "-z", "--ignore-submodules=all"],
        cwd=checkout.tree,
        env=others | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _ignored(env: dict[str, str]) -> list[str]:
    """Return the git options for the user's own list of ignored files, if the user's config names one."""
    if not any(b"excludesfile" in content.lower() for content in _user_configs(env)):
        return []  # without waiting for git
    command = ["git", "config", "--global", "--no-includes", "--type=path", "core.excludesFile"]
    asked = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False, timeout=GIT_SECONDS)
    file = asked.stdout.rstrip("\n")
    return ["-c", f"core.excludesFile={file}"] if file else []


def _user_configs(env: dict[str, str]) -> Iterator[bytes]:
    """Yield the contents of git's config files of the user."""
    home = env.get("HOME", "")
    for path in (Path(home, ".gitconfig"), Path(env.get("XDG_CONFIG_HOME") or Path(home, ".config"), "git", "config")):
        with contextlib.suppress(OSError):
            yield path.read_bytes()
