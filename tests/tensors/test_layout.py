"""No bit of a run depends on its neighbours, on the threads that share the work, or on which steps are recorded."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from runner.objectives.functions import FUNCTIONS
from runner.tensors.layout import ALIKE, ELEMENTWISE, InPieces, piece_of
from runner.tensors.rows import GRAIN, ROWS
from tests.conftest import ROOT
from tests.support.batches import assert_equal_to_alone, base
from tests.support.descents import done

MATRIX = torch.randn(80, 80, generator=torch.Generator().manual_seed(1)) / 9


def product(weight: Tensor) -> Tensor:
    """Return a loss of one point with a matrix that all runs share."""
    size = len(weight)
    found: Tensor = ((MATRIX[:size, :size] @ weight - 1) ** 2).sum()
    return found


def product_of_rows(weight: Tensor) -> Tensor:
    """Return the same of rows."""
    size = weight.shape[-1]
    found: Tensor = ((weight @ MATRIX[:size, :size] - 1) ** 2).sum(-1)
    return found


def sum_across_rows(weight: Tensor) -> Tensor:
    """Return a loss of rows whose numbers lie side by side with those of other rows."""
    found: Tensor = torch.stack([torch.sin(part) for part in weight.unbind(-1)]).sum(0) + (weight**2).sum(-1)
    return found


CODE = ["objective=callable", "allow_code=true", "objective.start=0.3"]
KINDS: dict[str, list[str]] = {
    **{
        name: [f"objective={name}", "objective.dimension=67", "initial_weight=0.3"]
        for name, function in FUNCTIONS.items()
        if function.largest is None
    },
    "formula": [
        "objective=expression",
        "objective.formula='sum(sigmoid(w)*abs(w)**1.5 + tanh(w)**2) + norm(w)'",
        "objective.dimension=67",
        "initial_weight=0.3",
    ],
    "mlp": ["objective=mlp", "objective.dataset=breast_cancer", "objective.hidden=3"],
    "mini-batches": ["objective=mlp", "objective.dataset=diabetes", "objective.hidden=6", "objective.batch_size=32"],
    "digits": ["objective=logistic_regression", "objective.dataset=digits"],
    **{
        f"{name} in {dimension}": [
            *CODE,
            f"objective.target=tests.tensors.test_layout:{name}",
            f"objective.dimension={dimension}",
        ]
        + ([] if name == "product" else ["objective.of_one_point=false"])
        for name in ("product", "product_of_rows", "sum_across_rows")
        for dimension in (2, 10, 70)
    },
}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_a_batch_equals_the_run_alone_in_any_number_of_dimensions(kind: str) -> None:
    threads = 3 if len(kind) % 2 else 2  # three cut a stretch of numbers where no row ends
    overrides = [text for text in KINDS[kind] if not text.startswith("objective=")]
    (objective,) = [text.partition("=")[2] for text in KINDS[kind] if text.startswith("objective=")]
    config = _config(objective, overrides, threads)
    configs = [replace(config, lr=1e-4 * 1.1**index, seed=index) for index in range(21)]
    assert_equal_to_alone(configs, [0, 13, 20])


def _config(objective: str, overrides: list[str], threads: int) -> Any:
    schedule = ["schedule.gamma=0.97", f"threads={threads}", "steps=5", "dtype=float32"]
    return base(objective, "adam", "exponential", *schedule, *overrides)


def test_in_a_batch_of_many_numbers_threads_cut_no_row_of_a_padded_formula() -> None:
    formula = ["objective.formula='sum(sigmoid(w)*abs(w)**1.5)'", "objective.dimension=63", "initial_weight=0.3"]
    config = _config("expression", formula, threads=3)
    configs = [replace(config, lr=1e-4 * 1.001**index, steps=2) for index in range(1100)]
    assert_equal_to_alone(configs, [0, 365, 366, 367, 733, 1099])


# Each with its derivative: what is summed has every number as its gradient.
EXPRESSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": lambda x: torch.log(x.abs() + 0.1),
    "log1p": lambda x: torch.log1p(x.abs()),
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "tanh": torch.tanh,
    "sqrt": lambda x: (x.abs() + 0.1).sqrt(),
    "rsqrt": lambda x: (x.abs() + 0.1).rsqrt(),
    "reciprocal": torch.reciprocal,
    "div": lambda x: x / (x * x + 1),
    "square": lambda x: x**2 + x**3,
    "minimum": lambda x: torch.minimum(x, x**3),
    "sum": lambda x: (x * x).sum(-1),
    "mean": lambda x: x.mean(-1),
    "prod": lambda x: (x.abs() * 0.1 + 0.95).prod(-1),
    "linalg_vector_norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_kernels_listed_as_alike_round_alike_everywhere(name: str) -> None:
    assert name in ALIKE
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for dtype in (torch.float32, torch.float64):
            for dimension, rows in ((67, 17), (130, 300), (1000, 40)):
                x = torch.randn(rows, dimension, dtype=dtype, generator=torch.Generator().manual_seed(rows))
                together = value_and_derivative(name, x)
                for row in (0, rows // 3, 2 * rows // 3, rows - 1):
                    for alone, whole in zip(value_and_derivative(name, x[row : row + 1]), together, strict=True):
                        assert torch.equal(alone[0], whole[row])


def value_and_derivative(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    point = x.clone().requires_grad_()
    value = EXPRESSIONS[name](point)
    (derivative,) = torch.autograd.grad(value, point, torch.ones_like(value))
    return value.detach(), derivative


def test_other_kernels_are_evaluated_in_the_layout_of_a_single_run() -> None:
    assert piece_of({"exp", "sum"}, 67, 1) is None
    assert piece_of({"exp", "sum"}, GRAIN, 1) == 1  # threads share a single sum
    assert piece_of({"sigmoid", "sum"}, 67, 1) == 1
    assert piece_of({"sigmoid", "sum"}, 2, ROWS) == GRAIN // 2
    assert piece_of({"mm", "sum"}, 2, ROWS) == ROWS
    assert ALIKE < ELEMENTWISE


def test_watching_does_not_load_the_compiler_of_torch() -> None:
    sweep = "runner.sweep(lr=(0.1, 0.2), steps=2, tracking='off', quiet=True)"
    program = f"import sys, runner; {sweep}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_function_is_called_once_a_step_for_a_run_alone() -> None:
    calls: list[int] = []

    def function(weight: Tensor, _samples: Tensor | None) -> Tensor:
        calls.append(len(weight))
        return torch.sigmoid(weight).sum(-1)

    in_pieces = InPieces(function, 1)
    for _ in range(3):
        in_pieces(torch.ones(1, 70), None)
    assert calls == [1, 1, 1]
    for _ in range(2):
        in_pieces(torch.ones(4, 70), None)
    assert calls[-8:] == [1] * 8


@pytest.mark.parametrize("algorithm", ["Rprop", "Adam", "LBFGS", None])
@pytest.mark.parametrize("model", ["logistic_regression", "mlp"])
def test_measurements_do_not_depend_on_the_recorded_steps(algorithm: str | None, model: str) -> None:
    how = ["optimizer=adam"] if algorithm is None else ["optimizer=torch", f"optimizer.algorithm={algorithm}"]
    asked = [*how, f"objective={model}", "objective.dataset=breast_cancer", "lr=0.01", "steps=12"]
    asked += ["objective.hidden=3"] if model == "mlp" else []
    _, often = done(*asked, "log_every=1")
    _, seldom = done(*asked, "log_every=4")
    for key in ("held_out_loss", "held_out_accuracy", "loss", "gradient_norm"):
        some, all_steps = seldom.history(key), often.history(key)
        assert sorted(some) == [4, 8, 12]
        assert some == {step: all_steps[step] for step in some}
