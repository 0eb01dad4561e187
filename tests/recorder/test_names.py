"""Keys and values as MLflow accepts them, renamed and cut predictably."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from runner.recorder.names import accepted, cut, renamed
from runner.tracking.journal import Begin, End, Metrics


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("loss", "loss"),
        ("final/loss", "final/loss"),
        ("größe 1.5-a:b", "größe 1.5-a:b"),
        ("a@b#c", "a_b_c"),
        ("a//b", "a/_/b"),
        ("/a/", "_/a/_"),
        ("./a/../b", "_/a/__/b"),
        ("..a", "__a"),
        ("..", "__"),
        ("", "_"),
        ("k" * 300, "k" * 250),
    ],
)
def test_characters_that_mlflow_refuses_become_underscores(given: str, name: str) -> None:
    assert renamed((given,)) == (name,)


@given(st.lists(st.text(alphabet="ab/.@_2\n", max_size=6) | st.text(max_size=260), max_size=6))
def test_every_name_is_accepted_and_none_is_shared(keys: list[str]) -> None:
    names = renamed(tuple(keys))
    for name in names:
        _validate_metric_name(name)
        assert len(name) <= 250
    assert len(set(names)) == len(set(keys))
    assert renamed(names) == names


def test_duplicate_names_are_numbered() -> None:
    assert renamed(("a@", "a#", "a_", "a_", "a@")) == ("a__2", "a__3", "a_", "a_", "a__2")


def test_a_long_text_shows_that_it_was_cut() -> None:
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 30, 12) == "xxx... (cut)"


def test_texts_that_databases_refuse_are_replaced_and_a_second_name_is_dropped() -> None:
    given = Begin("r", "a\0b", "e\0", 0, params={"p": "\0"}, tags={"t": "\udcff", "mlflow.runName": "another"})
    begun = accepted(given)
    assert isinstance(begun, Begin)
    assert (begun.name, begun.experiment, begun.params) == ("a\ufffdb", "e\ufffd", {"p": "\ufffd"})
    assert begun.tags == {"t": "?"}


def test_entries_are_changed_to_what_mlflow_accepts() -> None:
    begun = accepted(Begin("r", "", "e", 0, params={"a@": "p" * 6001}, tags={"t@": "t" * 8001}))
    assert isinstance(begun, Begin)
    assert (begun.name, begun.params["a_"][-9:], len(begun.params["a_"])) == ("r", "... (cut)", 6000)
    assert len(begun.tags["t_"]) == 8000
    ended = accepted(End("r", "FINISHED", 0, results={"f@": 1.0}, tags={"t@": "t"}))
    assert isinstance(ended, End)
    assert (ended.results, ended.tags) == ({"f_": 1.0}, {"t_": "t"})
    block = accepted(Metrics(["r"], ["m@"], [1], 0, b"\0" * 8))
    assert isinstance(block, Metrics)
    assert block.keys == ["m_"]
