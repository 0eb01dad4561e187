"""Concurrent calls in threads share nothing: no function, secret, random stream or state of the caller."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import runner
from runner.tracking.provenance import config_yaml, params_of, tags_of

QUIET = ["quiet=true", "tracking=off", "steps=2"]
SECRET = "a-login-of-the-database"


@pytest.fixture
def often_switched() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def beside_each_other(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Return the result of each call, all started at the same time."""
    begun = Barrier(len(calls))

    def call(function: Callable[[], Any]) -> Any:
        begun.wait()
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def seen(done: runner.RunResult) -> str:
    """Return everything that a record holds of a config."""
    return "\n".join((config_yaml(done.config), str(params_of(done.config)), str(tags_of(done.config))))


@pytest.mark.usefixtures("often_switched")
def test_only_secrets_are_hidden_while_other_threads_sweep_and_compose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_LOGIN", SECRET)

    def secret() -> None:
        done = runner.run(["tags.who=${oc.env:DB_LOGIN}", "name=at ${tags.who}", *QUIET])
        assert done.config.tags["who"] == SECRET
        assert SECRET not in seen(done)

    def plain() -> None:
        shown = seen(runner.run(["name=plainly", "tags.who=${name}", "tags.at=${seed}", *QUIET]))
        assert "***" not in shown
        assert shown.count("plainly") >= 4

    def swept() -> None:
        assert len(runner.sweep(["lr=logspace(-3,-1,3)", "tags.who=${oc.env:DB_LOGIN}", *QUIET])) == 3

    def callers_own() -> None:
        for _ in range(50):
            assert OmegaConf.create({"a": "${oc.env:DB_LOGIN}", "b": "${a}"}).b == SECRET

    beside_each_other([secret, secret, secret, plain, plain, swept, swept, callers_own])


def _weight(overrides: list[str]) -> torch.Tensor:
    return runner.run(overrides).weight


@pytest.mark.usefixtures("often_switched")
def test_a_concurrent_call_computes_the_same_as_alone() -> None:
    asked = [[*QUIET, "objective=mlp", f"seed={seed}"] for seed in range(4)]
    alone = [runner.run(overrides).weight for overrides in asked]
    state, filters = torch.get_rng_state(), list(warnings.filters)
    formula = [*QUIET, "objective=expression", "objective.formula='(x-1)**2'"]
    calls = [*(partial(_weight, given) for given in asked), partial(_weight, formula)]
    for found, expected in zip(beside_each_other(calls), alone, strict=False):
        assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert warnings.filters == filters


def test_the_last_of_several_calls_gives_back_the_callers_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bowl_of_threads.py").write_text("def f(w): return (w**2).sum()\n")
    mine = [*QUIET, "objective=callable", "objective.target=bowl_of_threads:f", "allow_code=true"]
    path, threads = list(sys.path), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        beside_each_other([partial(_weight, [*mine, f"threads={count}"]) for count in (1, 2, 1, 2)])
        assert torch.get_num_threads() == 3
        assert sys.path == path
    finally:
        torch.set_num_threads(threads)
