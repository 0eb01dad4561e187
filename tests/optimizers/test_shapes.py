"""Rules and classes that treat each parameter of a model by itself, against their twins."""

from collections.abc import Callable, Sequence

import pytest
import pytorch_optimizer
import torch
from torch import Tensor

from runner.engine.batches import Member
from runner.messages.errors import UserError
from runner.tensors.shapes import Shapes
from tests.support.descents import done, gradient_at, member

Make = Callable[[Sequence[Tensor]], torch.optim.Optimizer]
MODEL = ["objective=mlp", "objective.dataset=diabetes", "objective.hidden=3", "seed=3"]
STEPS = 20
RATES = {"lamb": 0.01, "lars": 0.05, "adafactor": 0.01, "Adafactor": 0.01, "AdamW": 0.01}
MAKES: dict[str, Make] = {
    "lamb": lambda parameters: pytorch_optimizer.Lamb(parameters, lr=RATES["lamb"], foreach=False),
    "lars": lambda parameters: pytorch_optimizer.LARS(parameters, lr=RATES["lars"], foreach=False),
    "adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=RATES["adafactor"], foreach=False),
    "Adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=RATES["Adafactor"]),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=RATES["AdamW"]),
}


def by_hand(make: Make, model: Member) -> Tensor:
    """Return the weight after the steps of an optimizer that is given the parameters in their shapes."""
    shapes, objective = model.objective.shapes, model.objective
    parameters = [view.clone().requires_grad_() for view in shapes.views(model.start)]
    optimizer = make(parameters)

    def loss(weight: Tensor) -> Tensor:
        return objective.function(weight, None, **objective.parameters_for(weight))

    for _ in range(STEPS):
        gradient = gradient_at(loss, shapes.joined(one.detach() for one in parameters)[None])[0]
        for parameter, part in zip(parameters, shapes.views(gradient), strict=True):
            parameter.grad = part.clone()
        optimizer.step()
    return shapes.joined(one.detach() for one in parameters)


@pytest.mark.parametrize("name", MAKES)
def test_parameters_are_optimized_in_their_shapes(name: str) -> None:
    chosen = [f"optimizer={name}"] if name.islower() else ["optimizer=torch", f"optimizer.algorithm={name}"]
    result, _ = done(*MODEL, *chosen, f"lr={RATES[name]}", f"steps={STEPS}")
    assert torch.allclose(result.weight, by_hand(MAKES[name], member(*MODEL)), rtol=1e-5, atol=1e-7)


def test_norms_are_recorded_by_the_names_of_the_parameters() -> None:
    result, tracker = done(*MODEL, "steps=2", "log_every=1", "lr=0.1")
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    views = member(*MODEL).objective.shapes.views(result.weight.to(torch.float64))
    for name, view in zip(names, views, strict=True):
        assert list(tracker.history(f"weight_norms/{name}")) == [0, 1, 2]
        assert tracker.history(f"weight_norms/{name}")[2] == pytest.approx(float(view.norm()))
        assert list(tracker.history(f"gradient_norms/{name}")) == [1, 2]
    squares = sum(tracker.history(f"gradient_norms/{name}")[2] ** 2 for name in names)
    assert squares == pytest.approx(tracker.history("gradient_norm")[2] ** 2)


def test_torch_s_muon_refuses_what_is_no_matrix() -> None:
    with pytest.raises(UserError, match=r"optimizer.algorithm=Muon: is for matrices, the objective has 0.bias \(3,\)"):
        done(*MODEL, "optimizer=torch", "optimizer.algorithm=Muon", "steps=1")


def test_views_are_joined_again() -> None:
    shapes = Shapes((("a", (2, 3)), ("b", ()), ("c", (4,))))
    weight = torch.arange(22.0).view(2, 11)
    assert [view.shape for view in shapes.views(weight)] == [(2, 2, 3), (2,), (2, 4)]
    assert torch.equal(shapes.joined(shapes.views(weight)), weight)
    assert str(shapes) == "a (2, 3), b (), c (4,)"
