"""Printing without secrets and without terminal escapes, whatever the source of the text."""

import contextlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from runner.messages.redaction import shown_text, without_noted

# Control characters (C0, C1, DEL), invisible and direction marks, and surrogates.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
# The control characters that lay out Hydra's lines.
LAYOUT = "\n\t"


def printable(line: str) -> str:
    """Return a line without secrets and with terminal escapes written out."""
    return escaped(without_noted(shown_text(line)))


def escaped(text: str, but: str = "") -> str:
    """Return a text with invisible characters written as Python escapes, except those in `but`."""
    return UNSEEN.sub(lambda match: match[0] if match[0] in but else match[0].encode("unicode_escape").decode(), text)


class Striking(str):
    """A line that is printed in red."""

    __slots__ = ()


def print_lines(*lines: str) -> None:
    """Print lines; a closed pipe or a full disk does not end the run."""
    shown = [f"\x1b[31m{printable(line)}\x1b[0m" if isinstance(line, Striking) else printable(line) for line in lines]
    try:
        print("\n".join(shown), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"warning: nothing more can be printed ({error.strerror})", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(line: str) -> None:
    """Print a warning to standard error, in a quiet run too."""
    print_error(f"warning: {line}")


def print_error(line: str) -> None:
    """Print a line to standard error; failing to print is not an error."""
    with contextlib.suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


class _Record(logging.LogRecord):
    """A log record whose message has neither secrets nor terminal escapes; line breaks stay."""

    def getMessage(self) -> str:  # noqa: N802  # logging's name
        return escaped(without_noted(shown_text(super().getMessage())), but=LAYOUT)


class Printable:
    """A stream that writes text without secrets and terminal escapes; line breaks stay."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text with invisible characters written out."""
        return self._stream.write(escaped(without_noted(text), but=LAYOUT))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded(prints_configs: bool = False) -> Iterator[None]:
    """Remove secrets and terminal escapes from logs and warnings, and from configs that Hydra prints."""
    factory, show = logging.getLogRecordFactory(), warnings.showwarning

    def show_printable(message: Warning | str, *_where: Any, **_named: Any) -> None:
        warn(" ".join(str(message).split()))

    logging.setLogRecordFactory(_Record)
    warnings.showwarning = show_printable
    stream: Any = Printable(sys.stdout)
    try:
        with contextlib.redirect_stdout(stream) if prints_configs else contextlib.nullcontext():
            yield
    finally:
        logging.setLogRecordFactory(factory)
        warnings.showwarning = show


def for_shell(text: str) -> str:
    """Return a text in single quotes, which a shell reads as one word."""
    return "'" + text.replace("'", "'\\''") + "'"
