"""The journal: entries are read back; truncations and flipped bits lose at most the entries they hit."""

import array
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.tracking.journal import (
    HEADER,
    MAGIC,
    Artifact,
    Begin,
    Close,
    End,
    Entry,
    JournalReader,
    JournalWriter,
    Known,
    Metrics,
    Settle,
    encode,
)

TEXT = st.text(max_size=8)
NUMBERS = st.floats()


@st.composite
def metrics(draw: st.DrawFn) -> Metrics:
    runs, keys = draw(st.lists(TEXT, min_size=1, max_size=3)), draw(st.lists(TEXT, min_size=1, max_size=3))
    steps = draw(st.lists(st.integers(0, 10**9), max_size=4))
    count = len(runs) * len(keys) * len(steps)
    values = draw(st.lists(NUMBERS, min_size=count, max_size=count))
    return Metrics(runs, keys, steps, draw(st.integers(0, 2**45)), array.array("d", values).tobytes())


ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.builds(
        Begin,
        run=TEXT,
        name=TEXT,
        experiment=TEXT,
        time_ms=st.integers(0, 2**45),
        parent=st.none() | TEXT,
        params=st.dictionaries(TEXT, TEXT, max_size=2),
        tags=st.dictionaries(TEXT, TEXT, max_size=2),
    ),
    metrics(),
    st.builds(Artifact, run=TEXT, path=TEXT, content=st.binary(max_size=30)),
    st.builds(
        End,
        run=TEXT,
        status=TEXT,
        time_ms=st.integers(0, 2**45),
        step=st.integers(0, 9),
        results=st.dictionaries(TEXT, st.floats(allow_nan=False), max_size=2),
        tags=st.dictionaries(TEXT, TEXT, max_size=2),
    ),
    st.builds(Known, run=TEXT, run_id=TEXT, experiment_id=TEXT, has_jobs=st.booleans()),
    st.builds(Settle, run=TEXT, is_complete=st.booleans()),
    st.just(Close()),
)


def read(data: bytes, is_complete: bool = True) -> list[Entry]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal"
        path.write_bytes(data)
        return list(JournalReader(path).entries(is_complete))


@given(st.lists(ENTRIES, max_size=4))
def test_written_entries_are_read_back(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made" / "a.journal"
        writer = JournalWriter(path)
        for entry in entries:
            writer.append(entry)
        writer.close()
        assert list(JournalReader(path).entries(is_complete=True)) == entries


@settings(max_examples=20)
@given(st.lists(ENTRIES, min_size=1, max_size=3))
def test_a_journal_cut_at_any_byte_yields_its_whole_entries(entries: list[Entry]) -> None:
    encoded = [encode(entry) for entry in entries]
    data = b"".join(encoded)
    for cut in range(len(data)):
        whole = sum(sum(map(len, encoded[: n + 1])) <= cut for n in range(len(entries)))
        assert read(data[:cut]) == entries[:whole]


@settings(max_examples=20)
@given(st.lists(ENTRIES, min_size=1, max_size=3), st.integers(0, 7))
def test_a_flipped_bit_loses_at_most_the_entry_it_hits(entries: list[Entry], bit: int) -> None:
    data = b"".join(map(encode, entries))
    for place in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        found = read(bytes(flipped))
        assert len(found) >= len(entries) - 1
        assert all(entry in entries for entry in found)


@settings(max_examples=20)
@given(st.lists(ENTRIES, min_size=1, max_size=4), st.integers(1, 40))
def test_a_reader_follows_a_growing_journal(entries: list[Entry], piece: int) -> None:
    data = b"".join(map(encode, entries))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal"
        path.touch()
        reader, found = JournalReader(path), []
        for start in range(0, len(data), piece):
            with path.open("ab") as file:
                file.write(data[start : start + piece])
            found += list(reader.entries(is_complete=False))
        assert found == entries


@pytest.mark.parametrize("head", [b'{"kind":"Unknown"}', b'{"kind":"Close","more":1}', b"[]", b"no JSON", b"{}"])
def test_an_entry_of_another_version_is_counted_and_skipped(tmp_path: Path, head: bytes) -> None:
    strange = HEADER.pack(MAGIC, len(head), 0, zlib.crc32(head)) + head
    path = tmp_path / "strange.journal"
    path.write_bytes(encode(Close()) + strange + encode(Close()))
    reader = JournalReader(path)
    assert list(reader.entries(is_complete=True)) == [Close(), Close()]
    assert reader.corrupt == 1


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    JournalWriter(tmp_path / "a.journal")
    with pytest.raises(FileExistsError, match=r"a\.journal"):
        JournalWriter(tmp_path / "a.journal")


def test_metrics_are_split_by_run() -> None:
    values = array.array("d", range(12)).tobytes()
    block = Metrics(["a", "b"], ["loss", "weight", "gradient"], [5, 10], 0, values)
    assert list(block.of_run(1)) == [
        ("loss", 1.0, 5), ("weight", 3.0, 5), ("gradient", 5.0, 5),
        ("loss", 7.0, 10), ("weight", 9.0, 10), ("gradient", 11.0, 10),
    ]  # fmt: skip
