"""Runs from Python: results and trajectories, without changes of global state."""

import gc
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

import runner
from runner import RunnerError, UserError
from runner.api.settings import as_overrides
from runner.composition.composition import compose, compose_sweep, to_config
from runner.engine.result import Outcome
from runner.messages import errors
from tests.conftest import ROOT, Command
from tests.support.record import runs_in

QUIET = ["quiet=true", "tracking=off"]


def test_a_run_returns_its_results_and_its_trajectory() -> None:
    done = runner.run([*QUIET, "lr=0.05", "steps=200", "log_every=50"])
    assert done.outcome is Outcome.COMPLETED
    assert done.trajectory.steps == [0, 50, 100, 150, 200]
    assert done.trajectory.weight.shape == (5, 1)
    assert torch.equal(done.trajectory.weight[-1], done.weight)
    assert float(done.trajectory.loss[-1]) == done.loss
    assert bool(done.trajectory.loss[0].isnan())
    assert done.run_id is None
    frame = done.frame()
    assert list(frame.index) == done.trajectory.steps
    assert list(frame.columns) == ["weight", "loss", "gradient", "lr"]
    assert frame["weight"].iloc[0] == 10.0


def test_vectors_schedules_and_diagnostics_have_columns() -> None:
    done = runner.run(
        [*QUIET, "objective=rosenbrock", "schedule=cosine", "lr=0.001", "steps=20", "diagnostics.curvature=true"]
    )
    assert list(done.frame().columns) == [
        "weight/0", "weight/1", "loss", "gradient/0", "gradient/1", "lr", "curvature", "lr_bound",
    ]  # fmt: skip
    assert done.trajectory.lr[1] == pytest.approx(0.001)
    assert float(done.trajectory.lr[-1]) < 1e-4


def test_a_sweep_returns_one_row_per_job() -> None:
    frame = runner.sweep([*QUIET, "clip_norm=null,0.5", "optimizer=gd,adam", "lr=0.1,50", "steps=300"])
    assert list(frame.columns[:6]) == ["clip_norm", "optimizer", "lr", "status", "reason", "run_id"]
    assert list(frame["optimizer"]) == ["gd", "gd", "adam", "adam"] * 2
    assert list(frame["clip_norm"].isna()) == [True] * 4 + [False] * 4
    assert [str(frame[key].dtype) for key in ("clip_norm", "lr", "final/loss")] == ["float64"] * 3
    assert frame["status"][1] == "DIVERGED"
    assert frame["final/loss"][1] == math.inf
    assert set(frame["run_id"].isna()) == {True}


def test_interpolations_are_resolved_in_the_rows_of_a_sweep() -> None:
    frame = runner.sweep(
        [*QUIET, "initial_weight=3,4", "steps=1", "gradient_noise=0", "objective.offset=${initial_weight}"]
    )
    assert list(frame["final/loss"]) == [3**2 + 3, 4**2 + 4]


@pytest.mark.usefixtures("in_empty_folder")
def test_a_sweep_reports_why_a_job_failed_or_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("fussy.py").write_text("def fussy(w):\n    assert float(w.detach()) < 5, 'too high'\n    return w.sum()**2\n")
    monkeypatch.syspath_prepend(os.getcwd())
    fussy = ["quiet=true", "objective=callable", "objective.target=fussy:fussy", "allow_code=true", "steps=3"]
    sweep = [*fussy, "initial_weight=1,7", "stop.target_loss=2"]
    frame = runner.sweep(sweep)
    assert list(frame["status"]) == ["STOPPED", "FAILED"]
    assert frame["reason"][0].startswith("loss")
    assert frame["reason"][1] == "AssertionError: too high (at fussy.py:2 in fussy)"
    again = runner.sweep([*sweep, "resume=true"])
    assert list(again["status"]) == ["SKIPPED", "FAILED"]
    assert again["run_id"][0] == frame["run_id"][0]
    assert again["final/loss"][0] == frame["final/loss"][0]


@pytest.mark.usefixtures("in_empty_folder")
def test_a_sweep_that_fails_fast_runs_no_more_jobs_and_counts_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("picky.py").write_text("def picky(w):\n    assert float(w.detach()) < 5, 'too high'\n    return w.sum()**2\n")
    monkeypatch.syspath_prepend(os.getcwd())
    picky = ["objective=callable", "objective.target=picky:picky", "allow_code=true", "steps=3"]
    frame = runner.sweep([*picky, "tracking=off", "initial_weight=1,7,2,8", "fail_fast=true"])
    assert list(frame["status"]).count("FAILED") == 1
    assert list(frame["status"][2:]) == ["NOT_RUN", "NOT_RUN"]
    assert "4 jobs asked for, 0 skipped, 2 run: 1 finished, 1 failed; 2 not run" in capsys.readouterr().out
    with pytest.raises(UserError, match="fail_fast=5: expected true or false"):
        runner.sweep(["lr=0.1,0.2", "fail_fast=5"])


def test_a_user_error_has_a_line_for_each_mistake(in_empty_folder: Callable[[], list[str]]) -> None:
    with pytest.raises(UserError, match="lr=-1: expected a finite number above 0"):
        runner.run(["lr=-1"])
    assert in_empty_folder() == []


def test_global_state_is_restored() -> None:
    from hydra.core.global_hydra import GlobalHydra

    torch.manual_seed(5)
    state, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    runner.run([*QUIET, "steps=3", "threads=1", "objective=mlp", "dtype=float64", "gradient_noise=1"])
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert not GlobalHydra.instance().is_initialized()


def _of_hydra_and_omegaconf() -> list[Any]:
    """Return the global state that a call could replace: functions, classes, resolvers and registries."""
    import hydra._internal.hydra as hydra_internal
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.override_parser import overrides_parser
    from omegaconf import _utils, omegaconf
    from omegaconf.basecontainer import BaseContainer

    kinds = (BaseContainer, DictConfig, ListConfig, OmegaConf, hydra_internal, overrides_parser, _utils, omegaconf)
    return [*(dict(vars(kind)) for kind in kinds), dict(BaseContainer._resolvers), dict(SourcesRegistry().types)]


def test_the_state_of_hydra_and_omegaconf_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_bowl.py").write_text("def f(w): return (w**2).sum()\n")
    runner.run([*QUIET, "steps=1"])  # Hydra enters its own at its first use
    path, frozen, kept = list(sys.path), gc.get_freeze_count(), _of_hydra_and_omegaconf()
    runner.run([*QUIET, "steps=3", "objective=callable", "objective.target=own_bowl:f", "allow_code=true"])
    runner.sweep([*QUIET, "steps=3", "lr=linspace(0.1,0.2,2)", "name=${oc.env:HOME}"])
    assert (sys.path, gc.get_freeze_count()) == (path, frozen)
    assert _of_hydra_and_omegaconf() == kept


@pytest.mark.parametrize(
    "state",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
)
def test_a_run_does_not_depend_on_the_callers_state(state: Callable[[], Any]) -> None:
    asked = [*QUIET, "objective=linear_regression", "optimizer=adam", "steps=4", "objective.held_out=0.25"]
    with state():
        inside = runner.run(asked).weight
        frame = runner.sweep([*asked, "lr=0.1,0.2"])
    assert torch.equal(inside, runner.run(asked).weight)
    assert not inside.is_inference()
    assert list(frame["status"]) == ["COMPLETED"] * 2


def test_a_network_does_not_depend_on_the_default_dtype() -> None:
    asked = [*QUIET, "objective=mlp", "steps=2"]
    torch.set_default_dtype(torch.float64)
    try:
        inside = runner.run(asked).weight
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(inside, runner.run(asked).weight)


@pytest.mark.parametrize("overrides", ["lr=0.1", None, ["lr=0.1", 5]])
def test_overrides_that_are_not_a_list_of_texts_are_an_error(overrides: Any) -> None:
    with pytest.raises(UserError, match=r"overrides=.*: expected a list of texts, such as \['lr=0.05'"):
        runner.run(overrides)


@pytest.mark.parametrize(
    ("overrides", "settings", "typed"),
    [
        ((), {"lr": 0.05}, ["lr=0.05"]),
        ({"lr": 0.05, "quiet": True, "clip_norm": None}, {}, ["lr=0.05", "quiet=true", "clip_norm=null"]),
        (["lr=0.1"], {"name": "a,b"}, ["lr=0.1", "name='a,b'"]),
        ({"optimizer": {"name": "adam", "betas": [0.8, 0.9]}}, {}, ["optimizer=adam", "optimizer.betas=[0.8,0.9]"]),
        ({"tags": {"team": "it's"}, "stop.target_loss": 1}, {}, ["tags.team='it\\'s'", "stop.target_loss=1"]),
        ({}, {"initial_weight": torch.tensor([1.0, 2.0])}, ["initial_weight=[1.0,2.0]"]),
        ({}, {"name": "${seed}", "optimizer": "adam"}, ["name=${seed}", "optimizer=adam"]),
    ],
)
def test_settings_in_python_equal_those_of_the_command_line(overrides: Any, settings: Any, typed: list[str]) -> None:
    given = as_overrides(overrides, settings, may_vary=False)
    assert given == typed
    config = to_config(compose([*typed, "tracking=off"]))
    assert to_config(compose([*given, "tracking=off"])) == config


def test_a_run_and_a_sweep_take_keywords_and_mappings() -> None:
    quiet = {"quiet": True, "tracking": "off", "steps": 3}
    assert runner.run(lr=0.05, **quiet).weight == runner.run({**quiet, "lr": 0.05}).weight
    for varied in ("0.1,0.2", (0.1, 0.2)):
        assert list(runner.sweep(quiet, lr=varied, repeats=1)["lr"]) == [0.1, 0.2]
    with pytest.raises(UserError, match=r"lr=<object.*: expected a number, a text, true, false, None"):
        runner.run(lr=object())


def test_a_script_without_a_main_guard_is_tracked(runner: Command) -> None:
    (runner.folder / "script.py").write_text(
        "from runner import run\nprint('begins')\nprint(run(['steps=5', 'quiet=true']).run_id)\n"
    )
    out = subprocess.check_output(
        [sys.executable, "script.py"], cwd=runner.folder, env={"PYTHONPATH": str(ROOT)}, text=True
    )
    begins, run_id = out.split()
    assert begins == "begins"
    assert [run.info.run_id for run in runs_in(runner)] == [run_id]


def test_exceptions_and_results_are_exported_and_have_a_short_repr() -> None:
    raised = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RunnerError)}
    assert raised <= set(runner.__all__) <= set(dir(runner))
    assert all(issubclass(getattr(runner, name), RunnerError) for name in raised)
    copy = pickle.loads(pickle.dumps(runner.RecordingError("one line", "and another")))
    assert (type(copy), copy.lines, str(copy)) == (
        runner.RecordingError,
        ("one line", "and another"),
        "one line\nand another",
    )
    done = runner.run([*QUIET, "objective=rosenbrock", "objective.dimension=2000", "lr=1e-9", "steps=300"])
    for value in (done, done.result, done.trajectory):
        assert len(repr(value)) < 200
    assert repr(done).startswith("RunResult(COMPLETED after 300 steps, loss=")
    assert repr(done).endswith("of 2,000 numbers, run_id=None)")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("learning_rate=0.1", "did you mean 'lr=0.1'?"),
        ("iterations=50", "did you mean 'steps=50'?"),
        ("epochs=50", "did you mean 'objective.epochs=50'?"),
        (
            "optimizer.momentum=0.9",
            "options that have it: optimizer=lars, momentum, muon, nesterov, rmsprop, schedule_free_sgd, shampoo",
        ),
        ("momentum=0.9", "did you mean 'optimizer=momentum optimizer.momentum=0.9'?"),
        ("0.2", "'0.2': not a valid override, a space after a comma ends an argument"),
        ("lr=0.1,", "'lr=0.1,': not a valid override, a comma at the end: expected another value, or lr=0.1"),
        ("name=a=b", "'name=a=b': not a valid override, the value holds a =, which needs quotes"),
        ("x=zip(lr=[0.1,0.2],steps=[10,20])", "are written lr=0.1,0.2 steps=10,20 zip=[lr,steps]"),
        ("repeat=2", "zip, repeats, where, resume, fail_fast, max_jobs"),
    ],
)
def test_common_misspellings_suggest_the_right_override(override: str, line: str) -> None:
    with pytest.raises(UserError, match=re.escape(line)) as raised:
        compose_sweep(["seed=1,2", override])
    assert len(raised.value.lines) == 1
