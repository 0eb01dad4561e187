"""Any class of torch.optim from YAML, against the same class used by hand; gradient clipping against torch's."""

from typing import Any

import pytest
import torch

from runner.config.groups import ObjectiveConfig
from runner.messages.errors import UserError
from runner.objectives.learning import learning
from runner.optimizers.clipping import clip_by_norm, clip_by_value
from runner.optimizers.torch_optim import FOR_MATRICES, UNUSABLE, algorithms
from runner.tensors.draws import MiniBatches, Noise
from tests.support.descents import done, gradient_at, rosenbrock

LR = 0.001
CPU = torch.device("cpu")


def by_hand(name: str, steps: int) -> torch.Tensor:
    weight = torch.tensor([-1.2, 1.0], requires_grad=True)
    make: Any = algorithms()[name]
    optimizer = make([weight], lr=LR)

    def closure() -> float:
        weight.grad = gradient_at(rosenbrock, weight)
        return float(rosenbrock(weight.detach()))

    for _ in range(steps):
        closure()
        optimizer.step(closure) if name == "LBFGS" else optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("name", sorted(set(algorithms()) - set(FOR_MATRICES)))
def test_a_class_of_torch_descends_as_by_hand(name: str) -> None:
    result, _ = done("optimizer=torch", f"optimizer.algorithm={name}", "objective=rosenbrock", f"lr={LR}", "steps=60")
    assert torch.allclose(result.weight, by_hand(name, 60), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted([*UNUSABLE, *FOR_MATRICES]))
def test_refused_classes_fail_in_torch_for_a_vector(name: str) -> None:
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.ones(3)
    make: Any = getattr(torch.optim, name)
    with pytest.raises((ValueError, RuntimeError)):
        make([weight]).step()


def test_lbfgs_solves_rosenbrock_and_takes_its_arguments() -> None:
    result, _ = done(
        "optimizer=torch", "optimizer.algorithm=LBFGS", "optimizer.arguments.history_size=5",
        "optimizer.arguments.line_search_fn=strong_wolfe", "objective=rosenbrock", "lr=1", "steps=20", "dtype=float64",
    )  # fmt: skip
    assert result.weight.tolist() == pytest.approx([1.0, 1.0], abs=1e-4)  # torch itself gets no further


@pytest.mark.parametrize(
    "overrides", [["gradient_noise=0.1"], ["clip_value=30"], ["gradient_noise=0.1", "clip_norm=30"]]
)
def test_each_evaluation_of_a_step_sees_its_noise_and_is_clipped(overrides: list[str]) -> None:
    asked = {name: float(value) for name, value in (text.split("=") for text in overrides)}
    noise = Noise([0], 2, torch.float64)
    weight = torch.tensor([[-1.2, 1.0]], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], lr=0.1)
    for _ in range(5):
        drawn = noise.take(1)[0]

        def closure(drawn: torch.Tensor = drawn) -> float:
            weight.grad = gradient_at(rosenbrock, weight) + asked.get("gradient_noise", 0) * drawn
            if "clip_value" in asked:
                torch.nn.utils.clip_grad_value_([weight], asked["clip_value"])
            if "clip_norm" in asked:
                torch.nn.utils.clip_grad_norm_([weight], asked["clip_norm"])
            return float(rosenbrock(weight.detach()))

        optimizer.step(closure)
    result, _ = done(
        "optimizer=torch", "optimizer.algorithm=LBFGS", "objective=rosenbrock", "lr=0.1", "steps=5", "dtype=float64",
        *overrides,
    )  # fmt: skip
    assert result.weight.tolist() == pytest.approx(weight[0].tolist(), rel=1e-9)


def test_each_evaluation_of_a_step_sees_its_mini_batch() -> None:
    problem = learning(
        ObjectiveConfig("linear_regression", {"dataset": "diabetes", "held_out": 0.2, "batch_size": 20}, {}),
        torch.float64,
        CPU,
    )
    batches = MiniBatches([0], problem.samples, 20)
    weight = torch.zeros(1, problem.model.dimension, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], lr=0.1)
    for _ in range(5):
        samples = batches.take(1)[0]

        def closure(samples: torch.Tensor = samples) -> float:
            optimizer.zero_grad()
            loss = problem.loss(weight, samples, l2=torch.zeros(1, dtype=torch.float64)).sum()
            loss.backward()
            return float(loss.detach())

        optimizer.step(closure)
    result, _ = done(
        "optimizer=torch", "optimizer.algorithm=LBFGS", "objective=linear_regression", "objective.batch_size=20",
        "lr=0.1", "steps=5", "dtype=float64",
    )  # fmt: skip
    assert result.weight.tolist() == pytest.approx(weight[0].tolist(), rel=1e-7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.algorithm=LBFGS", "optimizer.arguments.line_search_fn=wolfe"],
            "optimizer.algorithm=LBFGS: RuntimeError: only 'strong_wolfe' is supported",
        ),
        (["optimizer.algorithm=LBFGS", "optimizer.arguments.history_size=0"], "optimizer.algorithm=LBFGS: IndexError"),
        (["optimizer.algorithm=Adam", "optimizer.arguments.differentiable=true"], "optimizer.algorithm=Adam: Runtime"),
        (["optimizer.algorithm=Adan"], r"optimizer.algorithm=Adan: expected one of .*; did you mean 'Adam'"),
        (["optimizer.algorithm=SparseAdam"], r"=SparseAdam: it takes sparse gradients, those of .*, expected one of "),
        (["optimizer.algorithm=Muon"], r"optimizer.algorithm=Muon: is for matrices, the objective has w \(1,\)"),
        (["optimizer.arguments.momentun=0.9"], r"momentun=0.9: unknown key, .*; did you mean '.*momentum'"),
        (["optimizer.arguments.momentum=-1"], r"optimizer.algorithm=SGD: ValueError: Invalid momentum value: -1"),
        (["optimizer=adam", "optimizer.betas=[0.9,1]"], r"optimizer.betas=\[0.9,1\]: expected two numbers"),
        (["optimizer=adam", "optimizer.beta1=0.9"], r"optimizer.beta1=0.9: unknown key, .*'optimizer.betas'"),
        (["optimizer=momentum", "optimizer.momentum=-1"], r"optimizer.momentum=-1: expected a finite number of"),
    ],
)
def test_arguments_that_an_optimizer_does_not_take_are_reported(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        done("optimizer=torch", *overrides)


def test_gradients_are_clipped_row_by_row_as_torch_clips() -> None:
    gradient = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) * 3
    limit = torch.full((64, 1), 1.5, dtype=torch.float64)
    for clip, torch_clip in (
        (clip_by_value, torch.nn.utils.clip_grad_value_),
        (clip_by_norm, torch.nn.utils.clip_grad_norm_),
    ):
        clipped = clip(gradient, limit)
        for row in range(64):
            weight = torch.zeros(3)
            weight.grad = gradient[row].clone()
            torch_clip([weight], 1.5)
            assert torch.equal(clipped[row], weight.grad)


def test_a_clipped_gradient_moves_the_weight_by_no_more() -> None:
    result, tracker = done("clip_norm=1", "lr=0.5", "steps=4")
    assert float(result.weight) == pytest.approx(8.0, abs=1e-5)
    assert tracker.history("gradient")[1] == 20.0
    assert float(done("clip_value=2", "lr=0.5", "steps=4")[0].weight) == 6.0
