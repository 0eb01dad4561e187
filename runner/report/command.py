"""The command `python -m runner.report ID...`: page and figures of recorded runs and sweeps."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.config.folders import check_working_directory
from runner.config.uris import DEFAULT_URI
from runner.messages.errors import UserError
from runner.messages.printing import print_error, print_lines
from runner.messages.redaction import shown_text

DEFAULT = "report.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is asked for and return the exit code: 2 for a user's mistake."""
    asked = _parsed(arguments)
    try:
        check_working_directory()
        for line in _written(asked):
            print_lines(line)
    except UserError as error:
        for line in error.lines:
            print_error(f"error: {line}")
        return 2
    return 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m runner.report", description="Write a page of recorded runs and sweeps; several are compared."
    )
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    parser.add_argument("id", nargs="+", help="of a run or a sweep, or its first characters, at least four")
    parser.add_argument(
        "--out", metavar="FILE.html", help=f"the page (default: {DEFAULT}, unless a picture is asked for)"
    )
    parser.add_argument("--png", metavar="FILE", help="one figure as a PNG file, as for a slide")
    parser.add_argument("--svg", metavar="FILE", help="the same figure as an SVG file")
    parser.add_argument("--uri", default=uri, help="the store; MLFLOW_TRACKING_URI or outputs/mlflow.db")
    return parser.parse_args(arguments)


def _written(asked: argparse.Namespace) -> Iterator[str]:
    """Write the files, and yield a line for each.

    Raises:
        UserError: a run does not exist, or a file cannot be written.
    """
    pictures = {"png": asked.png, "svg": asked.svg}
    page = asked.out or (None if any(pictures.values()) else DEFAULT)
    for option, name in {"out": page, **pictures}.items():
        if name is not None:
            _check_file(option, name)
    from runner.report.files import picture_of
    from runner.report.from_record import parts_of

    parts = parts_of(asked.id, asked.uri)
    if page is not None:
        from runner.report.page import page_of

        yield _write("out", page, page_of(parts).encode())
    for kind, name in pictures.items():
        if name is not None:
            content = picture_of(parts, kind)
            if content is None:
                raise UserError(f"--{kind} {shown_text(name)}: no loss is recorded, expected runs with one")
            yield _write(kind, name, content)


def _check_file(option: str, name: str) -> None:
    """Check, before anything is read, that a file can be written."""
    path = Path(name)
    if path.is_dir():
        raise UserError(f"--{option} {shown_text(name)}: a folder, expected a file")
    if not path.parent.is_dir():
        raise UserError(
            f"--{option} {shown_text(name)}: no folder {shown_text(str(path.parent))}, expected one that exists"
        )


def _write(option: str, name: str, content: bytes) -> str:
    try:
        Path(name).write_bytes(content)
    except OSError as error:
        raise UserError(f"--{option} {shown_text(name)}: cannot be written ({error.strerror})") from None
    return f"written    {shown_text(name)} ({len(content) / 1e6:.2f} MB)"
