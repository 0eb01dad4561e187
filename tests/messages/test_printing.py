"""Printed text contains no terminal escapes and no values of the environment."""

import shlex
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.messages.printing import LAYOUT, escaped, for_shell, printable
from tests.conftest import Command, Done

# A title, a screen cleared, the same by C1, a link, a deletion and text that runs backwards.
STEERING = "a\x1b]0;evil\x07\x1b[2Jb\x9b31mc\x7fd\u202ee\u2066f"
SECRET = "hunter2-env/abc def"


def steers(text: str) -> list[str]:
    return [
        letter for letter in text if letter not in LAYOUT and unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp")
    ]


@given(st.text())
def test_all_terminal_escapes_are_replaced(text: str) -> None:
    assert set(steers(escaped(text))) <= {"\xad", "\u200c", "\u200d", "\u0600"} | set(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in escaped(text))
    assert escaped(escaped(text)) == escaped(text)


def test_line_breaks_in_a_text_are_escaped() -> None:
    assert printable("a\nerror: b\r\x1b[A") == "a\\nerror: b\\r\\x1b[A"


def clean(done: Done, *secrets: str) -> str:
    text = done.out + done.err
    assert steers(text) == [], ascii(text)
    assert [secret for secret in secrets if secret in text] == []
    return text


@pytest.fixture
def theirs(runner: Command) -> Command:
    """Work in a folder whose configs hold terminal escapes in values, keys and names of files."""
    given = runner.folder / "given" / "experiment"
    given.mkdir(parents=True)
    text = STEERING.encode("unicode_escape").decode().replace("\\x", "\\x")
    (given / "evil.yaml").write_text(f'# @package _global_\nname: "{text}"\ntags: {{"{text}": "{text}"}}\n')
    (given / "wrong.yaml").write_text(
        f'# @package _global_\nobjective: {{name: "{text}"}}\nlr: "{text}"\n"{text}": 1\n'
    )
    (given / f"{STEERING.replace('/', '')}.yaml").write_text("# @package _global_\nlr: 0.1\n")
    (given.parent / "objective").mkdir()
    (given.parent / "objective" / "\x1b[31mred.yaml").write_text("name: quadratic\n")
    return runner


COMMANDS = {
    "a run": ["experiment=evil", "tracking=off"],
    "a mistake": ["experiment=wrong"],
    "no such option": ["objective=none"],
    "help": ["--help"],
    "a config": ["experiment=evil", "--cfg", "job"],
    "a part of it": ["experiment=evil", "--cfg", "job", "-p", "name"],
    "what it is made of": ["experiment=evil", "--info", "all"],
    "completion": ["-sc", "query=bash"],
    "a sweep": [
        "-m",
        f"'name=\"{STEERING}1\",b'",
        "tracking=off",
        "hydra/hydra_logging=default",
        "hydra/launcher=basic",
    ],
    "a log": ["experiment=evil", "hydra/job_logging=default", "hydra.verbose=true", "tracking=off"],
    "a table": ["-m", "experiment=evil,null", f"tags.x='{STEERING}',b", "tracking=off"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_terminal_escapes(theirs: Command, command: str) -> None:
    completing = {"COMP_LINE": "python -m runner objective=", "COMP_POINT": "27"} if command == "completion" else {}
    done = theirs("--config-dir", "given", *COMMANDS[command], "steps=2", **completing)
    clean(done)
    logs = [path.read_text() for path in theirs.folder.rglob("*.log")]
    assert [steers(text) for text in logs if steers(text)] == []


SHOWN = [
    ["objective=expression", "objective.formula=${oc.env:SOMETHING}"],
    ["objective=${oc.env:SOMETHING}"],
    ["experiment=${oc.env:SOMETHING}"],
    ["schedule.name=${oc.env:SOMETHING}"],
    ["objective=callable", "allow_code=true", "objective.target=${oc.env:SOMETHING}"],
    ["objective=logistic_regression", "objective.dataset=${oc.env:SOMETHING}"],
    ["tracking.uri=${oc.env:SOMETHING}"],
    ["tracking.uri=http://127.0.0.1:9/${oc.env:SOMETHING}"],
    ["initial_weight=[1,'${oc.env:SOMETHING}']"],
    ["tags.a=${oc.env:SOMETHING}", "objective.start=${tags.a}"],
    ["-m", "lr=0.1,${oc.env:SOMETHING}"],
    ["-m", "optimizer=gd,${oc.env:SOMETHING}"],
    ["hydra.run.dir=/proc/${oc.env:SOMETHING}"],
    ["hydra.job.env_copy=[SOMETHING]", "hydra.job.env_set.A=1", "lr=-1"],
    ["--cfg", "job", "-p", "name", "name=${oc.env:SOMETHING}"],
    ["--cfg", "job", "-p", "tags.token", "tags.token='hunter2-env'"],
    ["--cfg", "hydra", "hydra.job.env_copy=[SOMETHING]"],
]


@pytest.mark.parametrize("arguments", SHOWN, ids=lambda arguments: arguments[-1])
def test_no_line_contains_a_value_of_the_environment(runner: Command, arguments: list[str]) -> None:
    done = runner(*arguments, "steps=2", SOMETHING=SECRET)
    assert done.code == 2 or "--cfg" in arguments or "http://127.0.0.1:9" in arguments[0], done.out + done.err
    assert "Traceback" not in done.err
    clean(done, SECRET, "hunter2", "abc def")


def test_a_shortened_value_of_the_environment_is_hidden(runner: Command) -> None:
    long = "".join(f"{number:x}-" for number in range(200))
    done = runner("schedule.name=${oc.env:SOMETHING}", SOMETHING=long)
    assert done.errors[0].startswith("schedule.name=***: expected one of")


def test_public_words_are_not_secrets(runner: Command) -> None:
    chosen = ["optimizer=${oc.env:A}", "dtype=${oc.env:B}", 'lr="${oc.decode:${oc.env:C}}"', "tracking=off", "steps=2"]
    done = runner(*chosen, A="momentum", B="float64", C="0.125")
    assert "optimizer  momentum" in done.out
    assert "lr 0.125" in done.out
    assert "(float64)" in done.out


def test_the_headline_of_a_failed_job_contains_no_secret(runner: Command) -> None:
    (runner.folder / "mine.py").write_text("def f(w):\n    raise ValueError('no: \\x1b[31m')\n")
    mine = ["objective=callable", "objective.target='mine:f'", "allow_code=true", "initial_weight=1.0", "tracking=off"]
    done = runner(
        "-m",
        *mine,
        "tags.token=hunter2-env",
        "hydra/sweeper=basic",
        "hydra/launcher=basic",
        "lr=0.1,0.2",
        "parent_run=a",
    )
    assert done.code != 0
    assert "tags.token=***" in clean(done, "hunter2")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_shell_reads_quoted_text_as_one_word(text: str) -> None:
    assert shlex.split(f"replay --uri {for_shell(text)}") == ["replay", "--uri", text]
