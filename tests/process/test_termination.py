"""The end of the process: at once if nothing else runs in it; otherwise exit hooks and open files are completed."""

import os
import pstats
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command

SHORT = ("tracking=off", "steps=3")
MINE = """
import atexit

kept = open("kept.txt", "w")
in_a_circle = [kept]
in_a_circle.append(in_a_circle)
atexit.register(print, "goodbye")

def bowl(w):
    kept.write("called ")
    return (w**2).sum()

def late(w):
    if w[0] < 0.999:
        raise ValueError("too low")
    return bowl(w)
"""


def python(folder: Path, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [path, str(ROOT)]))
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["objective.target=mine:bowl"], 0), (["-m", "objective.target=mine:late", "lr=0.1,1e-9"], 1)],
)
def test_open_files_of_a_users_function_are_flushed(runner: Command, arguments: list[str], code: int) -> None:
    (runner.folder / "mine.py").write_text(MINE)
    done = runner.alone(*SHORT, "objective=callable", "allow_code=true", "initial_weight=1", *arguments)
    assert done.code == code, done.err
    assert (runner.folder / "kept.txt").read_text().startswith("called called ")
    assert done.out.endswith("goodbye\n")


def test_a_profiler_writes_its_measurements(tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "cProfile", "-o", "stats", "-m", "runner", *SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    functions = pstats.Stats(str(tmp_path / "stats")).get_stats_profile().func_profiles
    assert "execute" in functions


LOOP = """
import os, runpy, signal, sys, threading

def run(*arguments):
    sys.argv[1:] = arguments
    runpy.run_module("runner", run_name="__main__", alter_sys="-m" in arguments)
    assert sys.argv[1:] == list(arguments)

env, handlers = dict(os.environ), list(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)))
for arguments in (["lr=0.1"], ["lr=-1"], ["-m", "lr=0.1,0.2"]):
    try:
        run("steps=3", "tracking=off", *arguments)
    except SystemExit as left:
        print("left with", left.code)
thread = threading.Thread(target=run, args=("steps=4", "tracking=off"))
thread.start()
thread.join()
assert list(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))) == handlers
assert {key: os.environ[key] for key in env} == env
assert "HYDRA_FULL_ERROR" not in os.environ
print("continues")
"""


def test_a_program_continues_after_running_the_runner(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(LOOP)
    done = python(tmp_path, "loop.py")
    assert (done.returncode, done.stderr) == (0, "error: lr=-1: expected a finite number above 0\n")
    words = ("ended", "left", "continues")
    lines = [line.partition(" (")[0] for line in done.stdout.splitlines() if line.startswith(words)]
    assert lines == [
        "ended      after 3 steps: ran all its steps",
        "left with 2",
        "ended      2 jobs asked for, 0 skipped, 2 run: 2 finished, 0 failed",
        "ended      after 4 steps: ran all its steps",
        "continues",
    ]


@pytest.mark.parametrize(
    ("command", "hook", "mark"),
    [
        (["-m", "runner"], "", "left at once"),
        ([str(Path(sys.executable).with_name("runner"))], "", "left at once"),
        (["-m", "runner"], "atexit.register(print, 'at exit')", "at exit"),
    ],
)
def test_a_process_exits_early_only_without_exit_hooks(
    tmp_path: Path, command: list[str], hook: str, mark: str
) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import atexit, os\n{hook}\nleave = os._exit\n"
        "os._exit = lambda code: (os.write(1, b'left at once\\n'), leave(code))\n"
    )
    done = python(tmp_path, *command, *SHORT, "quiet=true", path=str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{mark}\n", "")
