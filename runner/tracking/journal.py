"""The journal: an append-only file of what happened, which one writes and one reads while it grows.

An entry is a header (magic, lengths, CRC-32), a JSON head that says what it is, and a body of raw bytes.
A reader skips what does not check: a torn tail, or bytes that something else has changed.
"""

import fcntl
import json
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

MAGIC = b"\x93GDJ"
HEADER = struct.Struct("<4sIII")
LARGEST = 2**30
COPIED_AT_ONCE = 2**20
JOURNALS = Path("outputs/journals")


@dataclass(frozen=True)
class Open:
    """A journal begins: where it is to be recorded, and who writes it.

    Attributes:
        uri: of the store, without a password.
        artifacts: the folder of artifacts; None where the server decides.
        process: the tags that say which process it is.
    """

    uri: str
    artifacts: str | None
    process: dict[str, str]


@dataclass(frozen=True)
class Begin:
    """A run began: who it is, and what is known of it before its first step.

    The parent of a sweep that is continued is not new; its children that did not finish are made anew.
    """

    run: str
    name: str
    experiment: str
    time_ms: int
    parent: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    is_new: bool = True


@dataclass(frozen=True)
class Metrics:
    """Values of the same keys at several steps of several runs.

    `values` are little-endian float64 of shape `(steps, keys, runs)`, in C order. They were made between `since_ms`
    and `time_ms`.
    """

    runs: list[str]
    keys: list[str]
    steps: list[int]
    time_ms: int
    values: bytes
    since_ms: int | None = None

    def time_of(self, index: int) -> int:
        """Return the timestamp of one run's values, in milliseconds: the runs share the time that was taken.

        Rising timestamps are also what lets MLflow's tables grow at their ends.
        """
        since = self.time_ms if self.since_ms is None else self.since_ms
        return since + (self.time_ms - since) * (index + 1) // len(self.runs)

    def of_run(self, index: int) -> Iterator[tuple[str, float, int]]:
        """Yield `(key, value, step)` of one run, step by step."""
        width = len(self.runs)
        flat = memoryview(self.values).cast("d")
        for s, step in enumerate(self.steps):
            for k, key in enumerate(self.keys):
                yield key, flat[(s * len(self.keys) + k) * width + index], step


@dataclass(frozen=True)
class Artifact:
    """A file that belongs to a run."""

    run: str
    path: str
    content: bytes


@dataclass(frozen=True)
class End:
    """A run ended, with its status in MLflow's words and its last results and tags.

    `references` are tags whose values are our ids of runs, recorded as those that MLflow gave them.
    """

    run: str
    status: str
    time_ms: int
    step: int = 0
    results: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Close:
    """Nothing more will come."""


Entry: TypeAlias = Open | Begin | Metrics | Artifact | End | Close
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Open, Begin, Metrics, Artifact, End, Close)}
BODY = {"Metrics": "values", "Artifact": "content"}


def now_ms() -> int:
    """Return the time in MLflow's unit."""
    return int(time.time() * 1000)


def encode(entry: Entry) -> bytes:
    """Return an entry as the bytes that stand in a journal."""
    kind = type(entry).__name__
    fields = dict(vars(entry))
    body = fields.pop(BODY[kind]) if kind in BODY else b""
    head = json.dumps({"kind": kind, **fields}, separators=(",", ":")).encode()
    return HEADER.pack(MAGIC, len(head), len(body), zlib.crc32(body, zlib.crc32(head))) + head + body


def _decode(head: bytes, body: bytes) -> Entry:
    fields = json.loads(head)
    kind = fields.pop("kind")
    if kind in BODY:
        fields[BODY[kind]] = body
    entry: Entry = KINDS[kind](**fields)
    return entry


def hold(file: BinaryIO) -> None:
    """Hold a journal with others that work on it, so that nobody takes it for left behind."""
    fcntl.flock(file, fcntl.LOCK_SH)


def _created(path: Path) -> BinaryIO:
    file: BinaryIO = open(path, "x+b", buffering=0)  # noqa: SIM115  # closed by the writer
    hold(file)
    return file


def _write_all(file: BinaryIO, content: bytes) -> None:
    data = memoryview(content)
    while data:
        data = data[file.write(data) :]


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except OSError:
        return False


class JournalWriter:
    """Appends entries to a journal, each in one write, so that a kill tears at most the last."""

    def __init__(self, path: Path) -> None:
        """Create the journal.

        Raises:
            OSError: it cannot be created.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = _created(path)

    def append(self, entry: Entry) -> None:
        """Append one entry.

        Raises:
            OSError: the disk is full or gone.
        """
        _write_all(self._file, encode(entry))

    def put_back(self, path: Path) -> None:
        """Write the journal anew where its file was removed.

        Args:
            path: where it belongs now; if it cannot be there, it goes to a folder of its own among the temporary files.

        Raises:
            OSError: it cannot be written there either.
        """
        for known in (self.path, path):
            if _is_at(self._file, known):
                self.path = known
                return
        try:
            for folder in (path.parent.parent, path.parent):  # not the working directory, which someone removed
                folder.mkdir(exist_ok=True)
            copy = _created(path)
        except OSError:
            path = Path(tempfile.mkdtemp(prefix="runner-journals-")) / path.name
            copy = _created(path)
        offset = 0
        while data := os.pread(self._file.fileno(), COPIED_AT_ONCE, offset):
            offset += len(data)
            _write_all(copy, data)
        self._file.close()
        self._file, self.path = copy, path

    def close(self) -> None:
        """Close the file, which stays."""
        self._file.close()


class JournalReader:
    """Reads a journal from its start, and on as it grows.

    Attributes:
        corrupt: how many times something was found between entries that is none.
        position: how many bytes have been taken so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.corrupt = 0
        self.position = 0
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115  # the reader lives as long as the recorder
        self._pending = bytearray()

    def hold(self) -> None:
        """Hold the journal, so that nobody takes it for left behind."""
        hold(self._file)

    def entries(self, is_complete: bool) -> Iterator[Entry]:
        """Yield the entries that have come since the last call.

        Args:
            is_complete: nothing will be appended any more, so bytes that are no entry never will be one.
        """
        self._pending += self._file.read()
        while (found := self._next(is_complete)) is not None:
            yield found

    def _next(self, is_complete: bool) -> Entry | None:
        while len(self._pending) >= HEADER.size:
            magic, head_size, body_size, checksum = HEADER.unpack_from(self._pending)
            end = HEADER.size + head_size + body_size
            is_entry = magic == MAGIC and head_size + body_size <= LARGEST
            if is_entry and len(self._pending) < end and not is_complete:
                return None
            content = bytes(self._pending[HEADER.size : end])
            if is_entry and len(self._pending) >= end and zlib.crc32(content) == checksum:
                del self._pending[:end]
                self.position += end
                try:
                    return _decode(content[:head_size], content[head_size:])
                except (ValueError, TypeError, KeyError, AttributeError):  # of another version, or no journal's at all
                    self.corrupt += 1
                    continue
            self._skip_to_next_magic()
        return None

    def _skip_to_next_magic(self) -> None:
        """Drop what is no entry; where an entry follows it was one that something changed, else a torn tail."""
        following = self._pending.find(MAGIC, 1)
        self.corrupt += following >= 0
        self.position += following if following >= 0 else len(self._pending)
        del self._pending[: following if following >= 0 else len(self._pending)]
