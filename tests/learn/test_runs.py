"""The runs of the learner's page: each is the run of the command that the page shows for it, to the bit."""

import random
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner import UserError, run
from runner.learn.command import main
from runner.learn.content import Content, content_of, data_of
from runner.learn.descents import kept_steps
from runner.learn.grid import composed
from runner.learn.regions import Region

SEED = ["steps=400", "log_every=7"]
FORMULA = ["objective=expression", "objective.formula=x**4-3*x**2+x"]


@cache
def contents(*overrides: str) -> Content:
    config, texts = composed(overrides)
    return content_of(texts, config)


def unpacked(data: dict[str, Any]) -> Any:
    """Return the series of a page, `(width, runs, kept)`, as its script unpacks them."""
    kind, kept = np.dtype(data["kind"]), len(data["steps"])
    changed = np.ascontiguousarray(data["values"].reshape(kind.itemsize, -1).T).reshape(-1)
    bits = changed.view(f"u{kind.itemsize}").reshape(data["width"], -1, kept)
    return np.bitwise_xor.accumulate(bits, axis=-1).view(kind)


@pytest.mark.parametrize(
    "overrides",
    [
        SEED,
        ["objective=rosenbrock", "optimizer=adam", "schedule=cosine", "gradient_noise=0.1", "steps=60"],
        [
            *FORMULA,
            "optimizer=nesterov",
            "optimizer.momentum=0.7",
            "dtype=float64",
            "lr=0.0123456789",
            "clip_norm=3",
            "steps=50",
        ],
        ["optimizer=torch", "optimizer.algorithm=Rprop", "steps=3", "quiet=true"],
        ["objective=ill_conditioned", "objective.dimension=5", "stop.seconds=100", "steps=30"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_run_is_that_of_its_command_to_the_bit(overrides: list[str]) -> None:
    content = contents(*overrides)
    data, grid, paths = data_of(content), content.grid, content.paths
    values, rates = unpacked(data), len(grid.rates)
    own = grid.momenta.own * rates + grid.rates.index(composed(overrides)[0].lr)
    for cell in {own, rates * len(grid.momenta.values) - 1, *random.Random(0).sample(range(len(grid.configs)), 2)}:
        command = shlex.split(data["commands"][cell // rates])
        assert command[:3] == ["python", "-m", "runner"]
        settings = [f"lr={data['rate_texts'][cell % rates]}", f"steps={data['total']}", "log_every=1"]
        done = run([*command[3:], *settings, "tracking=off", "quiet=true"])
        assert (done.outcome, done.result.steps) == (paths.results[cell].outcome, data["lasts"][cell])
        end = data["ends"][cell]
        last = int(data["lasts"][cell])
        steps = [*data["steps"][: max(0, end - 1)].tolist(), *([last - 1] if end > 0 else []), last]
        track = done.trajectory
        assert track.steps[-1] == last
        parts = [(paths.weight, track.weight), (paths.loss, track.loss), (paths.gradient, track.gradient)]
        for shown, expected in parts:
            assert torch.equal(shown[cell, : end + 1].nan_to_num(7), expected[steps].nan_to_num(7))
        if content.plane is None:
            numbers = np.concatenate([track.weight.T, track.loss[None], track.gradient.T])[:, steps]
            np.testing.assert_array_equal(values[: len(numbers), cell, : end + 1], numbers)


def test_the_regions_of_a_quadratic_are_those_of_theory() -> None:
    content = contents(*SEED)
    rates, regions = content.grid.rates, content.regions[: len(content.grid.rates)]
    assert 55 <= len(rates) <= 61
    assert 0.01 in rates
    for rate, region in zip(rates, regions, strict=True):
        expected = Region.MONOTONE if rate <= 0.5 else Region.OSCILLATING if rate <= 1 else Region.DIVERGING
        assert region in ((expected, Region.SLOW) if rate < 0.01 else (expected,)), rate
    assert content.curvature == (2.0, 2.0)
    for border, bound in zip(content.borders, content.bounds, strict=True):
        assert border is not None
        assert bound is not None
        assert border.below <= bound * 1.001
        assert border.above >= bound * 0.999
        assert border.above / border.below < 1.1


def test_rates_are_found_where_nothing_moves_and_where_runs_maximize() -> None:
    still = contents(*FORMULA[:1], "objective.formula=0*x+3", "steps=1")
    assert set(still.regions) == {Region.MONOTONE}
    assert still.borders[0] is None
    rising = contents(
        "optimizer=momentum", "optimizer.maximize=true", *FORMULA[:1], "objective.formula=-x**2", "steps=9"
    )
    assert Region.DIVERGING in rising.regions
    assert Region.MONOTONE in rising.regions


@given(st.integers(1, 100_000), st.integers(40, 400))
def test_kept_steps_are_few_and_come_in_pairs(steps: int, most: int) -> None:
    kept = kept_steps(steps, most)
    assert (kept[0], kept[-1]) == (0, steps)
    assert kept == sorted(set(kept))
    assert len(kept) <= most + 3
    later = [step for place, step in enumerate(kept) if step != place]
    assert all(step - 1 in kept or step + 1 in kept for step in later)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--steps", "3"], "unrecognized arguments: --steps; see --help"),
        (["lr=0"], "lr=0: expected a finite number above 0"),
        (["lr=0.1,0.2"], "lr=0.1,0.2: several values make a sweep: add -m; a list is written [1,2]"),
        (["objectiv=x"], "objectiv=x: unknown key, expected one of device"),
        (["objective=callable", "objective.target=a:b"], "objective=callable: runs code that the config names"),
        ([*FORMULA[:1], "objective.formula='sqrt(x)'", "initial_weight=-1"], "initial_weight=[-1.0]: expected a start"),
        (
            ["steps=1", "--out", "missing/page.html"],
            "--out missing/page.html: no such folder as missing, expected one that exists",
        ),
        (["steps=1", "--out", ".", "lr=1"], "--out .: is a folder, expected a file such as learn.html"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments[:1], "--no-browser", *arguments[1:]]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {line}")
    assert list(tmp_path.iterdir()) == []


def test_larger_objectives_are_refused() -> None:
    with pytest.raises(UserError, match="expected at most 64"):
        contents("objective=rosenbrock", "objective.dimension=65")
