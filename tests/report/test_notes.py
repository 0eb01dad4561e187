"""The notes that MLflow's UI shows: whatever users write in names and values stays text."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.messages.printing import escaped
from runner.report.notes import Best, SweepNote, command_of, note_of_experiment, note_of_run, note_of_sweep, safe

ODD = "<img src=x onerror=alert(1)> [a](javascript:b) `c` *d* _e_ | f\n# g"


@given(st.text(min_size=1))
def test_text_of_users_is_neither_markup_nor_html(text: str) -> None:
    shown = safe(text, 10_000)
    assert not set("<>[]`*_|#&\n\\!~{}\"'$") & set(re.sub(r"&#\d+;", "", shown))
    assert html.unescape(shown) == escaped(" ".join(text.split()))


def test_the_note_of_a_sweep_answers_first_and_keeps_users_text_as_text() -> None:
    best = [Best(f"id{rank}", {"lr": "0.1", "name": ODD}, {"loss": f"{rank}"}) for rank in range(1, 13)]
    note = SweepNote("{{run:r}}", "{{experiment}}", "12 jobs.", best, [], "python -m runner -m lr=0.1", True)
    text = note_of_sweep(note)
    assert text.startswith("Best: **lr = 0.1, name = &#60;img")
    assert "onerror=alert(1)>" not in text
    assert "](javascript" not in text
    assert text.count("\n| [") == 10
    assert "(#/experiments/{{experiment}}/runs/{{run:r}}/artifacts/report/report.html?" in text
    assert "![loss](get-artifact?path=report%2Floss.svg&run_uuid={{run:r}})" in text
    assert text.endswith("To run it again:\n\n    python -m runner -m lr=0.1")
    assert "\n" not in note_of_experiment(note)
    assert "report.html" not in note_of_run("{{run:r}}", "{{experiment}}", "done.", "", has_report=False)


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        (["lr=0.1", "steps=5"], "python -m runner -m lr=0.1 steps=5"),
        (["objective.formula='x**2'"], "python -m runner -m 'objective.formula='\\''x**2'\\'''"),
        (
            ["tracking.uri=postgresql://me:secret@host/runs"],
            "python -m runner -m 'tracking.uri=postgresql://***@host/runs'",
        ),
    ],
)
def test_the_command_is_quoted_for_the_shell_without_secrets(overrides: list[str], command: str) -> None:
    assert command_of(overrides, is_sweep=True) == command
