"""Secrets in a user's source: literals under a secret name are hidden, and nothing else is changed."""

import ast

import pytest

from runner.tracking.source_text import without_secrets

HIDDEN = """# \u00e9
API_KEY = "abc"
self.openai_key: str = f"a{1}b" + "c"
call(token='t', key=lambda a: a, path="p")
settings = {"password": ["a", "b"], "user": "me"}
def f(w, host="h", *, password=b"\u00e9" if w else None): ...
uri = "postgresql://me:secret@host/db"
os.environ["DB_PASSWORD"] = "x" \\
    "y"
"""
SHOWN = """# \u00e9
API_KEY = '***'
self.openai_key: str = '***' + '***'
call(token='***', key=lambda a: a, path="p")
settings = {"password": ['***', '***'], "user": "me"}
def f(w, host="h", *, password='***' if w else None): ...
uri = '***'
os.environ["DB_PASSWORD"] = '***'
"""
PUBLIC = [
    "password = os.environ['DB_PASSWORD']\ntoken = next(tokens)\nmax_tokens = 'many'\n",
    "url = 'https://host/path'\r\nx = '\u00e9'\r\n",
]


def test_literals_under_secret_names_are_hidden() -> None:
    source = HIDDEN.replace('b"\u00e9"', 'b"e"').encode()
    shown, lines = without_secrets(source)
    assert shown.decode() == SHOWN
    assert lines == [2, 3, 4, 5, 6, 7, 8]
    ast.parse(shown)


@pytest.mark.parametrize("text", PUBLIC)
def test_other_source_stays_byte_for_byte(text: str) -> None:
    assert without_secrets(text.encode()) == (text.encode(), [])


def test_another_encoding_is_kept() -> None:
    source = "# coding: latin-1\npwd, x = 'a', '\u00e9'\nsecret = '\u00e9'\n".encode("latin-1")
    shown, lines = without_secrets(source)
    assert shown.decode("latin-1").splitlines()[1:] == ["pwd, x = 'a', '\u00e9'", "secret = '***'"]
    assert lines == [3]


@pytest.mark.parametrize("content", [b"def (", b"x = '\xff'", b"# coding: nonsense\n", b"\0"])
def test_source_that_is_not_python_is_left_out(content: bytes) -> None:
    assert without_secrets(content) == (b"", [])
