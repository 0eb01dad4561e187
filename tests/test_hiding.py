"""Passwords and tokens are used, and never recorded or printed."""

from pathlib import Path

import pytest

from runner.hiding import hides, shown_text
from tests.conftest import Command

SECRETS = ["hunter2hunter2", "tok-abcdef", "env-abcdef", "uri-abcdef"]


@pytest.mark.parametrize("key", ["password", "tags.api_token", "DB_PASSWORD", "a.secret.b", "apiKey".lower(), "tokens"])
def test_names_of_secrets_are_known(key: str) -> None:
    assert hides(key)


@pytest.mark.parametrize("key", ["lr", "objective.passes", "tokenizer", "compass", "secretary"])
def test_other_names_are_not(key: str) -> None:
    assert not hides(key)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa@host/db?sslpassword=x&password=abc&a=1", "postgresql://***@host/db?sslpassword=***&password=***&a=1"),
        ("tags.token='a b': expected", "tags.token=*** expected"),
        ("lr=0.1 steps=10", "lr=0.1 steps=10"),
    ],
)  # fmt: skip
def test_a_text_is_shown_without_them(text: str, shown: str) -> None:
    assert shown_text(text).replace(":", "") == shown.replace(":", "")


def grep(folder: Path) -> list[tuple[str, str]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [(path.name, secret) for path in files for secret in SECRETS if secret.encode() in path.read_bytes()]


def test_secrets_reach_neither_the_record_nor_the_terminal(runner: Command) -> None:
    arguments = [
        "tags.password=hunter2hunter2",
        "tags.api_token=tok-abcdef",
        "tags.from_env=${oc.env:SOMETHING}",
        "steps=3",
    ]
    one = runner(*arguments, SOMETHING="env-abcdef")
    sweep = runner("-m", *arguments, "lr=0.1,0.2", "tags.token=tok-abcdef,hunter2hunter2", SOMETHING="env-abcdef")
    wrong = runner(*arguments, "tags.token={a:tok-abcdef}", "lr=-1", SOMETHING="env-abcdef")
    away = runner("tracking=server", "tracking.uri=http://me:uri-abcdef@127.0.0.1:9", "steps=3")
    spooled = runner("tracking=server", "tracking.uri=http://me:uri-abcdef@127.0.0.1:9", "tracking.offline=spool")
    assert [done.code for done in (one, sweep, wrong, away, spooled)] == [0, 0, 2, 2, 0]
    assert list(runner.folder.rglob("*.journal"))
    assert grep(runner.folder) == []
    for done in (one, sweep, wrong, away, spooled):
        assert not [secret for secret in SECRETS if secret in done.out + done.err]
