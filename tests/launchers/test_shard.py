"""A shard is a message: any process that gets it executes the same runs and sends the same journal entries."""

import io
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.composition.composition import compose, install, to_config
from runner.console.run import Console
from runner.launchers.running import run_shard
from runner.launchers.shard import NOT_RUN, RunReport, Shard, ShardRun
from runner.tracking.journal import Artifact, Begin, End, Entry, Metrics
from runner.tracking.processes import process_tags

install()
FUNCTION = """
def bounded(weight, limit=3.0):
    if bool((weight > limit).any()):
        raise ValueError("too large")
    return (weight**2).sum(-1)
"""
BOUNDED = [
    "objective=callable",
    "objective.target=bounds:bounded",
    "objective.of_one_point=false",
    "allow_code=true",
    "lr=0.01",
]
# Reads a shard, and writes the journal entries and reports that it gives.
EXECUTE = """
import pickle, sys
from runner.console.run import Console
from runner.launchers.running import run_shard

shard = pickle.load(sys.stdin.buffer)
entries = []
reports = list(run_shard(shard, entries.append, Console(shard.runs[0].config)))
pickle.dump((entries, reports), sys.stdout.buffer)
"""
TIMES = ("seconds", "steps_per_second")


def shard_of(*jobs: list[str], fail_fast: bool = False) -> Shard:
    configs = [to_config(compose(["quiet=true", "threads=2", "steps=20", *overrides])) for overrides in jobs]
    runs = (
        ShardRun(
            replace(config, parent_run="sweep"), f"run{index}", {"number": str(index)}, keeps_weights=bool(index % 2)
        )
        for index, config in enumerate(configs)
    )
    return Shard(tuple(runs), fail_fast)


def executed_here(shard: Shard) -> tuple[list[Entry], list[RunReport]]:
    entries: list[Entry] = []
    return entries, list(run_shard(shard, entries.append, Console(shard.runs[0].config)))


def executed_elsewhere(shard: Shard, folder: Path) -> tuple[list[Entry], list[RunReport]]:
    """Execute a shard in a new Python process, which gets nothing but the pickled shard."""
    path = ":".join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        input=pickle.dumps(shard),
        cwd=folder,
        env={"PYTHONPATH": path, "OMP_WAIT_POLICY": "passive"},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: tuple[list[Entry], list[RunReport]] = pickle.loads(done.stdout)
    return found


def without_times(entry: Any) -> dict[str, Any]:
    fields = dict(vars(entry))
    if isinstance(entry, Artifact):
        fields["content"] = {key: value.tobytes() for key, value in np.load(io.BytesIO(entry.content)).items()}
    if isinstance(entry, Begin):
        fields["tags"] = {key: value for key, value in entry.tags.items() if key not in process_tags()}
    for key in ("results", "metrics"):
        if key in fields:
            fields[key] = {name: value for name, value in fields[key].items() if name not in TIMES}
    if fields.get("weights") is not None:
        fields["weights"] = {key: value.tobytes() for key, value in fields["weights"].items()}
    return {key: repr(value) for key, value in fields.items() if key not in ("time_ms", "since_ms")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds the function."""
    (tmp_path / "bounds.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bounds", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "jobs",
    [
        [
            ["objective=rosenbrock", "optimizer=adam", "schedule=cosine", "gradient_noise=0.1", f"lr={lr}"]
            for lr in (0.1, 0.01, 1e20)
        ],
        [[*BOUNDED, f"initial_weight={weight}"] for weight in (1, 5, 2)],
    ],
    ids=["with a run that diverges", "with a run that fails"],
)
def test_another_process_gives_the_same_results_and_journal_entries(jobs: list[list[str]], folder: Path) -> None:
    shard = shard_of(*jobs)
    entries, reports = executed_here(shard)
    others, others_reports = executed_elsewhere(shard, folder)
    assert [type(entry) for entry in entries] == [type(entry) for entry in others]
    assert list(map(without_times, entries)) == list(map(without_times, others))
    assert list(map(without_times, reports)) == list(map(without_times, others_reports))
    assert {Begin, Metrics, Artifact, End} <= {type(entry) for entry in entries}
    assert {report.run for report in reports} == {"run0", "run1", "run2"}


@pytest.mark.usefixtures("folder")
def test_a_failure_is_reported_and_the_other_runs_continue_after_their_last_recorded_step() -> None:
    entries, reports = executed_here(shard_of(*([*BOUNDED, f"initial_weight={weight}"] for weight in (1, 5, 2))))
    assert [(report.run, report.status) for report in reports] == [
        ("run0", "COMPLETED"),
        ("run1", "FAILED"),
        ("run2", "COMPLETED"),
    ]
    assert re.fullmatch(r"ValueError: too large \(at \S*bounds\.py:4 in bounded\)", reports[1].reason or "")
    steps = [step for entry in entries if isinstance(entry, Metrics) and "run2" in entry.runs for step in entry.steps]
    assert steps == list(range(21))
    ends = {entry.run: entry.status for entry in entries if isinstance(entry, End)}
    assert ends == {"run0": "FINISHED", "run1": "FAILED", "run2": "FINISHED"}


@pytest.mark.usefixtures("folder")
def test_with_fail_fast_the_runs_after_a_failure_are_reported_as_not_run() -> None:
    jobs = ([*BOUNDED, f"initial_weight={weight}"] for weight in (1, 5, 2))
    entries, reports = executed_here(shard_of(*jobs, fail_fast=True))
    assert [report.status for report in reports] == ["COMPLETED", "FAILED", "NOT_RUN"]
    assert reports[2].reason == NOT_RUN
    assert [(entry.run, entry.status) for entry in entries if isinstance(entry, End)][-1] == ("run2", "KILLED")
