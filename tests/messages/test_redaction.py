"""Passwords and tokens are used, and never recorded or printed."""

import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runner.messages.redaction import shown_override, shown_text
from tests.conftest import Command

SECRETS = ["hunter2hunter2", "tok-abcdef", "env-abcdef", "uri-abcdef"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa@host/db?sslpassword=x&password=abc&a=1", "postgresql://***@host/db?sslpassword=***&password=***&a=1"),
        ("tags.token='a b': expected", "tags.token=***: expected"),
        ("lr=0.1 steps=10", "lr=0.1 steps=10"),
        ("postgresql://me:p@ss/w#rd?@host/db", "postgresql://***@host/db"),
        ("postgresql://me:with space@host/db", "postgresql://***@host/db"),
        ("at http://me:p%40@host/ now", "at http://***@host/ now"),
        ("tags={password:abc,x:{a:1}}: expected", "tags={password:***,x:{a:1}}: expected"),
        ("tags={a:{password:abc}}: expected", "tags={a:{password:***}}: expected"),
        ("tags={token:{a:{b:c},x:d},e:f}", "tags={token:***,e:f}"),
        ("tags={a:[{b:1},{'api_key':'x}, y','c':\"d\"}]}", "tags={a:[{b:1},{'api_key':***,'c':\"d\"}]}"),
        ("tags={token:(a,b),c:d}", "tags={token:***,c:d}"),
    ],
)  # fmt: skip
def test_secrets_in_a_text_are_hidden(text: str, shown: str) -> None:
    assert shown_text(text) == shown


# After a key and a colon, the words with which the runner's own messages go on are no values.
PASSWORDS = st.text(
    st.characters(codec="ascii", categories=("L", "N"), include_characters="!#$*+-./:@^_~"), min_size=4
).filter(lambda text: re.match(r"(missing|expected|unknown)\b", text, re.IGNORECASE) is None)
KEYS = st.sampled_from(["password", "token", "api_key", "DB_PASSWORD", "pat_github", "client-secret"])
WORDS = st.sampled_from(
    [
        "run",
        "lr",
        "steps",
        "best",
        "loss",
        "key",
        "value",
        "of",
        "in",
        "the",
        "a",
        "was",
        "not",
        "10",
        "0.1",
        "10:30",
        "me@example.com",
        "a/b",
    ]
)


@given(key=KEYS, password=PASSWORDS, prefix=st.sampled_from(["", "error: ", "warning: ", "a: 1\n", "a: 1, ", "- b; "]))
def test_the_value_of_a_secret_entry_is_hidden_outside_brackets(key: str, password: str, prefix: str) -> None:
    assert shown_text(f"{prefix}{key}: {password}") == f"{prefix}{key}: ***"


@given(
    password=PASSWORDS, before=st.sampled_from(["", "at ", "tags.a=", "'"]), host=st.sampled_from(["host", "[::1]:5"])
)
def test_a_password_before_a_host_is_hidden_without_a_scheme(password: str, before: str, host: str) -> None:
    assume(not password.startswith("//"))
    assert shown_text(f"{before}me:{password}@{host}") == f"{before}***@{host}"


@given(key=KEYS, place=st.integers(0, 7), password=st.from_regex(r"[a-z0-9]{4,}", fullmatch=True))
def test_the_key_of_a_query_may_be_percent_encoded(key: str, place: int, password: str) -> None:
    at = place % len(key)
    encoded = f"{key[:at]}%{ord(key[at]):02X}{key[at + 1 :]}"
    assert shown_text(f"http://host/?a=1&{encoded}={password}&b=2") == f"http://host/?a=1&{encoded}=***&b=2"


@given(words=st.lists(WORDS, min_size=1), ends=st.sampled_from(["", ": missing, expected a number", ": expected true"]))
def test_ordinary_words_are_not_hidden(words: list[str], ends: str) -> None:
    text = f"objective.{' '.join(words)}{ends}"
    assert shown_text(text) == text
    assert shown_text(f"tags.token{ends}") == f"tags.token{ends}"


@pytest.mark.parametrize(
    "text", ["tags={owner:me@example.com}", "mailto:me@example.com", "experiment@a:b=seed", "the password: is wrong"]
)
def test_text_that_only_resembles_a_secret_is_not_hidden(text: str) -> None:
    assert shown_text(text) == text


@pytest.mark.parametrize("text", ["tags.password=a b", "+tags.api-key='a;b'", "~a.token=[1, 2]"])
def test_the_value_of_a_secret_override_is_hidden(text: str) -> None:
    assert shown_override(text) == f"{text.partition('=')[0]}=***"


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["tags.a=${oc.env:SOMETHING}", "tags.b=${tags.a}", "tags.c=${oc.select:tags.b}"],
        ["tags.a=${ oc.env:SOMETHING}", 'tags.b="x ${oc.decode:${oc.env:SOMETHING}}"'],
        ["name=${oc.env:SOMETHING}", 'tags.pin="${oc.decode:${oc.env:PIN}}"'],
        ["-m", "lr=0.1,0.2", "tags.a=${oc.env:SOMETHING}", "tags.b=${tags.a}"],
    ],
)
def test_values_of_the_environment_are_hidden(runner: Command, arguments: list[str]) -> None:
    done = runner(*arguments, "steps=2", SOMETHING="env-abcdef", PIN="71300571")
    assert done.code == 0, done.err
    assert grep(runner.folder) == []
    assert not [path for path in runner.folder.rglob("*.db") if b"71300571" in path.read_bytes()]
    assert "env-abcdef" not in done.out + done.err


@pytest.mark.parametrize(
    "wrong",
    [
        "tags.password=hunter2hunter2}",
        "tags.password=a, hunter2hunter2",
        "tags={password: hunter2hunter2, b: [1]}",
        "tracking.uri='postgresql://me:uri-abcdef/@127.0.0.1:9/x'",
        "tracking.uri='http://me:uri-abcdef/x@127.0.0.1:9'",
        "tracking.uri='postgresql://me:x uri-abcdef@127.0.0.1:9/x'",
        "tracking.uri='postgresql://m:uri-abcdef@[::9/x'",
    ],
)
def test_an_error_contains_no_secret(runner: Command, wrong: str) -> None:
    done = runner(wrong, "steps=2")
    assert done.code == 2, done.err
    assert all(line.startswith("error: ") for line in done.err.splitlines())
    assert not [secret for secret in SECRETS if secret in done.out + done.err]


def test_hydras_files_contain_no_secret(runner: Command) -> None:
    secret = ["tags.password=hunter2hunter2", "tags.from_env=${oc.env:SOMETHING}", "steps=2", "tracking=off"]
    for arguments in (["hydra.output_subdir=kept"], ["-m", "lr=0.1,0.2", "hydra/sweeper=basic"]):
        assert runner(*arguments, *secret, SOMETHING="env-abcdef").code == 0
    assert {"config.yaml", "hydra.yaml", "overrides.yaml", "multirun.yaml"} <= {
        path.name for path in runner.folder.rglob("*.yaml")
    }
    assert grep(runner.folder) == []


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--cfg", "all", "--resolve"], ["--info", "config"]])
def test_configs_that_hydra_prints_contain_no_secret(runner: Command, flags: list[str]) -> None:
    done = runner(*flags, f"tags={{password: {SECRETS[0]}}}", f"tracking.uri=postgresql://u:{SECRETS[0]}@h/db")
    assert done.code == 0
    assert SECRETS[0] not in done.out + done.err
    assert "postgresql://***@h/db" in done.out


def test_the_part_of_hydra_that_writes_them_is_there() -> None:
    import hydra.core.utils

    assert callable(hydra.core.utils._save_config)


SUBMITIT = ["-m", "lr=0.1,0.2", "steps=2", "tracking=off", "hydra/launcher=submitit_local"]


@pytest.mark.parametrize("where", ["tags.hf_key=hunter2hunter2", "tags.token=a,hunter2hunter2", "a file", "its uri"])
def test_submitit_gets_no_secret_that_it_would_write_to_a_file(runner: Command, where: str) -> None:
    given = runner.folder / "given" / "experiment"
    given.mkdir(parents=True)
    (given / "mine.yaml").write_text("# @package _global_\ntags: {token: hunter2hunter2}\n")
    uri = "tracking.uri=postgresql://me:hunter2hunter2@127.0.0.1:9/db"
    arguments = {"a file": ["--config-dir", "given", "experiment=mine"], "its uri": [uri]}.get(where, [where])
    done = runner(*SUBMITIT, *arguments)
    assert done.code == 2, done.out + done.err
    assert "would write it to a file, expected ${oc.env:NAME} instead" in done.errors[0]
    assert SECRETS[0] not in done.out + done.err
    assert [path for path in runner.folder.rglob("*") if "given" not in path.parts] == []


def test_submitits_files_contain_no_secret(runner: Command) -> None:
    done = runner(*SUBMITIT, "tags.token=${oc.env:SOMETHING}", "tags.a=${oc.env:SOMETHING}", SOMETHING=SECRETS[0])
    assert done.code == 0, done.out + done.err
    assert list(runner.folder.rglob("*.pkl"))
    assert grep(runner.folder) == []
