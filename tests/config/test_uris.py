"""Tracking URIs are made absolute, and their passwords hidden in messages."""

from pathlib import Path

import pytest

from runner.config.uris import absolute_uri, sqlite_path
from runner.messages.redaction import shown_text


def test_a_relative_database_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/b.db?x=1") == f"sqlite:///{tmp_path}/a/b.db?x=1"
    assert absolute_uri("sqlite:///l") == f"sqlite:///{tmp_path}/l"
    odd = tmp_path / "a%20b?c #'d"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert sqlite_path(absolute_uri("sqlite:///x%20y.db")) == odd / "x y.db"
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///a/b.db") == tmp_path / "a/b.db"
    assert absolute_uri("sqlite:////a/b.db") == "sqlite:////a/b.db"


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("http://me:secret@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://me:sec@ret@host/db", "postgresql://***@host/db"),
        ("postgresql+psycopg2://me@host/db", "postgresql+psycopg2://***@host/db"),
        ("sqlite:///outputs/mlflow.db", "sqlite:///outputs/mlflow.db"),
    ],
)
def test_user_and_password_are_never_shown(uri: str, public: str) -> None:
    assert shown_text(uri) == public
    assert sqlite_path(uri) is None or uri.startswith("sqlite")
