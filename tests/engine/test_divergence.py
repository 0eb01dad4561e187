"""Divergence is visible: tags to search for, a description, a line when quiet, an exit code on demand."""

from collections.abc import Callable

import pytest
from mlflow.tracking import MlflowClient

import runner as package
from runner.messages.errors import DivergedError
from tests.conftest import Command

TOO_LARGE = ("lr=1e30", "steps=9", "log_every=9")
SENTENCE = "loss, gradient or weight became infinite or NaN"


def test_a_diverged_run_is_tagged_described_and_reported(runner: Command) -> None:
    done = runner(*TOO_LARGE, "quiet=true")
    assert (done.code, done.out, done.err) == (0, "", f"warning: diverged at step 2: {SENTENCE}\n")
    strict = runner(*TOO_LARGE, "quiet=true", "fail_on_divergence=true", "tags={mlflow.note.content: mine}")
    assert (strict.code, strict.out) == (1, "")
    assert strict.err == "error: diverged at step 2, and fail_on_divergence=true\n"
    client = MlflowClient(f"sqlite:///{runner.folder}/outputs/mlflow.db")
    runs = client.search_runs(["1"], "tags.diverged = 'true' and attributes.status = 'FINISHED'")
    notes = [run.data.tags["mlflow.note.content"] for run in runs]
    assert all(note.startswith("Diverged at step 2. ") for note in notes)
    assert sorted(note.endswith("\n\nmine") for note in notes) == [False, True]


@pytest.mark.parametrize("launcher", ["batched", "basic"])
def test_a_sweep_counts_diverged_jobs_and_fails_on_demand(runner: Command, launcher: str) -> None:
    sweep = (
        "-m",
        f"hydra/launcher={launcher}",
        "lr=0.1,90000,80000",
        "steps=9",
        "log_every=9",
        "fail_on_divergence=true",
    )
    done = runner(*sweep)
    assert "3 finished (2 diverged), 0 failed" in done.out
    assert (done.code, done.errors) == (1, ["2 of 3 jobs diverged: lr=90000, lr=80000; fail_on_divergence=true"])
    client = MlflowClient(f"sqlite:///{runner.folder}/outputs/mlflow.db")
    (parent,) = client.search_runs(["1"], "tags.diverged_jobs = '2'")
    assert (parent.info.status, parent.data.tags["jobs_diverged"]) == ("FINISHED", "2")
    assert (
        len(client.search_runs(["1"], f"tags.diverged = 'true' and tags.mlflow.parentRunId = '{parent.info.run_id}'"))
        == 2
    )
    if launcher == "batched":
        assert "3 finished (2 diverged)" in parent.data.tags["mlflow.note.content"]
        again = runner(*sweep, "resume=true")
        assert (again.code, again.errors) == (done.code, done.errors)
        assert "3 skipped (2 diverged)" in again.out


def test_from_python_divergence_raises_on_demand(
    in_empty_folder: Callable[[], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    asked = [*TOO_LARGE, "tracking=off", "quiet=true"]
    with pytest.raises(DivergedError, match="diverged at step 2, and fail_on_divergence=true"):
        package.run([*asked, "fail_on_divergence=true"])
    with pytest.raises(DivergedError, match="1 of 2 jobs diverged: lr=90000; fail_on_divergence=true"):
        package.sweep([*asked[1:], "lr=0.1,90000", "fail_on_divergence=true"])
    assert capfd.readouterr().err == ""
    assert list(package.sweep([*asked[1:], "lr=0.1,90000"])["status"]) == ["COMPLETED", "DIVERGED"]
    assert capfd.readouterr().err == "warning: 1 of 2 jobs diverged: lr=90000\n"
    assert in_empty_folder() == []
