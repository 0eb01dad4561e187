"""The journal: an append-only file of entries, written by one process and read by another while it grows.

An entry is a header (magic number, lengths, CRC-32), a head in JSON with its kind and fields, and a body of raw bytes.
A reader skips what fails the checksum: an incomplete last entry, or bytes that were changed.
"""

import errno
import fcntl
import json
import os
import re
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, get_args, get_origin, get_type_hints

from runner.tracking.files import lock, open_file, open_to_read

MAGIC = b"\x93GDJ"
HEADER = struct.Struct("<4sIII")
LARGEST = 2**30
LARGEST_HEAD = 2**26
READ_AT_ONCE = 2**24
# A file with more bytes than this outside its entries is not read as a journal.
LARGEST_WASTE = 2**32
JOURNALS = Path("outputs/journals")
# A reference to the experiment of a run, as `reference` makes them to runs.
EXPERIMENT = "{{experiment}}"
# The status of an `End` in the journal of a node: the run has its results, and the journal of the sweep ends it.
GOES_ON = "RUNNING"
# Between the id of a run and the number of the attempt to execute it, where an earlier one has died.
ATTEMPT = "_"
REFERENCE = re.compile(r"\{\{run:(\w+)\}\}", re.ASCII)


@dataclass(frozen=True)
class Open:
    """The start of a journal: where it is to be recorded, and which process writes it.

    Attributes:
        uri: the store, without a password.
        artifacts: the folder of artifacts; None if the server decides.
        process: the tags that identify the process.
    """

    uri: str
    artifacts: str | None
    process: dict[str, str]


@dataclass(frozen=True)
class Begin:
    """The start of a run: its identity, params and tags.

    The parent of a resumed sweep is not new; its unfinished children are created again.
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

    `values` are little-endian float64 of shape `(steps, keys, runs)`, in C order, computed between `since_ms` and
    `time_ms`. Where `are_recorded` is true, `runs` are MLflow's ids of runs that an earlier journal began.
    """

    runs: list[str]
    keys: list[str]
    steps: list[int]
    time_ms: int
    values: bytes
    since_ms: int | None = None
    are_recorded: bool = False

    def time_of(self, index: int) -> int:
        """Return the timestamp of one run's values in milliseconds: the runs divide the elapsed time among them.

        Increasing timestamps also let MLflow's indexes grow at their ends.
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
    """A file of a run."""

    run: str
    path: str
    content: bytes


@dataclass(frozen=True)
class Shown:
    """What MLflow's UI shows of a run and its experiment: tags, in which references become MLflow's ids.

    They are made by `reference` from the runner's id of a run, or are EXPERIMENT.
    """

    run: str
    tags: dict[str, str] = field(default_factory=dict)
    experiment_tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """The end of a run: its status as MLflow names it, its final results and tags.

    `references` are tags whose values are the runner's ids of runs; they are recorded as MLflow's ids.
    """

    run: str
    status: str
    time_ms: int
    step: int = 0
    results: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """A run that another journal begins, with its ids in MLflow; `has_jobs` if this one begins jobs of it."""

    run: str
    run_id: str
    experiment_id: str
    has_jobs: bool = False


@dataclass(frozen=True)
class Settle:
    """What follows the end of a sweep whose jobs other journals begin: some of their runs may be left without an end.

    If all jobs have ended, the runs that are RUNNING or KILLED are of attempts that died, and are moved to the trash;
    otherwise those that are RUNNING are KILLED.
    """

    run: str
    is_complete: bool


@dataclass(frozen=True)
class Close:
    """The end of a journal."""


Entry: TypeAlias = Open | Begin | Metrics | Artifact | Shown | End | Known | Settle | Close
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Open, Begin, Metrics, Artifact, Shown, End, Known, Settle, Close)
}
BODY = {"Metrics": "values", "Artifact": "content"}
HINTS = {name: get_type_hints(kind) for name, kind in KINDS.items()}


def reference(run: str) -> str:
    """Return a reference to a run by the runner's id, for the texts of `Shown`."""
    return f"{{{{run:{run}}}}}"


def first_id(run: str) -> str:
    """Return the id that the first attempt to execute a run had, by which the sweep lists its job."""
    return run.partition(ATTEMPT)[0]


def next_id(run: str) -> str:
    """Return the id of the next attempt to execute a run."""
    first, _, number = run.partition(ATTEMPT)
    return f"{first}{ATTEMPT}{int(number or 1) + 1}"


def now_ms() -> int:
    """Return the time in milliseconds, as MLflow stores it."""
    return int(time.time() * 1000)


def encode(entry: Entry) -> bytes:
    """Return the bytes of an entry in a journal."""
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
    for key, value in fields.items():
        if not _fits(value, HINTS[kind][key]):
            raise TypeError(f"{kind}.{key}: {value!r}")
    entry: Entry = KINDS[kind](**fields)
    return entry


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a JSON value has the type of a field; integers must fit into a database column."""
    arguments = get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if arguments:
        return any(_fits(value, argument) for argument in arguments)
    if hint is int:
        return type(value) is int and abs(value) < 2**63
    return isinstance(value, (int, float) if hint is float else hint)


def hold(file: BinaryIO) -> None:
    """Take a shared lock on a journal, so that no other process treats it as abandoned."""
    lock(file, fcntl.LOCK_SH)


def _created(path: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    file: BinaryIO = open(open_file(path, flags, path.parent), "r+b", buffering=0)  # noqa: SIM115  # by the writer
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
    """Appends entries to a journal, each in one write, so that a kill leaves at most the last one incomplete."""

    def __init__(self, path: Path) -> None:
        """Create the journal.

        Raises:
            OSError: the file cannot be created.
        """
        self.path = path
        self._file = _created(path)

    def append(self, entry: Entry) -> None:
        """Append one entry.

        Raises:
            OSError: the disk is full or gone.
        """
        self.append_encoded(encode(entry))

    def append_encoded(self, entries: bytes) -> None:
        """Append entries that are encoded already.

        Raises:
            OSError: the disk is full or gone.
        """
        _write_all(self._file, entries)

    def put_back(self, path: Path) -> None:
        """Write the journal again if its file was removed.

        Args:
            path: where to write it; if that fails, it is written to a new temporary folder.

        Raises:
            OSError: it cannot be written to either place.
        """
        for known in (self.path, path):
            if _is_at(self._file, known):
                self.path = known
                return
        try:
            if not path.parents[2].exists():  # the working directory, which must not be created
                raise FileNotFoundError(path.parents[2])
            copy = _created(path)
        except OSError:
            path = Path(tempfile.mkdtemp(prefix="runner-journals-")) / path.name
            copy = _created(path)
        offset = 0
        while data := os.pread(self._file.fileno(), READ_AT_ONCE, offset):
            offset += len(data)
            _write_all(copy, data)
        self._file.close()
        self._file, self.path = copy, path

    def close(self) -> None:
        """Close the file and keep it."""
        self._file.close()


class JournalReader:
    """Reads a journal from its start, and continues as it grows.

    Attributes:
        corrupt: how many entries, or gaps between entries, could not be read.
        position: how many bytes have been read.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal.

        Raises:
            OSError: it is not a regular file, or cannot be read.
        """
        self.path = path
        self.corrupt = 0
        self.position = 0
        self._file: BinaryIO = open(open_to_read(path), "rb", buffering=0)  # noqa: SIM115  # open as long as this object
        self._pending = bytearray()
        self._wasted = 0
        self._is_torn = False

    def hold(self) -> None:
        """Take a shared lock on the journal, so that no other process treats it as abandoned."""
        hold(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def entries(self, is_complete: bool) -> Iterator[Entry]:
        """Yield the entries that were appended since the last call.

        Args:
            is_complete: nothing will be appended any more, so an incomplete entry stays incomplete.

        Raises:
            ValueError: too many bytes belong to no entry.
        """
        while True:
            if is_complete and len(self._pending) < HEADER.size:
                self._skip_hole()
            more = self._file.read(READ_AT_ONCE)
            self._pending += more
            while (found := self._next(is_complete and not more)) is not None:
                yield found
            if not more:
                return

    def _next(self, is_all: bool) -> Entry | None:
        while len(self._pending) >= HEADER.size:
            magic, head_size, body_size, checksum = HEADER.unpack_from(self._pending)
            end = HEADER.size + head_size + body_size
            is_entry = magic == MAGIC and head_size <= LARGEST_HEAD and head_size + body_size <= LARGEST
            if is_entry and len(self._pending) < end and not is_all:
                return None
            if is_entry and len(self._pending) >= end:
                content = bytes(self._pending[HEADER.size : end])
                if zlib.crc32(content) == checksum:
                    self._take(end)
                    try:
                        return _decode(content[:head_size], content[head_size:])
                    # From another version, or not from a journal.
                    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                        self.corrupt += 1
                        continue
                self._waste(end)
            self._skip_to_next_magic(is_all)
        return None

    def _take(self, end: int) -> None:
        self.corrupt += self._is_torn
        self._is_torn = False
        self.position += end
        del self._pending[:end]

    def _skip_to_next_magic(self, is_all: bool) -> None:
        """Drop bytes up to the next magic number: a changed entry, or an incomplete last one."""
        following = self._pending.find(MAGIC, 1)
        if following < 0:
            following = len(self._pending) if is_all else len(self._pending) - len(MAGIC) + 1
        self._is_torn = True
        self._waste(following)
        self.position += following
        del self._pending[:following]

    def _waste(self, size: int) -> None:
        self._wasted += size
        if self._wasted > LARGEST_WASTE:
            raise ValueError(f"more than {LARGEST_WASTE:,} bytes belong to no entry")

    def _skip_hole(self) -> None:
        """Skip a hole in a sparse file: go to the next data, or to the end."""
        place = self._file.tell()
        try:
            data = os.lseek(self._file.fileno(), place, os.SEEK_DATA)
        except OSError as error:  # no data follows, or the file system does not support this
            data = self._file.seek(0, os.SEEK_END) if error.errno == errno.ENXIO else place
        if data > place:
            self._is_torn = True
            self.position += len(self._pending) + data - place
            self._pending.clear()
