"""Files under `outputs/`: none is reached through a symbolic link, and each has the group access of its folder."""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO

OUTPUTS = Path("outputs")
A_LINK = "is a symbolic link, which is not allowed under outputs/"
NO_FILE = "is not a regular file"
WITHOUT_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
# Follow no link, and do not wait for the writer of a pipe of that name.
NEVER_ELSEWHERE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_folder(path: Path, base: Path | None = None) -> int:
    """Open a folder, creating it if it is missing, and return its descriptor.

    Args:
        path: the folder.
        base: the part of the path below which no component may be a link; by default `outputs/`, or the folder itself.

    Raises:
        OSError: it is reached through a link, or cannot be created.
    """
    path, outputs = path.absolute(), _outputs()
    base = outputs if outputs is not None and path.is_relative_to(outputs) else (base or path).absolute()
    if not base.exists():
        base.parent.mkdir(parents=True, exist_ok=True)
        _enter_or_close(os.open(base.parent, os.O_RDONLY | os.O_DIRECTORY), base.name)
    folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    for part in path.relative_to(base).parts:
        folder = _enter_or_close(folder, part)
    return folder


def _outputs() -> Path | None:
    """Return `outputs/` of the working directory, or None if that was removed."""
    with contextlib.suppress(FileNotFoundError):
        return OUTPUTS.absolute()
    return None


def _enter_or_close(folder: int, name: str) -> int:
    """Open a folder inside another and return its descriptor; close the outer one."""
    try:
        if name == "..":
            raise OSError(errno.EINVAL, "leads out of its folder", name)
        is_new = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
            is_new = True
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            raise _explained(error, name) from None
        if is_new:
            _share(inner, folder, 0o070)
        return inner
    finally:
        os.close(folder)


def open_file(path: Path, flags: int, base: Path | None = None) -> int:
    """Open a regular file and return its descriptor; with `O_CREAT` its folder is created too.

    Raises:
        OSError: it is a link or reached through one, is not a regular file, or cannot be opened.
    """
    folder = open_folder(path.parent, base)
    try:
        file = _regular(os.open(path.name, flags | NEVER_ELSEWHERE, 0o666, dir_fd=folder))
        if flags & os.O_CREAT:
            _share(file, folder, 0o060)
    except OSError as error:
        raise _explained(error, str(path)) from None
    finally:
        os.close(folder)
    return file


def write_file(path: Path, content: bytes, base: Path) -> None:
    """Write a whole file, atomically replacing an existing one.

    Raises:
        OSError: it is reached through a link, or cannot be written.
    """
    folder = open_folder(path.parent, base)
    making = f".{path.name}.{os.urandom(4).hex()}"
    try:
        file = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
        with open(file, "wb") as writing:
            writing.write(content)
            _share(file, folder, 0o060)
        os.replace(making, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(making, dir_fd=folder)
        os.close(folder)


def open_to_read(path: Path) -> int:
    """Open a regular file for reading and return its descriptor.

    Raises:
        OSError: it is a link or not a regular file, or cannot be read.
    """
    try:
        return _regular(os.open(path, os.O_RDONLY | NEVER_ELSEWHERE))
    except OSError as error:
        raise _explained(error, str(path)) from None


def _regular(file: int) -> int:
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, NO_FILE)


def lock(file: BinaryIO, how: int) -> None:
    """Lock a file with `flock`; on a file system without locks, continue without one.

    `filelock` does not fit: it has no shared locks, needs write access to the file, and instead of continuing without
    locks it leaves files behind that a killed process keeps locked.

    Raises:
        BlockingIOError: another process holds the lock, and `how` says not to wait.
    """
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def refuse_link(path: Path) -> None:
    """Check that a path which other code will open is a regular file, or missing.

    Raises:
        OSError: it is a link or not a regular file.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.ELOOP, A_LINK if stat.S_ISLNK(mode) else NO_FILE, str(path))


def link_to(path: Path) -> Path | None:
    """Return the first symbolic link among the components of a path under `outputs/`, or None."""
    path, outputs = path.absolute(), _outputs()
    way = [part for part in (path, *path.parents) if outputs in part.parents]
    return next((part for part in reversed(way) if part.is_symlink()), None)


def is_output(path: Path) -> bool:
    """Return whether a path lies under `outputs/`, judged by its name."""
    outputs = _outputs()
    return outputs is not None and path.absolute().is_relative_to(outputs)


def share(path: Path) -> None:
    """Give a new file the group access of its folder."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    _share(file, folder, 0o060)
    os.close(file)
    os.close(folder)


def _share(file: int, folder: int, bits: int) -> None:
    mode, shared = os.fstat(file).st_mode, os.fstat(folder).st_mode & bits
    if shared & stat.S_IWGRP and mode & shared != shared:
        with contextlib.suppress(PermissionError):  # it belongs to another user
            os.fchmod(file, stat.S_IMODE(mode) | shared)


def _explained(error: OSError, name: str) -> OSError:
    message = A_LINK if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
    return type(error)(error.errno, message, name) if error.errno else OSError(errno.EINVAL, message, name)
