"""Rules for matrices against their twins, and a run of a small network alone and in a batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor

from runner.config.groups import OptimizerConfig
from runner.messages.errors import UserError
from runner.optimizers import FIXED, OPTIONAL, rule_of
from runner.tensors.hyper_parameters import hyper_parameters
from runner.tensors.rows import column
from runner.tensors.shapes import Shapes
from tests.support.batches import assert_equal_to_alone, base
from tests.support.descents import defaults, done

LR = 0.01
CPU = torch.device("cpu")
SHAPES = Shapes((("a", (3, 5)), ("b", (5,)), ("c", (6, 2)), ("s", ())))
ADAMW = ("adamw_lr", "adamw_betas", "adamw_eps", "adamw_weight_decay")


class Companions:
    """Two optimizers as one, for matrices and for other parameters."""

    def __init__(self, parameters: Sequence[Tensor], options: dict[str, Any]) -> None:
        own = {key: value for key, value in options.items() if key not in ("name", "maximize", *ADAMW)}
        lr, *others = (options[key] for key in ADAMW)
        named = dict(zip(("betas", "eps", "weight_decay"), others, strict=True))
        matrices = [one for one in parameters if one.dim() == 2]
        self._optimizers = [
            torch.optim.Muon(matrices, lr=LR, **own),
            torch.optim.AdamW([one for one in parameters if one.dim() != 2], lr=LR if lr is None else lr, **named),
        ]

    def step(self) -> None:
        for optimizer in self._optimizers:
            optimizer.step()


VARIANTS: dict[str, Any] = {
    "weight_decay": 0.0,
    "momentum": 0.5,
    "nesterov": False,
    "ns_coefficients": [3.0, -4.0, 2.0],
    "eps": 1e-3,
    "ns_steps": 3,
    "adjust_lr_fn": "match_rms_adamw",
    "adamw_lr": 0.003,
    "adamw_betas": [0.8, 0.95],
    "adamw_eps": 1e-3,
    "adamw_weight_decay": 0.0,
}


def test_every_option_of_muon_is_compared() -> None:
    assert set(defaults("muon")) == {"name", "maximize", *VARIANTS}


def rippled(weight: Tensor) -> Tensor:
    return 2 * weight + 3 * torch.sin(3 * weight)


def both(
    options: dict[str, Any],
    make: Callable[[Sequence[Tensor]], Any],
    steps: int,
    dtype: torch.dtype = torch.float32,
    shapes: Shapes = SHAPES,
) -> list[Tensor]:
    """Return the weight after the steps of a rule, and of its twin."""
    start = torch.randn(1, shapes.dimension, generator=torch.Generator().manual_seed(1)).to(dtype)
    rule = rule_of(OptimizerConfig.from_tree(options), shapes)
    hyper = hyper_parameters([options], 64, CPU, OPTIONAL, FIXED)
    weight = start.expand(64, -1).contiguous()
    state, lr = rule.init(weight, **hyper), column([LR], 64, CPU)
    for _ in range(steps):
        weight, state = rule.update(weight, rippled(weight), state, lr=lr, **hyper)
    parameters = [view.clone().requires_grad_() for view in shapes.views(start[0])]
    optimizer = make(parameters)
    for _ in range(steps):
        for one in parameters:
            one.grad = rippled(one.detach())
        optimizer.step()
    return [weight[0], shapes.joined(one.detach() for one in parameters)]


@pytest.mark.parametrize("changed", [None, *VARIANTS])
def test_muon_is_torchs_with_adamw_for_what_is_no_matrix_to_the_bit(changed: str | None) -> None:
    options = defaults("muon") | ({} if changed is None else {changed: VARIANTS[changed]})
    weight, twin = both(options, lambda parameters: Companions(parameters, options), 30)
    assert torch.equal(weight, twin)


def test_adafactor_is_torchs_to_the_bit() -> None:
    options = defaults("adafactor")
    weight, twin = both(options, lambda parameters: torch.optim.Adafactor(parameters, lr=LR), 30)
    assert torch.equal(weight, twin)


ROOTS = {"weight_decay": 0.1, "momentum": 0.5, "preconditioning_compute_steps": 3, "matrix_eps": 1e-3}
BASES = {
    "betas": [0.8, 0.9],
    "weight_decay": 0.1,
    "precondition_1d": True,
    "precondition_frequency": 3,
    "normalize_gradient": True,
    "correct_bias": False,
    "shampoo_beta": 0.5,
}
# Of products of full rank: other eigenvectors of the eigenvalue 0 are as good.
SQUARE = Shapes((("a", (4, 4)), ("b", (3, 3)), ("c", (2,))))


def twin_of(name: str, options: dict[str, Any]) -> Callable[[Sequence[Tensor]], torch.optim.Optimizer]:
    make: Any = {"shampoo": pytorch_optimizer.Shampoo, "soap": pytorch_optimizer.SOAP}[name]
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items() if key != "name"}
    return lambda parameters: make(parameters, lr=LR, **given)


@pytest.mark.parametrize(
    ("name", "changed", "error"),
    [("shampoo", changed, 1e-7) for changed in (None, *ROOTS)]
    + [("soap", changed, 2e-5) for changed in (None, *BASES)],
)
def test_shampoo_and_soap_are_their_twins_in_float64(name: str, changed: str | None, error: float) -> None:
    # The twin of soap renews its bases in float32.
    options = defaults(name) | ({} if changed is None else {changed: {**ROOTS, **BASES}[changed]})
    weight, twin = both(options, twin_of(name, options), 25, torch.float64, SQUARE)
    assert float((weight - twin).abs().max()) <= error


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_losses_are_those_of_the_twin_for_matrices_of_any_shape(name: str) -> None:
    shapes = Shapes((("a", (3, 5)), ("b", (5,)), ("c", (2, 3, 4))))
    pair = both(defaults(name), twin_of(name, defaults(name)), 60, shapes=shapes)
    found, expected = (float((weight**2 - torch.cos(3 * weight)).sum()) for weight in pair)
    assert found == pytest.approx(expected, abs=0.5)  # of 39 at the start


@pytest.mark.parametrize("name", ["muon", "adafactor", "shampoo", "soap"])
def test_a_run_in_a_batch_equals_the_run_alone(name: str) -> None:
    config = base("mlp", name, "constant", "objective.dataset=diabetes", "objective.hidden=3", "steps=9")
    wide = base("mlp", name, "constant", "objective.dataset=diabetes", "objective.hidden=9", "steps=9")
    for one in (config, wide):  # wide rows are not padded
        assert_equal_to_alone([replace(one, lr=0.01 * run, seed=run) for run in range(1, 6)], [0, 2, 4])


@pytest.mark.parametrize("objective", ["quadratic", "linear_regression"])
def test_muon_is_refused_where_there_is_no_matrix(objective: str) -> None:
    with pytest.raises(UserError, match=r"optimizer=muon: is for matrices, the objective has"):
        done(f"objective={objective}", "optimizer=muon", "steps=1")
