"""Every update rule against its twin, and a run in a batch against the run alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytorch_optimizer
import schedulefree
import torch
from dadaptation import DAdaptAdam
from hypothesis import given, settings
from hypothesis import strategies as st
from lion_pytorch import Lion
from prodigyopt import Prodigy
from torch import Tensor

from runner.composition.composition import config_folder
from runner.optimizers import OPTIONAL, RULES
from runner.tensors.hyper_parameters import hyper_parameters
from runner.tensors.rows import column
from tests.support.descents import defaults, done, gradient_at, rosenbrock

CPU = torch.device("cpu")
Make = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class Twin:
    """An optimizer that a rule is to equal.

    Attributes:
        make: makes it from a list of parameters, the learning rate and the rule's hyper-parameters.
        steps: how many steps are compared.
        error: the largest difference of a coordinate in float32, relative to it or to 1; 0 for equal bits.
        maximizes: whether it takes `maximize`; else it is given the negated gradients.
        of_matrix: whether the weight is given to it as a matrix of one row.
        sums: whether it adds the coordinates in another order, which the ripples would magnify without end; it is
            compared on a bowl.
    """

    make: Make
    steps: int = 220
    error: float = 0.0
    maximizes: bool = True
    of_matrix: bool = False
    sums: bool = False


def other(make: Make, error: float = 0.0, of_matrix: bool = False) -> Twin:
    """Return a twin outside torch, in its plain implementation."""
    return Twin(lambda weights, **hyper: make(weights, foreach=False, **hyper), 50, error, of_matrix=of_matrix)


def unlimited(make: Make) -> Make:
    """Return a maker that takes a null growth rate."""

    def made(weights: Any, growth_rate: float | None, **hyper: Any) -> torch.optim.Optimizer:
        return make(weights, growth_rate=torch.inf if growth_rate is None else growth_rate, **hyper)

    return made


# gd is the seed's own expression, `w - lr * g`, rounded twice; torch's SGD rounds once.
WITHOUT_TWIN = {
    "gd": "held to the seed's four moves in test_descent",
    "sign_descent": "held to its formula below",
    "barzilai_borwein": "in test_line_search",
    **dict.fromkeys(("muon", "shampoo", "soap"), "in test_matrix"),
    **{
        name: "in test_line_search, test_quasi_newton and test_second_order"
        for name, rule in RULES.items()
        if rule.evaluates
    },
}
TWINS: dict[str, Twin] = {
    "momentum": Twin(torch.optim.SGD),
    "nesterov": Twin(lambda weights, **hyper: torch.optim.SGD(weights, nesterov=True, **hyper)),
    "adam": Twin(torch.optim.Adam),
    "adamw": Twin(torch.optim.AdamW),
    "amsgrad": Twin(lambda weights, **hyper: torch.optim.Adam(weights, amsgrad=True, **hyper)),
    "nadam": Twin(torch.optim.NAdam),
    "radam": Twin(torch.optim.RAdam),
    "rmsprop": Twin(torch.optim.RMSprop),
    "adagrad": Twin(torch.optim.Adagrad),
    "adadelta": Twin(torch.optim.Adadelta),
    "adamax": Twin(torch.optim.Adamax),
    "rprop": Twin(torch.optim.Rprop),
    "asgd": Twin(torch.optim.ASGD),
    "lion": Twin(Lion, maximizes=False),
    "adabelief": other(pytorch_optimizer.AdaBelief),
    "yogi": other(pytorch_optimizer.Yogi),
    "adan": replace(other(pytorch_optimizer.Adan), maximizes=False),
    "ademamix": other(pytorch_optimizer.AdEMAMix),
    "adopt": other(pytorch_optimizer.ADOPT),
    "lamb": other(pytorch_optimizer.Lamb),
    "lars": other(pytorch_optimizer.LARS, of_matrix=True),
    "adafactor": Twin(lambda weights, **hyper: torch.optim.Adafactor(weights, foreach=False, **hyper)),
    "prodigy": Twin(unlimited(Prodigy), 50, 1e-4, maximizes=False, sums=True),
    "dadapt_adam": Twin(unlimited(DAdaptAdam), 50, 1e-4, maximizes=False, sums=True),
    "schedule_free_sgd": replace(other(schedulefree.SGDScheduleFree), maximizes=False),
    "schedule_free_adamw": replace(other(schedulefree.AdamWScheduleFree), maximizes=False),
}
# Adan's first difference is wrong if it maximizes: it takes the gradient before negating it.
# These keep numbers in torch's default dtype, the rules in the weight's.
IN_DEFAULT_DTYPE = ("asgd", "nadam")
RATES = {
    "prodigy": 1.0,
    "dadapt_adam": 1.0,
    "schedule_free_sgd": 5e-4,
    "momentum": 1e-4,
    "nesterov": 1e-4,
    "radam": 1e-4,
    "asgd": 5e-4,
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
    "betas": [0.8, 0.95, 0.97],
    "alpha": 0.9,
    "rho": 0.8,
    "lambd": 0.05,
    "etas": [0.4, 1.1],
    "step_sizes": [1e-4, 0.02],
    "weight_decouple": None,
    "fixed_decay": None,
    "ams_bound": True,
    "initial_accumulator": 0.1,
    "t_alpha_beta3": 30,
    "grad_averaging": False,
    "adam": True,
    "trust_coefficient": 0.01,
    "nesterov": True,
    "warmup_steps": 7,
    "r": 1.5,
    "weight_lr_power": 1.0,
    "beta3": 0.9,
    "decouple": None,
    "use_bias_correction": True,
    "safeguard_warmup": True,
    "d0": 1e-3,
    "d_coef": 0.5,
    "growth_rate": 1.3,
    "beta2_decay": -0.5,
    "d": 1.5,
}


Gradient = Callable[[Tensor], Tensor]


def landscape(w: Tensor) -> Tensor:
    """Return the gradient of a bowl in one coordinate, Rosenbrock's valley in two, and a rippled bowl in ten."""
    bowl, x, y, ripples = w[..., :1], w[..., 1:2], w[..., 2:3], w[..., 3:]
    lift = 200 * (y - x**2)
    return torch.cat([2 * bowl, 2 * (x - 1) - 2 * x * lift, lift, 2 * ripples + 3 * torch.sin(3 * ripples)], -1)


def hills(w: Tensor) -> Tensor:
    """Return the gradient of `sum(cos(w))`."""
    return -torch.sin(w)


def bowl(w: Tensor) -> Tensor:
    """Return the gradient of a bowl whose curvatures rise from 1 to 3."""
    return torch.linspace(1, 3, w.shape[-1], dtype=w.dtype) * w


def valley(w: Tensor) -> Tensor:
    return gradient_at(rosenbrock, w)


START = [10.0, -1.2, 1.0, *(0.3 * i - 1.4 for i in range(10))]


def descended(
    name: str, given: Mapping[str, Any], gradient: Gradient, starts: Tensor, lr: Tensor, steps: int
) -> Tensor:
    hyper = hyper_parameters([given], len(starts), CPU, OPTIONAL)
    rule = RULES[name]
    weight, state = starts, rule.init(starts, **hyper)
    lr = lr.to(weight.dtype) if rule.casts_lr else lr
    for _ in range(steps):
        weight, state = rule.update(weight, gradient(weight), state, lr=lr, **hyper)
    return weight if rule.recorded is None else rule.recorded(weight, state, **hyper)


def of_twin(name: str, given: Mapping[str, Any], gradient: Gradient, start: Tensor, lr: float) -> Tensor:
    twin = TWINS[name]
    weight = (start[None] if twin.of_matrix else start).clone().requires_grad_()
    arguments = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if key != "name"
    }
    sign = -1 if not twin.maximizes and arguments.pop("maximize") else 1
    was = torch.get_default_dtype()
    if name in IN_DEFAULT_DTYPE:
        torch.set_default_dtype(start.dtype)
    try:
        optimizer: Any = twin.make([weight], lr=lr, **arguments)
        if name.startswith("schedule_free"):
            optimizer.train()
        for _ in range(twin.steps):
            weight.grad = sign * gradient(weight)
            optimizer.step()
        if name.startswith("schedule_free"):
            optimizer.eval()
    finally:
        torch.set_default_dtype(was)
    return weight.detach().reshape(-1)


def changed_options(name: str, changed: str | None) -> dict[str, Any]:
    """Return a rule's hyper-parameters, one of them other than its default."""
    options = defaults(name)
    if changed is None:
        return options
    if name == "adafactor" and changed == "eps":
        return options | {"eps": [1e-4, 1e-2]}
    value = VARIANTS[changed]
    if changed == "decouple":
        return options | {"weight_decay": 0.03, "decouple": not options["decouple"]}
    if changed in ("weight_decouple", "fixed_decay"):  # without effect unless the weight decays
        options |= {"weight_decay": 0.03, "weight_decouple": not options["weight_decouple"]}
        return options | ({} if changed == "weight_decouple" else {"weight_decouple": True, "fixed_decay": True})
    return options | {changed: value[: len(options[changed])] if isinstance(value, list) else value}


CASES = [
    (name, changed) for name in sorted(TWINS) for changed in (None, *(key for key in VARIANTS if key in defaults(name)))
]


def test_every_rule_has_a_file_and_is_tested() -> None:
    files = {path.stem for path in (config_folder() / "optimizer").glob("*.yaml")}
    assert files - {"torch", "package"} == set(RULES) == set(TWINS) | set(WITHOUT_TWIN)
    assert {key for name in TWINS for key in defaults(name)} == {"name", *VARIANTS}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "changed"), CASES)
def test_a_rule_equals_its_twin(name: str, changed: str | None, dtype: torch.dtype) -> None:
    options = changed_options(name, changed)
    gradient, lr = hills if options["maximize"] else landscape, RATES.get(name, 0.01)
    if TWINS[name].sums:
        gradient = (lambda w: -bowl(w)) if options["maximize"] else bowl
    start = torch.tensor(START, dtype=dtype)
    rows = start.expand(64, -1).contiguous()
    result = descended(name, options, gradient, rows, column([lr], 64, CPU), TWINS[name].steps)[0]
    twin = of_twin(name, options, gradient, start, lr)
    assert bool(twin.isfinite().all())
    error = TWINS[name].error if dtype == torch.float32 else 1e-12
    assert float(((result - twin).abs() / twin.abs().clamp(min=1)).max()) <= error


@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin.sums])
def test_a_rule_that_sums_coordinates_equals_its_twin_to_the_bit_where_there_is_one(name: str) -> None:
    start, given = torch.tensor([10.0]), defaults(name)
    rows = start.expand(64, -1).contiguous()
    result = descended(name, given, bowl, rows, column([1.0], 64, CPU), 50)[0]
    assert torch.equal(result, of_twin(name, given, bowl, start, 1.0))


def test_sign_descent_is_its_formula() -> None:
    weight = torch.tensor([[0.5, -0.25], [0.0, 1.0]])
    gradient = torch.tensor([[-3.0, 1e-9], [0.0, 2.0]])
    lr = torch.tensor([[0.1], [0.5]])
    update, expected = RULES["sign_descent"].update, torch.tensor([[0.6, -0.35], [0.0, 0.5]])
    assert torch.equal(update(weight, gradient, (), lr=lr, maximize=False)[0], expected)
    assert torch.equal(update(weight, -gradient, (), lr=lr, maximize=True)[0], expected)


@settings(max_examples=8)
@pytest.mark.parametrize(
    "name", sorted(name for name, rule in RULES.items() if not (rule.evaluates or rule.needs_matrix))
)
@given(seed=st.integers(0, 1000))
def test_a_run_in_a_batch_of_other_learning_rates_equals_the_run_alone(name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    starts = 0.3 * torch.randn(128, 2, generator=generator)
    lr = 1e-4 + 1e-3 * torch.rand(128, 1, dtype=torch.float64, generator=generator)
    together = descended(name, defaults(name), valley, starts, lr, 20)
    for run in (0, 77, 127):
        row, rate = starts[run].expand(64, -1).contiguous(), lr[run].expand(64, -1).contiguous()
        assert torch.equal(descended(name, defaults(name), valley, row, rate, 20)[0], together[run])


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if not rule.needs_matrix))
def test_a_rule_descends_from_the_command_line(name: str) -> None:
    lr = {"adadelta": 1.0, "lion": 0.01, "sign_descent": 0.01, "prodigy": 1.0, "dadapt_adam": 1.0}.get(name, 0.05)
    steps = 20 if RULES[name].evaluates else 300
    result, tracker = done(f"optimizer={name}", f"lr={lr}", f"steps={steps}")
    assert result.loss < tracker.history("loss")[1]
