"""Where files may be written: under `outputs/` of the working directory, and through no link."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from runner.messages.errors import UserError

ROOT = "outputs"
# Placeholders in a path for parts that are known only when it is written to: any text, and digits.
ANY, DIGITS = "\0", "\1"
WRITTEN = "# Written for Hydra by the runner, and replaced by its next run.\n"


def check_working_directory() -> None:
    """Check that there is a working directory.

    Raises:
        UserError: it has been deleted.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        name = os.environ.get("PWD", "")
        raise UserError(f"the working directory {name} does not exist any more: change to one that does") from None


def is_within(place: str, roots: Sequence[str] = (ROOT,)) -> bool:
    """Return whether a path lies in one of these folders of the working directory without passing through a link."""
    parts = _parts(place)
    return parts is not None and parts[:1] in [[root] for root in roots] and link_on_the_way(place) is None


def link_on_the_way(place: str, roots: Sequence[str] | None = None) -> Path | None:
    """Return the first link in a path within the working directory, its last part included.

    Args:
        place: a path; what is unknown of it, `ANY` or `DIGITS`, matches any name.
        roots: where given, only links within these folders count, and they themselves may be links.
    """
    parts = _parts(place)
    if parts is None or (roots is not None and parts[:1] not in [[root] for root in roots]):
        return None
    if roots is None:
        return next(_links(Path.cwd(), parts), None)
    return next(_links(Path.cwd() / parts[0], parts[1:]), None)


def existing(place: str) -> Iterator[Path]:
    """Yield the existing files and folders that match a path within the working directory."""
    parts = _parts(place) or []
    found = [Path.cwd()]
    for part in parts:
        found = [entry for folder in found for entry in _matching(folder, part)]
    yield from found if parts else ()


def was_written_by_hydra(path: Path) -> bool:
    """Return whether a file was written by Hydra in an earlier run, so that it may be replaced."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline() == WRITTEN
    except (OSError, UnicodeDecodeError):
        return False


def write_new(path: Path, text: str) -> None:
    """Write a file, replacing any that exists; a link is replaced, not followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def _parts(place: str) -> list[str] | None:
    """Return the parts of a path relative to the working directory, None where it lies outside."""
    path = PurePath(place)
    if path.is_absolute():
        if not path.is_relative_to(Path.cwd()):
            return None
        path = path.relative_to(Path.cwd())
    return None if ".." in path.parts else list(path.parts)


def _links(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    if not parts:
        return
    for entry in _matching(folder, parts[0]):
        if entry.is_symlink():
            yield entry
        else:
            yield from _links(entry, parts[1:])


def _matching(folder: Path, part: str) -> Iterator[Path]:
    if ANY not in part and DIGITS not in part:
        if os.path.lexists(folder / part):
            yield folder / part
        return
    pattern = re.compile(re.escape(part).replace(re.escape(ANY), ".*").replace(re.escape(DIGITS), r"\d+"), re.DOTALL)
    try:
        entries = sorted(os.listdir(folder))  # noqa: PTH208  # names only
    except OSError:  # missing, or not a folder
        return
    yield from (folder / name for name in entries if pattern.fullmatch(name))
