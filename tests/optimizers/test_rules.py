"""Every update rule against its twin in torch.optim, bit for bit, and a run in a batch against the run alone."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.composition.composition import config_folder
from runner.optimizers import OPTIONAL, RULES
from runner.tensors.hyper_parameters import hyper_parameters
from runner.tensors.rows import column
from tests.support.descents import defaults, done, gradient_at, rosenbrock

CPU = torch.device("cpu")
STEPS = 220
Twin = Callable[..., torch.optim.Optimizer]


# gd is the seed's own expression, `w - lr * g`, rounded twice; torch's SGD rounds once. Lion is not in torch.
WITHOUT_TWIN = {"gd": "held to the seed's four moves in test_descent", "lion": "held to its paper below"}
TWINS: dict[str, Twin] = {
    "momentum": torch.optim.SGD,
    "nesterov": lambda weights, **hyper: torch.optim.SGD(weights, nesterov=True, **hyper),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "amsgrad": lambda weights, **hyper: torch.optim.Adam(weights, amsgrad=True, **hyper),
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adamax": torch.optim.Adamax,
}
VARIANTS: dict[str, Any] = {
    "weight_decay": 0.03,
    "maximize": True,
    "dampening": 0.3,
    "momentum": 0.7,
    "centered": True,
    "amsgrad": True,
    "decoupled_weight_decay": True,
    "momentum_decay": 0.02,
    "lr_decay": 0.01,
    "initial_accumulator_value": 0.1,
    "eps": 1e-3,
    "betas": [0.8, 0.95],
    "alpha": 0.9,
    "rho": 0.8,
}


def quadratic(w: Tensor) -> Tensor:
    return (w**2).sum(-1) + 20


def ripples(w: Tensor) -> Tensor:
    return (w**2 - torch.cos(3 * w)).sum(-1)


LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], list[float]]] = {
    "quadratic": (quadratic, [10.0]),
    "rosenbrock": (rosenbrock, [-1.2, 1.0]),
    "ripples": (ripples, [0.3 * i - 1.4 for i in range(10)]),
}


def descended(
    name: str, given: Mapping[str, Any], loss: Callable[[Tensor], Tensor], starts: Tensor, lr: Tensor, steps: int
) -> Tensor:
    hyper = hyper_parameters([given], len(starts), CPU, OPTIONAL)
    weight, state = starts, RULES[name].init(starts, **hyper)
    lr = lr.to(weight.dtype) if RULES[name].casts_lr else lr
    for _ in range(steps):
        weight, state = RULES[name].update(weight, gradient_at(loss, weight), state, lr=lr, **hyper)
    return weight


def of_twin(name: str, given: Mapping[str, Any], loss: Callable[[Tensor], Tensor], start: Tensor, lr: float) -> Tensor:
    weight = start.clone().requires_grad_()
    arguments = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if key != "name"
    }
    was = torch.get_default_dtype()
    if name == "nadam":  # which keeps a product in that dtype
        torch.set_default_dtype(start.dtype)
    try:
        twin = TWINS[name]([weight], lr=lr, **arguments)
        for _ in range(STEPS):
            weight.grad = gradient_at(loss, weight)
            twin.step()
    finally:
        torch.set_default_dtype(was)
    return weight.detach()


CASES = [
    (name, changed) for name in sorted(TWINS) for changed in (None, *(key for key in VARIANTS if key in defaults(name)))
]


def test_every_rule_has_a_file_and_is_tested() -> None:
    files = {path.stem for path in (config_folder() / "optimizer").glob("*.yaml")}
    assert files - {"torch"} == set(RULES) == set(TWINS) | set(WITHOUT_TWIN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize(("name", "changed"), CASES)
def test_a_rule_equals_its_twin_in_torch(name: str, changed: str | None, loss_name: str, dtype: torch.dtype) -> None:
    loss, start = LOSSES[loss_name]
    options = defaults(name) | ({} if changed is None else {changed: VARIANTS[changed]})
    lr = 1e-4 if name in ("momentum", "nesterov", "radam") else 0.01
    if options["maximize"]:  # up a bounded hill
        loss = {"quadratic": lambda w: torch.cos(w).sum(-1)}.get(loss_name, lambda w: torch.sin(w).sum(-1))
    start_at = torch.tensor(start, dtype=dtype)
    rows = start_at.expand(64, -1).contiguous()
    result = descended(name, options, loss, rows, column([lr], 64, CPU), STEPS)[0]
    twin = of_twin(name, options, loss, start_at, lr)
    assert bool(twin.isfinite().all())
    if dtype == torch.float32:
        assert torch.equal(result, twin)
    else:
        assert float((result - twin).abs().max()) <= 1e-12 * float(twin.abs().max())


def test_lion_is_that_of_its_paper() -> None:
    weight = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    mean = torch.zeros_like(weight)
    for _ in range(STEPS):
        gradient = gradient_at(rosenbrock, weight)
        direction = (0.9 * mean + 0.1 * gradient).sign()
        mean = 0.99 * mean + 0.01 * gradient
        weight = weight - 0.001 * (direction + 0.1 * weight)
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64).expand(64, -1).contiguous()
    options = defaults("lion") | {"weight_decay": 0.1}
    result = descended("lion", options, rosenbrock, start, column([0.001], 64, CPU), STEPS)[0]
    assert torch.allclose(result, weight, rtol=1e-9)


@settings(max_examples=8)
@pytest.mark.parametrize("name", sorted(RULES))
@given(seed=st.integers(0, 1000))
def test_a_run_in_a_batch_of_other_learning_rates_equals_the_run_alone(name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    starts = 0.3 * torch.randn(128, 2, generator=generator)
    lr = 1e-4 + 1e-3 * torch.rand(128, 1, dtype=torch.float64, generator=generator)
    together = descended(name, defaults(name), rosenbrock, starts, lr, 20)
    for run in (0, 77, 127):
        row, rate = starts[run].expand(64, -1).contiguous(), lr[run].expand(64, -1).contiguous()
        assert torch.equal(descended(name, defaults(name), rosenbrock, row, rate, 20)[0], together[run])


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_descends_from_the_command_line(name: str) -> None:
    lr = {"adadelta": 1.0, "lion": 0.01}.get(name, 0.05)
    result, tracker = done(f"optimizer={name}", f"lr={lr}", "steps=300")
    assert result.loss < tracker.history("loss")[1]
