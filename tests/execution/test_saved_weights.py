"""Saved weights: which runs save them, and runs that start from them."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from runner.composition.composition import compose, to_config
from runner.execution.recording import expected_tags
from runner.messages.errors import UserError
from runner.sweeps.fingerprint import fingerprint
from tests.conftest import Command
from tests.support.descents import QUIET, done

MODEL = ["objective=mlp", "objective.hidden=[4,3]", "report=false"]


def saved_by(folder: Path) -> list[Path]:
    return sorted(folder.rglob("artifacts/**/weights.safetensors"))


def test_a_run_saves_its_parameters_and_another_starts_from_them(runner: Command) -> None:
    assert runner(*MODEL, "steps=3").code == 0
    (path,) = saved_by(runner.folder)
    weights = load_file(path)
    network = nn.Sequential(nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 10))
    network.load_state_dict(weights)
    run = path.relative_to(runner.folder / "outputs" / "artifacts").parts[0]
    for source in (f"runs:{run[:20]}", str(path.relative_to(runner.folder))):
        again = runner(*MODEL, "steps=3", f"initial_weight={source}", "save_weights=false")
        assert again.code == 0, again.err
        first = float(weights["0.weight"][0, 0])
        assert f"start      weight [{first:.10f}," in again.out
    assert len(saved_by(runner.folder)) == 1
    other = runner("objective=mlp", f"initial_weight=runs:{run}")
    assert other.errors == [
        f"initial_weight=runs:{run}: 0.weight has the shape [4,64], expected [16,64] as objective mlp has"
    ]
    assert runner(*MODEL, "initial_weight=runs:abcd").errors[0].startswith("initial_weight=runs:abcd: no such run")
    assert runner(*MODEL, "initial_weight=runs:abcd", "tracking=off").code == 2


@pytest.mark.parametrize(("overrides", "count"), [([], 1), (["save_weights=all"], 3), (["save_weights=false"], 0)])
def test_the_best_run_of_a_sweep_saves_its_weights_or_all_do(runner: Command, overrides: list[str], count: int) -> None:
    assert runner("-m", *MODEL, "steps=3", "lr=0.01,0.1,1e-3", "keep_weights=none", *overrides).code == 0
    assert len(saved_by(runner.folder)) == count


def test_a_test_function_saves_its_weight_where_it_is_asked_to(runner: Command) -> None:
    assert runner("objective.dimension=2", "steps=2", "save_weights=true", "report=false").code == 0
    (path,) = saved_by(runner.folder)
    assert load_file(path)["w"].shape == (2,)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parameters(**changed: torch.Tensor | None) -> dict[str, torch.Tensor]:
    plain = {"weight": torch.zeros(10), "bias": torch.ones(1)} | changed
    return {name: one for name, one in plain.items() if one is not None}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _path: None, "no such file"),
        (lambda path: path.write_bytes(struct.pack("<Q", 9)), "cannot be read as safetensors"),
        (lambda path: save_file(parameters(bias=None), path), "no parameter bias, which objective linear_regression"),
        (
            lambda path: save_file(parameters(weight=torch.zeros(3)), path),
            r"weight has the shape \[3\], expected \[10\]",
        ),
        (lambda path: save_file(parameters(more=torch.ones(1)), path), "has a parameter more, which objective"),
        (lambda path: save_file(parameters(bias=torch.tensor([torch.nan])), path), "expected at most|NaN|finite"),
    ],
)
def test_weights_of_another_model_are_one_line(folder: Path, make: Callable[[Path], object], message: str) -> None:
    make(folder / "a.safetensors")
    with pytest.raises(UserError, match=rf"initial_weight=a.safetensors: .*({message})") as failed:
        done("objective=linear_regression", "initial_weight=a.safetensors", "steps=1")
    assert len(failed.value.lines) == 1


def test_a_changed_file_of_weights_is_noticed(folder: Path) -> None:
    config = to_config(compose([*QUIET, "objective=linear_regression", "initial_weight=a.safetensors"]))
    seen = []
    for value in (1.0, 2.0):
        save_file(parameters(bias=torch.tensor([value])), folder / "a.safetensors")
        seen.append((fingerprint(config), expected_tags(config)["data.start.sha256"]))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]
    assert fingerprint(replace(config, save_weights="all")) == seen[1][0]
