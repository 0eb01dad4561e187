"""The command line: help, flags, exit codes, and no heavy imports to explain a mistake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner import __version__
from runner.config.schema import GROUPS, Config, keys_of
from tests.conftest import ROOT, Command

HEAVY = ("torch", "mlflow", "numpy")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["--version"], 0),
        (["lr=-1"], 2),
        (["-m", "lr=1,-1"], 2),
        (["objective=null"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_explained_without_importing_torch_or_mlflow(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "runner", *arguments],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "hydra" in imported or arguments == ["--version"]
    assert imported.isdisjoint(HEAVY)
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_key_and_group(runner: Command) -> None:
    done = runner("--help")
    assert done.code == 0
    for key in keys_of(Config):
        assert f"\n  {key}  " in done.out or f"\n{key}  " in done.out or f"{key}: " in done.out
    assert all(f"{group}: " in done.out for group in GROUPS)


def test_version_prints_the_runners_version(runner: Command) -> None:
    assert runner("--version").out == f"runner {__version__}\n"


def test_cfg_prints_the_composed_config(runner: Command) -> None:
    printed = OmegaConf.create(runner("--cfg", "job", "lr=0.25").out)
    assert set(map(str, printed)) == set(keys_of(Config))
    assert printed.lr == 0.25


def test_info_prints_the_sources_of_the_config(runner: Command) -> None:
    done = runner("--info", "all")
    assert done.code == 0
    assert "Defaults List" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolve"], "--resolve: expected together with --cfg or --help"),
        (["--cfg", "job", "-m"], "--cfg --multirun: expected only one of"),
        (["--cfg", "jobs"], "--cfg/-c: invalid choice: 'jobs' (choose from"),
        (["--lr=0.1"], "--lr=0.1: unknown flag, expected key=value or one of --help, -h"),
        (["--multirum", "lr=1,2"], "--multirum: unknown flag, expected key=value or one of --help, -h"),
        (["-sc", "install=cmd"], "--shell-completion install=cmd: expected install=, uninstall= or query= with"),
        (["-sc", "query=bash"], "--shell-completion query=bash: expected to be called by a shell"),
        (["--experimental-rerun", "a.pickle"], "--experimental-rerun a.pickle: not supported"),
        (["-m", "lr=1,2", "hydra.launcher.memory_mib=0"], "hydra.launcher.memory_mib=0: expected a whole number"),
        (["device=cuda"], "device=cuda: not on this machine, expected one of auto, cpu"),
        (["device=cuda:7"], "device=cuda:7: not on this machine, expected one of auto, cpu"),
        (["initial_weight=[1,2]"], "initial_weight=[1,2]: expected 1 number for objective quadratic, given 2"),
        (["initial_weight=1e39"], "initial_weight=1e+39: expected at most 3.403e+38 for float32"),
        (
            ["objective=rosenbrock", "objective.steepness=0", "initial_weight=[1e30,0]"],
            "initial_weight=[1.0000000150474662e+30,0.0]: expected a start where objective rosenbrock is a number",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_prints_one_line_exits_with_2_and_creates_no_file(
    runner: Command, arguments: list[str], message: str
) -> None:
    import torch

    if torch.cuda.is_available() and arguments[0].startswith("device=cuda"):
        message = message.partition(":")[0]
        arguments = ["device=cuda:7"]
    done = runner(*arguments)
    assert done.code == 2
    assert len(done.errors) == len(done.err.splitlines()) == 1
    assert done.errors[0].startswith(message)
    assert list(runner.folder.iterdir()) == []


def test_flags_are_accepted_anywhere_and_a_misspelt_one_is_named(runner: Command) -> None:
    swept = runner("lr=0.1,0.2", "-m", "steps=2", "tags.a=b,c", "tracking=off")
    assert "4 jobs asked for" in swept.out
    assert "lr=0.2 tags.a=b " in swept.out
    assert runner("--lr=0.1").errors[0].endswith("; did you mean 'lr=0.1'?")
    assert runner("--multirum").errors[0].endswith("; did you mean '--multirun'?")


def test_the_shell_completes_a_key_and_a_value(runner: Command) -> None:
    assert "hydra_bash_completion" in runner("-sc", "install=bash").out
    lines = {
        "runner steps": "steps=",
        "runner objective=ros": "objective=rosenbrock",
        "runner lr=-1 nope=3 tags.a=b ste": "steps=",
        "runner -m objective=rosenbrock steps=1,2 objective.steep": "objective.steepness=",
    }
    for line, expected in lines.items():
        done = runner("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
        assert expected in done.out.split()
        assert done.err == ""


def test_few_lines_are_printed_none_when_quiet_and_a_closed_output_is_no_error(runner: Command) -> None:
    done = runner("steps=4000", "tracking=off")
    assert 1 <= sum(line.startswith("step ") for line in done.out.splitlines()) <= 10
    assert runner("quiet=true", "tracking=off").out == ""
    process = runner.start("steps=50000", "tracking=off")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=280) == 0


@pytest.mark.parametrize(
    ("arguments", "redirected", "code"),
    [
        ("steps=3 tracking=off", ">&-", 0),
        ("steps=3 tracking=off", "<&- >&- 2>&-", 0),
        ("steps=3 tracking=off", ">/dev/full", 0),
        ("-m lr=0.1,0.2 steps=3 tracking=off", ">&- 2>&-", 0),
        ("lr=-1", ">&- 2>&-", 2),
    ],
)
def test_a_run_continues_without_an_output(tmp_path: Path, arguments: str, redirected: str, code: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m runner {arguments} {redirected}"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == code


def test_characters_that_the_encoding_lacks_are_replaced(runner: Command) -> None:
    done = runner("-m", "name='ü','é'", "steps=2", "tracking=off", PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert r"name='\xfc'" in done.out


def test_a_folder_that_hydra_cannot_create_is_reported_in_one_line(runner: Command) -> None:
    done = runner("hydra.run.dir=/proc/nowhere", "steps=2", "tracking=off")
    assert (done.code, done.err) == (2, "error: /proc/nowhere: No such file or directory\n")


def test_a_faulty_logging_config_is_reported_in_one_line(runner: Command) -> None:
    done = runner("hydra/job_logging=stdout", "hydra.job_logging.root.level=LOUD", "steps=2")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "Unknown level: 'LOUD'" in done.errors[0]
    assert not (runner.folder / "outputs").exists()


def test_an_objective_that_raises_midway_is_reported_in_one_line_without_overrides(runner: Command) -> None:
    text = "def late(w):\n    if w[0] < 5:\n        raise RuntimeError('too low')\n    return (w**2).sum()\n"
    (runner.folder / "mine.py").write_text(text)
    chosen = ("objective=callable", "objective.target=mine:late", "allow_code=true", "tags.password=hush")
    done = runner("initial_weight=[10]", *chosen)
    line = "RuntimeError: too low (at mine.py:3 in late)"
    assert (done.code, done.err) == (1, f"error: {line}; HYDRA_FULL_ERROR=1 shows the whole traceback\n")
    full = runner("initial_weight=[10]", *chosen, HYDRA_FULL_ERROR="1")
    assert full.code == 1
    assert full.err.startswith("Traceback")
    assert full.err.endswith(f"RuntimeError: too low\nerror: {line}\n")
    assert "hush" not in done.out
