"""The surroundings of a command: environment variables, the working directory, closed outputs."""

import os
import shlex
import sqlite3
import subprocess
import sys

from tests.conftest import ROOT, Command


def test_experiment_and_threads_are_read_from_the_environment(runner: Command) -> None:
    variables = {"MLFLOW_TRACKING_URI": "", "MLFLOW_EXPERIMENT_NAME": "mine", "OMP_NUM_THREADS": "1"}
    done = runner("steps=2", "name=nan", "hydra.job.chdir=true", "hydra.run.dir=outputs/here", **variables)
    assert (done.code, done.err) == (0, "")
    assert "; 1 intra-op and" in done.out
    with sqlite3.connect(runner.folder / "outputs" / "mlflow.db") as database:  # not in the job's working directory
        assert ("mine",) in database.execute("select name from experiments").fetchall()
        assert database.execute("select name from runs").fetchall() == [("nan",)]
    assert not (runner.folder / "outputs" / "here" / "outputs").exists()


def test_text_from_the_environment_for_a_number_is_reported_with_the_conversion(runner: Command) -> None:
    done = runner("lr=${oc.env:LR}", "steps=2", "tracking=off", LR="0.1")
    assert done.code == 2
    reads = """'lr="${oc.decode:${oc.env:NAME}}"' reads it as a number"""
    assert done.errors[0].endswith(f"the environment gives text, {reads}")
    assert runner('lr="${oc.decode:${oc.env:LR}}"', "steps=2", "tracking=off", LR="0.1").code == 0


def test_config_path_is_relative_to_the_working_directory(runner: Command) -> None:
    done = runner("--config-path", "nope")
    assert (done.code, done.errors) == (2, ["--config-path nope: no such folder, expected one with config.yaml"])
    (runner.folder / "mine").mkdir()
    assert "Cannot find primary config 'config'" in runner("--config-path=mine", "--cfg", "job").errors[0]


def test_closed_outputs_and_a_deleted_working_directory_cause_no_traceback(runner: Command) -> None:
    for arguments in ("--info all", "--help", "-sc install=zsh"):
        script = f"{sys.executable} -m runner {arguments} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=runner.folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("0\n", "")
    line = f"the working directory {runner.folder / 'gone'} does not exist any more: change to one that does\n"
    python = "import runner\ntry: runner.run()\nexcept runner.UserError as error: raise SystemExit(f'error: {error}')"
    for words, code in (
        (["-m", "runner", "lr=0.1"], 2), (["-m", "runner.delete", "abcd"], 2), (["-m", "runner.ui"], 2),
        (["-c", python], 1),
    ):  # fmt: skip
        script = f"mkdir gone && cd gone && rmdir ../gone && {shlex.join([sys.executable, *words])}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=runner.folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code
        assert done.stderr.endswith(f"error: {line}")
        assert "Traceback" not in done.stderr
