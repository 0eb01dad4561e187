"""A class of another package as the optimizer, against the same class used by hand, and what it is refused for."""

from pathlib import Path

import pytest
import pytorch_optimizer
import torch

from runner.messages.errors import FunctionError, UserError
from tests.support.descents import done, gradient_at, rosenbrock

RANGER = ["optimizer.target=pytorch_optimizer:Ranger21", "optimizer.arguments={num_iterations:40,weight_decay:0.01}"]
PACKAGE = ["optimizer=package", "allow_code=true", "objective=rosenbrock"]
OWN = """
import torch

class Restless(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data += 0.01 * torch.randn_like(weight)

class Greedy(torch.optim.SGD):
    def step(self, closure):
        closure()

class Faulty(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps > 3:
            raise RuntimeError("worn out")

class Other:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_rules.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


def test_a_class_of_a_package_descends_as_by_hand() -> None:
    weight = torch.tensor([-1.2, 1.0], requires_grad=True)
    optimizer = pytorch_optimizer.Ranger21([weight], lr=1e-3, num_iterations=40, weight_decay=0.01)
    for _ in range(40):
        weight.grad = gradient_at(rosenbrock, weight)
        optimizer.step()
    result, _ = done(*PACKAGE, *RANGER, "lr=1e-3", "steps=40")
    assert torch.allclose(result.weight, weight.detach(), rtol=1e-6)
    assert result.gradient_evaluations == 40


@pytest.mark.usefixtures("own")
def test_what_a_class_draws_depends_on_the_seed_alone() -> None:
    asked = [*PACKAGE, "optimizer.target=own_rules:Restless", "lr=1e-4", "steps=5"]
    before = torch.get_rng_state()
    first, other = done(*asked, "seed=1")[0], done(*asked, "seed=2")[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(done(*asked, "seed=1")[0].weight, first.weight)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ([], r"optimizer.target=null: expected package.module:Class"),
        (["optimizer.target=nowhere:A"], r"optimizer.target=nowhere:A: cannot be imported .*No module named 'nowhere'"),
        (["optimizer.target=own_rules:Restles"], r"optimizer.target=own_rules:Restles: no .*'Restles'.* in own_rules"),
        (
            ["optimizer.target=own_rules:Other"],
            r"own_rules:Other: is a class that is no optimizer, expected a torch.op",
        ),
        (["optimizer.target=math:sin"], r"math:sin: is a builtin_function.* that is no optimizer"),
        (["optimizer.target=own_rules:Greedy"], r"own_rules:Greedy: needs a closure, expected an optimizer that steps"),
        (["optimizer.target=pytorch_optimizer:Ranger21"], r"pytorch_optimizer:Ranger21: TypeError: .*num_iterations"),
        (["optimizer.target=own_rules:Restless", "optimizer.arguments={momentun:0.9}"], r"momentun=0.9: unknown key"),
        ([RANGER[0], "optimizer.arguments={num_iterations:40,weight_decya:0.1}"], r"weight_decya=0.1: unknown key"),
    ],
)
def test_what_cannot_be_the_optimizer_is_refused_in_a_line(overrides: list[str], line: str) -> None:
    with pytest.raises(UserError, match=line) as raised:
        done(*PACKAGE, *overrides, "steps=2")
    assert len(raised.value.lines) == 1


@pytest.mark.usefixtures("own")
def test_an_error_within_a_step_names_the_class() -> None:
    with pytest.raises(FunctionError, match=r"own_rules:Faulty: the optimizer raises RuntimeError: worn out"):
        done(*PACKAGE, "optimizer.target=own_rules:Faulty", "steps=9")


def test_code_is_run_only_if_the_command_line_allows_it() -> None:
    with pytest.raises(UserError, match="optimizer=package: runs code that the config names, expected allow_code=true"):
        done("optimizer=package", *RANGER)
