"""Files under `outputs/`: none is reached through a link, and each may be used by whom its folder may."""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO

OUTPUTS = Path("outputs")
A_LINK = "is a symbolic link, which nothing under outputs/ may be"
NO_FILE = "is no file"
WITHOUT_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
# Through no link, and without waiting for who writes into a pipe of that name.
NEVER_ELSEWHERE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_folder(path: Path, base: Path | None = None) -> int:
    """Open a folder, which is made where it is not there, and return its descriptor.

    Args:
        path: the folder.
        base: from where on no part of the path may be a link; `outputs/` where the path is in it, else the folder.

    Raises:
        OSError: it is reached through a link, or cannot be made.
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
    """Return `outputs/` of the working directory, None where that was removed."""
    with contextlib.suppress(FileNotFoundError):
        return OUTPUTS.absolute()
    return None


def _enter_or_close(folder: int, name: str) -> int:
    """Return the descriptor of a folder in another, which is closed."""
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
    """Open a regular file and return its descriptor; with `O_CREAT` its folder is made.

    Raises:
        OSError: it is a link or reached through one, no regular file, or cannot be opened.
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
    """Write a file whole, in the place of one of its name.

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
    """Open a regular file that is no link, and return its descriptor.

    Raises:
        OSError: it is something else, or cannot be read.
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
    """Lock a file as `flock` does; on a file system without locks each goes on without.

    Raises:
        BlockingIOError: another holds it, and `how` says not to wait.
    """
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def refuse_link(path: Path) -> None:
    """Raise where a path, which something else will open, is a link or no regular file.

    Raises:
        OSError: it is.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.ELOOP, A_LINK if stat.S_ISLNK(mode) else NO_FILE, str(path))


def link_to(path: Path) -> Path | None:
    """Return the first link on the way to a path under `outputs/`, if there is one."""
    path, outputs = path.absolute(), _outputs()
    way = [part for part in (path, *path.parents) if outputs in part.parents]
    return next((part for part in reversed(way) if part.is_symlink()), None)


def is_output(path: Path) -> bool:
    """Return whether a path is under `outputs/`, by its name."""
    outputs = _outputs()
    return outputs is not None and path.absolute().is_relative_to(outputs)


def share(path: Path) -> None:
    """Let a file that is new be used by the group that its folder is shared with."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    _share(file, folder, 0o060)
    os.close(file)
    os.close(folder)


def _share(file: int, folder: int, bits: int) -> None:
    mode, shared = os.fstat(file).st_mode, os.fstat(folder).st_mode & bits
    if shared & stat.S_IWGRP and mode & shared != shared:
        with contextlib.suppress(PermissionError):  # another's, who may have had a reason
            os.fchmod(file, stat.S_IMODE(mode) | shared)


def _explained(error: OSError, name: str) -> OSError:
    said = A_LINK if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
    return type(error)(error.errno, said, name) if error.errno else OSError(errno.EINVAL, said, name)
