"""Programs: compiled from their source, kept in the user's cache folder, and loaded."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from runner.compiling.recording import CannotCompileError

FLAGS = ("-shared", "-fPIC", "-w")
VECTORS = {"AVX512": 64, "AVX2": 32}
MOST_BYTES = 64 * 2**20
REPLACES_CACHE = "RUNNER_CACHE_DIR"


@dataclass(frozen=True)
class Source:
    """The source of a program.

    Attributes:
        text: in C++.
        flags: of the compiler, besides those that all programs have.
    """

    text: str
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The name of the program: a hash of all that determines it."""
        parts = (self.text, *FLAGS, *self.flags, torch.__version__, _version(), _processor())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def cache_folder() -> Path:
    """Return the folder of the kept programs."""
    named = os.environ.get(REPLACES_CACHE)
    if named:
        return Path(named).expanduser().absolute() / "programs"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "gradient-descent-runner" / "programs"


def compiler() -> str | None:
    """Return the path of the C++ compiler, the one that CXX names where it is set; None if there is none."""
    named = os.environ.get("CXX")
    return (shutil.which("g++") or shutil.which("c++")) if named is None else shutil.which(named)


def vector_bytes() -> int:
    """Return how long the vectors are that torch's kernels use.

    Raises:
        CannotCompileError: they have no translation.
    """
    name = torch.backends.cpu.get_cpu_capability()
    if sys.platform != "linux" or name not in VECTORS:
        raise CannotCompileError(
            f"programs need Linux on a CPU with AVX2 or AVX512, torch uses {name} on {sys.platform}"
        )
    return VECTORS[name]


def _version() -> str:
    """Return the compiler with its time of change, in place of its version, which takes a process to ask for."""
    path = compiler()
    if path is None:
        return "none"
    real = Path(path).resolve()
    return f"{real} {real.stat().st_mtime_ns}"


@cache
def _processor() -> str:
    """Return what the instructions that the compiler may use depend on."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    lines = [line for line in text.splitlines() if line.startswith(("flags", "model", "cpu family"))]
    return "\n".join(sorted(set(lines)))


def kept(key: str) -> Path | None:
    """Return the file of a kept program; None if there is none that only this user can have written."""
    path = cache_folder() / f"{key}.so"
    return path if _is_own(path.parent, stat.S_ISDIR) and _is_own(path, stat.S_ISREG) else None


def _is_own(path: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return is_kind(found.st_mode) and found.st_uid == os.getuid() and found.st_mode & 0o077 == 0


def load(path: Path) -> ctypes.CDLL:
    """Return the library of a kept program.

    Raises:
        CannotCompileError: the file cannot be loaded.
    """
    try:
        os.utime(path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CannotCompileError(f"the kept program cannot be loaded: {error}") from error


def check_folder() -> Path:
    """Return the folder of the kept programs, made if it is not there.

    Raises:
        CannotCompileError: it cannot be made, or others than the user may write to it.
    """
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCompileError(f"the folder of programs {folder} cannot be made: {error.strerror}") from error
    if not _is_own(folder, stat.S_ISDIR):
        raise CannotCompileError(f"the folder of programs {folder} is open to others, expected your own with mode 700")
    return folder


class Compilation:
    """A compilation in a process of its own; only one process makes a program, others wait for it."""

    def __init__(self, source: Source, *, is_idle: bool = False) -> None:
        """Start the compiler, unless another process has.

        Args:
            source: of the program.
            is_idle: whether to give way to other processes.

        Raises:
            CannotCompileError: there is no compiler, or no private folder.
        """
        path = compiler()
        if path is None:
            raise CannotCompileError("there is no C++ compiler; install g++")
        self._key, self._folder = source.key, check_folder()
        self._work: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = os.open(self._folder / f"{self._key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # another process compiles it
        self._work = Path(tempfile.mkdtemp(dir=self._folder, prefix="making-"))
        (self._work / "step.cpp").write_text(source.text, encoding="utf-8")
        nice = shutil.which("nice") if is_idle else None
        command = [*([nice] if nice else []), path, *FLAGS, "step.cpp", "-o", "step.so", *source.flags, "-ldl"]
        with (self._work / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                command, cwd=self._work, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                start_new_session=True,
            )  # fmt: skip

    def finished(self) -> Path | None:
        """Return the file of the program; None while it is being made.

        Raises:
            CannotCompileError: the compiler has failed.
        """
        if self._process is None:
            return self._from_another()
        code = self._process.poll()
        if code is None:
            return None
        assert self._work is not None
        if code != 0:
            lines = (self._work / "errors").read_text(errors="replace").strip().splitlines()
            self.close()
            raise CannotCompileError(f"the C++ compiler failed: {lines[0] if lines else f'exit code {code}'}")
        made, kept_file = self._work / "step.so", self._folder / f"{self._key}.so"
        made.chmod(0o600)
        made.replace(kept_file)
        self.close()
        _make_room(self._folder, kept_file)
        return kept_file

    def _from_another(self) -> Path | None:
        found = kept(self._key)
        if found is None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return None
            found = kept(self._key)
            if found is None:
                self.close()
                raise CannotCompileError("another process that compiled the program has failed")
        self.close()
        return found

    def wait(self) -> Path:
        """Return the file of the program once it is made.

        Raises:
            CannotCompileError: the compiler has failed.
        """
        while True:
            found = self.finished()
            if found is not None:
                return found
            time.sleep(0.02)

    def close(self) -> None:
        """End the compiler if it runs, and remove its files."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
            (self._folder / f"{self._key}.lock").unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._work = self._process = None


def compiled_file(source: Source) -> Path:
    """Return the file of a program, which is compiled where it is not kept.

    Raises:
        CannotCompileError: it cannot be compiled.
    """
    found = kept(source.key)
    if found is not None:
        return found
    compilation = Compilation(source)
    try:
        return compilation.wait()
    finally:
        compilation.close()


def _make_room(folder: Path, newest: Path) -> None:
    """Remove the programs that were used least recently, while all together are too large."""
    found = []
    for path in folder.glob("*.so"):
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime_ns, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MOST_BYTES:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            total -= size
