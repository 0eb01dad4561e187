"""A step that is not translated is made again by its recorded calls, to the bit, without Python."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from runner.compiling import recording
from runner.compiling.memory import ReusedMemory
from runner.compiling.programs import compiled_file
from runner.compiling.recording import CannotCompileError, Recording
from runner.compiling.replay import Replay, replayed
from runner.compiling.running import ReplayedProgram
from runner.engine import auto
from runner.engine.batches import member_of
from runner.engine.compiled import Compiled, are_equal, of_runs
from runner.engine.descent import made_eagerly
from runner.engine.problem import prepare
from tests.support.compiler import with_compiler
from tests.support.descents import done, made_by_program, member

pytestmark = pytest.mark.xdist_group("compiled")
MODEL = ["objective=mlp", "objective.hidden=4", "initial_weight=random"]
STEPS = 12
Function = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module", autouse=True)
def _cache(programs: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        with_compiler(patch, programs)
        yield


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective=linear_regression", "objective.batch_size=8", "optimizer=gd", "gradient_noise=0.1"],
        ["objective=logistic_regression", "optimizer=adam", "schedule=cosine", "clip_norm=1"],
        ["objective=linear_regression", "optimizer=levenberg_marquardt", "dtype=float64"],
        ["objective=rosenbrock", "optimizer=newton"],
        ["objective=rosenbrock", "optimizer=lbfgs"],
        ["objective=cnn", "objective.batch_size=4", "initial_weight=random", "optimizer=rmsprop"],
        [*MODEL, "objective.batch_size=16", "optimizer=muon"],
        [*MODEL, "objective.batch_size=16", "optimizer=soap", "schedule=plateau"],
        [*MODEL, "objective.batch_size=16", "optimizer=schedule_free_adamw"],
        [*MODEL, "optimizer=sophia"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_replayed_steps_are_those_of_torch_to_the_bit(overrides: list[str]) -> None:
    config, runs = member(*overrides, "lr=0.01").config, 3 - len(overrides) % 2 * 2  # 1 or 3
    members = [member_of(replace(config, lr=0.01 * run, seed=run)) for run in range(1, runs + 1)]
    one, other = (prepare(members).problem for _ in range(2))
    carry, expected = made_eagerly(one.step, one.start, itertools.islice(one.inputs, STEPS))
    runner = Compiled().prepared(other, other.start)
    assert isinstance(runner.plan, Replay)
    # In several blocks, each of which goes on where the one before has ended.
    after, found = made_by_program(runner, other, STEPS, 5)
    assert are_equal((carry, of_runs(expected, runs)), (after, of_runs(found, runs)))


def test_auto_goes_on_with_replayed_steps_and_never_another_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORTH_A_LOOK", "LONG"):
        monkeypatch.setattr(auto, name, 0)
    monkeypatch.setattr(auto, "FIRST_BLOCK", 10)
    asked = [*MODEL, "objective.batch_size=16", "optimizer=adam", "steps=100", "log_every=1"]
    compiled_file(_plan().source)
    (result, record), (other, same) = (done(*asked, f"engine={engine}") for engine in ("eager", "auto"))
    assert (result.engine, other.engine) == (None, "compiled from step 21 on")
    assert record.histories("run") == same.histories("run")


def changed_in_place(x: Tensor, y: Tensor) -> Tensor:
    found = torch.zeros(3, 4)
    found[1:] += x[1:]
    found.mul_(y).clamp_(max=2.0)
    return found


FUNCTIONS: dict[str, Function] = {
    "matrix products": lambda x, y: x @ y.T @ x,
    "in place": changed_in_place,
    "lists of tensors": lambda x, y: torch.cat([x[:1], torch.stack([y[0], x[1]])]),
    "indices": lambda x, y: x[torch.tensor([2, 0, 1])][:, y.argsort(-1)[0]],
    "several results": lambda x, y: torch.linalg.qr(x + y)[0] @ torch.linalg.eigh(x.T @ x).eigenvectors[:3],
    "other dtypes": lambda x, y: (x.to(torch.float64) * y + (x > 0)).round().to(torch.float32) * y.to(torch.int64),
    "numbers": lambda x, y: torch.where(x > 0.5, x, -torch.inf).clamp(-3, 3) + y.sum(0, keepdim=True) * True,
    "text": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "convolutions": lambda x, y: torch.conv2d(x[None, None], y[None, None, :2, :2], padding=1)[0, 0, :3, :4],
}


def step_of(function: Function) -> Any:
    def step(carry: Any, inputs: Any) -> tuple[Any, Any]:
        x = carry[0].detach().requires_grad_()
        found = function(x, inputs[0])
        (gradient,) = torch.autograd.grad(found.sum(), x, allow_unused=True)
        after = found if gradient is None else found - gradient
        return (0.9 * carry[0] + 0.1 * after.detach(), carry[1]), (found.detach(), inputs[0], carry[1] * found.detach())

    return step


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_kind_of_call_is_made_again(name: str) -> None:
    step, random = step_of(FUNCTIONS[name]), torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=random), torch.randn(3, 1, generator=random)
    inputs = torch.randn(6, 3, 4, generator=random)
    plan = replayed(Recording.of(step, start, (inputs[0],), at_once=False))
    program = ReplayedProgram(compiled_file(plan.source), plan)
    carry, expected = start, []
    for one in inputs:
        carry, outputs = step(carry, (one,))
        expected.append(outputs)
    found = program.form.new_outputs(6, 3, ReusedMemory())
    after = program(start, (inputs[:4],), 4, found, 0)
    after = program(after, (inputs[4:],), 2, found, 4)
    assert are_equal(carry, after)
    assert found[1] is None
    for number in (0, 2):
        assert are_equal(torch.stack([one[number] for one in expected]), found[number])


def _plan() -> Replay:
    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        return (carry[0] @ (torch.eye(4) * 2).T,), (carry[0].sum(-1),)

    return replayed(Recording.of(step, (torch.ones(3, 4),), (), at_once=False))


def test_what_does_not_change_is_computed_once() -> None:
    plan = _plan()
    assert [one.name for one in plan.instructions if not one.is_before] == ["aten::mm", "aten::sum"]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x, _: x + torch.rand(3, 4), "draws random numbers"),
        (lambda x, _: x if x.sum() > 0 else -x, "the value of a tensor in Python"),
        (lambda x, _: x[:2] if len(x) > 2 else x, "changes its shape"),
    ],
)
def test_what_is_not_the_same_at_each_step_is_refused(function: Function, why: str) -> None:
    with pytest.raises(CannotCompileError, match=why):
        Recording.of(
            lambda carry, inputs: ((function(*carry, *inputs),), ()), (torch.ones(3, 4),), (torch.ones(3, 4),),
            at_once=False,
        )  # fmt: skip


def test_an_error_of_a_kernel_is_raised() -> None:
    def step(carry: Any, _: Any) -> tuple[Any, Any]:
        return (torch.linalg.inv(carry[0]) - 1,), (carry[0].sum(-1),)

    plan = replayed(Recording.of(step, (2 * torch.eye(2),), (), at_once=False))
    program = ReplayedProgram(compiled_file(plan.source), plan)
    with pytest.raises(RuntimeError, match="singular"):
        program((torch.zeros(2, 2),), (), 1, program.form.new_outputs(1, 2, ReusedMemory()), 0)


def test_a_step_on_more_numbers_than_memory_should_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_BYTES", 2**20)
    with pytest.raises(CannotCompileError, match="the numbers of a step take more than 1 MiB"):
        Recording.of(lambda carry, _: ((carry[0] * 2,), ()), (torch.ones(2**10, 2**9),), (), at_once=False)
