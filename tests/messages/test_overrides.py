"""The parts of an override as it is typed, and which of them lets config files name code."""

import pytest

from runner.messages.overrides import OverrideText, allows_code, split_override


@pytest.mark.parametrize(
    ("text", "parts", "root"),
    [
        ("lr=0.1", OverrideText("", "lr", "0.1"), "lr"),
        ("++tags.a=b=c", OverrideText("++", "tags.a", "b=c"), "tags"),
        ("~optimizer.betas", OverrideText("~", "optimizer.betas", None), "optimizer"),
        ("+experiment@here=seed", OverrideText("+", "experiment@here", "seed"), "experiment"),
        ("name=", OverrideText("", "name", ""), "name"),
        ("", OverrideText("", "", None), ""),
    ],
)
def test_an_override_has_a_sign_a_key_and_a_value(text: str, parts: OverrideText, root: str) -> None:
    assert split_override(text) == parts
    assert split_override(text).root == root


@pytest.mark.parametrize("text", ["allow_code=true", "allow_code=True", "+allow_code=true", "++allow_code=true"])
def test_the_command_line_may_allow_code(text: str) -> None:
    assert allows_code(["lr=1", text])


@pytest.mark.parametrize(
    "text", ["allow_code=false", "allow_code", "tags.allow_code=true", "allow_code=true,false", ""]
)
def test_nothing_else_allows_code(text: str) -> None:
    assert not allows_code(["lr=1", text])
