"""An error in a user's function names its lines, wherever it is raised."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import runner as package
from runner.messages.errors import UserError
from runner.process.tracebacks import described
from tests.conftest import Command

MODULE = """import torch

def half(w):
    if w[0] < 9.9:
        raise ValueError("half is not enough")
    return w / 2

def late(w):
    return (half(w) ** 2).sum()

class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        return (w**2).sum()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no way back")

def one_way(w):
    return Bad.apply(w)

def read(w):
    return (w**2).sum() * (w[0].item() > 0)

def leaves(w):
    if w[0] < 9.9:
        raise SystemExit(0)
    return (w**2).sum()

class Wordless(Exception):
    def __str__(self):
        raise ValueError("no words")

def wordless(w):
    if w[0] < 9.9:
        raise Wordless
    return (w**2).sum()
"""
CHOSEN = ["objective=callable", "allow_code=true", "initial_weight=10", "tracking=off", "steps=40"]
PLACE = "(at its_own.py:5 in half, from its_own.py:9 in late)"


@pytest.fixture
def own(in_empty_folder: Callable[[], list[str]]) -> None:
    in_empty_folder()
    Path("its_own.py").write_text(MODULE)


@pytest.mark.usefixtures("own")
def test_errors_in_gradients_and_in_vmap_name_the_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"RuntimeError: no way back \(at its_own.py:18 in backward\)"):
        package.run([*CHOSEN, "objective.target=its_own:one_way"])
    package.sweep([*CHOSEN, "objective.target=its_own:read", "lr=0.1,0.2"])
    assert (
        "2 one by one: vmap refuses objective callable: RuntimeError: vmap: It looks like you're calling .item() on a "
        "Tensor (at its_own.py:24 in read)\n"
    ) in capfd.readouterr().out


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("leaves", "RuntimeError: the function raised SystemExit.0. .at its_own.py:28 in leaves,"),
        ("wordless", "Wordless .at .*its_own.py:37 in wordless,"),
    ],
)
def test_sys_exit_and_errors_without_a_message_are_reported(name: str, line: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # whatever the function raises
        package.run([*CHOSEN, f"objective.target=its_own:{name}", "lr=0.1"])
    assert re.match(line, described(raised.value))


@pytest.mark.parametrize("launcher", ["basic", "batched"])
def test_a_failed_job_names_its_lines_and_shows_a_traceback_on_demand(runner: Command, launcher: str) -> None:
    (runner.folder / "its_own.py").write_text(MODULE)
    chosen = [*CHOSEN, "objective.target=its_own:late", "lr=0.01,1e-5", f"hydra/launcher={launcher}"]
    done = runner("-m", *chosen, HYDRA_FULL_ERROR="1")
    line = f"job lr=0.01 failed: ValueError: half is not enough {PLACE}"
    assert (done.code, done.errors) == (1, [line, "1 of 2 jobs failed"])
    assert 'its_own.py", line 5, in half' in done.err
